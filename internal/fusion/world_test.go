package fusion

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/r2rec/r2rec/internal/event"
)

// world draws lists of evidence without meaning, from which a user chooses by two of them: the share of a candidate is
// proportional to (After[1] · Similar)².
func world(lists, candidates int, rng *rand.Rand) []Example {
	return choices(lists, candidates, rng, func(_ List, e event.Evidence) float64 {
		return e.After[1] * e.After[1] * e.Similar * e.Similar
	})
}

// choices draws lists and lets the user choose in proportion to a weight.
func choices(lists, candidates int, rng *rand.Rand, weight func(List, event.Evidence) float64) []Example {
	examples := make([]Example, lists)
	for i := range examples {
		l := List{Likes: rng.IntN(200), Idle: 1e5 * rng.ExpFloat64(), Draw: float64(rng.IntN(2))}
		total, chosen := 0.0, 0
		for k := range candidates {
			e := someEvidence(rng)
			l.Evidence = append(l.Evidence, e)
			// Each takes the choice over with its share of all so far.
			w := weight(l, e)
			total += w
			if rng.Float64()*total < w {
				chosen = k
			}
		}
		examples[i] = Example{l, chosen}
	}
	return examples
}

// someEvidence draws every value on its own, each on its scale. About a fifth of them are absent.
func someEvidence(rng *rand.Rand) event.Evidence {
	v := func(scale float64) float64 {
		if rng.IntN(5) == 0 {
			return 0
		}
		return scale * rng.ExpFloat64()
	}
	three := func(scale float64) [3]float64 { return [3]float64{v(scale), v(scale), v(scale)} }
	return event.Evidence{
		Chains: v(9), Support: int(v(10)), LikeMinded: v(1), LikeMindedRecent: three(.1), Interest: v(2), Similar: v(1), SimilarLast: v(1),
		SimilarRecent: v(1), SimilarAny: v(1), Best: v(1), Lift: v(.01), After: three(3), Before: three(3), Together: v(1), Recent: three(20),
		Near: three(1), Transition: [2]float64{v(1), v(.01)}, Session: [2]float64{v(1), v(2)}, RecentAny: three(30), Liked: v(40),
		Popularity: int(v(60)), Ages: [4]float64{v(1e4), v(1e5), v(1e6), v(1e8)}, Category: v(.5),
		Latent: [2]float64{v(.3), v(.5)},
	}
}

// source is a seeded source of random numbers.
func source(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// quick fits a small model to the world.
func quick(t testing.TB, o FitOptions) *Model {
	t.Helper()
	if o.Hidden == 0 {
		o.Hidden = 5 // does not fill a block
	}
	o.Epochs, o.Ensemble = 2, 2
	examples := slices.Concat(world(MinExamples, 6, source(1)), world(8, 9, source(2)))
	m, err := Fit(context.Background(), examples, o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// hits is the share of examples in which the chosen candidate has the highest score.
func hits(examples []Example, scores func(List) []float64) float64 {
	n := 0
	for _, e := range examples {
		s, best := scores(e.List), 0
		for i := range s {
			if s[i] > s[best] {
				best = i
			}
		}
		if best == e.Chosen {
			n++
		}
	}
	return float64(n) / float64(len(examples))
}
