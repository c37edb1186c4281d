package reasoner

import (
	"context"
	"errors"
	"math"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
)

// Why a recommendation was ranked by the graph although a model is configured; a closed set, for counting.
const (
	FallbackControl     = "control"           // the user belongs to the control share
	FallbackUnavailable = "model unavailable" // it refused, failed or is not installed
	FallbackTimeout     = "model too slow"    // no answer, or no turn, within ModelTimeout
	FallbackNonsense    = "model nonsense"    // it answered, but nothing that ranks
)

// reason asks the model. Whatever goes wrong is logged, counted by the caller and answered with why the graph ranks.
func (r *Reasoner) reason(ctx context.Context, d event.Decision) (logShares []float64, who *event.Model, fallback string) {
	start := r.opt.Now()
	logShares, m, err := r.ask(ctx, d)
	r.metrics.seconds.WithLabelValues("model").Observe(r.opt.Now().Sub(start).Seconds())
	if err == nil {
		return logShares, &m, ""
	}
	var n interface{ Nonsense() bool }
	switch {
	case ctx.Err() != nil: // the caller left; that says nothing about the model
		return nil, nil, ""
	case errors.As(err, &n) && n.Nonsense():
		fallback = FallbackNonsense
	case errors.Is(err, context.DeadlineExceeded):
		fallback = FallbackTimeout
	default:
		fallback = FallbackUnavailable
	}
	r.opt.Logger.Warn("the graph's ranking is served instead of the model's", "user", d.UserID, "decision", d.DecisionID, "why", fallback, "error", err)
	return nil, nil, fallback
}

func (r *Reasoner) ask(ctx context.Context, d event.Decision) ([]float64, event.Model, error) {
	ctx, cancel := context.WithTimeout(ctx, r.opt.ModelTimeout)
	defer cancel()
	select {
	case r.turns <- struct{}{}:
		defer func() { <-r.turns }()
	case <-ctx.Done():
		return nil, event.Model{}, ctx.Err()
	}
	m, err := r.opt.Model.Identity(ctx)
	if err != nil {
		return nil, event.Model{}, err
	}
	prompt, err := iot.Build(m.PromptVersion, d.Context, d.Seed)
	if err != nil {
		return nil, event.Model{}, err
	}
	shares, err := r.opt.Model.Rank(ctx, prompt)
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
