// Package learn trains language models: losses on what a model says at chosen positions, the AdamW optimiser, schedules,
// gradient clipping, and checkpoints from which a run goes on bit for bit.
//
// A Trainer takes one step for each batch of Examples. An example is a text, the positions at which something is asked,
// and a loss of the logits there. Its text is read alone, so a batch needs no padding and no more memory than one text a
// worker: a large batch is its own gradient accumulation.
//
// What it promises: the same seed, batches and number of workers give the same weights, bit for bit, in one run or in two
// with a checkpoint between them; a step whose gradient is not finite changes nothing and is counted, and after several of
// them in a row the run ends with the weights of the last good one; what cannot be learned from is an error that names the
// example; and no failure harms a checkpoint that was written before.
//
// What it leaves to others: what the examples are, and when to save.
package learn

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"

	"github.com/r2rec/r2rec/internal/llama"
	"github.com/r2rec/r2rec/internal/llama/kernel"
	"golang.org/x/sync/errgroup"
)

// Example is a text and what is to be said at some of its positions.
type Example struct {
	Tokens []int32
	// Branches are ways in which the text goes on, each read as if the others were not there; the text is passed through
	// once for all of them.
	Branches [][]int32
	Want     []int   // indices of the tokens after which logits are asked for, ascending; they count on through the branches
	IDs      []int32 // tokens whose logits are asked for; nil: the whole vocabulary
	Loss     Loss    // of these logits
}

// Options of a Trainer. The zero value of a field takes the default its comment states.
type Options struct {
	Optimiser AdamW
	// Schedule gives each step's share of the optimiser's rate. Default: always 1.
	Schedule Schedule
	// Clip is the largest Euclidean norm of a step's gradient; a longer one is shortened to it. Default 1; negative: none.
	Clip float64
	// Workers is how many examples are worked on at once, each with gradients of its own. Another number sums gradients in
	// another order, and so gives other bits. Default: one a processor.
	Workers int
	// MaxSkipped is how many steps in a row may have a gradient that is not finite before the run ends. Default 5.
	MaxSkipped int
	// Run names in checkpoints what they belong to beside these options, such as digests of the examples, their order and
	// the base model: Resume refuses a checkpoint of another run. Default: empty.
	Run string
}

