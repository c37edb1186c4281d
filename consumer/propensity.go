package consumer

import "github.com/r2rec/r2rec/internal/event"

// Propensity is how often the slots of one position were looked at, relative to position 1.
type Propensity struct {
	Position  int
	Value     float64 // 1 at position 1; can lie above 1 by chance
	Shown     int     // slots that were shown there
	Effective float64 // of how many slots drawn evenly the weighted ones are worth: (Σw)²/Σw²; far below Shown, Value says little
}

// EstimatePropensities estimates the position-based model from decisions whose lists were drawn (Explore) and what they
// earned: for each surface one value a position, from the first on, up to the first that was never shown or while position
// 1 earned nothing. decisions are found by the rewards' DecisionID; rewards of others are left out, and so is a reward
// that comes again.
//
// Were the candidates of each list put in random order, every position would hold equally good items, and the rates of
// being chosen would be proportional to the rates of being looked at (Joachims, Swaminathan and Schnabel, "Unbiased
// learning-to-rank with biased feedback", WSDM 2017). Lists are drawn by merit instead, so each slot is weighted by how
// much likelier its list, up to the slot, would have been in random order: w = Π 1/((n-j+1)·p_j), with n candidates and p_j
// the logged probability of slot j. The rates are normalised by the sum of the weights.
func EstimatePropensities(decisions map[string]event.Decision, rewards []event.Reward) map[string][]Propensity {
	type slot struct {
		decision string
		position int
	}
	type sums struct {
		shown                  int
		weight, square, chosen float64
	}
	seen := map[slot]bool{}
	surfaces := map[string][]sums{}
	for _, r := range rewards {
		d, ok := decisions[r.DecisionID]
		key := slot{r.DecisionID, r.Position}
		if !ok || !d.Explore || seen[key] || r.Position > len(d.Slate) {
			continue
		}
		seen[key] = true
		w := 1.0
		for j, s := range d.Slate[:r.Position] {
			w /= float64(len(d.Context.Candidates)-j) * s.Probability
		}
		at := surfaces[r.Surface]
		for len(at) < r.Position {
			at = append(at, sums{})
		}
		s := &at[r.Position-1]
		s.shown++
		s.weight += w
		s.square += w * w
		if r.Value > 0 {
			s.chosen += w
		}
		surfaces[r.Surface] = at
	}
	out := map[string][]Propensity{}
	for surface, at := range surfaces {
		if at[0].chosen == 0 {
			continue
		}
		top := at[0].chosen / at[0].weight
		for i, s := range at {
			if s.shown == 0 {
				break
			}
			out[surface] = append(out[surface], Propensity{Position: i + 1, Value: s.chosen / s.weight / top, Shown: s.shown,
				Effective: s.weight * s.weight / s.square})
		}
	}
	return out
}
