package ollama

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm"
	"github.com/r2rec/r2rec/internal/lm/proof"
)

// anyMass has letters and verdicts read whatever else the model would rather say.
const anyMass = -1

// baseStays is how long a base that was asked for a proof stays in the server's memory.
const baseStays = 5 * time.Second

// Sides answer canaries as trainers do: the bare base, and this model. Both wait for the server to load them, refuse no
// answer for how little of it the letters have, and tell which candidates' shares the server stated. Verdicts of this model
// are refused as they are when it serves: one that says too little at one line of twenty would rank nothing then.
//
// The base is that copy on which the adapter lies, so that one takes the other's place in the server's memory: there it is
// never loaded beside both this model and the one that serves. It is to be asked before anything else is asked of this
// model, or not at the same time.
func (m *Model) Sides() (base, adapter proof.Ranker) {
	least := float64(anyMass)
	if m.who.Readout == verdicts {
		least = m.client.opt.MinMass
	}
	adapter = side{m.who.Readout, least, func(context.Context) (*Client, error) { return m.client, nil }}
	if m.who.Adapter == "" {
		return adapter, adapter
	}
	var once sync.Mutex
	var client *Client
	return side{m.who.Readout, anyMass, func(ctx context.Context) (*Client, error) {
		once.Lock()
		defer once.Unlock()
		if client != nil {
			return client, nil
		}
		have, err := m.installer.server.list(ctx)
		if err != nil {
			return nil, err
		}
		if _, err := m.installer.ensureCopy(ctx, m.copy, have); err != nil {
			return nil, err
		}
		o := m.installer.opt.Ask
		o.Model, o.KeepAlive = m.installer.names.copyOf(m.copy), baseStays
		client, err = New(o)
		return client, err
	}}, adapter
}

// side is one of the two models that a proof compares.
type side struct {
	readout string
	minMass float64
	client  func(context.Context) (*Client, error)
}

var _ proof.Partial = side{}

// Rank implements proof.Ranker.
func (s side) Rank(ctx context.Context, p iot.Prompt) ([]float64, error) {
	shares, _, err := s.Stated(ctx, p)
	return shares, err
}

// Stated implements proof.Partial. A proof takes nonsense for the adapter's fault, so that what is no answer at all is none
// here.
func (s side) Stated(ctx context.Context, p iot.Prompt) (shares []float64, stated []bool, err error) {
	c, err := s.client(ctx)
	if err != nil {
		return nil, nil, err
	}
	if shares, stated, err = c.learned(ctx, s.readout, p, s.minMass); errors.Is(err, errGarbled) {
		err = fmt.Errorf("%w: %v", lm.ErrUnavailable, err)
	}
	return shares, stated, err
}
