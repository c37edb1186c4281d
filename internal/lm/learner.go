package lm

import (
	"context"
	"math"

	"github.com/r2rec/r2rec/internal/iot"
)

// Lesson is a prompt and what is to be learned from it: which of its candidates was chosen, or another objective.
type Lesson struct {
	Prompt    iot.Prompt
	Chosen    int       // index into the context's candidates; without a meaning where there is an Objective
	Objective Objective // nil: the cross-entropy of Chosen
}

// Objective is a loss of the candidates' scores, in nats; a softmax over the scores is the model's ranking. It writes the
// gradient of the loss by each score. Both stand in the order of the context's candidates. It is called once a step, from
// any goroutine, two lessons' at once. An error says what does not fit the candidates, and ends the step.
type Objective func(scores, gradient []float64) (float64, error)

// Learner is a model that learns from lessons, step by step.
type Learner interface {
	// Learn takes one step that lowers the mean loss of a batch: where there is no other objective, it makes the chosen
	// candidates more likely (maximum likelihood of a choice model).
	Learn(ctx context.Context, batch []Lesson) (Progress, error)
	// Rank returns the log-share of each candidate, in the order of the context, as the model is now.
	Rank(ctx context.Context, p iot.Prompt) ([]float64, error)
}

// Progress says how a step of learning went.
type Progress struct {
	Step     int     `json:"step"`     // 1 is the first
	Loss     float64 `json:"loss"`     // mean of the batch before the step, nats
	Gradient float64 `json:"gradient"` // norm of the gradient before clipping
	Rate     float64 `json:"rate"`     // of learning
	Tokens   int     `json:"tokens"`   // read
	Skipped  int     `json:"skipped"`  // steps so far that changed nothing, since their gradient was not finite
}

// Changed tells whether the step changed anything: of one that did not, loss or gradient are not finite, which JSON cannot say.
func (p Progress) Changed() bool {
	return !math.IsNaN(p.Loss) && !math.IsInf(p.Loss, 0) && !math.IsNaN(p.Gradient) && !math.IsInf(p.Gradient, 0)
}
