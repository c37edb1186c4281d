package iot

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/r2rec/r2rec/internal/event"
	"pgregory.net/rapid"
)

// genres has two likes, and a chain from each to the first candidate.
func genres() event.Context {
	return event.Context{
		Likes: 2,
		History: []event.HistoryItem{
			{ItemID: "heat", Title: "Heat (1995)", Categories: []string{"Crime", "Action"}},
			{ItemID: "babe", Title: "Babe (1995)", Categories: []string{"Children", "Comedy"}},
			{ItemID: "new", Title: "Lately Added", Categories: []string{"\u200b"}}, // nothing that is known
			{ItemID: "past", Title: "The Past", Categories: []string{"U.S. History", "Children's Literature and Poetry"}},
		},
		Candidates: []event.Candidate{
			{ItemID: "casino", Title: "Casino (1995)", Categories: []string{"Crime", "Drama"}},
			{ItemID: "alien", Title: "Alien (1979)", Categories: []string{"Horror", "Sci-Fi", "Science, Fiction"}},
			{ItemID: "war", Title: "War Horse", Categories: []string{"War", "TV"}},
			{ItemID: "short", Title: "Short Ones", Categories: []string{"TV"}},
			{ItemID: "books", Title: "Collected", Categories: []string{"U.S. History", "Children's Literature and Poetry"}},
			{ItemID: "other", Title: "Another", Categories: []string{"History", "Literature", "Match", "Box", "Toys"}},
			{ItemID: "scary", Title: "Comedy of Horror", Categories: []string{"Musical"}},
		},
		Chains: []event.Chain{
			{Via: "heat", Neighbour: "ann", ItemID: "casino", Weight: 5, Shared: 2},
			{Via: "babe", Neighbour: "bob", ItemID: "casino", Weight: 4, Shared: 3},
			{Via: "new", Neighbour: "bob", ItemID: "casino", Weight: 3, Shared: 3},
			{Via: "heat", Neighbour: "bob", ItemID: "scary", Weight: 2, Shared: 3},
			{Via: "heat", Neighbour: "eve", ItemID: "war", Weight: 1, Shared: 1},
			{Via: "babe", Neighbour: "eve", ItemID: "short", Weight: 1, Shared: 1},
			{Via: "past", Neighbour: "eve", ItemID: "books", Weight: 1, Shared: 1},
		},
	}
}

func TestClaims(t *testing.T) {
	c := genres()
	for _, tc := range []struct {
		item             string
		chains           []int
		words            string
		borneOut, others []string
	}{
		{"casino", []int{1}, "since both are crime, and it is a drama.", []string{"crime", "drama"}, nil},
		{"casino", []int{1}, "since both are crime dramas.", []string{"crime"}, []string{"drama"}},
		{"casino", []int{1, 2}, "since they are crime", []string{"crime"}, nil},
		{"casino", []int{2}, "since both are crime", nil, []string{"crime"}},
		{"casino", []int{2}, "since it is crime", []string{"crime"}, nil},
		{"casino", []int{1}, "since both are horror comedies full of CRIME", []string{"crime"}, []string{"comedy", "horror"}},
		{"casino", []int{1, 2}, "since one is a comedy", []string{"comedy"}, nil},
		{"casino", []int{1}, "since both are sci-fi and science fiction", nil, []string{"science fiction", "sci-fi"}},
		{"casino", []int{1}, "since criminals act dramatically, in a warm way", nil, nil},
		{"casino", []int{1}, "since both are on tv", nil, nil}, // too short to be sure
		{"casino", []int{3}, "since it is one of the dramas", []string{"drama"}, nil},
		{"casino", []int{3}, "since both are dramas", nil, nil},
		{"war", []int{5}, "Whoever enjoys Heat may like War Horse, since one has action", []string{"action"}, nil},
		{"casino", []int{1}, "since both are about war", nil, []string{"war"}},
		{"scary", []int{4}, "Comedy of Horror is a musical", []string{"musical"}, nil},
		{"scary", []int{4}, "Comedy of Horror is a comedy", nil, []string{"comedy"}},
		{"casino", []int{1}, "", nil, nil},
		{"casino", []int{1}, "since it is a drama for all ages, whom they like", []string{"drama"}, nil},
		{"casino", []int{1}, "since they are dramas", nil, []string{"drama"}},
		{"casino", []int{3}, "since both are comedies", nil, []string{"comedy"}}, // whatever the other is
		{"short", []int{6}, "since both are comedies", nil, []string{"comedy"}},
		{"books", []int{7}, "since both are U.S. history. It is history.", []string{"u·s· history"}, []string{"history"}},
		{"books", []int{7}, "since both are children's literature and poetry", []string{"children's literature and poetry"}, nil},
		{"books", []int{7}, "since both are a match, and so are boxes and toys", nil, []string{"match", "toys", "box"}},
		{"books", []int{99, 0, -1}, "since it is a match", nil, []string{"match"}},
	} {
		borneOut, others, _ := claims(event.Step{ItemID: tc.item, Chains: tc.chains, Text: tc.words}, c)
		if diff := cmp.Diff([][]string{tc.borneOut, tc.others}, [][]string{borneOut, others}); diff != "" {
			t.Errorf("%q about %s by %v:\n%s", tc.words, tc.item, tc.chains, diff)
		}
	}
}

