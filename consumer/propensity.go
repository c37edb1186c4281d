package consumer

import (
	"hash/fnv"
	"io"
	"math"

	"github.com/r2rec/r2rec/internal/event"
)

// Propensity is how often the slots of one position were looked at, relative to position 1.
type Propensity struct {
	Position  int     `json:"position"`
	Value     float64 `json:"value"`     // 1 at position 1; can lie above 1 by chance
	SE        float64 `json:"se"`        // standard error of Value, by users (jackknife of 20 groups of them); 0 at position 1
	Shown     int     `json:"shown"`     // slots that were shown there
	Effective float64 `json:"effective"` // of how many slots drawn evenly the weighted ones are worth: (Σw)²/Σw²; far below Shown, Value says little
}

// Propensities estimates the position-based model (see Examination) from decisions whose lists were drawn (Explore) and what
// they earned, for each surface.
//
// Were the candidates of each list put in random order, every position would hold equally good items, and the rates of
// being chosen would be proportional to the rates of being looked at (Joachims, Swaminathan and Schnabel, "Unbiased
// learning-to-rank with biased feedback", WSDM 2017). Lists are drawn by merit instead, so each slot is weighted by how
// much likelier its list, up to the slot, would have been in random order: w = Π 1/((n-j+1)·p_j), with n candidates and p_j
// the logged probability of slot j. The rates are normalised by the sum of the weights.
type Propensities struct {
	weights  map[string][]float64 // of the slots of each decision; 0 once the reward of one has come
	surfaces map[string][]*sums
}

// userGroups are left out one after the other for the standard error.
const userGroups = 20

// sums are of one position, by groups of users.
type sums struct {
	shown                  int
	weight, square, chosen [userGroups]float64
}

// NewPropensities knows of no decision.
func NewPropensities() *Propensities {
	return &Propensities{map[string][]float64{}, map[string][]*sums{}}
}

// Decided takes a decision, before the rewards of it.
func (p *Propensities) Decided(d event.Decision) {
	if !d.Explore {
		return
	}
	w, weights := 1.0, make([]float64, len(d.Slate))
	for j, s := range d.Slate {
		w /= float64(len(d.Context.Candidates)-j) * s.Probability
		weights[j] = w
	}
	p.weights[d.DecisionID] = weights
}

// Earned takes the reward of a slot. One whose decision is not known, or that came before, counts for nothing.
func (p *Propensities) Earned(r event.Reward) {
	weights := p.weights[r.DecisionID]
	if r.Position < 1 || r.Position > len(weights) || weights[r.Position-1] == 0 {
		return
	}
	w := weights[r.Position-1]
	weights[r.Position-1] = 0
	at := p.surfaces[r.Surface]
	for len(at) < r.Position {
		at = append(at, &sums{})
	}
	p.surfaces[r.Surface] = at
	h := fnv.New32a()
	io.WriteString(h, r.UserID) // it never fails
	s, g := at[r.Position-1], h.Sum32()%userGroups
	s.shown++
	s.weight[g] += w
	s.square[g] += w * w
	if r.Value > 0 {
		s.chosen[g] += w
	}
}

// Estimate gives each surface one value a position, from the first on, up to the first that was never shown; nothing of a
// surface where all that position 1 earned is of one group of users, or it earned nothing.
func (p *Propensities) Estimate() map[string][]Propensity {
	out := map[string][]Propensity{}
	for surface, at := range p.surfaces {
		if !at[0].earnedByMany() {
			continue
		}
		for i, s := range at {
			if s.shown == 0 {
				break
			}
			weight := total(s.weight, -1)
			out[surface] = append(out[surface], Propensity{Position: i + 1, Value: s.rate(-1) / at[0].rate(-1), SE: jackknife(func(without int) float64 {
				return s.rate(without) / at[0].rate(without)
			}), Shown: s.shown, Effective: weight * weight / total(s.square, -1)})
		}
	}
	return out
}

func (s *sums) earnedByMany() bool {
	groups := 0
	for _, w := range s.chosen {
		if w > 0 {
			groups++
		}
	}
	return groups > 1
}

// rate is how often a slot was chosen, without a group of users; -1: with all.
func (s *sums) rate(without int) float64 {
	weight := total(s.weight, without)
	if weight == 0 {
		return 0
	}
	return total(s.chosen, without) / weight
}

func total(of [userGroups]float64, without int) (sum float64) {
	for g, x := range of {
		if g != without {
			sum += x
		}
	}
	return sum
}

// jackknife is the standard error of what is estimated, each time without one group (Tukey 1958).
func jackknife(estimate func(without int) float64) float64 {
	var sum, square float64
	for g := range userGroups {
		v := estimate(g)
		sum += v
		square += v * v
	}
	return math.Sqrt(max(0, (square-sum*sum/userGroups)*(userGroups-1)/userGroups))
}
