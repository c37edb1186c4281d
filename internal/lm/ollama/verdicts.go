package ollama

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm"
)

// Verdicts returns the log-share of each candidate of the prompt, in the order of the letters, by a model that learned the
// readout verdicts: it is asked where each line ends, and answers yes or no; see lm.Verdict. stated tells of which
// candidates the server stated both.
//
// That takes a call a candidate, each of which goes on where the one before ended: the server has that in its cache, so
// that all of them together read the prompt once. Lists therefore take turns, or each would push the other out of the
// cache of a server that answers one request at a time.
func (c *Client) Verdicts(ctx context.Context, p iot.Prompt) (shares []float64, stated []bool, err error) {
	return c.verdicts(ctx, p, c.opt.MinMass)
}

// verdicts is Verdicts with another least mass.
func (c *Client) verdicts(ctx context.Context, p iot.Prompt, minMass float64) (shares []float64, stated []bool, err error) {
	ends := p.Content.Ends
	if len(ends) != len(p.Letters) {
		return nil, nil, fmt.Errorf("ask model %q for verdicts: the prompt has %d lines for %d candidates: %w", c.opt.Model, len(ends), len(p.Letters), lm.ErrNonsense)
	}
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		err := fmt.Errorf("%w: other lists came first: %w", lm.ErrUnavailable, ctx.Err())
		if errors.Is(ctx.Err(), context.Canceled) {
			err = fmt.Errorf("gave up: %w", context.Canceled)
		}
		return nil, nil, fmt.Errorf("ask model %q at %s: %w", c.opt.Model, c.opt.BaseURL, err)
	}
	began, least := time.Now(), 1.
	for j, end := range ends {
		top, _, err := c.likeliest(ctx, p.Text[:end])
		if err != nil {
			return nil, nil, err
		}
		odds, both, mass, err := lm.Verdict(top, minMass)
		if err != nil {
			return nil, nil, fmt.Errorf("ask model %q at %s about candidate %c: %w", c.opt.Model, c.opt.BaseURL, 'A'+rune(j), err)
		}
		shares, stated, least = append(shares, odds), append(stated, both), min(least, mass)
	}
	lm.Normalise(shares)
	c.opt.Logger.LogAttrs(ctx, slog.LevelDebug, "ollama: answered", slog.Float64("least_verdict_mass", least), slog.Duration("took", time.Since(began)))
	return shares, stated, nil
}
