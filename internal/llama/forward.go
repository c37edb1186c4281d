package llama

import (
	"math"

	"github.com/r2rec/r2rec/internal/llama/kernel"
)

// pass is the way of some rows (positions of one text) through the layers.
type pass struct {
	m         *Model
	crew      *crew
	cache     *cache
	caches    []*cache      // of each row, where every row is the end of a text of its own; nil: cache is of all
	values    kernel.Matrix // scratch of those rows' values
	positions []int         // of the rows
	want      []int         // rows whose last hidden state is asked for, ascending
	wanted    []int         // their positions
	branches  *branches     // nil: the rows are one text, and stand where they are counted
	scores    [][]float32   // scratch of attention, one a thread
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
	values := p.values
	if p.caches == nil {
		past := p.positions[0]
		values = p.cache.valuesOf(i).Slice(past, past+t.x.Rows)
	}
	p.rows(t.x.Rows, func(crew *crew, r0, r1 int) {
		n1 := t.n1.Slice(r0, r1)
		normalise(n1, t.x.Slice(r0, r1), l.attentionNorm, c.Epsilon, t.r1[r0:r1])
		forward(crew, n1, false, product{l.k, t.k.Slice(r0, r1)}, product{l.v, values.Slice(r0, r1)})
		p.m.rope.turn(t.k.Slice(r0, r1), c.HeadDim, p.branches.standing(p.positions[r0:r1]), false)
	})
	if p.caches == nil {
		p.cache.store(i, p.positions[0], t.k)
	}
	for r, c := range p.caches {
		c.store(i, p.positions[r], t.k.Slice(r, r+1))
		copy(c.valuesOf(i).Row(p.positions[r]), values.Row(r))
	}
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
	p.rows(asking, func(crew *crew, r0, r1 int) {
		forward(crew, t.nq.Slice(r0, r1), false, product{l.q, t.q.Slice(r0, r1)})
		p.m.rope.turn(t.q.Slice(r0, r1), c.HeadDim, p.branches.standing(t.positions[r0:r1]), false)
	})
	switch {
	case p.caches != nil:
		p.attendApart(i, t)
	case asking == 1 && p.branches == nil:
		p.crew.share(c.KVHeads, 1, func(worker, kv0, kv1 int) {
			for kv := kv0; kv < kv1; kv++ {
				c.attentionOfOne(t.att, t.q, t.positions[0], p.cache, i, kv, p.scores[worker], t.logSums)
			}
		})
	default:
		p.attendAll(i, t)
	}
	p.rows(asking, func(crew *crew, r0, r1 int) {
		x1, n2, x2 := t.x1.Slice(r0, r1), t.n2.Slice(r0, r1), t.x2.Slice(r0, r1)
		gate, up, act := t.gate.Slice(r0, r1), t.up.Slice(r0, r1), t.act.Slice(r0, r1)
		copyRows(x1, t.xq.Slice(r0, r1))
		forward(crew, t.att.Slice(r0, r1), true, product{l.o, x1})
		normalise(n2, x1, l.feedForwardNorm, c.Epsilon, t.r2[r0:r1])
		forward(crew, n2, false, product{l.gate, gate}, product{l.up, up})
		for r := range act.Rows {
			kernel.SwiGLU(act.Row(r), gate.Row(r), up.Row(r))
		}
		copyRows(x2, x1)
		forward(crew, act, true, product{l.down, x2})
	})
}

// attendAll is the attention of all rows that ask, head by head.
func (p *pass) attendAll(i int, t *trace) {
	c, asking := p.m.Config, len(t.positions)
	p.crew.spread(c.Heads, 1, func(worker, h0, h1 int) {
		for h := h0; h < h1; h++ {
			var logSums []float32
			if t.logSums != nil {
				logSums = t.logSums[h*asking : (h+1)*asking]
			}
			c.attention(t.att, t.q, t.positions, p.branches, p.cache, i, h, p.scores[worker], logSums)
		}
	})
}

// attendApart is the attention of rows that have a cache each.
func (p *pass) attendApart(i int, t *trace) {
	c := p.m.Config
	p.crew.share(len(p.caches)*c.KVHeads, 1, func(worker, from, to int) {
		for j := from; j < to; j++ {
			r, kv := j/c.KVHeads, j%c.KVHeads
			c.attentionOfOne(t.att.Slice(r, r+1), t.q.Slice(r, r+1), t.positions[r], p.caches[r], i, kv, p.scores[worker], nil)
		}
	})
}

// rows does f for all rows, each with one thread, or with the crew where the rows are too few to be shared out.
func (p *pass) rows(n int, f func(c *crew, r0, r1 int)) {
	const grain = 32
	if n < 2*grain {
		f(p.crew, 0, n)
		return
	}
	p.crew.spread(n, grain, func(_, r0, r1 int) { f(nil, r0, r1) })
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

// product is a linear layer and where its output goes.
type product struct {
	l   *linear
	dst kernel.Matrix
}

// forward computes dst = x Wᵀ + b of layers with the same input, or adds it. The crew shares out the columns, which changes
// no bit.
func forward(c *crew, x kernel.Matrix, add bool, products ...product) {
	const panel = 32 // columns that stay together
	panels := 0
	for _, p := range products {
		panels += (p.dst.Cols + panel - 1) / panel
	}
	grain := max(1, 1<<16/(panel*max(1, x.Rows*x.Cols))) // a piece is work for some microseconds
	c.share(panels, grain, func(_, from, to int) {
		for _, p := range products {
			n := (p.dst.Cols + panel - 1) / panel
			if j0, j1 := max(0, from)*panel, min(to*panel, p.dst.Cols); j0 < j1 {
				columns := p.l.packed.Columns(j0, j1)
				kernel.MulPacked(p.dst.Columns(j0, j1), x, &columns, add)
			}
			from, to = from-n, to-n
		}
	})
	for _, p := range products {
		if p.l.bias != nil {
			for r := range p.dst.Rows {
				kernel.Axpy(p.dst.Row(r), 1, p.l.bias)
			}
		}
		if p.l.change != nil {
			p.l.change.forward(p.dst, x)
		}
	}
}

// embed fills rows with the embeddings of tokens.
func (m *Model) embed(x kernel.Matrix, tokens []int32) {
	for r, id := range tokens {
		if row := m.embedding.row(x.Row(r), int(id)); m.embedding.Data != nil {
			copy(x.Row(r), row)
		}
	}
}

// logits of some tokens, or of all where ids is nil, for rows of normalised hidden states: dst is rows x tokens.
func (m *Model) logits(dst, hidden kernel.Matrix, ids []int32, c *crew) {
	if ids != nil {
		scratch := make([]float32, m.Dim)
		for j, id := range ids {
			m.output.dot(dst.Columns(j, j+1), int(id), hidden, scratch)
		}
		return
	}
	c.share(m.Vocabulary, 1024, func(_, v0, v1 int) {
		scratch := make([]float32, m.Dim)
		for v := v0; v < v1; v++ {
			m.output.dot(dst.Columns(v, v+1), v, hidden, scratch)
		}
	})
}
