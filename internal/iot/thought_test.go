package iot

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/r2rec/r2rec/internal/event"
)

// small has item x with three chains from two users, y with one chain, and z with none.
func small() event.Context {
	return event.Context{
		History: []event.HistoryItem{
			{ItemID: "1", Title: "Toy Story", Categories: []string{"Children"}},
			{ItemID: "2", Title: `The "Heat"`, Categories: []string{"Crime", "Drama"}},
		},
		Candidates: []event.Candidate{
			{ItemID: "x", Title: "X", Origin: event.FromChains, Evidence: event.Evidence{Chains: 3, Support: 2}},
			{ItemID: "y", Title: "Y", Origin: event.FromChains, Evidence: event.Evidence{Chains: 1, Support: 1}},
			{ItemID: "z", Title: "Z", Origin: event.FromTrends, Evidence: event.Evidence{Recent: [3]float64{1: 1}}},
		},
		Chains: []event.Chain{
			{Via: "1", Neighbour: "ann", ItemID: "x", Weight: 5, Shared: 2},
			{Via: "2", Neighbour: "bob", ItemID: "y", Weight: 4, Shared: 3},
			{Via: "2", Neighbour: "bob", ItemID: "x", Weight: 3, Shared: 3},
			{Via: "1", Neighbour: "bob", ItemID: "x", Weight: 2, Shared: 3},
		},
	}
}

func TestExplainCitesTheStrongestChains(t *testing.T) {
	c := small()
	want := event.Thought{By: event.Graph, Steps: []event.Step{
		{ItemID: "z", Text: "Popular at the moment.", Chains: []int{}},
		{ItemID: "x", Text: `2 like-minded users chose it; they share "Toy Story" and "The 'Heat'" with you.`, Chains: []int{1, 3}},
		{ItemID: "y", Text: `A like-minded user chose it; you both chose "The 'Heat'".`, Chains: []int{2}},
	}}
	slate := []event.Slot{{Position: 1, ItemID: "z"}, {Position: 2, ItemID: "x"}, {Position: 3, ItemID: "y"}, {Position: 4, ItemID: "stranger"}}
	if diff := cmp.Diff(want, Explain(c, slate, 2)); diff != "" {
		t.Error(diff)
	}
}

func TestExplainInWords(t *testing.T) {
	for _, test := range []struct {
		why    string
		change func(*event.Context)
		want   string
	}{
		{"more users than chains", func(c *event.Context) { c.Candidates[0].Evidence.Support = 9 },
			`9 like-minded users chose it; 2 of them share "Toy Story" and "The 'Heat'" with you.`},
		{"more users than one", func(c *event.Context) { c.Candidates[0].Evidence.Support = 9; c.Chains = c.Chains[:1] },
			`9 like-minded users chose it; one of them shares "Toy Story" with you.`},
		{"an item that has left the history", func(c *event.Context) {
			c.Chains = c.Chains[:1]
			c.Chains[0].Via = "gone\n"
			c.Candidates[0].Evidence.Support = 1
		},
			`A like-minded user chose it; you both chose "gone".`},
		{"no chain in the snapshot", func(c *event.Context) { c.Chains = nil }, "2 like-minded users chose it."},
		{"one user, no chain", func(c *event.Context) { c.Chains = nil; c.Candidates[0].Evidence.Support = 1 }, "A like-minded user chose it."},
		{"one shared choice", func(c *event.Context) { c.Chains = nil; c.Candidates[0].Evidence = event.Evidence{Similar: .1} },
			"Chosen by somebody who shares a choice with you."},
		{"after a like-minded user", func(c *event.Context) { c.Chains = nil; c.Candidates[0].Evidence.Similar = .1 }, "2 like-minded users chose it."},
		{"category", func(c *event.Context) {
			c.Chains = nil
			c.Candidates[0].Evidence.Support = 0
			c.Candidates[0].Categories = []string{"Drama", "War", "Crime", "Children", "Drama"}
		}, "Of a kind that you chose before: Drama, Crime and Children."},
		{"trend and category", func(c *event.Context) {
			c.Chains = nil
			c.Candidates[0].Origin, c.Candidates[0].Categories = event.FromTrends, []string{"Crime"}
		}, "Popular at the moment. Of a kind that you chose before: Crime."},
		{"exploration", func(c *event.Context) { c.Chains = nil; c.Candidates[0].Origin = event.FromExplore }, "Shown to learn whether you like it."},
		{"only recent", func(c *event.Context) {
			c.Chains = nil
			c.Candidates[0].Evidence = event.Evidence{Recent: [3]float64{1: 1}}
		}, "Popular at the moment."},
		{"nothing", func(c *event.Context) { c.Chains = nil; c.Candidates[0].Evidence = event.Evidence{} }, "Shown to learn whether you like it."},
	} {
		c := small()
		test.change(&c)
		if got := Explain(c, slateOf(c, 1), 0).Steps[0].Text; got != test.want {
			t.Errorf("%s: %s\nwant %s", test.why, got, test.want)
		}
	}
}

// TestExplainIsGrounded: what Explain writes passes Check unchanged.
func TestExplainIsGrounded(t *testing.T) {
	for _, name := range []string{"usual", "cold", "hostile"} {
		c := load(t, name)
		slate := slateOf(c, len(c.Candidates))
		thought := Explain(c, slate, 4)
		if len(thought.Steps) != len(slate) {
			t.Errorf("%s: %d steps for %d items", name, len(thought.Steps), len(slate))
		}
		kept, errs := Check(thought, c, slate)
		if diff := cmp.Diff(thought, kept); diff != "" || len(errs) != 0 {
			t.Errorf("%s: errors %v\n%s", name, errs, diff)
		}
	}
}

