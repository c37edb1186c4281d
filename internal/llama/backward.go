package llama

import (
	"fmt"

	"github.com/r2rec/r2rec/internal/llama/kernel"
)

// Pass reads one text after the other and finds its way back through each. It serves one goroutine at a time; several
// passes over one Trainable may run at once, each with gradients of its own.
type Pass struct {
	t      *Trainable
	p      pass
	traces []trace
	tokens []int32
	joined []int32 // scratch of ForwardBranches
	rows   []int   // 0, 1, 2, ...
	want   []int
	hidden kernel.Matrix
	r      []float32 // of the last normalisation
	n      int       // positions there is room for
	back   wayBack
}

// wayBack is scratch of a backward pass.
type wayBack struct {
	dx, dn, dxq, dnq, dAtt, dQ kernel.Matrix
	dAct, dGate, dUp, dK, dV   kernel.Matrix
	scores, grads, vts         []float32
	logits, turned             []float32
}

// NewPass makes a pass that grows with the texts it reads.
func (t *Trainable) NewPass() *Pass { return &Pass{t: t} }

// grow makes room for n positions.
func (p *Pass) grow(n int) {
	if n <= p.n {
		return
	}
	p.n = n
	c := p.t.Config
	matrix := func(cols int) kernel.Matrix { return kernel.View(make([]float32, n*cols), n, cols) }
	p.rows = p.rows[:0]
	for i := range n {
		p.rows = append(p.rows, i)
	}
	p.p = pass{m: p.t.Model, cache: newCache(c, n), scores: [][]float32{make([]float32, blockRows*n)}}
	p.traces = make([]trace, c.Layers)
	x := matrix(c.Dim)
	for i := range p.traces {
		t := &p.traces[i]
		*t = trace{x: x, n1: matrix(c.Dim), k: matrix(c.KV()), q: matrix(c.Queries()), att: matrix(c.Queries()), logSums: make([]float32, c.Heads*n),
			x1: matrix(c.Dim), n2: matrix(c.Dim), gate: matrix(c.FeedForward), up: matrix(c.FeedForward), act: matrix(c.FeedForward), x2: matrix(c.Dim),
			r1: make([]float32, n), r2: make([]float32, n), everything: i < c.Layers-1}
		t.xq, t.nq = t.x, t.n1
		if !t.everything {
			t.xq, t.nq = matrix(c.Dim), matrix(c.Dim)
		}
		x = t.x2
	}
	p.hidden, p.r = matrix(c.Dim), make([]float32, n)
	p.back = wayBack{dx: matrix(c.Dim), dn: matrix(c.Dim), dxq: matrix(c.Dim), dnq: matrix(c.Dim), dAtt: matrix(c.Queries()), dQ: matrix(c.Queries()),
		dAct: matrix(c.FeedForward), dGate: matrix(c.FeedForward), dUp: matrix(c.FeedForward), dK: matrix(c.KV()), dV: matrix(c.KV()),
		scores: make([]float32, blockRows*n), grads: make([]float32, blockRows*n), vts: make([]float32, c.HeadDim*n)}
}

// Forward reads a text and keeps what it computed for Backward. The hidden states asked for are those after the tokens
// at the wanted indices, which ascend.
func (p *Pass) Forward(tokens []int32, want []int) error {
	c := p.t.Config
	if len(tokens) > c.Context {
		return fmt.Errorf("llama: %d tokens, and the model reads at most %d: %w", len(tokens), c.Context, ErrTooLong)
	}
	return p.forward(tokens, nil, want)
}

func (p *Pass) forward(tokens []int32, b *branches, want []int) error {
	c := p.t.Config
	if err := c.checkText(tokens, want); err != nil {
		return err
	}
	if len(want) == 0 {
		return fmt.Errorf("llama: nothing is asked for after any of %d tokens", len(tokens))
	}
	p.grow(len(tokens))
	p.tokens, p.want = append(p.tokens[:0], tokens...), append(p.want[:0], want...)
	n := len(tokens)
	p.p.positions, p.p.want, p.p.wanted, p.p.branches = p.rows[:n], p.want, p.want, b
	p.t.embed(p.traces[0].x.Slice(0, n), tokens)
	for i := range p.traces {
		t := p.trace(i)
		p.p.layer(i, &t)
	}
	last := p.trace(c.Layers - 1)
	normalise(p.hidden.Slice(0, len(want)), last.x2, p.t.Model.norm, c.Epsilon, p.r)
	return nil
}