func (o *Options) fill() error {
	if o.Schedule == nil {
		o.Schedule = Constant
	}
	if o.Clip == 0 {
		o.Clip = 1
	}
	if math.IsNaN(o.Clip) {
		return fmt.Errorf("learn: the largest norm of a gradient is %v, must be a number", o.Clip)
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.MaxSkipped <= 0 {
		o.MaxSkipped = 5
	}
	return o.Optimiser.fill()
}

// ErrDiverged says that several steps in a row had a gradient that is not finite.
var ErrDiverged error = diverged{}

type diverged struct{}

func (diverged) Error() string { return "training has diverged" }

// Diverged tells callers that know only the method what this error is.
func (diverged) Diverged() bool { return true }

// Trainer trains what a llama.Trainable names. It serves one goroutine at a time.
type Trainer struct {
	t       *llama.Trainable
	opt     Options
	moments *moments
	passes  []*llama.Pass
	grads   []llama.Gradients
	step    int // taken so far, those skipped included
	skipped int // in all
	inARow  int // skipped since the last one that was not
}

// New makes a trainer at step 0.
func New(t *llama.Trainable, o Options) (*Trainer, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	tr := &Trainer{t: t, opt: o, moments: newMoments(t.Parameters())}
	for range o.Workers {
		tr.passes = append(tr.passes, t.NewPass())
		tr.grads = append(tr.grads, t.NewGradients())
	}
	return tr, nil
}

// Report says how a step went.
type Report struct {
	Step     int     // this one's number; 1 is the first
	Loss     float64 // mean of the batch before the step, nats
	Gradient float64 // norm of the batch's mean gradient, before clipping
	Rate     float64 // of learning
	Tokens   int     // read
	Skipped  int     // steps so far that changed nothing, since their loss or gradient was not finite
}

// Step learns from one batch: the loss is the mean over its examples. The error names an example that cannot be learned
// from, or wraps the context's or ErrDiverged; after each of them parameters, moments and, but for ErrDiverged, counters
// are as they were before.
func (tr *Trainer) Step(ctx context.Context, batch []Example) (Report, error) {
	if len(batch) == 0 {
		return Report{}, errors.New("learn: an empty batch: there is nothing to learn from")
	}
	r := Report{Step: tr.step + 1, Rate: tr.opt.Optimiser.Rate * tr.opt.Schedule(tr.step)}
	if !(r.Rate >= 0) || math.IsInf(r.Rate, 0) {
		return Report{}, fmt.Errorf("learn: the schedule makes the rate of step %d %v, must not be negative", r.Step, r.Rate)
	}
	losses := make([]float64, len(batch))
	group, inner := errgroup.WithContext(ctx)
	for w := range tr.opt.Workers {
		group.Go(func() error {
			tr.grads[w].Clear()
			for i := w; i < len(batch); i += tr.opt.Workers {
				err := inner.Err()
				if err == nil {
					losses[i], err = tr.example(tr.passes[w], tr.grads[w], batch[i])
				}
				if err != nil {
					return fmt.Errorf("learn: step %d, example %d of %d: %w", r.Step, i, len(batch), err)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return Report{}, err
	}
	for i, e := range batch {
		r.Loss += losses[i] / float64(len(batch))
		r.Tokens += len(e.Tokens)
		for _, b := range e.Branches {
			r.Tokens += len(b)
		}
	}
	g := tr.grads[0]
	for _, more := range tr.grads[1:] {
		g.Add(more)
	}
	tr.step++
	r.Gradient = norm(g) / float64(len(batch))
	if math.IsNaN(r.Gradient) || math.IsInf(r.Gradient, 0) || math.IsNaN(r.Loss) || math.IsInf(r.Loss, 0) {
		tr.skipped++
		tr.inARow++
		r.Skipped = tr.skipped
		if tr.inARow >= tr.opt.MaxSkipped {
			return r, fmt.Errorf("learn: the gradients of %d steps in a row, up to step %d, are not finite: %w; the weights are those of step %d: lower the rate of learning or look for extreme examples",
				tr.inARow, tr.step, ErrDiverged, tr.step-tr.inARow)
		}
		return r, nil
	}
	tr.inARow = 0
	r.Skipped = tr.skipped
	scale := 1 / float64(len(batch))
	if tr.opt.Clip > 0 && r.Gradient > tr.opt.Clip {
		scale *= tr.opt.Clip / r.Gradient
	}
	tr.moments.update(tr.opt.Optimiser, r.Rate, tr.t.Parameters(), g, scale)
	tr.t.Refresh()
	return r, nil
}

// example adds the gradient of one example and returns its loss.
func (tr *Trainer) example(p *llama.Pass, g llama.Gradients, e Example) (float64, error) {
	loss, z, err := read(tr.t, p, e)
	if err == nil {
		p.Backward(z, e.IDs, g)
	}
	return loss, err
}

// Loss of an example without learning from it: for held-out cases.
func (tr *Trainer) Loss(e Example) (float64, error) {
	loss, _, err := read(tr.t, tr.passes[0], e)
	if err != nil {
		return 0, fmt.Errorf("learn: %w", err)
	}
	return loss, nil
}

// read computes the loss of an example and its gradient by the logits.
func read(t *llama.Trainable, p *llama.Pass, e Example) (float64, kernel.Matrix, error) {
	for _, id := range e.IDs {
		if id < 0 || int(id) >= t.Vocabulary {
			return 0, kernel.Matrix{}, fmt.Errorf("it asks for token %d, and the vocabulary has 0 to %d", id, t.Vocabulary-1)
		}
	}
	if e.Loss == nil {
		return 0, kernel.Matrix{}, errors.New("it has no loss")
	}
	if err := p.ForwardBranches(e.Tokens, e.Branches, e.Want); err != nil {
		return 0, kernel.Matrix{}, err
	}
	z := p.Logits(e.IDs)
	loss, err := e.Loss(z)
	return loss, z, err
}

// Steps is how many steps have been taken, Skipped how many of them changed nothing.
func (tr *Trainer) Steps() int   { return tr.step }
func (tr *Trainer) Skipped() int { return tr.skipped }

// norm is the Euclidean norm of all gradients together.
func norm(g llama.Gradients) float64 {
	sum := 0.
	for _, x := range g {
		sum += float64(kernel.Dot(x, x))
	}
	return math.Sqrt(sum)
}
