package rltrainer

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm"
)

// scripted writes what it is told to, one text a call, and keeps what it read.
type scripted struct {
	says []string
	read []string
	told []lm.WriteOptions
	fail error
}

func (s *scripted) Write(_ context.Context, text string, n int, o lm.WriteOptions) ([]lm.Written, error) {
	said := s.says[len(s.read)%len(s.says)]
	s.read, s.told = append(s.read, text), append(s.told, o)
	said, cut := strings.CutSuffix(said, "✂") // at the bound of its tokens
	return []lm.Written{{Text: said, Whole: !cut}}, s.fail
}

// convinced gives an item a larger share the more often a prompt's thought has a word.
type convinced struct{ word string }

func (c convinced) Rank(_ context.Context, p iot.Prompt) ([]float64, error) {
	_, thought, _ := strings.Cut(p.Text, "Thought:")
	shares := make([]float64, len(p.Letters))
	for i := range shares {
		shares[i] = -3 + float64(strings.Count(thought, c.word))
	}
	return shares, nil
}

// chained is an example in which a rival has the strongest chain, and what was chosen two others.
func chained() Example {
	return Example{Chosen: 1, Context: event.Context{
		History: []event.HistoryItem{{ItemID: "h1", Title: "Heat"}, {ItemID: "h2", Title: "Casino"}},
		Candidates: []event.Candidate{
			{ItemID: "rival", Title: "The Rival"}, {ItemID: "chosen", Title: "The Chosen One"}, {ItemID: "alone", Title: "Nobody's"}, {ItemID: "weak", Title: "The Weak"},
		},
		Chains: []event.Chain{
			{Via: "h1", Neighbour: "ann", ItemID: "rival", Shared: 5},
			{Via: "h2", Neighbour: "bob", ItemID: "chosen", Shared: 4},
			{Via: "h1", Neighbour: "bob", ItemID: "chosen", Shared: 4},
			{Via: "h1", Neighbour: "cid", ItemID: "chosen", Shared: 2},
			{Via: "h1", Neighbour: "ann", ItemID: "weak", Shared: 5},
		},
	}}
}

func TestTeachMasksWhatComesLater(t *testing.T) {
	s := &scripted{says: []string{" it is close. ", " it is a good one."}}
	trace, err := Teach(t.Context(), s, convinced{"good"}, 3, chained(), TraceOptions{Seed: 1})
	must(t, err)
	if trace.Fate != Kept || trace.Tries != 1 || trace.Before != -3 || trace.After != -2 {
		t.Fatalf("the trace is %+v", trace)
	}
	want := []event.Step{
		{ItemID: "rival", Chains: []int{1}, Text: "Whoever enjoys Heat may like The Rival, since it is close."},
		{ItemID: "chosen", Chains: []int{2, 4}, Text: "Whoever enjoys Casino may like The Chosen One, since it is a good one."},
	}
	if diff := cmp.Diff(want, trace.Steps); diff != "" {
		t.Error(diff)
	}
	p, err := iot.Build(iot.Thoughts, chained().Context, trace.Seed)
	must(t, err)
	if trace.Prompt != p.Thinking() || p.ReadReply(chained().Context, trace.Completion, true).Answer != 1 {
		t.Errorf("it is to be learned as %q after\n%s", trace.Completion, trace.Prompt)
	}
	first, last := s.read[0], s.read[1]
	if !strings.Contains(first, `went on to "The Rival"`) || strings.Contains(first, "The Chosen One") || strings.Contains(first, "The user went on") {
		t.Errorf("for the rival, the teacher reads\n%s", first)
	}
	if !strings.HasPrefix(last, first+" it is close.\n") || !strings.Contains(last, `The user went on to "The Chosen One"`) {
		t.Errorf("for what was chosen, the teacher reads\n%s", last)
	}
	if strings.Contains(last, "The Weak") {
		t.Error("a rival weaker than what was chosen has a word")
	}
}

func TestTeachFilters(t *testing.T) {
	const fine = " it is close."
	for _, test := range []struct {
		why   string
		says  []string // of a try: the rival's reason, and the one of what was chosen
		after float64
		fate  Fate
		tries int
	}{
		{"helps", []string{fine, " both are good."}, -2, Kept, 1},
		{"helps at the second try", []string{fine, " of no use.", fine, " it is good."}, -2, Kept, 2},
		{"names what no chain touches", []string{fine, " like Nobody's, it is good."}, 0, Ungrounded, 3},
		{"says another title before its own ends", []string{fine, "-ish! The Rival"}, 0, Ungrounded, 3},
		{"says more than a line", []string{fine, " it is good.\nAnswer: A"}, -2, Kept, 1},
		{"gives it away", []string{fine, " it is good, and the correct one."}, 0, Leaking, 3},
		{"gives it away, in capitals", []string{" the ANSWER follows.", " it is good."}, 0, Leaking, 3},
		{"repeats an example", []string{" Both are for long days outdoors. ", " it is good."}, 0, Parroted, 3},
		{"has no words", []string{fine, ""}, 0, Broken, 3},
		{"has nothing but a stop", []string{fine, " ."}, 0, Broken, 3},
		{"breaks off", []string{fine, " it is a good one that has a✂"}, 0, Broken, 3},
		{"does not help", []string{fine, " it is there."}, -3, Unhelpful, 3},
	} {
		trace, err := Teach(t.Context(), &scripted{says: test.says}, convinced{"good"}, 0, chained(), TraceOptions{})
		must(t, err)
		if trace.Fate != test.fate || trace.Tries != test.tries || trace.After != test.after {
			t.Errorf("a thought that %s: %s after %d tries (%s), share %v; want %s after %d, %v",
				test.why, trace.Fate, trace.Tries, trace.Why, trace.After, test.fate, test.tries, test.after)
		}
	}
	e := chained()
	e.Chosen = 2
	s := &scripted{says: []string{"nobody asks"}}
	if trace, err := Teach(t.Context(), s, convinced{"good"}, 0, e, TraceOptions{}); err != nil || trace.Fate != NoChain || len(s.read) != 0 {
		t.Errorf("nothing leads to what was chosen: %+v, %v, %d texts written", trace, err, len(s.read))
	}
}

