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
	for r0, r1 := 0, 0; r0 < len(positions); r0 = r1 {
		r1 = b.block(positions, r0)
		var sums []float32
		if logSums != nil {
			sums = logSums[r0:r1]
		}
		attend(out.Slice(r0, r1), q.Slice(r0, r1), keys, values, positions[r0:r1], b.spans(positions[r1-1]), scale, scores, sums)
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
		attend(heads(out), heads(q), keys, values, positions[:h1-h0], []span{{0, position + 1}}, scale, scores, sums)
	}
}

// attend is the attention of at most blockRows rows, of one head's queries or of several, over one head's keys and values.
// The last row sees all positions of the spans, each other one as many fewer as it stands before it.
func attend(out, q, keys, values kernel.Matrix, positions []int, spans []span, scale float32, scores []float32, logSums []float32) {
	n, last := width(spans), positions[len(positions)-1]
	s := kernel.View(scores[:len(positions)*n], len(positions), n)
	at := 0
	for _, v := range spans {
		kernel.Mul(s.Columns(at, at+v.len()), q, keys.Columns(v.from, v.to), false)
		at += v.len()
	}
	var sums [blockRows]float32
	for i := range s.Rows {
		row := s.Row(i)
		seen := row[:n-(last-positions[i])]
		top := kernel.Max(seen)
		sums[i] = kernel.ExpSum(seen, scale, top)
		clear(row[len(seen):])
		if logSums != nil {
			logSums[i] = scale*top + float32(math.Log(float64(sums[i])))
		}
	}
	at = 0
	for k, v := range spans {
		kernel.Mul(out, s.Columns(at, at+v.len()), values.Slice(v.from, v.to), k > 0)
		at += v.len()
	}
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
	for r0, r1 := 0, 0; r0 < len(g.positions); r0 = r1 {
		r1 = g.branches.block(g.positions, r0)
		last := g.positions[r1-1]
		spans := g.branches.spans(last)
		n := width(spans)
		p := kernel.View(g.scores[:(r1-r0)*n], r1-r0, n)
		dS := kernel.View(g.grads[:(r1-r0)*n], r1-r0, n)
		at := 0
		for _, v := range spans {
			kernel.Mul(p.Columns(at, at+v.len()), q.Slice(r0, r1), keysT.Columns(v.from, v.to), false)
			kernel.Mul(dS.Columns(at, at+v.len()), dOut.Slice(r0, r1), valuesT.Columns(v.from, v.to), false)
			at += v.len()
		}
		for i := range p.Rows {
			row := p.Row(i)
			seen := row[:n-(last-g.positions[r0+i])]
			kernel.ExpSum(seen, scale, g.logSums[head*len(g.positions)+r0+i]/scale)
			clear(row[len(seen):])
			mean := kernel.Dot(dOut.Row(r0+i), out.Row(r0+i))
			kernel.SoftmaxGrad(dS.Row(i), row, scale, mean)
		}
		at = 0
		for k, v := range spans {
			ds, ps := dS.Columns(at, at+v.len()), p.Columns(at, at+v.len())
			kernel.Mul(dQ.Slice(r0, r1), ds, keys.Slice(v.from, v.to), k > 0)
			kernel.MulTransA(dK.Slice(v.from, v.to), ds, q.Slice(r0, r1), true)
			kernel.MulTransA(dV.Slice(v.from, v.to), ps, dOut.Slice(r0, r1), true)
			at += v.len()
		}
	}
}
