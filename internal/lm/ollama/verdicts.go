package ollama

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/ollama/ollama/api"

	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm"
)

// verdicts returns the log-share of each candidate of the prompt, in the order of the letters, by a model that learned the
// readout of that name: it is asked where each line ends, and answers yes or no; see lm.Verdict. stated tells of which
// candidates the server stated both.
//
// That takes a call a candidate, each of which goes on where the one before ended: the server has that in its cache, so
// that all of them together read the prompt once. Lists therefore take turns, or each would push the other out of the
// cache of a server that answers one request at a time.
func (c *Client) verdicts(ctx context.Context, p iot.Prompt, minMass float64) (shares []float64, stated []bool, err error) {
	ends := p.Content.Ends
	if n := len(p.Letters); n == 0 || len(ends) != n || !slices.IsSorted(ends) || ends[0] < 1 || ends[n-1] > len(p.Text) {
		return nil, nil, fmt.Errorf("ask model %q for verdicts: the lines of %d candidates end at %d of %d bytes: %w", c.opt.Model, n, ends, len(p.Text), lm.ErrNonsense)
	}
	done, err := c.takeTurn(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	texts := make([]string, len(ends))
	for j, end := range ends {
		texts[j] = p.Text[:end]
	}
	least := 1.
	answers, err := c.answers(ctx, texts, func(j int, top []lm.Token) error {
		odds, both, mass, err := lm.Verdict(top, minMass)
		if err != nil {
			return fmt.Errorf("about candidate %c: %w", 'A'+rune(j), err)
		}
		shares, stated, least = append(shares, odds), append(stated, both), min(least, mass)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	lm.Normalise(shares)
	c.opt.Logger.LogAttrs(ctx, slog.LevelDebug, "ollama: answered", slog.Float64("least_verdict_mass", least),
		slog.Int("prompt_tokens", answers[len(answers)-1].PromptEvalCount), slog.Duration("took", took(answers)))
	return shares, stated, nil
}

// takeTurn waits until a list that takes several calls may be asked for; done gives the turn back.
func (c *Client) takeTurn(ctx context.Context) (done func(), err error) {
	select {
	case c.turns <- struct{}{}:
		done = func() { <-c.turns }
		if ctx.Err() == nil {
			return done, nil
		}
		done()
	case <-ctx.Done():
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, fmt.Errorf("ask model %q at %s: gave up: %w", c.opt.Model, c.shown, context.Canceled)
	}
	return nil, fmt.Errorf("ask model %q at %s: %w: other lists came first: %w", c.opt.Model, c.shown, lm.ErrUnavailable, ctx.Err())
}

// took is what the server took for the answers together.
func took(answers []*api.GenerateResponse) (sum time.Duration) {
	for _, r := range answers {
		sum += r.TotalDuration
	}
	return sum
}