// trace of layer i for the text at hand.
func (p *Pass) trace(i int) trace {
	t, n := p.traces[i], len(p.tokens)
	asking := n
	t.positions = p.rows[:n]
	if !t.everything {
		asking, t.positions = len(p.want), p.want
	}
	t = t.cut(n, asking)
	t.logSums = t.logSums[:p.t.Heads*asking]
	return t
}

// Logits are those of the tokens ids, in their order, or of the whole vocabulary where ids is nil: one row for each wanted
// index. They are valid until the next call of a method.
func (p *Pass) Logits(ids []int32) kernel.Matrix {
	cols := len(ids)
	if ids == nil {
		cols = p.t.Vocabulary
	}
	if need := len(p.want) * cols; cap(p.back.logits) < need {
		p.back.logits = make([]float32, need)
	}
	out := kernel.View(p.back.logits[:len(p.want)*cols], len(p.want), cols)
	hidden := p.hidden.Slice(0, len(p.want))
	if weights := p.t.Model.output.Matrix; ids == nil && len(p.want) >= manyRows && weights.Data != nil {
		p.logitsOfMany(out, hidden, weights)
	} else {
		p.t.logits(out, hidden, ids, nil)
	}
	return out
}

// manyRows is how many rows of logits are worth a product of matrices, which wants its input turned over and turns its
// output over.
const manyRows = 16

// someLogits are as many tokens of the vocabulary as are worked on at once.
const someLogits = 512

// logitsOfMany computes out = hidden Wᵀ, some of the vocabulary at a time.
func (p *Pass) logitsOfMany(out, hidden, weights kernel.Matrix) {
	const some = someLogits
	rows, dim := hidden.Rows, hidden.Cols
	if need := rows * (dim + some); cap(p.back.turned) < need {
		p.back.turned = make([]float32, need)
	}
	turned := kernel.View(p.back.turned[:rows*dim], dim, rows)
	kernel.Transpose(turned, hidden)
	for v := 0; v < weights.Rows; v += some {
		n := min(some, weights.Rows-v)
		z := kernel.View(p.back.turned[rows*dim:rows*(dim+n)], n, rows)
		kernel.Mul(z, weights.Slice(v, v+n), turned, false)
		kernel.Transpose(out.Columns(v, v+n), z)
	}
}

// Backward adds to g the gradient of a loss whose gradient by the logits of ids (nil: all tokens) is d, one row for each
// wanted index of the text that Forward has read.
func (p *Pass) Backward(d kernel.Matrix, ids []int32, g Gradients) {
	t, b, c := p.t, &p.back, p.t.Config
	asked := len(p.want)
	hidden, dHidden := p.hidden.Slice(0, asked), b.dnq.Slice(0, asked)
	t.logitsGrad(dHidden, d, hidden, ids, g)
	last := p.trace(c.Layers - 1)
	dx := b.dxq.Slice(0, asked) // of the rows that the layer above has asked for
	clearRows(dx)
	normaliseGrad(dx, t.gradient(g, t.norm), dHidden, last.x2, t.Model.norm, p.r)
	for i := c.Layers - 1; i >= 0; i-- {
		if i < t.lowest {
			return
		}
		below := i > t.lowest || t.embeddings
		trace := p.trace(i)
		dx = p.layerGrad(i, &trace, dx, below, g)
	}
	if t.embedding != frozen {
		for r, id := range p.tokens {
			kernel.Axpy(g[t.embedding][int(id)*c.Dim:(int(id)+1)*c.Dim], 1, dx.Row(r))
		}
	}
}

func (t *Trainable) gradient(g Gradients, i int) []float32 {
	if i == frozen {
		return nil
	}
	return g[i]
}

