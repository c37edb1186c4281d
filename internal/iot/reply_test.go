package iot

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/r2rec/r2rec/internal/event"
	"pgregory.net/rapid"
)

func thinking(t *testing.T, c event.Context) Prompt {
	t.Helper()
	p, err := Build(Thoughts, c, 7)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestThoughtsPrompt(t *testing.T) {
	c := load(t, "usual")
	p := thinking(t, c)
	golden(t, "thoughts.prompt.txt", p.Text)
	if diff := cmp.Diff(p.Content, mustParse(t, p.Text)); diff != "" {
		t.Errorf("Parse reads something else:\n%s", diff)
	}
	if want := mustBuild(t, c, 7); len(p.Text)*2 > len(want.Text)*3/2 {
		t.Errorf("%d bytes, and %d in words: want three quarters at most", len(p.Text), len(want.Text))
	}
	if before, _ := strings.CutSuffix(p.Text, "Answer:"); p.Thinking() != before+"Thought:\n" {
		t.Errorf("a thought goes on from %q", p.Thinking()[len(before):])
	}
}

// What is written of a thought is read again, and the prompt with it before its last line ends as the prompt does.
func TestReplyIsReadAgain(t *testing.T) {
	c := small()
	p := thinking(t, c)
	thought := event.Thought{By: event.Reasoned, Steps: []event.Step{
		{ItemID: "x", Text: "People who liked Toy Story too chose X.", Chains: []int{1, 4}},
		{ItemID: "y", Text: "The 'Heat' leads to Y.", Chains: []int{2}},
	}}
	text := p.WriteReply(thought, c, 1)
	x, y := string(p.Letters[0]), string(p.Letters[1])
	if want := "[1, 4] " + x + ": People who liked Toy Story too chose X.\n[2] " + y + ": The 'Heat' leads to Y.\nAnswer: " + y; text != want {
		t.Errorf("written as\n%s\nwant\n%s", text, want)
	}
	if diff := cmp.Diff(Reply{Thought: thought, Answer: 1}, p.ReadReply(c, text, true)); diff != "" {
		t.Error(diff)
	}
	after := p.After(thought, c)
	if want := p.Thinking() + strings.TrimSuffix(text, " "+y); after.Text != want || after.Digest != digest(want) {
		t.Errorf("with the thought before the answer, the prompt is\n%s", after.Text)
	}
	if bare := p.After(event.Thought{}, c); bare.Text != p.Text {
		t.Errorf("without a thought, it is another prompt")
	}
	d := event.Decision{Model: &event.Model{PromptVersion: Thoughts}, Context: c, Seed: 7, Said: thought.Steps}
	if asked, err := Asked(d); err != nil || asked.Text != after.Text || asked.Digest != after.Digest {
		t.Errorf("a decision's model is said to have read (error %v)\n%s", err, asked.Text)
	}
}

func TestReplyIsGrounded(t *testing.T) {
	c := small()
	p := thinking(t, c)
	x, y := string(p.Letters[0]), string(p.Letters[1])
	for _, test := range []struct {
		line  string
		fault Fault // empty: kept
		chain int
	}{
		{"[1] " + x + ": People who liked Toy Story chose X.", "", 0},
		{"[1,3] " + x + ": Two ways lead there, over TOY STORY and The 'Heat'.", "", 0},
		{"  [1, 1] " + x + ": said twice  ", "", 0},
		{"[2] " + y + ": toy storytelling, and an unheated room", "", 0},
		{"I think X is good", Malformed, 0},
		{"[] " + x + ": good", Malformed, 0},
		{"[1] " + x + ":", Malformed, 0},
		{"[1] D: there are three candidates", Malformed, 0},
		{"[99999] " + x + ": too long a number", Malformed, 0},
		{"[0] " + x + ": good", UnknownChain, 0},
		{"[1, 5] " + x + ": good", UnknownChain, 5},
		{"[1, 2] " + x + ": good", OtherItem, 2},
		{"[2] " + x + ": good", OtherItem, 2},
		{"[1] " + x + ": \u200b\u200b", NoWords, 0},
		{"[2] " + y + ": because of Toy Story", OtherTitle, 0},
	} {
		r := p.ReadReply(c, test.line+"\n", true)
		if test.fault == "" {
			if len(r.Thought.Steps) != 1 || len(r.Dropped) != 0 {
				t.Errorf("%q: kept %+v, dropped %v", test.line, r.Thought.Steps, r.Dropped)
			}
			continue
		}
		var e *UngroundedError
		if len(r.Thought.Steps) != 0 || len(r.Dropped) != 1 || !errors.As(r.Dropped[0], &e) || e.Fault != test.fault || e.Chain != test.chain {
			t.Errorf("%q: kept %+v, dropped %v, want the fault %s %d", test.line, r.Thought.Steps, r.Dropped, test.fault, test.chain)
		}
	}
	r := p.ReadReply(c, strings.Repeat("[1] "+x+": good\n", MaxReasons+1)+"Answer: "+y+"\n[2] "+y+": too late", true)
	if len(r.Thought.Steps) != MaxReasons || len(r.Dropped) != 1 || r.Answer != 1 {
		t.Errorf("a long thought is read as %+v", r)
	}
	for _, none := range []string{"", "Answer:", "Answer: D", "Answer: Bob", "Answer: A film", "the Answer: A"} {
		if r := p.ReadReply(c, none, true); r.Answer != -1 {
			t.Errorf("%q answers %d", none, r.Answer)
		}
	}
}

// A chain that the prompt has no room for cannot be cited: the model did not read it.
func TestReplyCitesWhatThePromptSays(t *testing.T) {
	c := small()
	for range layouts[Thoughts].chains {
		c.Chains = append(c.Chains, event.Chain{Via: "1", Neighbour: "bob", ItemID: "z", Shared: 3})
	}
	p := thinking(t, c)
	last := p.Content.Chains[len(p.Content.Chains)-1].Number
	for n, want := range map[int]int{last: 1, last + 1: 0} {
		text := p.WriteReply(event.Thought{Steps: []event.Step{{ItemID: "z", Text: "good", Chains: []int{n}}}}, c, 0)
		if got := len(p.ReadReply(c, text, true).Thought.Steps); got != want {
			t.Errorf("chain %d of %d in the prompt: %d steps kept", n, last, got)
		}
	}
}

// Whatever a model writes, the steps that are kept pass Check, and are kept again when they are written.
func TestAnyReplyIsGrounded(t *testing.T) {
	c := load(t, "usual")
	p := thinking(t, c)
	slate := slateOf(c, len(c.Candidates))
	kept := 0
	rapid.Check(t, func(t *rapid.T) {
		line := rapid.Custom(func(t *rapid.T) string {
			return "[" + rapid.SampledFrom([]string{"1", "2, 4", "3,5", "20", "1 2", "-1"}).Draw(t, "chains") + "] " +
				rapid.SampledFrom([]string{"S", "J", "R", "A", "Z", ""}).Draw(t, "letter") + ": " +
				rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"Seven", "Alien and The Matrix", "good"})).Draw(t, "words")
		})
		text := strings.Join(rapid.SliceOfN(rapid.OneOf(line, rapid.String()), 0, 8).Draw(t, "lines"), "\n")
		r := p.ReadReply(c, text, true)
		checked, errs := Check(r.Thought, c, slate)
		if diff := cmp.Diff(r.Thought, checked); diff != "" || len(errs) > 0 {
			t.Fatalf("Check says %v\n%s", errs, diff)
		}
		if again := p.ReadReply(c, p.WriteReply(r.Thought, c, 0), true); cmp.Diff(r.Thought, again.Thought) != "" {
			t.Fatalf("written and read again: %s", cmp.Diff(r.Thought, again.Thought))
		}
		kept += len(r.Thought.Steps)
	})
	if kept == 0 {
		t.Error("no step that was drawn is grounded")
	}
}

