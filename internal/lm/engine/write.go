package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/r2rec/r2rec/internal/llama"
	"github.com/r2rec/r2rec/internal/llama/token"
	"github.com/r2rec/r2rec/internal/lm"
)

var _ lm.Writer = (*Model)(nil)

// Write implements lm.Writer.
func (m *Model) Write(ctx context.Context, text string, n int, o lm.WriteOptions) ([]lm.Written, error) {
	if o.Most < 1 || n < 1 {
		return nil, fmt.Errorf("write %d texts of at most %d tokens: want 1 or more of both", n, o.Most)
	}
	tokens := m.tokenizer.Encode(text, token.Options{AddSpecial: true})
	s, err := m.take(ctx, min(len(tokens)+o.Most, m.weights.Context))
	if err != nil {
		return nil, err
	}
	defer func() { m.sessions <- s }()
	out := make([]lm.Written, n)
	for i := range out {
		g := llama.GenerateOptions{Most: o.Most, Temperature: o.Temperature, Seed: seedOf(o.Seed, i), Pieces: m.tokenizer, StopTokens: m.tokenizer.EndTokens(), Stop: o.Stop}
		for t, err := range s.Generate(ctx, tokens, g) {
			switch {
			case errors.Is(err, llama.ErrTooLong):
				return nil, fmt.Errorf("%w: %w", lm.ErrPromptTooLong, err)
			case errors.Is(err, llama.ErrNotFinite):
				return nil, fmt.Errorf("%w: %w", lm.ErrNonsense, err)
			case err != nil:
				return nil, err
			}
			w := &out[i]
			w.Text += t.Text
			w.Tokens, w.LogProbs = append(w.Tokens, t.ID), append(w.LogProbs, t.LogProb)
			w.Whole = t.Finish == llama.Stopped
		}
	}
	return out, nil
}

// seedOf is the seed of text i.
func seedOf(seed uint64, i int) uint64 { return rand.NewPCG(seed, uint64(i)).Uint64() }
