package lm

import (
	"context"

	"github.com/r2rec/r2rec/internal/iot"
)

// Lesson is a prompt and which of its candidates was chosen.
type Lesson struct {
	Prompt iot.Prompt
	Chosen int // index into the context's candidates
}

// Learner is a model that learns from lessons, step by step.
type Learner interface {
	// Learn takes one step: it makes the chosen candidates of a batch more likely (maximum likelihood of a choice model).
	Learn(ctx context.Context, batch []Lesson) (Progress, error)
	// Rank returns the log-share of each candidate, in the order of the context, as the model is now.
	Rank(ctx context.Context, p iot.Prompt) ([]float64, error)
}

// Progress says how a step of learning went.
type Progress struct {
	Step     int     // 1 is the first
	Loss     float64 // mean cross-entropy of the batch before the step, nats
	Gradient float64 // norm of the gradient before clipping
	Rate     float64 // of learning
	Tokens   int     // read
	Skipped  int     // steps so far that changed nothing, since their gradient was not finite
}
