package rltrainer

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/r2rec/r2rec/internal/lm"
	"github.com/r2rec/r2rec/internal/ope"
	"github.com/r2rec/r2rec/internal/policy"
)

// Judge makes the gate's samples of rollouts that the model was not trained on: on the logged context and shuffle, at the
// decision's own temperature and weight. A model that thinks writes its own thoughts, the likeliest, as it would when it is
// served, so that its policy is as exactly known as that of one that answers at once; what was said when the decision was
// made is not read. q has the values of each rollout's candidates by a click model that knows nothing
// of the trainer's (FitClicks on these rollouts). The model is asked from several goroutines, as it would be served.
//
// told, where it is not nil, hears how many are judged.
func Judge(ctx context.Context, r Ranker, rollouts []Rollout, q [][]float64, told func(done, total int)) ([]ope.Sample, Change, error) {
	samples, changes := make([]ope.Sample, len(rollouts)), make([]Change, len(rollouts))
	one := counted(told, len(rollouts))
	err := each(ctx, len(rollouts), func(ctx context.Context, i int) error {
		d := rollouts[i].Decision
		s, change, err := judge(ctx, r, rollouts[i], q[i])
		if err != nil {
			return fmt.Errorf("judge by decision %.80q: %w", d.DecisionID, err)
		}
		samples[i], changes[i] = s, change
		one()
		return nil
	})
	if err != nil {
		return nil, Change{}, err
	}
	return samples, meanChange(changes), nil
}

// Change says how else a policy would draw slot 1 than the one that was logged, a mean over decisions. A gate can pass what
// only became surer: that earns more where lists are drawn, and nothing where users get the likeliest list.
type Change struct {
	Reordered     float64 `json:"reordered"`      // share of the decisions whose likeliest item is another one
	EntropyBefore float64 `json:"entropy_before"` // of the draw of slot 1, nats
	EntropyAfter  float64 `json:"entropy_after"`
}

func meanChange(of []Change) (m Change) {
	n := float64(max(1, len(of)))
	for _, c := range of {
		m.Reordered, m.EntropyBefore, m.EntropyAfter = m.Reordered+c.Reordered/n, m.EntropyBefore+c.EntropyBefore/n, m.EntropyAfter+c.EntropyAfter/n
	}
	return m
}

func changeOf(logged, target []float64) Change {
	c := Change{EntropyBefore: entropy(logged), EntropyAfter: entropy(target)}
	if likeliest(logged) != likeliest(target) {
		c.Reordered = 1
	}
	return c
}

func likeliest(p []float64) int {
	best := 0
	for i, v := range p {
		if v > p[best] {
			best = i
		}
	}
	return best
}

func entropy(p []float64) (h float64) {
	for _, v := range p {
		if v > 0 {
			h -= v * math.Log(v)
		}
	}
	return h
}

func judge(ctx context.Context, r Ranker, of Rollout, q []float64) (ope.Sample, Change, error) {
	d := of.Decision
	graph, _, ok := shares(d)
	if !ok || len(q) != len(graph) {
		return ope.Sample{}, Change{}, fmt.Errorf("it has %d candidates, %d scores and %d values", len(d.Context.Candidates), len(d.Scores), len(q))
	}
	model, err := ask(ctx, r, d.Model.PromptVersion, d.Context, d.Seed)
	_, own := thinks(r)
	switch {
	case own && (errors.Is(err, lm.ErrPromptTooLong) || errors.Is(err, lm.ErrNonsense)):
		model = nil // of its own thought's making: a server would have the graph rank
	case err != nil:
		return ope.Sample{}, Change{}, err
	case len(model) != len(graph):
		return ope.Sample{}, Change{}, fmt.Errorf("%d log-shares for %d candidates", len(model), len(graph))
	}
	target := policy.First(policy.Pool(graph, model, d.ModelWeight), d.Temperature)
	logged := policy.First(d.Scores, d.Temperature)
	s := ope.Sample{User: d.UserID, Reward: of.Reward, Logged: d.Slate[0].Probability, Target: target[of.First], Q: q[of.First]}
	for i := range q {
		s.V += target[i] * q[i]
		s.VLogged += logged[i] * q[i]
	}
	return s, changeOf(logged, target), nil
}
