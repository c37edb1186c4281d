package rltrainer

import (
	"context"
	"fmt"

	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/ope"
	"github.com/r2rec/r2rec/internal/policy"
)

// Judge makes the gate's samples of rollouts that the model was not trained on: on the logged prompt and shuffle, at the
// decision's own temperature and weight. q has the values of each rollout's candidates by a click model that knows nothing
// of the trainer's (FitClicks on these rollouts). The model is asked from several goroutines, as it would be served.
func Judge(ctx context.Context, r Ranker, rollouts []Rollout, q [][]float64) ([]ope.Sample, error) {
	samples := make([]ope.Sample, len(rollouts))
	err := each(ctx, len(rollouts), func(ctx context.Context, i int) error {
		d := rollouts[i].Decision
		s, err := judge(ctx, r, rollouts[i], q[i])
		if err != nil {
			return fmt.Errorf("judge by decision %.80q: %w", d.DecisionID, err)
		}
		samples[i] = s
		return nil
	})
	if err != nil {
		return nil, err
	}
	return samples, nil
}

func judge(ctx context.Context, r Ranker, of Rollout, q []float64) (ope.Sample, error) {
	d := of.Decision
	graph, _, ok := shares(d)
	if !ok || len(q) != len(graph) {
		return ope.Sample{}, fmt.Errorf("it has %d candidates, %d scores and %d values", len(d.Context.Candidates), len(d.Scores), len(q))
	}
	p, err := iot.Asked(d)
	if err != nil {
		return ope.Sample{}, err
	}
	model, err := r.Rank(ctx, p)
	if err != nil {
		return ope.Sample{}, err
	}
	if len(model) != len(graph) {
		return ope.Sample{}, fmt.Errorf("%d log-shares for %d candidates", len(model), len(graph))
	}
	target := policy.First(policy.Pool(graph, model, d.ModelWeight), d.Temperature)
	logged := policy.First(d.Scores, d.Temperature)
	s := ope.Sample{User: d.UserID, Reward: of.Reward, Logged: d.Slate[0].Probability, Target: target[of.First], Q: q[of.First]}
	for i := range q {
		s.V += target[i] * q[i]
		s.VLogged += logged[i] * q[i]
	}
	return s, nil
}
