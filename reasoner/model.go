package reasoner

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"time"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
)

// Why a recommendation was ranked by the graph although a model is configured; a closed set, for counting.
const (
	FallbackControl     = "control"           // the user belongs to the control share
	FallbackUnavailable = "model unavailable" // it refused, failed or is not installed
	FallbackTimeout     = "model too slow"    // no answer, or no turn, within ModelTimeout, or none to be expected
	FallbackNonsense    = "model nonsense"    // it answered, but nothing that ranks
)

// reason holds a model for the decision's user and asks it; release has to be called when the decision is made. Whatever
// goes wrong is logged, counted by the caller and answered with why the graph ranks.
func (r *Reasoner) reason(ctx context.Context, d event.Decision) (held Model, release func(), logShares []float64, said event.Thought, who *event.Model, fallback string) {
	start := r.opt.Now()
	held, release, logShares, said, m, err := r.holdAndAsk(ctx, d)
	r.metrics.seconds.WithLabelValues("model").Observe(r.opt.Now().Sub(start).Seconds())
	if err == nil {
		r.trouble.answered()
		return held, release, logShares, said, &m, ""
	}
	var n interface{ Nonsense() bool }
	switch {
	case ctx.Err() != nil: // the caller left; that says nothing about the model
		return nil, release, nil, event.Thought{}, nil, ""
	case errors.As(err, &n) && n.Nonsense():
		fallback = FallbackNonsense
	case errors.Is(err, context.DeadlineExceeded):
		fallback = FallbackTimeout
	default:
		fallback = FallbackUnavailable
	}
	r.trouble.failed(fallback, err, r.opt.Now())
	level := slog.LevelWarn
	if errors.Is(err, errNoTurn) { // under load there are many, which metrics count
		level = slog.LevelDebug
	}
	r.opt.Logger.Log(ctx, level, "the graph's ranking is served instead of the model's", "user", d.UserID, "decision", d.DecisionID, "why", fallback, "error", err)
	return nil, release, nil, event.Thought{}, nil, fallback
}

// holdAndAsk waits for model, turn and answer, all together for ModelTimeout at most.
func (r *Reasoner) holdAndAsk(ctx context.Context, d event.Decision) (held Model, release func(), logShares []float64, said event.Thought, who event.Model, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.opt.ModelTimeout)
	defer cancel()
	held, release, err = r.opt.Models.Hold(ctx, d.UserID)
	if err != nil {
		return nil, func() {}, nil, said, event.Model{}, err
	}
	logShares, who, err = r.ask(ctx, held, d, func(m event.Model, p *iot.Prompt) ([]float64, error) {
		if m.Think == 0 {
			return held.Rank(ctx, *p)
		}
		thinker, ok := held.(Thinker)
		if !ok {
			return nil, errors.New("the model is to think before it answers, and cannot")
		}
		reply, shares, err := thinker.Think(ctx, d.Context, *p)
		said, *p = reply.Thought, p.After(reply.Thought, d.Context)
		r.metrics.wrote(reply)
		return shares, err
	})
	return held, release, logShares, said, who, err
}

// ask waits for a turn and for the answer, which rank gives to a prompt. It leaves there the prompt that was read.
func (r *Reasoner) ask(ctx context.Context, held Model, d event.Decision, rank func(event.Model, *iot.Prompt) ([]float64, error)) ([]float64, event.Model, error) {
	left := time.Duration(math.MaxInt64)
	if deadline, ok := ctx.Deadline(); ok {
		left = time.Until(deadline)
	}
	done, err := r.turns.take(ctx, left)
	if err != nil {
		return nil, event.Model{}, err
	}
	defer done()
	m, err := held.Identity(ctx)
	if err != nil {
		return nil, event.Model{}, err
	}
	prompt, err := iot.Build(m.PromptVersion, d.Context, d.Seed)
	if err != nil {
		return nil, event.Model{}, err
	}
	shares, err := rank(m, &prompt)
	if err != nil {
		return nil, event.Model{}, err
	}
	if err := checkShares(shares, len(d.Context.Candidates)); err != nil {
		return nil, event.Model{}, err
	}
	m.PromptDigest = prompt.Digest
	return shares, m, nil
}

// errShares says that a model answered, but not with one finite log share a candidate.
type errShares struct{ error }

func (errShares) Nonsense() bool { return true }

func checkShares(shares []float64, candidates int) error {
	if len(shares) != candidates {
		return errShares{errors.New("the model ranked another number of candidates than it was given")}
	}
	for _, s := range shares {
		if math.IsNaN(s) || math.IsInf(s, 0) || s > 1e-6 {
			return errShares{errors.New("the model's shares are not log-probabilities")}
		}
	}
	return nil
}
