package rltrainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm"
	"github.com/r2rec/r2rec/internal/policy"
)

// FitOptions say how a learner is led through examples.
type FitOptions struct {
	PromptVersion int // of iot; required
	Steps         int // required
	Batch         int // examples a step; required
	Seed          uint64
	// From is how many of the steps are already taken, by a learner that goes on from a checkpoint.
	From int
	// Told is told of every step, if set; its error ends the run.
	Told func(lm.Progress) error
}

// Fit teaches a learner to choose what was chosen: supervised fine-tuning, or pretraining, depending on the learner. Each
// epoch goes through all examples in another order, and shuffles the candidates of each anew. What is learned at a step
// depends on the seed and the step alone, so that a run can be taken up again at any step.
func Fit(ctx context.Context, l lm.Learner, examples []Example, o FitOptions) error {
	if len(examples) == 0 {
		return errors.New("fit: there are no examples to learn from")
	}
	if err := o.check(); err != nil {
		return err
	}
	order := newOrder(o.Seed, len(examples))
	for step := o.From; step < o.Steps; step++ {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("fit: step %d: %w", step+1, err)
		}
		batch := make([]lm.Lesson, o.Batch)
		for i := range batch {
			place := step*o.Batch + i
			e := examples[order.at(place)]
			p, err := iot.Build(o.PromptVersion, e.Context, rand.NewPCG(o.Seed, uint64(place)).Uint64())
			if err != nil {
				return fmt.Errorf("fit: step %d: %w", step+1, err)
			}
			batch[i] = lm.Lesson{Prompt: p, Chosen: e.Chosen}
			if e.Weight != 0 {
				batch[i].Objective = weighted(e.Chosen, e.Weight)
			}
		}
		told, err := l.Learn(ctx, batch)
		if err != nil {
			return fmt.Errorf("fit: %w", err)
		}
		if o.Told != nil {
			if err := o.Told(told); err != nil {
				return err
			}
		}
	}
	return nil
}

// FitTexts teaches a learner how texts go on: supervised fine-tuning on completions. Epochs, order and resuming are as Fit
// has them; the prompt version is not looked at.
func FitTexts(ctx context.Context, l lm.TextLearner, lessons []lm.TextLesson, o FitOptions) error {
	if len(lessons) == 0 {
		return errors.New("fit: there are no texts to learn from")
	}
	if err := o.check(); err != nil {
		return err
	}
	order := newOrder(o.Seed, len(lessons))
	for step := o.From; step < o.Steps; step++ {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("fit: step %d: %w", step+1, err)
		}
		batch := make([]lm.TextLesson, o.Batch)
		for i := range batch {
			batch[i] = lessons[order.at(step*o.Batch+i)]
		}
		told, err := l.LearnTexts(ctx, batch)
		if err != nil {
			return fmt.Errorf("fit: %w", err)
		}
		if o.Told != nil {
			if err := o.Told(told); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o FitOptions) check() error {
	if o.Steps < 1 || o.Batch < 1 || o.From < 0 || o.From > o.Steps {
		return fmt.Errorf("fit: %d steps of %d examples from step %d on: steps and batch must be positive, and the first step among them", o.Steps, o.Batch, o.From)
	}
	return nil
}

// weighted is the cross-entropy of the chosen candidate, times a weight.
func weighted(chosen int, weight float64) lm.Objective {
	return func(scores, gradient []float64) (float64, error) {
		if chosen < 0 || chosen >= len(scores) {
			return 0, fmt.Errorf("candidate %d was chosen of %d", chosen, len(scores))
		}
		logs := policy.LogSoftmax(scores)
		for i, l := range logs {
			gradient[i] = weight * math.Exp(l)
		}
		gradient[chosen] -= weight
		return -weight * logs[chosen], nil
	}
}

// order gives every example once in each epoch, shuffled by the seed anew in each.
type order struct {
	seed         uint64
	count, epoch int
	perm         []int
}

func newOrder(seed uint64, count int) *order { return &order{seed: seed, count: count, epoch: -1} }

// at is the index of the example for a place, counted from 0.
func (o *order) at(place int) int {
	if epoch := place / o.count; epoch != o.epoch {
		o.epoch = epoch
		o.perm = rand.New(rand.NewPCG(o.seed, uint64(epoch))).Perm(o.count)
	}
	return o.perm[place%o.count]
}
