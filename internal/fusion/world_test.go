package fusion

import (
	"math"
	"math/rand/v2"

	"github.com/r2rec/r2rec/internal/event"
)

// world draws lists of evidence without meaning, from which a user chooses what others went on to within minutes
// (After[1]): the share of a candidate is proportional to its fourth power.
func world(lists, candidates int, rng *rand.Rand) []Example {
	examples := make([]Example, lists)
	for i := range examples {
		l := List{Likes: rng.IntN(200), Idle: 1e5 * rng.ExpFloat64(), Draw: float64(rng.IntN(2))}
		total, chosen := 0.0, 0
		for k := range candidates {
			e := someEvidence(rng)
			l.Evidence = append(l.Evidence, e)
			// Drawn one by one: each takes the choice over with its share of all so far.
			w := math.Pow(e.After[1], 4)
			total += w
			if rng.Float64()*total < w {
				chosen = k
			}
		}
		examples[i] = Example{l, chosen}
	}
	return examples
}

// someEvidence draws every value on its own. About a fifth of them are absent, and scales differ.
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
		Popularity: int(v(60)), Ages: [4]float64{v(1e4), v(1e5), v(1e6), v(1e8)}, Category: v(.5),
	}
}