func TestCheckDropsWhatIsUngrounded(t *testing.T) {
	c := small()
	slate := slateOf(c, 2) // x and y
	for _, test := range []struct {
		step  event.Step
		by    event.Source
		fault Fault // empty: kept
		chain int
	}{
		{event.Step{ItemID: "x", Text: "good", Chains: []int{1, 3}}, event.Reasoned, "", 0},
		{event.Step{ItemID: "x", Text: "good", Chains: []int{}}, event.Graph, "", 0},
		{event.Step{ItemID: "z", Text: "not in the slate"}, event.Graph, NotShown, 0},
		{event.Step{ItemID: "X", Text: "no item at all", Chains: []int{1}}, event.Reasoned, NotShown, 0},
		{event.Step{ItemID: "x", Text: "made up", Chains: []int{1, 5}}, event.Reasoned, UnknownChain, 5},
		{event.Step{ItemID: "x", Text: "made up", Chains: []int{0}}, event.Graph, UnknownChain, 0},
		{event.Step{ItemID: "x", Text: "made up", Chains: []int{-1}}, event.Graph, UnknownChain, -1},
		{event.Step{ItemID: "x", Text: "another's chain", Chains: []int{1, 2}}, event.Reasoned, OtherItem, 2},
		{event.Step{ItemID: "x", Text: "trust me"}, event.Reasoned, NothingCited, 0},
		{event.Step{ItemID: "x", Text: "\u200b\n", Chains: []int{1}}, event.Reasoned, NoWords, 0},
	} {
		good := event.Step{ItemID: "y", Text: "first", Chains: []int{2}}
		kept, errs := Check(event.Thought{By: test.by, Steps: []event.Step{good, test.step}}, c, slate)
		if test.fault == "" {
			if diff := cmp.Diff([]event.Step{good, test.step}, kept.Steps); diff != "" || len(errs) != 0 || kept.By != test.by {
				t.Errorf("%+v: errors %v\n%s", test.step, errs, diff)
			}
			continue
		}
		var e *UngroundedError
		if len(errs) != 1 || !errors.As(errs[0], &e) || *e != (UngroundedError{Step: 2, ItemID: test.step.ItemID, Chain: test.chain, Fault: test.fault}) {
			t.Errorf("%+v: errors %v, want %s", test.step, errs, test.fault)
		}
		if diff := cmp.Diff([]event.Step{good}, kept.Steps); diff != "" {
			t.Errorf("%+v: kept\n%s", test.step, diff)
		}
	}
}

func TestCheckCleansWhatAModelWrote(t *testing.T) {
	c := small()
	words := "It is good\n\n<script>alert(1)</script>\u202e" + strings.Repeat("!", 1000)
	thought := event.Thought{By: event.Reasoned, Steps: []event.Step{{ItemID: "x", Text: words, Chains: []int{1}}}}
	kept, _ := Check(thought, c, slateOf(c, 1))
	if got := kept.Steps[0].Text; !strings.HasPrefix(got, "It is good (script)alert(1)(/script)!!!") || len([]rune(got)) != maxStepRunes {
		t.Errorf("kept %q", got)
	}
	if thought.Steps[0].Text != words {
		t.Error("the given thought was changed")
	}
}

func TestReasonsNumberUsersWithinTheDocument(t *testing.T) {
	c := small()
	slate := []event.Slot{{Position: 1, ItemID: "y"}, {Position: 2, ItemID: "x"}, {Position: 3, ItemID: "z"}}
	thought := event.Thought{By: event.Graph, Steps: []event.Step{
		{ItemID: "x", Text: "one", Chains: []int{1, 3, 99, 2}}, // 99 and 2 do not lead to x
		{ItemID: "y", Text: "two", Chains: []int{2}},
		{ItemID: "x", Text: "three", Chains: nil},
	}}
	want := [][]event.Reason{
		{{Text: "two", Chains: []event.ReasonChain{{Via: "2", ViaTitle: "The 'Heat'", Neighbour: 1}}}},
		{{Text: "one", Chains: []event.ReasonChain{{Via: "1", ViaTitle: "Toy Story", Neighbour: 2}, {Via: "2", ViaTitle: "The 'Heat'", Neighbour: 1}}}, {Text: "three"}},
		{},
	}
	if diff := cmp.Diff(want, Reasons(c, thought, slate)); diff != "" {
		t.Error(diff)
	}
}

// TestExplainFitsIntoADecision: the longest words and the most chains still keep to the contract.
func TestExplainFitsIntoADecision(t *testing.T) {
	c := event.Context{Candidates: []event.Candidate{{ItemID: "x", Title: "X", Evidence: event.Evidence{Support: 99}}}}
	for i := range 40 {
		id := strings.Repeat("i", i+1)
		c.History = append(c.History, event.HistoryItem{ItemID: id, Title: id + strings.Repeat("𠜎", 90)})
		c.Chains = append(c.Chains, event.Chain{Via: id, Neighbour: id, ItemID: "x", Shared: 2})
	}
	step := Explain(c, slateOf(c, 1), 100).Steps[0]
	if data, _ := json.Marshal(step.Text); len(data) > 4096 {
		t.Errorf("%d bytes of words", len(data))
	}
	if !slices.Equal(step.Chains, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}) {
		t.Errorf("cites %v", step.Chains)
	}
}
