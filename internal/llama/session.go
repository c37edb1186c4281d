package llama

import (
	"context"
	"fmt"
	"slices"

	"github.com/r2rec/r2rec/internal/llama/kernel"
)

// chunkRows is how many positions go through the layers at once: a cancelled reading ends after so many, and the memory
// of a long text does not grow with it, but for the cache.
const chunkRows = 256

// Session reads text with a model and remembers the keys and values of what it has read, so that a text that begins like
// the last one is only read from where it differs. It serves one goroutine at a time.
type Session struct {
	m       *Model
	crew    *crew
	cache   *cache
	tokens  []int32 // that the cache holds
	p       pass
	t, last trace
	hidden  []float32
	numbers []int
}

// NewSession makes a session for texts of at most so many positions, on so many threads (0 or less: one). Its memory is
// Config.SessionBytes.
func (m *Model) NewSession(positions, threads int) (*Session, error) {
	if positions < 1 || positions > m.Context {
		return nil, fmt.Errorf("llama: a session of %d positions: the model reads 1 to %d", positions, m.Context)
	}
	s := &Session{m: m, crew: newCrew(threads), tokens: make([]int32, 0, positions), cache: newCache(m.Config, positions)}
	rows, c := min(positions, chunkRows), m.Config
	s.t = c.scratch(rows)
	matrix := func(cols int) kernel.Matrix { return kernel.View(make([]float32, rows*cols), rows, cols) }
	s.last = s.t
	s.last.everything = false
	s.last.xq = matrix(c.Dim)
	s.last.nq = matrix(c.Dim)
	s.last.x1, s.last.x2, s.last.n2 = s.last.xq, s.last.xq, s.last.nq
	s.p = pass{m: m, crew: s.crew, cache: s.cache, scores: make([][]float32, s.crew.threads)}
	for i := range s.p.scores {
		s.p.scores[i] = make([]float32, blockRows*positions)
	}
	return s, nil
}

// scratch is a trace of so many rows that every layer uses again.
func (c Config) scratch(rows int) trace {
	matrix := func(cols int) kernel.Matrix { return kernel.View(make([]float32, rows*cols), rows, cols) }
	x, n := matrix(c.Dim), matrix(c.Dim)
	t := trace{x: x, n1: n, k: matrix(c.KV()), xq: x, nq: n, q: matrix(c.Queries()), att: matrix(c.Queries()), x1: x, n2: n,
		gate: matrix(c.FeedForward), up: matrix(c.FeedForward), x2: x, r1: make([]float32, rows), r2: make([]float32, rows), everything: true}
	t.act = t.gate
	return t
}

// Positions is the longest text that the session reads.
func (s *Session) Positions() int { return s.cache.capacity }

// Remembers is how many of a text's first tokens the session has read already, as what it read last.
func (s *Session) Remembers(tokens []int32) int {
	n := 0
	for n < min(len(tokens), len(s.tokens)) && tokens[n] == s.tokens[n] {
		n++
	}
	return n
}

// Read reads a text and returns the hidden states, normalised, after the tokens at the wanted indices, which ascend: one
// row each, valid until the next call. What the session remembers of the same beginning is not read again. A cancelled
// context ends it between two chunks; the session can go on being used. Errors name the token or index that is wrong.
func (s *Session) Read(ctx context.Context, tokens []int32, want ...int) (Hidden, error) {
	if err := s.check(tokens, want); err != nil {
		return Hidden{}, err
	}
	defer s.crew.shift()()
	past := s.Remembers(tokens)
	if len(want) > 0 {
		past = min(past, want[0])
	}
	s.tokens = append(s.tokens[:past], tokens[past:]...)
	if need := len(want) * s.m.Dim; cap(s.hidden) < need {
		s.hidden = make([]float32, need)
	}
	h := Hidden{m: s.m, crew: s.crew, states: kernel.View(s.hidden[:len(want)*s.m.Dim], len(want), s.m.Dim)}
	done := 0
	for at := past; at < len(tokens); at += chunkRows {
		if err := ctx.Err(); err != nil {
			s.tokens = s.tokens[:at]
			return Hidden{}, fmt.Errorf("llama: read %d tokens, ended at %d: %w", len(tokens), at, err)
		}
		end := min(at+chunkRows, len(tokens))
		n := done
		for n < len(want) && want[n] < end {
			n++
		}
		s.chunk(tokens[at:end], at, want[done:n], h.states.Slice(done, n))
		done = n
	}
	return h, nil
}