// What both things are stands in a reason before its writer's words, which need not say more, and must not claim more.
func TestTeachTellsCategories(t *testing.T) {
	e := chained()
	for i, categories := range [][]string{{"Crime"}, {"Crime", "Drama"}} {
		e.Context.History[i].Categories = categories
	}
	for i, categories := range [][]string{{"Western"}, {"Drama"}, {"Horror"}} {
		e.Context.Candidates[i].Categories = categories
	}
	for _, test := range []struct {
		says     []string
		fate     Fate
		borneOut int
		rival    string // the end of what is said of it
		chosen   string
	}{
		{[]string{" it is close.", ", which is good."}, Kept, 1, "Rival, since it is close.", "in Drama, which is good."},
		{[]string{" it is close and a western.", ", which is good."}, Kept, 2, "since it is close and a western.", "in Drama, which is good."},
		{[]string{" it is close.", ""}, Kept, 1, "since it is close.", "in Drama"},
		{[]string{"", ", which is good."}, Broken, 0, "", ""}, // nothing in common
		{[]string{" both are westerns.", ", which is good."}, Kept, 1, "The Rival.", "in Drama, which is good."},
		{[]string{" it is close.", ", which is good for horror."}, Kept, 1, "since it is close.", "in Drama."},
	} {
		trace, err := Teach(t.Context(), &scripted{says: test.says}, convinced{"Drama"}, 0, e, TraceOptions{Tries: 1})
		must(t, err)
		if trace.Fate != test.fate || trace.BorneOut != test.borneOut {
			t.Errorf("%q: %s, %d reasons borne out (%s: %+v); want %s, %d", test.says, trace.Fate, trace.BorneOut, trace.Why, trace.Steps, test.fate, test.borneOut)
		}
		if test.fate == Kept && (!strings.HasSuffix(trace.Steps[0].Text, test.rival) || !strings.HasSuffix(trace.Steps[1].Text, test.chosen)) {
			t.Errorf("%q: it is to learn %q", test.says, trace.Completion)
		}
	}
}

func TestTeachDrawsAnewAndTheSame(t *testing.T) {
	run := func(example int) *scripted {
		s := &scripted{says: []string{"No use."}}
		_, err := Teach(t.Context(), s, convinced{"good"}, example, chained(), TraceOptions{Seed: 5, Tries: 2, Temperature: .5})
		must(t, err)
		return s
	}
	s := run(0)
	if diff := cmp.Diff(s.told, run(0).told); diff != "" {
		t.Errorf("another time it is asked otherwise:\n%s", diff)
	}
	if first, second := s.told[0], s.told[2]; first.Seed == second.Seed || math.Abs(second.Temperature-first.Temperature-.2) > 1e-9 {
		t.Errorf("the second try is drawn like the first: %+v, %+v", first, second)
	}
	if run(1).told[0].Seed == s.told[0].Seed {
		t.Error("two examples are drawn alike")
	}
}

func TestTeachErrors(t *testing.T) {
	for _, o := range []TraceOptions{{Steps: iot.MaxReasons + 1}, {Tries: -1}, {Temperature: 3}, {Temperature: math.NaN()}, {MostTokens: -1}} {
		if _, err := Teach(t.Context(), &scripted{says: []string{""}}, convinced{}, 0, chained(), o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
	if trace, err := Teach(t.Context(), &scripted{says: []string{""}, fail: lm.ErrPromptTooLong}, convinced{}, 7, chained(), TraceOptions{}); err != nil || trace.Fate != Failed {
		t.Errorf("a text that is too long each time: %+v, %v", trace, err)
	}
	failing := &scripted{says: []string{""}, fail: lm.ErrUnavailable}
	if _, err := Teach(t.Context(), failing, convinced{}, 7, chained(), TraceOptions{}); !errors.Is(err, lm.ErrUnavailable) || !strings.Contains(err.Error(), "example 7") {
		t.Errorf("a teacher that fails: %v", err)
	}
	e := chained()
	e.Chosen = 4
	if _, err := Teach(t.Context(), failing, convinced{}, 0, e, TraceOptions{}); err == nil {
		t.Error("a candidate that is not there was chosen, and nobody says so")
	}
}
