package llama

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/r2rec/r2rec/internal/llama/kernel"
)

// GenerateMany goes on with one text in several ways at once, one for each of the options. It gives the very tokens and
// log-probabilities that Generate gives for each, and takes less time: the text is read once, and at every step all weights
// are read once for all that still go on. Each way takes Config.CacheBytes of memory while it runs, and some 24 bytes for
// each token of the vocabulary.
//
// Every way has one token at least. An error is of all ways; it is one of those that Generate has.
func (s *Session) GenerateMany(ctx context.Context, tokens []int32, options []GenerateOptions) ([][]Token, error) {
	out, err := s.generateMany(ctx, tokens, options)
	if err != nil {
		return nil, fmt.Errorf("llama: generate %d texts: %w", len(options), err)
	}
	return out, nil
}

func (s *Session) generateMany(ctx context.Context, tokens []int32, options []GenerateOptions) ([][]Token, error) {
	if len(options) == 0 {
		return nil, errors.New("there are no options: name one set for each text")
	}
	out, all := make([][]Token, len(options)), make([]*generation, len(options))
	for i, o := range options {
		var err error
		if all[i], err = s.generation(tokens, o); err != nil {
			return nil, fmt.Errorf("text %d: %w", i, err)
		}
	}
	defer s.crew.shift()()
	h, err := s.Read(ctx, tokens, len(tokens)-1)
	if err != nil {
		return nil, err
	}
	m := s.newMany(len(options))
	logits := h.Logits(0)
	everyone := make([]int, len(options))
	for i := range everyone {
		everyone[i] = i
	}
	chosen, err := m.choose(all, everyone, func(int) []float32 { return logits })
	if err != nil {
		return nil, err
	}
	for i, t := range chosen {
		if out[i] = append(out[i], t); t.Finish == Unfinished {
			m.add(i, s.cache.clone(len(tokens), all[i].last-1), t.ID, len(tokens))
		}
	}
	for len(m.texts) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		chosen, err := m.choose(all, m.texts, m.step().Row)
		if err != nil {
			return nil, err
		}
		ended := make(map[int]bool)
		for r, i := range m.texts {
			t := chosen[r]
			out[i] = append(out[i], t)
			m.tokens[r], m.pass.positions[r], ended[i] = t.ID, m.pass.positions[r]+1, t.Finish != Unfinished
		}
		m.drop(func(i int) bool { return ended[i] })
	}
	return out, nil
}

// many are texts that go on at once, one row each.
type many struct {
	s      *Session
	pass   pass
	trace  trace
	texts  []int // which of all, by row
	tokens []int32
	values kernel.Matrix
	hidden kernel.Matrix
	logits kernel.Matrix
}

func (s *Session) newMany(n int) *many {
	matrix := func(cols int) kernel.Matrix { return kernel.View(make([]float32, n*cols), n, cols) }
	return &many{s: s, pass: pass{m: s.m, crew: s.crew, scores: s.p.scores}, trace: s.m.scratch(n), values: matrix(s.m.KV()), hidden: matrix(s.m.Dim), logits: matrix(s.m.Vocabulary)}
}

// add has a text go on: token is to be read next, at the position.
func (m *many) add(text int, c *cache, token int32, position int) {
	m.texts, m.tokens = append(m.texts, text), append(m.tokens, token)
	m.pass.caches, m.pass.positions = append(m.pass.caches, c), append(m.pass.positions, position)
}

// choose has each of the texts go on by a token, by the logits in its row. The threads share out the texts: with a large
// vocabulary, drawing takes a tenth of a step.
func (m *many) choose(all []*generation, texts []int, logits func(r int) []float32) ([]Token, error) {
	chosen, errs := make([]Token, len(texts)), make([]error, len(texts))
	m.s.crew.share(len(texts), 1, func(_, from, to int) {
		for r := from; r < to; r++ {
			chosen[r], errs[r] = all[texts[r]].choose(logits(r), nil)
		}
	})
	for r, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("text %d: %w", texts[r], err)
		}
	}
	return chosen, nil
}

// drop lets go of texts.
func (m *many) drop(ended func(text int) bool) {
	r := 0
	for old, text := range m.texts {
		if ended(text) {
			continue
		}
		m.texts[r], m.tokens[r], m.pass.caches[r], m.pass.positions[r] = text, m.tokens[old], m.pass.caches[old], m.pass.positions[old]
		r++
	}
	clear(m.pass.caches[r:])
	m.texts, m.tokens, m.pass.caches, m.pass.positions = m.texts[:r], m.tokens[:r], m.pass.caches[:r], m.pass.positions[:r]
}

// step reads a token of each text, and gives the logits after them, one row each, valid until the next.
func (m *many) step() kernel.Matrix {
	n, s := len(m.texts), m.s
	m.pass.values = m.values.Slice(0, n)
	t := m.trace.cut(n, n)
	t.positions = m.pass.positions
	s.m.embed(t.x, m.tokens)
	for i := range s.m.Layers {
		m.pass.layer(i, &t)
	}
	hidden, logits := m.hidden.Slice(0, n), m.logits.Slice(0, n)
	normalise(hidden, t.x2, s.m.norm, s.m.Epsilon, t.r2)
	s.m.logits(logits, hidden, nil, s.crew)
	return logits
}

// clone copies the first positions of a cache into one with room for so many.
func (k *cache) clone(positions, capacity int) *cache {
	c := newCache(k.c, max(1, capacity))
	for layer := range k.c.Layers {
		for h := range k.c.KVHeads {
			from, to := k.keysOf(layer, h), c.keysOf(layer, h)
			for r := range from.Rows {
				copy(to.Row(r)[:positions], from.Row(r)[:positions])
			}
		}
		n := positions * k.c.KV()
		copy(c.valuesOf(layer).Data[:n], k.valuesOf(layer).Data[:n])
	}
	return c
}

// CacheBytes is the memory of the keys and values of so many positions, in bytes.
func (c Config) CacheBytes(positions int) int { return 4 * 2 * c.Layers * c.KV() * positions }

// AtOnce repeats options for n texts, each with a seed of its own.
func (o GenerateOptions) AtOnce(n int, seed func(i int) uint64) []GenerateOptions {
	all := slices.Repeat([]GenerateOptions{o}, n)
	for i := range all {
		all[i].Seed = seed(i)
	}
	return all
}
