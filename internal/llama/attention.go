package llama

import (
	"math"

	"github.com/r2rec/r2rec/internal/llama/kernel"
)

// blockRows is how many queries attend at once: their scores should stay in the processor's cache.
const blockRows = 64

// attention of query rows at ascending positions over a layer's cached keys and values, which hold at least the
// positions up to each row's own. out and q are rows x queries. scores is scratch of blockRows x positions. Where
// logSums is not nil, the log of each row's sum of exponentials is kept there, head by head, for the way back.
func (c Config) attention(out, q kernel.Matrix, positions []int, b *branches, k *cache, layer, head int, scores []float32, logSums []float32) {
	d := c.HeadDim
	scale := float32(1 / math.Sqrt(float64(d)))
	kv := head / (c.Heads / c.KVHeads)
	keys, values := k.keysOf(layer, kv), k.valuesOf(layer).Columns(kv*d, (kv+1)*d)
	q, out = q.Columns(head*d, (head+1)*d), out.Columns(head*d, (head+1)*d)
	for r0 := 0; r0 < len(positions); r0 += blockRows {
		r1 := min(r0+blockRows, len(positions))
		var sums []float32
		if logSums != nil {
			sums = logSums[r0:r1]
		}
		attend(out.Slice(r0, r1), q.Slice(r0, r1), keys, values, positions[r0:r1], b, scale, scores, sums)
	}
}

// attentionOfOne is attention of a single row for all heads that share the keys and values of head kv, which are read once
// for them. logSums, unless nil, are of all heads.
func (c Config) attentionOfOne(out, q kernel.Matrix, position int, k *cache, layer, kv int, scores []float32, logSums []float32) {
	d, group := c.HeadDim, c.Heads/c.KVHeads
	scale := float32(1 / math.Sqrt(float64(d)))
	keys, values := k.keysOf(layer, kv), k.valuesOf(layer).Columns(kv*d, (kv+1)*d)
	var positions [blockRows]int
	for h0 := kv * group; h0 < (kv+1)*group; h0 += blockRows {
		h1 := min(h0+blockRows, (kv+1)*group)
		for i := range h1 - h0 {
			positions[i] = position
		}
		var sums []float32
		if logSums != nil {
			sums = logSums[h0:h1]
		}
		heads := func(m kernel.Matrix) kernel.Matrix { return kernel.View(m.Row(0)[h0*d:h1*d], h1-h0, d) }
		attend(heads(out), heads(q), keys, values, positions[:h1-h0], nil, scale, scores, sums)
	}
}

// attend is the attention of at most blockRows rows, of one head's queries or of several, over one head's keys and values.
func attend(out, q, keys, values kernel.Matrix, positions []int, b *branches, scale float32, scores []float32, logSums []float32) {
	n := positions[len(positions)-1] + 1
	s := kernel.View(scores[:len(positions)*n], len(positions), n)
	kernel.Mul(s, q, keys.Columns(0, n), false)
	var sums [blockRows]float32
	for i := range s.Rows {
		row := s.Row(i)
		seen, more := b.seen(row, positions[i])
		top := kernel.Max(seen)
		if len(more) > 0 {
			top = max(top, kernel.Max(more))
		}
		sums[i] = kernel.ExpSum(seen, scale, top)
		if len(more) > 0 {
			sums[i] += kernel.ExpSum(more, scale, top)
		}
		clear(row[positions[i]+1:])
		if logSums != nil {
			logSums[i] = scale*top + float32(math.Log(float64(sums[i])))
		}
	}
	kernel.Mul(out, s, values.Slice(0, n), false)
	for i := range out.Rows {
		kernel.Scale(out.Row(i), 1/sums[i])
	}
}

// attentionGrad takes the gradient dOut of the attention's output, both rows x queries, back to its queries, keys and
// values: dQ is written for the head's columns, dK and dV, positions x kv, are added to. valuesT are the head's values
// transposed, head dim x positions; keys stand as in the cache's order of rows, positions x kv, after their rotation.
type attentionGrad struct {
	c                  Config
	positions          []int
	branches           *branches
	q, out, dOut       kernel.Matrix
	keys, values       kernel.Matrix // positions x kv
	keysT              *cache
	layer              int
	logSums            []float32
	dQ, dK, dV         kernel.Matrix
	scores, grads, vts []float32 // scratch: blockRows x positions twice, head dim x positions
}

func (g *attentionGrad) head(head int) {
	c, d := g.c, g.c.HeadDim
	scale := float32(1 / math.Sqrt(float64(d)))
	kv := head / (c.Heads / c.KVHeads)
	own := func(m kernel.Matrix) kernel.Matrix { return m.Columns(head*d, (head+1)*d) }
	shared := func(m kernel.Matrix) kernel.Matrix { return m.Columns(kv*d, (kv+1)*d) }
	q, out, dOut, dQ := own(g.q), own(g.out), own(g.dOut), own(g.dQ)
	keys, values, dK, dV := shared(g.keys), shared(g.values), shared(g.dK), shared(g.dV)
	keysT := g.keysT.keysOf(g.layer, kv)
	valuesT := kernel.View(g.vts[:d*values.Rows], d, values.Rows)
	kernel.Transpose(valuesT, values)
	for r0 := 0; r0 < len(g.positions); r0 += blockRows {
		r1 := min(r0+blockRows, len(g.positions))
		n := g.positions[r1-1] + 1
		p := kernel.View(g.scores[:(r1-r0)*n], r1-r0, n)
		dS := kernel.View(g.grads[:(r1-r0)*n], r1-r0, n)
		kernel.Mul(p, q.Slice(r0, r1), keysT.Columns(0, n), false)
		kernel.Mul(dS, dOut.Slice(r0, r1), valuesT.Columns(0, n), false)
		for i := range p.Rows {
			row := p.Row(i)
			seen, more := g.branches.seen(row, g.positions[r0+i])
			top := g.logSums[head*len(g.positions)+r0+i] / scale
			kernel.ExpSum(seen, scale, top)
			if len(more) > 0 {
				kernel.ExpSum(more, scale, top)
			}
			clear(row[g.positions[r0+i]+1:])
			mean := kernel.Dot(dOut.Row(r0+i), out.Row(r0+i))
			kernel.SoftmaxGrad(dS.Row(i), row, scale, mean)
		}
		kernel.Mul(dQ.Slice(r0, r1), dS, keys.Slice(0, n), false)
		kernel.MulTransA(dK.Slice(0, n), dS, q.Slice(r0, r1), true)
		kernel.MulTransA(dV.Slice(0, n), p, dOut.Slice(r0, r1), true)
	}
}
