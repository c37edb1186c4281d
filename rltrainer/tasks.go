package rltrainer

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm"
	"github.com/r2rec/r2rec/internal/policy"
)

// MaxWeight is the most that a reward counts by the inverse of its logged probability: 1/p is clipped there.
const MaxWeight = 10.

// Task is a rollout as the policy gradient sees it. The policy is the one that draws slot 1, over the candidates of the
// logged prompt,
//
//	π = softmax(((1 - w) · log graph + w · log model) / τ) = softmax(Offset + Scale · scores)
//
// with the decision's own weight w of the model and temperature τ, where scores are the model's: log model is scores less
// a constant.
type Task struct {
	Prompt    iot.Prompt
	Values    []float64 // R̂, one a candidate: the doubly robust value of showing it in slot 1
	Reference []float64 // log π before the round
	Offset    []float64 // (1 - w)/τ · log graph, less what calibration takes away
	Scale     float64   // w/τ
}

// TaskOptions say how rollouts become tasks.
type TaskOptions struct {
	// Prior gives the log-shares of the first n letters that the server takes away from what the model says, where it
	// calibrates (lm.Calibrate). Default: it does not.
	Prior func(ctx context.Context, n int) ([]float64, error)
}

// Prepare makes tasks of rollouts: of each, q has the values of its candidates by the click model, and the reference ranks
// its prompt. The reference is the model before the round; it is asked from several goroutines, as a server would ask it,
// without calibration.
//
//	R̂(a) = q(a) + 1[a stood in slot 1] · min(1/p, MaxWeight) · (reward - q(a))
//
// (doubly robust: Dudík, Langford and Li 2011, "Doubly Robust Policy Evaluation and Learning").
func Prepare(ctx context.Context, reference Ranker, rollouts []Rollout, q [][]float64, o TaskOptions) ([]Task, error) {
	tasks := make([]Task, len(rollouts))
	err := each(ctx, len(rollouts), func(ctx context.Context, i int) error {
		t, err := prepare(ctx, reference, rollouts[i], q[i], o)
		if err != nil {
			return fmt.Errorf("prepare decision %.80q: %w", rollouts[i].Decision.DecisionID, err)
		}
		tasks[i] = t
		return nil
	})
	if err != nil {
		return nil, err
	}
	return tasks, nil
}

func prepare(ctx context.Context, reference Ranker, r Rollout, q []float64, o TaskOptions) (Task, error) {
	d := r.Decision
	graph, _, ok := shares(d)
	if !ok || len(q) != len(graph) {
		return Task{}, fmt.Errorf("it has %d candidates, %d scores and %d values", len(d.Context.Candidates), len(d.Scores), len(q))
	}
	p, err := iot.Build(d.Model.PromptVersion, d.Context, d.Seed) // without what was said: the policy that learns answers at once
	if err != nil {
		return Task{}, err
	}
	t := Task{Prompt: p, Values: values(r, q), Offset: make([]float64, len(graph)), Scale: d.ModelWeight / d.Temperature}
	for i, g := range graph {
		t.Offset[i] = (1 - d.ModelWeight) / d.Temperature * math.Log(g)
	}
	if o.Prior != nil {
		prior, err := o.Prior(ctx, len(graph))
		if err == nil {
			prior, err = lm.ByCandidate(prior, p)
		}
		if err != nil {
			return Task{}, fmt.Errorf("what calibration takes away: %w", err)
		}
		for i := range t.Offset {
			t.Offset[i] -= t.Scale * prior[i]
		}
	}
	scores, err := reference.Rank(ctx, p)
	if err != nil {
		return Task{}, err
	}
	t.Reference = t.policy(scores)
	return t, nil
}

// values are R̂, see Prepare.
func values(r Rollout, q []float64) []float64 {
	v := append([]float64(nil), q...)
	v[r.First] += min(1/r.Decision.Slate[0].Probability, MaxWeight) * (r.Reward - q[r.First])
	return v
}

// policy is log π for the model's scores.
func (t Task) policy(scores []float64) []float64 {
	z := make([]float64, len(t.Offset))
	for i, o := range t.Offset {
		z[i] = o + t.Scale*scores[i]
	}
	return policy.LogSoftmax(z)
}

// Outcome says how a policy does on tasks; each figure is a mean over them.
type Outcome struct {
	Reward  float64 `json:"reward"`  // Σ π(a) R̂(a): what slot 1 earns, doubly robust
	KL      float64 `json:"kl"`      // of π from the reference, nats
	Entropy float64 `json:"entropy"` // of π, nats
}

func (o *Outcome) add(x Outcome, weight float64) {
	o.Reward += weight * x.Reward
	o.KL += weight * x.KL
	o.Entropy += weight * x.Entropy
}

// outcome of one task for log π.
func (t Task) outcome(logs []float64) (o Outcome) {
	for i, l := range logs {
		p := math.Exp(l)
		o.Reward += p * t.Values[i]
		o.KL += p * (l - t.Reference[i])
		o.Entropy -= p * l
	}
	return o
}

// MeasurePolicy asks a model for every task, from several goroutines. Without tasks the outcome is zero.
func MeasurePolicy(ctx context.Context, r Ranker, tasks []Task) (Outcome, error) {
	found := make([]Outcome, len(tasks))
	err := each(ctx, len(tasks), func(ctx context.Context, i int) error {
		scores, err := r.Rank(ctx, tasks[i].Prompt)
		if err == nil && len(scores) != len(tasks[i].Values) {
			err = fmt.Errorf("%d scores for %d candidates", len(scores), len(tasks[i].Values))
		}
		if err != nil {
			return fmt.Errorf("measure task %d: %w", i, err)
		}
		found[i] = tasks[i].outcome(tasks[i].policy(scores))
		return nil
	})
	if err != nil {
		return Outcome{}, err
	}
	var all Outcome
	for _, o := range found {
		all.add(o, 1/float64(len(tasks)))
	}
	return all, nil
}

// counted makes what is called whenever one more of a total is done, from any goroutine; told hears of them one after the
// other, unless it is nil.
func counted(told func(done, total int), total int) (one func()) {
	if told == nil {
		return func() {}
	}
	var mu sync.Mutex
	done := 0
	return func() {
		mu.Lock()
		defer mu.Unlock()
		done++
		told(done, total)
	}
}

// each calls f for every index, as many at once as there are processors. The first error ends it.
func each(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range n {
		group.Go(func() error {
			if err := inner.Err(); err != nil {
				return err
			}
			return f(inner, i)
		})
	}
	return group.Wait()
}
