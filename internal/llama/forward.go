package llama

import (
	"math"
	"sync"

	"github.com/r2rec/r2rec/internal/llama/kernel"
)

// pass is the way of some rows (positions of one text) through the layers.
type pass struct {
	m         *Model
	threads   int
	cache     *cache
	positions []int       // of the rows
	want      []int       // rows whose last hidden state is asked for, ascending
	wanted    []int       // their positions
	scores    [][]float32 // scratch of attention, one a thread
}

// trace is what a layer computed on the way. A pass that has to find its way back keeps one for each layer; one that does
// not uses the same one again and again, and in it the matrices of the residual stream may be one.
type trace struct {
	x          kernel.Matrix // input
	n1         kernel.Matrix // normalised
	k          kernel.Matrix // rotated keys
	xq, nq     kernel.Matrix // of the rows that ask: x and n1, or those of the wanted rows in the last layer
	q, att     kernel.Matrix
	logSums    []float32 // of the softmax, head by head; nil: not kept
	x1, n2     kernel.Matrix
	gate, up   kernel.Matrix
	act, x2    kernel.Matrix
	r1, r2     []float32 // 1 / root mean square of the rows of x and x1
	positions  []int     // of the rows that ask
	everything bool      // whether those are all rows
}

// layer computes block i: t.x goes in, t.x2 comes out. In the last layer only the wanted rows ask and come out; the
// others give their keys and values, since nothing after it reads their output.
func (p *pass) layer(i int, t *trace) {
	l, c := &p.m.layers[i], p.m.Config
	past := p.positions[0]
	values := p.cache.valuesOf(i).Slice(past, past+t.x.Rows)
	p.rows(t.x.Rows, func(_, r0, r1 int) {
		normalise(t.n1.Slice(r0, r1), t.x.Slice(r0, r1), l.attentionNorm, c.Epsilon, t.r1[r0:r1])
		l.k.forward(t.k.Slice(r0, r1), t.n1.Slice(r0, r1), false)
		l.v.forward(values.Slice(r0, r1), t.n1.Slice(r0, r1), false)
		p.m.rope.turn(t.k.Slice(r0, r1), c.HeadDim, p.positions[r0:r1], false)
	})
	p.cache.store(i, past, t.k)
	if !t.everything {
		for r, row := range p.want {
			copy(t.xq.Row(r), t.x.Row(row))
			copy(t.nq.Row(r), t.n1.Row(row))
		}
	}
	asking := len(t.positions)
	if asking == 0 {
		return
	}
	p.rows(asking, func(_, r0, r1 int) {
		l.q.forward(t.q.Slice(r0, r1), t.nq.Slice(r0, r1), false)
		p.m.rope.turn(t.q.Slice(r0, r1), c.HeadDim, t.positions[r0:r1], false)
	})
	spread(p.threads, c.Heads, 1, func(worker, h0, h1 int) {
		for h := h0; h < h1; h++ {
			var logSums []float32
			if t.logSums != nil {
				logSums = t.logSums[h*asking : (h+1)*asking]
			}
			c.attention(t.att, t.q, t.positions, p.cache, i, h, p.scores[worker], logSums)
		}
	})
	p.rows(asking, func(_, r0, r1 int) {
		x1, n2, x2 := t.x1.Slice(r0, r1), t.n2.Slice(r0, r1), t.x2.Slice(r0, r1)
		gate, up, act := t.gate.Slice(r0, r1), t.up.Slice(r0, r1), t.act.Slice(r0, r1)
		copyRows(x1, t.xq.Slice(r0, r1))
		l.o.forward(x1, t.att.Slice(r0, r1), true)
		normalise(n2, x1, l.feedForwardNorm, c.Epsilon, t.r2[r0:r1])
		l.gate.forward(gate, n2, false)
		l.up.forward(up, n2, false)
		for r := range act.Rows {
			kernel.SwiGLU(act.Row(r), gate.Row(r), up.Row(r))
		}
		copyRows(x2, x1)
		l.down.forward(x2, act, true)
	})
}

// rows does f for all rows, over the pass's threads.
func (p *pass) rows(n int, f func(worker, r0, r1 int)) { spread(p.threads, n, 32, f) }

// spread cuts 0 to n into runs of at least grain, one a thread, and does f for each; the caller's goroutine is one of
// the threads.
func spread(threads, n, grain int, f func(worker, lo, hi int)) {
	threads = min(threads, max(1, n/grain))
	if threads == 1 {
		f(0, 0, n)
		return
	}
	var wg sync.WaitGroup
	for w := 1; w < threads; w++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			f(w, w*n/threads, (w+1)*n/threads)
		}()
	}
	f(0, 0, n/threads)
	wg.Wait()
}

// normalise computes dst = x w / root mean square(x) for each row (Zhang and Sennrich 2019, arXiv 1910.07467), and keeps
// the inverse of the root.
func normalise(dst, x kernel.Matrix, w []float32, epsilon float64, inverse []float32) {
	for r := range x.Rows {
		row := x.Row(r)
		inverse[r] = float32(1 / math.Sqrt(float64(kernel.Dot(row, row))/float64(len(row))+epsilon))
		kernel.MulScaled(dst.Row(r), row, w, inverse[r])
	}
}

// copyRows copies a matrix; the two may be the same one.
func copyRows(dst, src kernel.Matrix) {
	if dst.Rows == 0 || &dst.Data[0] == &src.Data[0] {
		return
	}
	for r := range src.Rows {
		copy(dst.Row(r), src.Row(r))
	}
}

// forward computes dst = x Wᵀ + b, or adds it.
func (l *linear) forward(dst, x kernel.Matrix, add bool) {
	kernel.MulPacked(dst, x, l.packed, add)
	if l.bias != nil {
		for r := range dst.Rows {
			kernel.Axpy(dst.Row(r), 1, l.bias)
		}
	}
	if l.change != nil {
		l.change.forward(dst, x)
	}
}

// embed fills rows with the embeddings of tokens.
func (m *Model) embed(x kernel.Matrix, tokens []int32) {
	for r, id := range tokens {
		copy(x.Row(r), m.embedding.Row(int(id)))
	}
}

// logits of some tokens, or of all where ids is nil, for rows of normalised hidden states: dst is rows x tokens.
func (m *Model) logits(dst, hidden kernel.Matrix, ids []int32, threads int) {
	if ids != nil {
		for r := range hidden.Rows {
			row := hidden.Row(r)
			for j, id := range ids {
				dst.Row(r)[j] = kernel.Dot(row, m.output.Row(int(id)))
			}
		}
		return
	}
	spread(threads, m.Vocabulary, 1024, func(_, v0, v1 int) {
		for v := v0; v < v1; v++ {
			w := m.output.Row(v)
			for r := range hidden.Rows {
				dst.Row(r)[v] = kernel.Dot(w, hidden.Row(r))
			}
		}
	})
}
