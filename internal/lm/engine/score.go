package engine

import (
	"context"
	"fmt"
	"slices"

	"github.com/r2rec/r2rec/internal/iot"
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

// Stated tells of each candidate, in the order of the context, whether a server that states the n likeliest tokens alone
// would state all of those that the candidate's share is read from.
func (m *Model) Stated(ctx context.Context, p iot.Prompt, n int) ([]bool, error) {
	t, err := m.reader.read(p)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read a prompt of %d bytes: %w: %w", len(p.Text), err, lm.ErrNonsense)
	case len(t.questions) > 0:
		return nil, fmt.Errorf("readout %s: no server is asked so: %w", Pointwise, lm.ErrNonsense)
	}
	s, err := m.take(ctx, t.tokens, t.longest())
	if err != nil {
		return nil, err
	}
	defer m.sessions.giveBack(s)
	hidden, err := s.Read(ctx, t.tokens, t.want...)
	if err != nil {
		return nil, err
	}
	var likely []bool // of each place's tokens
	for place := range t.want {
		all := hidden.Logits(place)
		least := slices.Sorted(slices.Values(all))[len(all)-min(max(n, 1), len(all))]
		for _, id := range t.ids {
			likely = append(likely, all[id] >= least)
		}
	}
	stated := make([]bool, len(p.Letters))
	each := len(likely) / len(stated) // tokens that a share is read from
	for i, letter := range p.Letters {
		j := int(letter - 'A')
		stated[i] = !slices.Contains(likely[j*each:][:each], false)
	}
	return stated, nil
}