// What claims a category that is not so is cut off.
func TestClaimsAreCutOff(t *testing.T) {
	c := genres()
	for text, want := range map[string]string{
		"Whoever enjoys Heat may like Casino, since both are in Crime.":                           "Whoever enjoys Heat may like Casino, since both are in Crime.",
		"Whoever enjoys Heat may like Casino, since both are comedies":                            "Whoever enjoys Heat may like Casino.",
		"Whoever enjoys Heat may like Casino, since both are in Crime and Comedy, and so on":      "Whoever enjoys Heat may like Casino, since both are in Crime.",
		"Whoever enjoys Heat may like Casino, since both are in Crime, which is good for horror.": "Whoever enjoys Heat may like Casino, since both are in Crime.",
		"Whoever enjoys Heat may like Casino, since both are in Crime, and it is a comedy.":       "Whoever enjoys Heat may like Casino, since both are in Crime.",
		"İstanbul Ünited: both are in crime (really!), but one is a comedy, and one is horror":    "İstanbul Ünited: both are in crime (really!).",
		"both are comedies":    "",
		" - , both are horror": "",
		"Comedy!":              "",
	} {
		got, cut := withoutClaims(event.Step{ItemID: "casino", Chains: []int{1}, Text: text}, c)
		if got != want || cut != (got != text) {
			t.Errorf("of %q there is left %q, cut %v; want %q", text, got, cut, want)
		}
	}
}

// Whatever a model writes of whatever categories: what is left is a beginning of it, and claims nothing that is not so.
func TestWhatIsLeftClaimsNothingElse(t *testing.T) {
	cuts := 0
	rapid.Check(t, func(t *rapid.T) {
		c := genres()
		word := rapid.SampledFrom([]string{"crime", "Comedy", "comedies", "war", "drama", "U.S. History", "history", "both", "they are", ", and ", ", but", ". ", ";", ",", " and ", "Heat", "Casino", "İ", "ß", "…", "'", ")", "a", ", since"})
		s := event.Step{ItemID: "casino", Chains: []int{rapid.IntRange(1, 3).Draw(t, "chain")}}
		for range rapid.IntRange(0, 12).Draw(t, "words") {
			s.Text += word.Draw(t, "word") + rapid.SampledFrom([]string{"", " "}).Draw(t, "space")
		}
		for i := range c.Candidates {
			c.Candidates[i].Categories = append(c.Candidates[i].Categories, rapid.SampledFrom([]string{"Crime", "comedy", "War", "U.S. History", "History", "Heat", "İ", "dramas"}).Draw(t, "category"))
		}
		text, cut := withoutClaims(s, c)
		if !cut && text != s.Text || cut && !strings.HasPrefix(s.Text, strings.TrimSuffix(text, ".")) {
			t.Fatalf("of %q there is left %q", s.Text, text)
		}
		if cut {
			cuts++
		}
		s.Text = text
		if _, others, _ := claims(s, c); len(others) > 0 {
			t.Fatalf("what is left, %q, claims %q", text, others)
		}
	})
	if cuts == 0 {
		t.Error("nothing was ever cut")
	}
}

// A line that claims nothing but a category which nothing that it cites has is dropped; and so is one that loses what bore it out.
func TestClaimsAreGrounded(t *testing.T) {
	c := genres()
	p := thinking(t, c)
	casino := string(p.Letters[0])
	r := p.ReadReply(c, "[1] "+casino+": both are crime.\n[1] "+casino+": both are comedies.\n[1, 2] "+casino+": one is a comedy.\n", true)
	if short := p.ReadReply(c, "[1] "+casino+": both are crime, and both are comedies.\n", true); short.Shortened != 1 || len(short.Thought.Steps) != 1 || short.Thought.Steps[0].Text != "both are crime." {
		t.Errorf("of a line that goes on to claim too much there is left %+v", short)
	}
	var e *UngroundedError
	if len(r.Thought.Steps) != 2 || len(r.Dropped) != 1 || !errors.As(r.Dropped[0], &e) || e.Fault != OtherCategory || e.Step != 2 {
		t.Errorf("kept %+v, dropped %v", r.Thought.Steps, r.Dropped)
	}
	if left := Faithful(r.Thought, c, map[int]float64{1: .5, 2: 0}); len(left.Steps) != 1 || left.Steps[0].Text != "both are crime." {
		t.Errorf("without the chain from the comedy there is left %+v", left.Steps)
	}
	if left := Faithful(r.Thought, c, map[int]float64{1: .5, 2: .1}); len(left.Steps) != 2 {
		t.Errorf("with all chains there is left %+v", left.Steps)
	}
	before := event.Thought{By: event.Reasoned, Steps: []event.Step{{ItemID: "casino", Chains: []int{1}, Text: "both are comedies."}}} // that claims were read
	if left := Faithful(before, c, map[int]float64{1: .5}); len(left.Steps) != 1 {
		t.Errorf("of what loses nothing there is left %+v", left.Steps)
	}
}
