package engine

import (
	"context"
	"fmt"

	"github.com/r2rec/r2rec/internal/lm"
)

// LogProbs are the log-probabilities, in nats and over the whole vocabulary, of each token of texts that all go on from
// one, which is read once. The error wraps one of package lm's, or the context's where the caller gave up.
func (m *Model) LogProbs(ctx context.Context, text string, continuations [][]int32) ([][]float64, error) {
	prompt := m.reader.encode(text)
	if len(prompt) == 0 {
		return nil, fmt.Errorf("log-probabilities after an empty text: %w", lm.ErrNonsense)
	}
	longest := 1
	for i, c := range continuations {
		for j, id := range c {
			if id < 0 || int(id) >= m.weights.Vocabulary {
				return nil, fmt.Errorf("token %d of continuation %d is %d, and the vocabulary has 0 to %d: %w", j, i, id, m.weights.Vocabulary-1, lm.ErrNonsense)
			}
		}
		longest = max(longest, len(c))
	}
	s, err := m.take(ctx, prompt, len(prompt)+longest-1)
	if err != nil {
		return nil, err
	}
	defer m.sessions.giveBack(s)
	out := make([][]float64, len(continuations))
	for i, c := range continuations {
		if len(c) == 0 {
			continue
		}
		tokens := append(prompt[:len(prompt):len(prompt)], c[:len(c)-1]...) // each is told by what stands before it
		want := make([]int, len(c))
		for j := range want {
			want[j] = len(prompt) - 1 + j
		}
		hidden, err := s.Read(ctx, tokens, want...)
		if err != nil {
			return nil, err
		}
		if out[i], err = hidden.LogProbs(c); err != nil {
			return nil, fmt.Errorf("continuation %d: %w: %w", i, err, lm.ErrNonsense)
		}
	}
	return out, nil
}
