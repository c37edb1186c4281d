package rltrainer

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/r2rec/r2rec/internal/lm"
)

// ImproveOptions say how a policy follows its gradient.
type ImproveOptions struct {
	Steps int // required
	Batch int // tasks a step; required
	// Beta weighs the KL divergence from the reference; required, and above 0: without it the policy becomes overconfident
	// of what a few rewards said.
	Beta float64
	Seed uint64 // of the order of the tasks
	// From is how many of the steps are already taken, by a learner that goes on from a checkpoint.
	From int
	// Told is told of every step, if set; its error ends the run.
	Told func(Step) error
}

// Step is how one step of the policy gradient went.
type Step struct {
	lm.Progress
	Outcome // of the batch, before the step
}

// Improve follows the exact gradient of the policy's expected reward,
//
//	loss = -Σ π(a) R̂(a) + β KL(π, reference)
//
// averaged over a batch of tasks: every candidate's value is stated, so nothing has to be sampled, and a whole prompt
// costs one pass. Each epoch goes through all tasks in another order. What is learned at a step depends on the seed and
// the step alone, so that a run can be taken up again at any step.
func Improve(ctx context.Context, l lm.Learner, tasks []Task, o ImproveOptions) error {
	if len(tasks) == 0 {
		return errors.New("improve the policy: there are no tasks to learn from")
	}
	if o.Steps < 1 || o.Batch < 1 || o.From < 0 || o.From > o.Steps {
		return fmt.Errorf("improve the policy: %d steps of %d tasks from step %d on: steps and batch must be positive, and the first step among them", o.Steps, o.Batch, o.From)
	}
	if !(o.Beta > 0) || math.IsInf(o.Beta, 0) {
		return fmt.Errorf("improve the policy: beta is %v, must be above 0: without a KL divergence the policy becomes overconfident", o.Beta)
	}
	order := newOrder(o.Seed, len(tasks))
	for step := o.From; step < o.Steps; step++ {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("improve the policy: step %d: %w", step+1, err)
		}
		batch, found := make([]lm.Lesson, o.Batch), make([]Outcome, o.Batch)
		for i := range batch {
			t := tasks[order.at(step*o.Batch+i)]
			batch[i] = lm.Lesson{Prompt: t.Prompt, Objective: t.objective(o.Beta, &found[i])}
		}
		s := Step{}
		var err error
		if s.Progress, err = l.Learn(ctx, batch); err != nil {
			return fmt.Errorf("improve the policy: %w", err)
		}
		for _, f := range found {
			s.add(f, 1/float64(o.Batch))
		}
		if o.Told != nil {
			if err := o.Told(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// objective is the loss of a task by the model's scores. What the policy does before the step is left in found.
func (t Task) objective(beta float64, found *Outcome) lm.Objective {
	return func(scores, gradient []float64) (float64, error) {
		if len(scores) != len(t.Values) {
			return 0, fmt.Errorf("%d scores for the values of %d candidates", len(scores), len(t.Values))
		}
		logs := t.policy(scores)
		*found = t.outcome(logs)
		loss := beta*found.KL - found.Reward
		for i, l := range logs {
			// By π(i) the loss changes by -R̂(i) + β (log π(i)/reference(i) + 1), and π by the softmax's Jacobian, in which
			// what is the same for all candidates, the 1, drops out.
			by := beta*(l-t.Reference[i]) - t.Values[i]
			gradient[i] = t.Scale * math.Exp(l) * (by - loss)
		}
		return loss, nil
	}
}
