package engine

import (
	"context"
	"fmt"
	"math"

	"github.com/r2rec/r2rec/internal/lm"
)

// LogProbs are the log-probabilities, in nats and over the whole vocabulary, of each token of texts that all go on from
// one, which is read once. The error wraps one of package lm's, or the context's where the caller gave up.
func (m *Model) LogProbs(ctx context.Context, text string, continuations [][]int32) ([][]float64, error) {
	prompt := m.reader.encode(text)
	if len(prompt) == 0 {
		return nil, fmt.Errorf("log-probabilities after an empty text: %w", lm.ErrNonsense)
	}
	longest := 0
	for _, c := range continuations {
		longest = max(longest, len(c))
	}
	s, err := m.take(ctx, len(prompt)+longest)
	if err != nil {
		return nil, err
	}
	defer func() { m.sessions <- s }()
	out := make([][]float64, len(continuations))
	for i, c := range continuations {
		tokens := append(prompt[:len(prompt):len(prompt)], c...)
		want := make([]int, len(c)) // the last token is told by what stands before it
		for j := range want {
			want[j] = len(prompt) - 1 + j
		}
		hidden, err := s.Read(ctx, tokens, want...)
		if err != nil {
			return nil, err
		}
		out[i] = make([]float64, len(c))
		for j, id := range c {
			if out[i][j], err = logShare(hidden.Logits(j), id); err != nil {
				return nil, fmt.Errorf("token %d of continuation %d: %w", j, i, err)
			}
		}
	}
	return out, nil
}

// logShare is the logarithm of a token's part of a softmax.
func logShare(logits []float32, id int32) (float64, error) {
	top := float64(logits[0])
	for _, z := range logits {
		top = max(top, float64(z))
	}
	sum := 0.
	for _, z := range logits {
		sum += math.Exp(float64(z) - top)
	}
	share := float64(logits[id]) - top - math.Log(sum)
	if math.IsNaN(share) || math.IsInf(share, 0) {
		return 0, fmt.Errorf("its log-probability is %v: %w", share, lm.ErrNonsense)
	}
	return share, nil
}
