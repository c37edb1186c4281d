package ollama

import (
	"context"
	"fmt"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm"
)

// Think has the model write a thought about a context's prompt and ranks after it, if it was made to (Options.Think):
// see lm.Thinker. That takes a call for each part of the thought, and one for the answer, of which each goes on where the one
// before ended; so lists take turns.
func (m *Model) Think(ctx context.Context, c event.Context, p iot.Prompt) (iot.Reply, []float64, error) {
	return m.client.think(ctx, m, m.rank, c, p)
}

// Named is a model that somebody installed, its letters calibrated, which thinks before them where Options.Think says so. It
// may come and go while it is asked.
type Named struct {
	*lm.Calibrated
	client *Client
}

// NewNamed checks the options. It does not call the server.
func NewNamed(o Options) (*Named, error) {
	c, err := New(o)
	if err != nil {
		return nil, err
	}
	return &Named{lm.NewCalibrated(c), c}, nil
}

// Rank returns the calibrated log-share of each candidate, in the order of the context.
func (n *Named) Rank(ctx context.Context, p iot.Prompt) ([]float64, error) {
	return n.client.inTurn(ctx, n.Calibrated.Rank, p)
}

// Think is like Model.Think.
func (n *Named) Think(ctx context.Context, c event.Context, p iot.Prompt) (iot.Reply, []float64, error) {
	return n.client.think(ctx, n.client, n.Calibrated.Rank, c, p)
}

// ranking ranks the candidates of a prompt.
type ranking func(ctx context.Context, p iot.Prompt) ([]float64, error)

// Rank calls it.
func (r ranking) Rank(ctx context.Context, p iot.Prompt) ([]float64, error) { return r(ctx, p) }

// inTurn has a prompt ranked that may come between the parts of a thought about another list.
func (c *Client) inTurn(ctx context.Context, rank ranking, p iot.Prompt) ([]float64, error) {
	if c.opt.Think > 0 {
		done, err := c.takeTurn(ctx)
		if err != nil {
			return nil, err
		}
		defer done()
	}
	return rank(ctx, p)
}

func (c *Client) think(ctx context.Context, w lm.Writer, rank ranking, seen event.Context, p iot.Prompt) (iot.Reply, []float64, error) {
	if c.opt.Think == 0 {
		return iot.Reply{}, nil, fmt.Errorf("think: model %q answers at once: %w", c.opt.Model, lm.ErrNonsense)
	}
	done, err := c.takeTurn(ctx)
	if err != nil {
		return iot.Reply{}, nil, err
	}
	defer done()
	return lm.Thinker{Writer: w, Ranker: rank, Most: c.opt.Think}.Think(ctx, seen, p)
}
