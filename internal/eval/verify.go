package eval

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"

	"github.com/r2rec/r2rec/internal/event"
)

// Fresh makes a ranker that has observed nothing. Past is all the data that there are: whoever looks into the data other
// than by Observe has to look there. Verify closes the ranker if it is an io.Closer.
type Fresh func(ctx context.Context, past Stream) (Ranker, error)

// Difference is a case whose scores depend on what comes after it, or on what was asked before it.
type Difference struct {
	Case Case
	Run  []float64 // the scores of the full run
	Past []float64 // those of a ranker for which nothing later exists
}

// sameWithin is how far two scores may differ, as a share of the case's largest score: sums over a map come in any order.
const sameWithin = 1e-9

// Verify checks that a run looked at nothing but the past. For each of n cases, drawn with the seed, it deletes every
// event that is not strictly before the case, asks a fresh ranker that one case, and compares the scores with those of
// the run (Result.Scores) up to 1e-9 of the largest. It gives the cases that differ, none if all is well, and takes one
// pass through the events before it a case. Refused records are left out.
func Verify(ctx context.Context, events Stream, cases []Case, scores [][]float64, fresh Fresh, n int, seed uint64) ([]Difference, error) {
	if len(scores) != len(cases) {
		return nil, fmt.Errorf("verify: %d lists of scores for %d cases", len(scores), len(cases))
	}
	var differ []Difference
	for _, i := range sample(len(cases), n, seed) {
		past, err := fromPast(ctx, events, cases[i], fresh)
		if err != nil {
			return nil, fmt.Errorf("verify case %s: %w", quote(cases[i].ID), err)
		}
		if !same(scores[i], past) {
			differ = append(differ, Difference{Case: cases[i], Run: scores[i], Past: past})
		}
	}
	return differ, nil
}

// sample draws n of the numbers below total, each once.
func sample(total, n int, seed uint64) []int {
	drawn := rand.New(rand.NewPCG(seed, 1)).Perm(total)
	return drawn[:min(max(n, 0), total)]
}

// fromPast asks one case in a world that ends before it. It shares no code with steps, which it checks.
func fromPast(ctx context.Context, events Stream, c Case, fresh Fresh) (scores []float64, err error) {
	past := func(yield func(event.Interaction, error) bool) {
		for in, err := range events {
			if err == nil && in.Timestamp < c.At && !yield(in, nil) {
				return
			}
		}
	}
	r, err := fresh(ctx, past)
	if err != nil {
		return nil, fmt.Errorf("make a fresh ranker: %w", err)
	}
	if closer, ok := r.(io.Closer); ok {
		defer func() { err = errors.Join(err, closer.Close()) }()
	}
	var batch []event.Interaction
	for in := range past {
		if batch = append(batch, in); len(batch) == 4096 {
			if err := observe(ctx, r, batch); err != nil {
				return nil, err
			}
			batch = nil
		}
	}
	if err := observe(ctx, r, batch); err != nil {
		return nil, err
	}
	return score(ctx, r, c)
}

func same(a, b []float64) bool {
	if len(a) != len(b) {
		return false
	}
	scale := 0.0
	for i := range a {
		for _, x := range []float64{a[i], b[i]} {
			if !math.IsInf(x, 0) {
				scale = max(scale, math.Abs(x))
			}
		}
	}
	for i := range a {
		if a[i] != b[i] && !(math.Abs(a[i]-b[i]) <= sameWithin*scale) {
			return false
		}
	}
	return true
}
