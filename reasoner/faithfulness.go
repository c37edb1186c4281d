package reasoner

import (
	"fmt"
	"iter"
	"math"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/policy"
)

// Case is a decision whose thought is measured.
type Case struct {
	Context event.Context
	Slate   []event.Slot
	Seed    uint64 // of the shuffle
	Without Without
	Chains  func(item string) []event.Chain // all that lead to an item, also those that the context does not show
}

// Ranker ranks the candidates of a context under a shuffle: the log of each one's share.
type Ranker func(c event.Context, seed uint64) ([]float64, error)

// Faithfulness says how far rankings rest on the chains that are proposed as their reasons.
type Faithfulness struct {
	Decisions int     // measured
	Steps     int     // proposed that cite a chain, one a shown item
	Chains    int     // that they cite
	Served    Effects // under the shuffle of the decision
	Shuffled  Effects // of the same chains under another shuffle
	Both      int     // chains that contribute under both
}

// Effects of masking under one shuffle. Means are over chains, in nats.
type Effects struct {
	PositiveChains int     // which contribute
	PositiveSteps  int     // which cite one that does
	Decisions      int     // which show at least one such step
	Mean           float64 // contribution of a proposed chain
	Random         float64 // of a chain drawn evenly from all that lead to the same item, one for each proposed
	RandomPositive int     // of those, which contribute
	Error          float64 // standard error of Mean - Random, by decision: chains of one decision are not independent
}

// Measure proposes a thought for each case as Recommend does, and masks its chains one by one, each beside a random
// chain to the same item. The first error of the cases, or of ranking, ends it.
func Measure(cases iter.Seq2[Case, error], rank Ranker) (Faithfulness, error) {
	var f Faithfulness
	served, shuffled := effects{of: &f.Served}, effects{of: &f.Shuffled}
	for c, err := range cases {
		if err != nil {
			return Faithfulness{}, fmt.Errorf("measure faithfulness after %d decisions: %w", f.Decisions, err)
		}
		t := iot.Explain(c.Context, c.Slate, stepsPerItem)
		for _, s := range t.Steps {
			if len(s.Chains) > 0 {
				f.Steps++
			}
		}
		f.Decisions++
		f.Chains += citations(t)
		first, err := served.measure(c, c.Seed, t, rank)
		if err != nil {
			return Faithfulness{}, fmt.Errorf("measure faithfulness, decision %d: %w", f.Decisions, err)
		}
		second, err := shuffled.measure(c, policy.Generator(c.Seed, policy.AnotherShuffle).Uint64()>>11, t, rank)
		if err != nil {
			return Faithfulness{}, fmt.Errorf("measure faithfulness, decision %d under another shuffle: %w", f.Decisions, err)
		}
		for n := range first {
			if first[n] > 0 && second[n] > 0 {
				f.Both++
			}
		}
	}
	served.finish(f.Chains)
	shuffled.finish(f.Chains)
	return f, nil
}

// effects sums up what finish makes means of.
type effects struct {
	of    *Effects
	diffs []float64 // of each decision: summed contributions of the proposed chains, less those of the random ones
	sizes []float64 // their number
}

// measure returns the contributions of the thought's chains, and adds them up.
func (e *effects) measure(c Case, seed uint64, t event.Thought, rank Ranker) (map[int]float64, error) {
	under := func(c event.Context) ([]float64, error) { return rank(c, seed) }
	before, err := under(c.Context)
	if err != nil {
		return nil, err
	}
	contributions, err := measure(c.Context, t, before, c.Without, under)
	if err != nil {
		return nil, err
	}
	draw := policy.Generator(c.Seed, policy.RandomChain)
	var diff float64
	shown := false
	for _, s := range t.Steps {
		helps := false
		all := c.Chains(s.ItemID)
		for _, n := range s.Chains {
			if len(all) == 0 {
				return nil, fmt.Errorf("chain %d leads to item %q, but no chain does", n, s.ItemID)
			}
			random, err := contribution(c.Context, all[draw.IntN(len(all))], before, c.Without, under)
			if err != nil {
				return nil, err
			}
			if contributions[n] > 0 {
				e.of.PositiveChains++
				helps = true
			}
			if random > 0 {
				e.of.RandomPositive++
			}
			e.of.Mean += contributions[n]
			e.of.Random += random
			diff += contributions[n] - random
		}
		if helps {
			e.of.PositiveSteps++
			shown = true
		}
	}
	if shown {
		e.of.Decisions++
	}
	e.diffs, e.sizes = append(e.diffs, diff), append(e.sizes, float64(citations(t)))
	return contributions, nil
}

// finish divides the sums. The standard error is that of a ratio of sums over decisions, linearised.
func (e *effects) finish(chains int) {
	n := float64(chains)
	if chains == 0 {
		return
	}
	e.of.Mean /= n
	e.of.Random /= n
	mean := e.of.Mean - e.of.Random
	var squares float64
	for i, diff := range e.diffs {
		squares += math.Pow(diff-mean*e.sizes[i], 2)
	}
	if k := float64(len(e.diffs)); k > 1 {
		e.of.Error = math.Sqrt(squares*k/(k-1)) / n
	}
}