// layerGrad takes the gradient dx2 of block i's output back to its input, which it returns unless nothing below needs it.
// dx2 is overwritten.
func (p *Pass) layerGrad(i int, t *trace, dx2 kernel.Matrix, below bool, g Gradients) kernel.Matrix {
	l, b, c := &p.t.layers[i], &p.back, p.t.Config
	n, asking := t.x.Rows, len(t.positions)
	act, gate, up := b.dAct.Slice(0, asking), b.dGate.Slice(0, asking), b.dUp.Slice(0, asking)
	// Feed-forward: x2 = x1 + down(silu(gate n2) up n2).
	clearRows(act)
	l.down.backward(act, dx2, t.act, g)
	for r := range asking {
		kernel.SwiGLUGrad(gate.Row(r), up.Row(r), act.Row(r), t.gate.Row(r), t.up.Row(r))
	}
	dn2 := b.dnq.Slice(0, asking)
	clearRows(dn2)
	l.gate.backward(dn2, gate, t.n2, g)
	l.up.backward(dn2, up, t.n2, g)
	dx1 := dx2 // the residual path
	normaliseGrad(dx1, p.t.gradient(g, p.t.norms[i][1]), dn2, t.x1, l.feedForwardNorm, t.r2)

	// Attention: x1 = xq + o(att).
	dAtt, dQ, dK, dV := b.dAtt.Slice(0, asking), b.dQ.Slice(0, asking), b.dK.Slice(0, n), b.dV.Slice(0, n)
	clearRows(dAtt)
	l.o.backward(dAtt, dx1, t.att, g)
	clearRows(dK)
	clearRows(dV)
	a := attentionGrad{c: c, positions: t.positions, branches: p.p.branches, q: t.q, out: t.att, dOut: dAtt, keys: t.k, values: p.p.cache.valuesOf(i).Slice(0, n),
		keysT: p.p.cache, layer: i, logSums: t.logSums, dQ: dQ, dK: dK, dV: dV, scores: b.scores, grads: b.grads, vts: b.vts}
	for h := range c.Heads {
		a.head(h)
	}
	p.t.rope.turn(dQ, c.HeadDim, p.p.branches.standing(t.positions), true)
	p.t.rope.turn(dK, c.HeadDim, p.p.branches.standing(p.rows[:n]), true)
	var dn, dnq kernel.Matrix
	if below || p.t.norms[i][0] != frozen {
		dn = b.dn.Slice(0, n)
		clearRows(dn)
		dnq = dn
		if !t.everything {
			dnq = b.dnq.Slice(0, asking)
			clearRows(dnq)
		}
	}
	l.q.backward(dnq, dQ, t.nq, g)
	l.k.backward(dn, dK, t.n1, g)
	l.v.backward(dn, dV, t.n1, g)
	if dn.Data == nil {
		return kernel.Matrix{}
	}
	dx := dx1
	if !t.everything {
		dx = b.dx.Slice(0, n)
		clearRows(dx)
		for r, row := range p.want {
			kernel.Axpy(dn.Row(row), 1, dnq.Row(r))
			kernel.Axpy(dx.Row(row), 1, dx1.Row(r))
		}
	}
	normaliseGrad(dx, p.t.gradient(g, p.t.norms[i][0]), dn, t.x, l.attentionNorm, t.r1)
	return dx
}

// normaliseGrad takes the gradient dy of y = x w r, where r = 1 / root mean square(x), back: it adds to dx what
// r w dy - x r³ / n Σ(w dy x) says, and to dw, unless that is nil, dy x r. dy is overwritten.
func normaliseGrad(dx kernel.Matrix, dw []float32, dy, x kernel.Matrix, w, inverse []float32) {
	for i := range x.Rows {
		g, row, r := dy.Row(i), x.Row(i), inverse[i]
		if dw != nil {
			g, dw := g[:len(row)], dw[:len(row)]
			for j, v := range row {
				dw[j] += g[j] * v * r
			}
		}
		kernel.MulScaled(g, g, w, 1)
		along := kernel.Dot(g, row)
		kernel.Axpy(dx.Row(i), r, g)
		kernel.Axpy(dx.Row(i), -r*r*r*along/float32(len(row)), row)
	}
}

// logitsGrad takes the gradient d of logits back to the hidden states, and adds to the gradient of the output layer.
func (t *Trainable) logitsGrad(dHidden, d, hidden kernel.Matrix, ids []int32, g Gradients) {
	dOut := t.gradient(g, t.output)
	if ids == nil {
		kernel.Mul(dHidden, d, t.Model.output.Matrix, false)
		if dOut != nil {
			kernel.MulTransA(kernel.View(dOut, t.Vocabulary, t.Dim), d, hidden, true)
		}
		return
	}
	clearRows(dHidden)
	for r := range d.Rows {
		for j, id := range ids {
			x := d.Row(r)[j]
			kernel.Axpy(dHidden.Row(r), x, t.Model.output.Row(int(id)))
			if dOut != nil {
				kernel.Axpy(dOut[int(id)*t.Dim:(int(id)+1)*t.Dim], x, hidden.Row(r))
			}
		}
	}
}

func clearRows(m kernel.Matrix) {
	for r := range m.Rows {
		clear(m.Row(r))
	}
}
