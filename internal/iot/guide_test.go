package iot

import (
	"testing"

	"pgregory.net/rapid"
)

func TestGuide(t *testing.T) {
	c := small()
	p := thinking(t, c)
	x, y := " "+string(p.Letters[0])+": Whoever enjoys Toy Story may like X, since", " "+string(p.Letters[1])+": Whoever enjoys The 'Heat' may like Y, since"
	guide := p.Guide(c).Next
	for written, want := range map[string]string{
		"[1]":                          x,
		"[2]":                          y,
		"[1, 3,4]":                     x,
		" [4]":                         x, // a token may begin with a blank
		"[1]" + x + " good\n[2]":       y,
		"":                             "",
		"[":                            "",
		"[1":                           "",
		"[1,":                          "",
		"[1] ":                         "", // too late
		"[]":                           "",
		"[0]":                          "",
		"[5]":                          "", // no such chain
		"[99999]":                      "",
		"[1, 2]":                       "", // to X and to Y
		"[1]" + x + " see [2]":         "", // within the words
		"Answer: A\nwell [1]":          "",
		"[1]" + x + " good\nAnswer: A": "",
	} {
		if got := guide(written); got != want {
			t.Errorf("after %q comes %q, want %q", written, got, want)
		}
	}
}

// A line whose letter the guide gave has the right one, or cites what cannot be cited.
func TestGuidedLinesNameTheRightCandidate(t *testing.T) {
	c := load(t, "usual")
	p := thinking(t, c)
	guide := p.Guide(c).Next
	guided := 0
	rapid.Check(t, func(t *rapid.T) {
		cites := rapid.StringMatching(`\[[0-9]{1,2}(, ?[0-9]{1,2}){0,2}\]`).Draw(t, "cites")
		letter := guide(cites)
		if letter == "" {
			return
		}
		guided++
		if r := p.ReadReply(c, cites+letter+" so it is", true); len(r.Thought.Steps) != 1 {
			t.Errorf("%q is dropped: %v", cites+letter, r.Dropped)
		}
	})
	if guided == 0 {
		t.Error("nothing was guided")
	}
}
