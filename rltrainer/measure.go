package rltrainer

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
)

// Ranker ranks the candidates of a prompt.
type Ranker interface {
	Rank(ctx context.Context, p iot.Prompt) ([]float64, error)
}

// Thinker is a Ranker of a model that may say why before it answers.
type Thinker interface {
	Ranker
	Thinks() bool
	// Think writes a thought about the prompt of a context, and ranks after it.
	Think(ctx context.Context, c event.Context, p iot.Prompt) (said iot.Reply, logShares []float64, err error)
}

// thinks tells whether a model says why before it answers.
func thinks(r Ranker) (Thinker, bool) {
	t, ok := r.(Thinker)
	return t, ok && t.Thinks()
}

// ask has a model answer as a server would: at once, or after a thought of its own.
func ask(ctx context.Context, r Ranker, promptVersion int, c event.Context, seed uint64) ([]float64, error) {
	p, err := iot.Build(promptVersion, c, seed)
	if err != nil {
		return nil, err
	}
	t, ok := thinks(r)
	if !ok {
		return r.Rank(ctx, p)
	}
	_, shares, err := t.Think(ctx, c, p)
	return shares, err
}

// Score says how well a model chooses.
type Score struct {
	Examples     int
	HR1          float64 // share of examples whose chosen candidate is ranked first; ties count as their share
	CrossEntropy float64 // of the chosen candidates, nats
}

// Answer is how a model ranked what was chosen in one example.
type Answer struct {
	First        float64 `json:"first"`         // 1: first; a share of it where several are
	CrossEntropy float64 `json:"cross_entropy"` // nats
}

// Measure asks a model for every example. The prompts are the same for every model. Without examples the score is zero.
func Measure(ctx context.Context, r Ranker, examples []Example, promptVersion int) (Score, error) {
	answers, err := Answers(ctx, r, examples, promptVersion)
	if err != nil {
		return Score{}, err
	}
	s := Score{Examples: len(examples)}
	for _, a := range answers {
		s.HR1 += a.First
		s.CrossEntropy += a.CrossEntropy
	}
	n := math.Max(1, float64(len(examples)))
	s.HR1 /= n
	s.CrossEntropy /= n
	return s, nil
}

// Answers is Measure for each example by itself.
func Answers(ctx context.Context, r Ranker, examples []Example, promptVersion int) ([]Answer, error) {
	answers := make([]Answer, len(examples))
	for i, e := range examples {
		if n := len(e.Context.Candidates); n > 0 && (e.Chosen < 0 || e.Chosen >= n) { // of none there is no prompt
			return nil, fmt.Errorf("measure example %d: candidate %d was chosen of %d", i, e.Chosen, n)
		}
		shares, err := ask(ctx, r, promptVersion, e.Context, uint64(i))
		if err != nil {
			return nil, fmt.Errorf("measure example %d: %w", i, err)
		}
		best, ties := slices.Max(shares), 0.
		for _, v := range shares {
			if v == best {
				ties++
			}
		}
		if shares[e.Chosen] == best {
			answers[i].First = 1 / ties
		}
		answers[i].CrossEntropy = -shares[e.Chosen]
	}
	return answers, nil
}
