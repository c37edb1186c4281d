package reasoner

import (
	"context"
	"fmt"
	"math"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/policy"
)

// Without computes a context again as if the choices that the chains end in had never been made. Candidates and their
// order stay. Chains are ones of the context.
type Without func(chains ...event.Chain) (event.Context, error)

// stepsPerItem is how many chains are proposed for an item.
const stepsPerItem = 3

// explain finds the thought behind the slate: chains are proposed and masked, and what contributes nothing is not
// shown. held is the model that ranked, where one did, and said what it wrote before it did. Whatever goes wrong costs only the contributions of what was not measured yet.
func (r *Reasoner) explain(ctx context.Context, d event.Decision, held Model, said event.Thought, without Without) event.Thought {
	proposed := iot.Propose(said, d.Context, d.Slate, stepsPerItem)
	if without == nil {
		return proposed
	}
	start := r.opt.Now()
	measuring, cancel := context.WithTimeout(ctx, r.opt.MaskTimeout)
	defer cancel()
	by, before := event.Graph, d.Scores
	if d.Model != nil && r.opt.MaskModel && r.opt.ModelWeight > 0 {
		by = event.Reasoned
	} else if d.Model != nil {
		before = r.withoutModel(before)
	}
	contributions, err := measure(d.Context, proposed, logShares(before), without, func(c event.Context) ([]float64, error) {
		scores, err := r.rankMasked(measuring, held, said, d, c, by)
		return logShares(scores), err
	})
	if err != nil && measuring.Err() == nil {
		r.opt.Logger.Warn("chains are shown without their contribution", "user", d.UserID, "decision", d.DecisionID, "error", err)
	}
	r.metrics.seconds.WithLabelValues("masking").Observe(r.opt.Now().Sub(start).Seconds())

	proposed.Masking = &event.Masking{By: by, Proposed: citations(proposed), Measured: len(contributions)}
	for _, nats := range contributions {
		if nats > 0 {
			proposed.Masking.Positive++
		}
	}
	return iot.Faithful(proposed, d.Context, contributions)
}

// rankMasked ranks the candidates of a masked context as the decision ranked them: with its seed, and where by says so
// by the model that ranked, with what can still be said of its thought: a chain that is masked is gone from the evidence,
// from the prompt and from the thought.
func (r *Reasoner) rankMasked(ctx context.Context, held Model, said event.Thought, d event.Decision, masked event.Context, by event.Source) ([]event.Score, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var model []float64
	if by == event.Reasoned {
		was := *d.Model
		left := iot.Masked(said, d.Context, masked)
		d.Context = masked
		shares, is, err := r.ask(ctx, held, d, func(_ event.Model, p *iot.Prompt) ([]float64, error) { return held.Rank(ctx, p.After(left, masked)) })
		if err != nil {
			return nil, err
		}
		if is.PromptDigest = was.PromptDigest; is != was { // a held model is never switched, but a name on a server can be given to other weights
			return nil, fmt.Errorf("the server has put %s %.12s in the place of %s %.12s: their answers cannot be compared", is.Name, is.Digest, was.Name, was.Digest)
		}
		model = shares
	}
	return policy.Pool(r.graphShares(masked), model, r.opt.ModelWeight), nil
}

// measure returns the contribution of each chain that the thought cites, by its number: the fall of the log share of
// its item, in nats, where the chain is masked. before are the log shares as they are, rank gives those of a masked
// context. The strongest chains of all steps come first, so that where rank fails, and measuring ends with its error,
// something is known of every step.
func measure(c event.Context, t event.Thought, before []float64, without Without, rank func(event.Context) ([]float64, error)) (map[int]float64, error) {
	contributions := map[int]float64{}
	for place, left := 0, true; left; place++ {
		left = false
		for _, s := range t.Steps {
			if place >= len(s.Chains) {
				continue
			}
			left = true
			n := s.Chains[place]
			if _, known := contributions[n]; known { // two steps of a model may rest on one chain
				continue
			}
			fall, err := contribution(c, c.Chains[n-1], before, without, rank)
			if err != nil {
				return contributions, err
			}
			contributions[n] = fall
		}
	}
	return contributions, nil
}

// contribution of one chain, as measure says.
func contribution(c event.Context, ch event.Chain, before []float64, without Without, rank func(event.Context) ([]float64, error)) (float64, error) {
	item := c.Candidate(ch.ItemID)
	masked, err := without(ch)
	if err != nil {
		return 0, err
	}
	after, err := rank(masked)
	if err != nil {
		return 0, err
	}
	if item < 0 || len(before) != len(c.Candidates) || len(after) != len(before) {
		return 0, fmt.Errorf("mask a chain to %q: %d candidates became %d", ch.ItemID, len(before), len(after))
	}
	fall := before[item] - after[item]
	if math.IsNaN(fall) || math.IsInf(fall, 0) {
		return 0, fmt.Errorf("mask a chain to %q: its log share went from %v to %v, want finite ones", ch.ItemID, before[item], after[item])
	}
	return fall, nil
}

// citations counts the chains that a thought cites, each once.
func citations(t event.Thought) int {
	cited := make(map[int]bool)
	for _, s := range t.Steps {
		for _, n := range s.Chains {
			cited[n] = true
		}
	}
	return len(cited)
}
