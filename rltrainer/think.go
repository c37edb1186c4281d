package rltrainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/lm"
	"golang.org/x/sync/errgroup"
)

// Question is a context, and what each of its candidates is worth as an answer.
type Question struct {
	Context event.Context
	Values  []float64 // one a candidate: 1 for what was chosen and 0 for the others, or R̂ of a decision
}

// Questions are examples as questions: what was chosen is worth 1, or the example's weight.
func Questions(examples []Example) ([]Question, error) {
	out := make([]Question, len(examples))
	for i, e := range examples {
		if e.Chosen < 0 || e.Chosen >= len(e.Context.Candidates) {
			return nil, fmt.Errorf("question %d: candidate %d was chosen of %d", i, e.Chosen, len(e.Context.Candidates))
		}
		out[i] = Question{Context: e.Context, Values: make([]float64, len(e.Context.Candidates))}
		out[i].Values[e.Chosen] = 1
		if e.Weight != 0 {
			out[i].Values[e.Chosen] = e.Weight
		}
	}
	return out, nil
}

// ThoughtLearner is a model that writes as it is now, and learns from what it wrote.
type ThoughtLearner interface {
	lm.TextLearner
	lm.Writer
}

// Scorer tells the log-probabilities of the tokens of texts that go on from one, in nats.
type Scorer interface {
	LogProbs(ctx context.Context, text string, continuations [][]int32) ([][]float64, error)
}

// ThinkOptions say how a model learns to think. The zero value of a field takes the default that its comment states.
type ThinkOptions struct {
	Steps int // required
	Batch int // questions a step; required
	// Beta weighs the KL divergence from the reference, a token; required, and above 0.
	Beta       float64
	Group      int     // samples of a question. Default 8.
	MostTokens int     // of a sample; the loss of a sample is divided by it, whatever its length. Default 96.
	Grounded   float64 // reward of a thought all of whose lines are grounded; of a part of them, that part of it. Default .1.
	Formed     float64 // reward of a reply that has a grounded line and an answer, and came to its end. Default .1.
	ClipLow    float64 // how far below 1 the ratio of a token's probabilities is followed down. Default .2.
	ClipHigh   float64 // how far above 1 up. Default .28.
	Workers    int     // questions that are sampled at once. Default 1.
	Seed       uint64
	// From is how many of the steps are already taken, by a learner that goes on from a checkpoint.
	From int
	// Told is told of every step, if set; its error ends the run.
	Told func(ThinkStep) error
}

func (o *ThinkOptions) fill() error {
	if o.Steps < 1 || o.Batch < 1 || o.From < 0 || o.From > o.Steps {
		return fmt.Errorf("think: %d steps of %d questions from step %d on: steps and batch must be positive, and the first step among them", o.Steps, o.Batch, o.From)
	}
	if !(o.Beta > 0) || math.IsInf(o.Beta, 0) {
		return fmt.Errorf("think: beta is %v, must be above 0: without a KL divergence the policy becomes overconfident", o.Beta)
	}
	defaults := func(x *float64, usually float64) {
		if *x == 0 {
			*x = usually
		}
	}
	defaults(&o.Grounded, .1)
	defaults(&o.Formed, .1)
	defaults(&o.ClipLow, .2)
	defaults(&o.ClipHigh, .28)
	if o.Group == 0 {
		o.Group = 8
	}
	if o.MostTokens == 0 {
		o.MostTokens = 96
	}
	o.Workers = max(1, o.Workers)
	if o.Group < 2 || o.MostTokens < 1 {
		return fmt.Errorf("think: groups of %d samples of at most %d tokens: a group has 2 or more, and a sample a token", o.Group, o.MostTokens)
	}
	return nil
}

// ThinkStep is how one step went. Means are over its samples, before it.
type ThinkStep struct {
	lm.Progress
	Reward   float64 // mean
	Worth    float64 // mean value of the answers: no answer is worth what the worst one is, at most 0
	Answered float64 // share of samples with an answer
	Grounded float64 // share of the lines before the answers that are grounded
	Length   float64 // tokens, mean
	KL       float64 // from the reference, nats a token, estimated
	Clipped  float64 // share of tokens whose ratio was not followed
	Flat     int     // groups whose rewards are all alike: they are left out, or where all are, only held to the reference
}

// Think teaches a model to think before it answers by what its thoughts lead to: group relative policy optimisation (GRPO,
// Shao et al. 2024, arXiv 2402.03300). For each question it writes a group of replies at temperature 1; the reward of a
// reply is what its answer is worth, and a little for being grounded and well formed; its advantage is the reward less the
// group's mean, not divided by the deviation, and its loss is divided by a constant and not by its length (Liu et al. 2025,
// arXiv 2503.20783). Tokens follow the clipped surrogate, higher up than down (Yu et al. 2025, arXiv 2503.14476), and are
// held to the reference by the estimate of the KL divergence that is never negative (Schulman 2020, "k3").
//
// What is learned at a step depends on the seed, the step and the model as it is then.
func Think(ctx context.Context, l ThoughtLearner, reference Scorer, questions []Question, o ThinkOptions) error {
	if len(questions) == 0 {
		return errors.New("think: there are no questions to learn from")
	}
	if err := o.fill(); err != nil {
		return err
	}
	order := newOrder(o.Seed, len(questions))
	for step := o.From; step < o.Steps; step++ {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("think: step %d: %w", step+1, err)
		}
		groups := make([]*thoughts, o.Batch)
		asking, inner := errgroup.WithContext(ctx)
		asking.SetLimit(o.Workers)
		for i := range groups {
			place := step*o.Batch + i
			q := questions[order.at(place)]
			asking.Go(func() (err error) {
				groups[i], err = sample(inner, l, reference, q, rand.New(rand.NewPCG(o.Seed, uint64(place))), o)
				return err
			})
		}
		if err := asking.Wait(); err != nil {
			return fmt.Errorf("think: step %d: %w", step+1, err)
		}
		told := ThinkStep{}
		var err error
		if told.Progress, err = l.LearnTexts(ctx, lessonsOf(groups)); err != nil {
			return fmt.Errorf("think: %w", err)
		}
		told.count(groups)
		if o.Told != nil {
			if err := o.Told(told); err != nil {
				return err
			}
		}
	}
	return nil
}

// lessonsOf are the groups from which something is learned. Where all are flat, each of them only stays near the
// reference.
func lessonsOf(groups []*thoughts) (lessons []lm.TextLesson) {
	flat := !slices.ContainsFunc(groups, func(g *thoughts) bool { return !g.flat })
	for _, g := range groups {
		if g.learned = !g.flat || flat; g.learned {
			lessons = append(lessons, g.lesson)
		}
	}
	return lessons
}
