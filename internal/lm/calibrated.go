package lm

import (
	"context"
	"fmt"
	"sync"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
)

// LetterModel is a model behind a server that can state the most likely tokens of its answer.
type LetterModel interface {
	// Identity names the weights that answer, and the version of the prompts that they read.
	Identity(ctx context.Context) (event.Model, error)
	// Letters returns the log-share of each of the first n letters as the answer to the prompt.
	Letters(ctx context.Context, prompt string, n int) (Reading, error)
}

// Calibrated ranks by a LetterModel whose answers are calibrated by its answer to a content-free prompt. That answer is
// asked for once for each digest of the model and number of letters; the first ranking after a change of the model
// takes two calls. It is safe for concurrent use.
type Calibrated struct {
	model LetterModel

	mu     sync.Mutex
	digest string          // of the weights that priors belong to
	priors map[int]Reading // by number of letters
}

// NewCalibrated wraps m.
func NewCalibrated(m LetterModel) *Calibrated {
	return &Calibrated{model: m, priors: make(map[int]Reading)}
}

// Identity names the wrapped model.
func (c *Calibrated) Identity(ctx context.Context) (event.Model, error) { return c.model.Identity(ctx) }

// Rank returns the calibrated log-share of each candidate of the prompt's context, in the order of the context.
func (c *Calibrated) Rank(ctx context.Context, p iot.Prompt) ([]float64, error) {
	prior, err := c.prior(ctx, len(p.Letters))
	if err != nil {
		return nil, fmt.Errorf("calibrate: %w", err)
	}
	answer, err := c.model.Letters(ctx, p.Text, len(p.Letters))
	if err != nil {
		return nil, err
	}
	shares, err := Calibrate(answer, prior)
	if err != nil {
		return nil, err
	}
	return ByCandidate(shares, p)
}

// Warm asks for the answer that prompts of n candidates are calibrated by, so that no ranking has to wait for it.
func (c *Calibrated) Warm(ctx context.Context, n int) error {
	_, err := c.prior(ctx, n)
	return err
}

// prior is the model's answer to a content-free prompt. Two callers may both ask for it; they get the same.
func (c *Calibrated) prior(ctx context.Context, n int) (Reading, error) {
	m, err := c.model.Identity(ctx)
	if err != nil {
		return Reading{}, err
	}
	digest := m.Digest + " " + m.Adapter
	c.mu.Lock()
	if c.digest != digest {
		c.digest = digest
		clear(c.priors)
	}
	prior, known := c.priors[n]
	c.mu.Unlock()
	if known {
		return prior, nil
	}
	p, err := iot.ContentFree(m.PromptVersion, n)
	if err != nil {
		return Reading{}, err
	}
	if prior, err = c.model.Letters(ctx, p.Text, n); err != nil {
		return Reading{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.digest == digest {
		c.priors[n] = prior
	}
	return prior, nil
}

// ByCandidate brings log-shares from the order of the letters into that of the prompt's context.
func ByCandidate(shares []float64, p iot.Prompt) ([]float64, error) {
	if len(shares) != len(p.Letters) {
		return nil, fmt.Errorf("%d log-shares for a prompt of %d candidates: %w", len(shares), len(p.Letters), ErrNonsense)
	}
	out := make([]float64, len(shares))
	for i, letter := range p.Letters {
		if j := int(letter) - 'A'; j >= 0 && j < len(shares) {
			out[i] = shares[j]
			continue
		}
		return nil, fmt.Errorf("candidate %d has the letter %q, which a prompt of %d candidates does not: %w", i, letter, len(p.Letters), ErrNonsense)
	}
	return out, nil
}
