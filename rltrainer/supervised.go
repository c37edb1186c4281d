package rltrainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm"
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
	if o.Steps < 1 || o.Batch < 1 || o.From < 0 || o.From > o.Steps {
		return fmt.Errorf("fit: %d steps of %d examples from step %d on: steps and batch must be positive, and the first step among them", o.Steps, o.Batch, o.From)
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

// Ranker ranks the candidates of a prompt.
type Ranker interface {
	Rank(ctx context.Context, p iot.Prompt) ([]float64, error)
}

// Score says how well a model chooses.
type Score struct {
	Examples     int
	HR1          float64 // share of examples whose chosen candidate is ranked first; ties count as their share
	CrossEntropy float64 // of the chosen candidates, nats
}

// Measure asks a model for every example. The prompts are the same for every model. Without examples the score is zero.
func Measure(ctx context.Context, r Ranker, examples []Example, promptVersion int) (Score, error) {
	s := Score{Examples: len(examples)}
	for i, e := range examples {
		p, err := iot.Build(promptVersion, e.Context, uint64(i))
		if err != nil {
			return Score{}, fmt.Errorf("measure example %d: %w", i, err)
		}
		if e.Chosen < 0 || e.Chosen >= len(p.Letters) {
			return Score{}, fmt.Errorf("measure example %d: candidate %d was chosen of %d", i, e.Chosen, len(p.Letters))
		}
		shares, err := r.Rank(ctx, p)
		if err != nil {
			return Score{}, fmt.Errorf("measure example %d: %w", i, err)
		}
		best, ties := slices.Max(shares), 0.
		for _, v := range shares {
			if v == best {
				ties++
			}
		}
		if shares[e.Chosen] == best {
			s.HR1 += 1 / ties
		}
		s.CrossEntropy -= shares[e.Chosen]
	}
	n := math.Max(1, float64(len(examples)))
	s.HR1 /= n
	s.CrossEntropy /= n
	return s, nil
}