func TestMasked(t *testing.T) {
	c := small()
	thought := event.Thought{By: event.Reasoned, Steps: []event.Step{
		{ItemID: "x", Text: "a", Chains: []int{1, 3}},
		{ItemID: "y", Text: "b", Chains: []int{2}},
		{ItemID: "x", Text: "c", Chains: []int{4, 3}},
		{ItemID: "x", Text: "whoever enjoys The 'Heat' may like it", Chains: []int{1, 3}}, // where 3 alone starts
		{ItemID: "x", Text: "whoever enjoys Toy Story may like it", Chains: []int{3, 1}},
	}}
	masked := c
	masked.Chains = []event.Chain{c.Chains[0], c.Chains[3]} // bob's choice of y and one of his ways to x are gone
	want := event.Thought{By: event.Reasoned, Steps: []event.Step{{ItemID: "x", Text: "a", Chains: []int{1}}, {ItemID: "x", Text: "c", Chains: []int{2}},
		{ItemID: "x", Text: "whoever enjoys Toy Story may like it", Chains: []int{1}}}}
	if diff := cmp.Diff(want, Masked(thought, c, masked)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(thought, Masked(thought, c, c)); diff != "" {
		t.Errorf("nothing is masked:\n%s", diff)
	}
}

// Titles count however a prompt shortened them, in whatever order of article, and in scripts without spaces.
func TestReplyNamesNoOthers(t *testing.T) {
	const long = "Eternal Sunshine of the Spotless Mind (2004)"
	c := event.Context{
		Candidates: []event.Candidate{{ItemID: "x", Title: "Own Film, The (1999)"}, {ItemID: "l", Title: long}, {ItemID: "m", Title: "Matrix, The (1999)"}, {ItemID: "s", Title: "千と千尋の神隠し"},
			{ItemID: "short", Title: "Own Film"}, {ItemID: "ring", Title: "Ring"}, {ItemID: "two", Title: "Liked Film a 2 (2001)"}},
		Chains: []event.Chain{{Via: "h0", Neighbour: "ann", ItemID: "x", Shared: 2}, {Via: "h20", Neighbour: "bob", ItemID: "l", Shared: 2}},
	}
	for i := range 21 {
		c.History = append(c.History, event.HistoryItem{ItemID: fmt.Sprint("h", i), Title: fmt.Sprintf("Liked Film %c", 'a'+i)})
	}
	p := thinking(t, c)
	for words, fault := range map[string]Fault{
		"The Own Film is like Liked Film a":                   "",
		"Own Film, The is liked, and so is a spring":          "",
		"it is like Liked Film u, which starts another chain": OtherTitle,
		"like Eternal Sunshine of the Spotless Mind":          OtherTitle,
		"like the matrix":                          OtherTitle,
		"whoever likes Liked Film a 2 may like it": OtherTitle,
		"whoever likes Liked Film a may like it 2": "",
		"それは千と千尋の神隠しのようです":                         OtherTitle,
		"like Liked Film b":                        OtherTitle,
		"a Ring, on a hand":                        OtherTitle,
	} {
		r := p.ReadReply(c, "[1] "+string(p.Letters[0])+": "+words+"\n", true)
		var e *UngroundedError
		switch {
		case fault == "" && len(r.Thought.Steps) != 1:
			t.Errorf("%q is dropped: %v", words, r.Dropped)
		case fault != "" && (len(r.Dropped) != 1 || !errors.As(r.Dropped[0], &e) || e.Fault != fault):
			t.Errorf("%q: kept %+v, dropped %v, want %s", words, r.Thought.Steps, r.Dropped, fault)
		}
	}
}

// A line that the model had no more tokens to finish is not kept.
func TestReplyThatBreaksOff(t *testing.T) {
	c := small()
	p := thinking(t, c)
	x := string(p.Letters[0])
	whole := "[1] " + x + ": good\n"
	r := p.ReadReply(c, whole+"[3] "+x+": it is like the", false)
	var e *UngroundedError
	if len(r.Thought.Steps) != 1 || len(r.Dropped) != 1 || !errors.As(r.Dropped[0], &e) || e.Fault != BrokenOff || e.Step != 2 {
		t.Errorf("kept %+v, dropped %v", r.Thought.Steps, r.Dropped)
	}
	if r := p.ReadReply(c, whole, false); len(r.Thought.Steps) != 1 || len(r.Dropped) != 0 {
		t.Errorf("at a line's end: kept %+v, dropped %v", r.Thought.Steps, r.Dropped)
	}
}

// A decision of more candidates than a prompt holds, as another version may write one, is an error and no more.
func TestAskedWithTooManyCandidates(t *testing.T) {
	c := small()
	d := event.Decision{Context: c, Model: &event.Model{PromptVersion: Thoughts}, Said: []event.Step{{ItemID: c.Candidates[0].ItemID, Chains: []int{1}, Text: "good"}}}
	if _, err := Asked(d); err != nil {
		t.Fatal(err)
	}
	for i := range MaxCandidates {
		d.Context.Candidates = append(d.Context.Candidates, event.Candidate{ItemID: fmt.Sprint("more ", i)})
	}
	if _, err := Asked(d); !errors.Is(err, ErrCandidates) {
		t.Errorf("%d candidates: %v", len(d.Context.Candidates), err)
	}
}

// An item without a title is called by its id, and naming that one is naming it.
func TestReplyNamesItemsWithoutATitle(t *testing.T) {
	c := small()
	c.Candidates = append(c.Candidates, event.Candidate{ItemID: "sku-4711"})
	c.Chains = append(c.Chains, event.Chain{Via: "older-0815", Neighbour: "bob", ItemID: "sku-4711", Shared: 3})
	p := thinking(t, c)
	x, untitled := string(p.Letters[0]), string(p.Letters[3])
	for line, want := range map[string]int{
		"[1] " + x + ": as good as sku-4711":                  0,
		"[1] " + x + ": as good as older-0815":                0,
		"[5] " + untitled + ": SKU-4711 goes with older-0815": 1,
	} {
		r := p.ReadReply(c, line, true)
		if len(r.Thought.Steps) != want {
			t.Errorf("%q: %d steps kept, want %d; dropped %v", line, len(r.Thought.Steps), want, r.Dropped)
		}
		if want == 1 && !Names(r.Thought.Steps[0], c) {
			t.Errorf("%q is said not to name its candidate", line)
		}
	}
}
