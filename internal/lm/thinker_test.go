package lm

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
)

// said writes one text, and ranks first what a prompt's thought speaks of.
type said struct {
	text    string
	fail    error
	options WriteOptions
	ranked  string
}

func (s *said) Write(_ context.Context, _ string, _ int, o WriteOptions) ([]Written, error) {
	s.options = o
	return []Written{{Text: s.text}}, s.fail
}

func (s *said) Rank(_ context.Context, p iot.Prompt) ([]float64, error) {
	s.ranked = p.Text
	return []float64{-1, -1}, nil
}

func TestThinker(t *testing.T) {
	c := event.Context{
		Candidates: []event.Candidate{{ItemID: "x", Title: "X"}, {ItemID: "y", Title: "Y"}},
		Chains:     []event.Chain{{Via: "h", Neighbour: "ann", ItemID: "y", Shared: 2}},
	}
	p, err := iot.Build(iot.Thoughts, c, 1)
	if err != nil {
		t.Fatal(err)
	}
	y := string(p.Letters[1])
	s := &said{text: "[1] " + y + ": Ann went on to it.\n[2] " + y + ": nobody did\n"}
	reply, shares, err := Thinker{Writer: s, Ranker: s, Most: 9}.Think(t.Context(), c, p)
	if err != nil || len(shares) != 2 || len(reply.Thought.Steps) != 1 || len(reply.Dropped) != 1 {
		t.Errorf("a thought of two lines, one of them grounded: %+v, %v, %v", reply, shares, err)
	}
	if s.options.Temperature != 0 || s.options.Most != 9 || s.options.Guide.Next == nil || !strings.HasPrefix(s.options.Guide.Next("[1]"), " "+y+": Whoever enjoys ") {
		t.Errorf("it is written with %+v, want the likeliest, guided", s.options)
	}
	if !strings.HasSuffix(s.ranked, "Thought:\n[1] "+y+": Ann went on to it.\nAnswer:") {
		t.Errorf("what is ranked ends in %q", s.ranked[len(p.Text)-20:])
	}
	s.text = "Well."
	if _, _, err := (Thinker{Writer: s, Ranker: s, Most: 9}).Think(t.Context(), c, p); err != nil || s.ranked != p.Text {
		t.Errorf("with nothing grounded, what is ranked is %q (error %v)", s.ranked, err)
	}
	s.fail = ErrUnavailable
	if _, _, err := (Thinker{Writer: s, Ranker: s, Most: 9}).Think(t.Context(), c, p); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a writer that fails: %v", err)
	}
	if p, err = iot.Build(iot.Words, c, 1); err != nil {
		t.Fatal(err)
	}
	if _, _, err := (Thinker{Writer: s, Ranker: s, Most: 9}).Think(t.Context(), c, p); !errors.Is(err, ErrNonsense) {
		t.Errorf("a prompt that asks for no thought: %v", err)
	}
}
