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
	return o.steps(ctx, len(examples), func(places []place) (lm.Progress, error) {
		batch := make([]lm.Lesson, len(places))
		for i, at := range places {
			e := examples[at.example]
			p, err := iot.Build(o.PromptVersion, e.Context, rand.NewPCG(o.Seed, uint64(at.number)).Uint64())
			if err != nil {
				return lm.Progress{}, err
			}
			batch[i] = lm.Lesson{Prompt: p, Chosen: e.Chosen}
			if e.Weight != 0 {
				batch[i].Objective = weighted(e.Chosen, e.Weight)
			}
		}
		return l.Learn(ctx, batch)
	})
}

// FitTexts teaches a learner how texts go on: supervised fine-tuning on completions. Epochs, order and resuming are as Fit
// has them; the prompt version is not looked at.
func FitTexts(ctx context.Context, l lm.TextLearner, lessons []lm.TextLesson, o FitOptions) error {
	if len(lessons) == 0 {
		return errors.New("fit: there are no texts to learn from")
	}
	return o.steps(ctx, len(lessons), func(places []place) (lm.Progress, error) {
		batch := make([]lm.TextLesson, len(places))
		for i, at := range places {
			batch[i] = lessons[at.example]
		}
		return l.LearnTexts(ctx, batch)
	})
}

// place is one of all lessons of a run, counted from 0, and the example that it teaches.
type place struct{ number, example int }

// steps goes through the examples, epoch by epoch, and has each batch learned.
func (o FitOptions) steps(ctx context.Context, examples int, learn func([]place) (lm.Progress, error)) error {
	if o.Steps < 1 || o.Batch < 1 || o.From < 0 || o.From > o.Steps {
		return fmt.Errorf("fit: %d steps of %d examples from step %d on: steps and batch must be positive, and the first step among them", o.Steps, o.Batch, o.From)
	}
	order := newOrder(o.Seed, examples)
	for step := o.From; step < o.Steps; step++ {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("fit: step %d: %w", step+1, err)
		}
		places := make([]place, o.Batch)
		for i := range places {
			n := step*o.Batch + i
			places[i] = place{n, order.at(n)}
		}
		told, err := learn(places)
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