func (s *Session) check(tokens []int32, want []int) error {
	if len(tokens) > s.cache.capacity {
		return fmt.Errorf("llama: %d tokens in a session of %d positions: %w", len(tokens), s.cache.capacity, ErrTooLong)
	}
	return s.m.checkText(tokens, want)
}

// checkText finds tokens that the vocabulary does not have, and wanted indices that do not ascend within the text.
func (c Config) checkText(tokens []int32, want []int) error {
	for i, id := range tokens {
		if id < 0 || int(id) >= c.Vocabulary {
			return fmt.Errorf("llama: token %d is %d, and the vocabulary has 0 to %d", i, id, c.Vocabulary-1)
		}
	}
	if !slices.IsSorted(want) || len(want) > 0 && (want[0] < 0 || want[len(want)-1] >= len(tokens)) {
		return fmt.Errorf("llama: hidden states after the tokens %d of %d: must ascend within them", want, len(tokens))
	}
	return nil
}

// chunk reads some more tokens, at the positions from past on, and writes the hidden states after the wanted ones.
func (s *Session) chunk(tokens []int32, past int, want []int, hidden kernel.Matrix) {
	s.numbers = s.numbers[:0]
	for i := range tokens {
		s.numbers = append(s.numbers, past+i)
	}
	s.numbers = append(s.numbers, want...)
	for _, w := range want {
		s.numbers = append(s.numbers, w-past)
	}
	n, k := len(tokens), len(want)
	p := &s.p
	p.positions, p.wanted, p.want = s.numbers[:n], s.numbers[n:n+k], s.numbers[n+k:]
	t := s.t.cut(n, n)
	t.positions = p.positions
	s.m.embed(t.x, tokens)
	for i := range s.m.Layers - 1 {
		p.layer(i, &t)
	}
	last := s.last.cut(n, k)
	last.positions = p.wanted
	p.layer(s.m.Layers-1, &last)
	if k > 0 {
		normalise(hidden, last.x2, s.m.norm, s.m.Epsilon, last.r2)
	}
}

// cut is the trace for n rows of which some ask.
func (t trace) cut(n, asking int) trace {
	for _, m := range []*kernel.Matrix{&t.x, &t.n1, &t.k} {
		*m = m.Slice(0, n)
	}
	for _, m := range []*kernel.Matrix{&t.xq, &t.nq, &t.q, &t.att, &t.x1, &t.n2, &t.gate, &t.up, &t.act, &t.x2} {
		*m = m.Slice(0, asking)
	}
	return t
}

// Hidden are hidden states, one a row. What is computed of them takes the session's threads: one goroutine at a time uses
// a session and its Hidden.
type Hidden struct {
	m      *Model
	crew   *crew
	states kernel.Matrix
}

// Rows is how many there are.
func (h Hidden) Rows() int { return h.states.Rows }

// Logits are those of the tokens, in their order, at row i; without tokens, those of the whole vocabulary. A softmax over
// the whole vocabulary gives the probabilities of the next token.
func (h Hidden) Logits(i int, ids ...int32) []float32 {
	n := len(ids)
	if n == 0 {
		n = h.m.Vocabulary
	}
	out := kernel.View(make([]float32, n), 1, n)
	h.m.logits(out, h.states.Slice(i, i+1), ids, h.crew)
	return out.Data
}

// LogProbs are the log-probabilities of one token a row, in nats and over the whole vocabulary. The weights of the output
// layer are read once for all rows. The error says which row has logits that are not finite.
func (h Hidden) LogProbs(ids []int32) ([]float64, error) {
	defer h.crew.shift()()
	z := kernel.View(make([]float32, h.Rows()*h.m.Vocabulary), h.Rows(), h.m.Vocabulary)
	h.m.logits(z, h.states, nil, h.crew)
	out := make([]float64, h.Rows())
	for r := range out {
		logSum, err := logSumExp(z.Row(r), h.crew)
		if err != nil {
			return nil, fmt.Errorf("llama: row %d: %w", r, err)
		}
		out[r] = float64(z.Row(r)[ids[r]]) - logSum
	}
	return out, nil
}
