package llama

import (
	"fmt"
	"math"
	"slices"
	"sync/atomic"

	"github.com/r2rec/r2rec/internal/llama/kernel"
)

// Rope says how positions turn queries and keys (Su et al. 2021, "RoFormer", arXiv 2104.09864): the pair i of numbers of
// a head turns by position x Base^(-2i/Dims) / (Scale x Factors[i]). It is 2i and 2i+1 in llama models, i and i + Dims/2 in
// qwen2.
type Rope struct {
	Base    float64   // 10,000 in Llama 2, 500,000 in Llama 3
	Dims    int       // of each head that turn; the others stay. At most the head's dimension, even
	Scale   float64   // of the positions: 1, or more for linear scaling; 0 counts as 1
	Factors []float32 // one a pair, as Llama 3.1 stretches its slow turns; nil: all are 1
}

func (r Rope) check(headDim int) error {
	switch {
	case !(r.Base > 0) || math.IsInf(r.Base, 0):
		return fmt.Errorf("llama: base of the rotary positions is %v, must be positive", r.Base)
	case r.Dims < 2 || r.Dims > headDim || r.Dims%2 != 0:
		return fmt.Errorf("llama: rotary positions turn %d dimensions of a head's %d, must be even and at most all", r.Dims, headDim)
	case !(r.Scale >= 0) || math.IsInf(r.Scale, 0):
		return fmt.Errorf("llama: scale of the rotary positions is %v, must not be negative", r.Scale)
	case r.Factors != nil && len(r.Factors) != r.Dims/2:
		return fmt.Errorf("llama: %d factors of the rotary positions for %d pairs", len(r.Factors), r.Dims/2)
	}
	for _, f := range r.Factors {
		if !(f > 0) || math.IsInf(float64(f), 0) {
			return fmt.Errorf("llama: factor of the rotary positions is %v, must be positive", f)
		}
	}
	return nil
}

// rotations are the cosines and sines of positions, computed as far as anybody has asked.
type rotations struct {
	dims   int
	halves bool
	turns  []float64 // a position, one a pair
	table  atomic.Pointer[[]float32]
}

func newRotations(c Config) *rotations {
	r := c.Rope
	t := &rotations{dims: r.Dims, halves: c.halves(), turns: make([]float64, r.Dims/2)}
	scale := r.Scale
	if scale == 0 {
		scale = 1
	}
	for i := range t.turns {
		t.turns[i] = math.Pow(r.Base, -float64(2*i)/float64(r.Dims)) / scale
		if r.Factors != nil {
			t.turns[i] /= float64(r.Factors[i])
		}
	}
	t.table.Store(&[]float32{})
	return t
}

// upTo gives cos and sin of each pair for the positions below n, one row of dims numbers a position. Two goroutines that
// extend the table at once both compute the same.
func (t *rotations) upTo(n int) []float32 {
	have := *t.table.Load()
	if len(have) >= n*t.dims {
		return have
	}
	n = max(n, 2*len(have)/t.dims) // a text that grows by one token at a time must not copy the table each time
	more := make([]float32, 0, n*t.dims)
	more = append(more, have...)
	for pos := len(have) / t.dims; pos < n; pos++ {
		for _, turn := range t.turns {
			sin, cos := math.Sincos(float64(pos) * turn)
			more = append(more, float32(cos), float32(sin))
		}
	}
	t.table.Store(&more)
	return more
}

// turn rotates every head of the rows of x, each at its position; back rotates the other way, which is the transposed
// and so takes gradients back.
func (t *rotations) turn(x kernel.Matrix, headDim int, positions []int, back bool) {
	if len(positions) == 0 {
		return
	}
	table := t.upTo(slices.Max(positions) + 1)
	sign := float32(1)
	if back {
		sign = -1
	}
	for r, pos := range positions {
		row, cs := x.Row(r), table[pos*t.dims:(pos+1)*t.dims]
		for h := 0; h < len(row); h += headDim {
			head := row[h : h+t.dims]
			if t.halves {
				turnHalves(head[:t.dims/2], head[t.dims/2:], cs, sign)
				continue
			}
			for i := 0; i+1 < len(head) && i+1 < len(cs); i += 2 {
				a, b, cos, sin := head[i], head[i+1], cs[i], sign*cs[i+1]
				head[i] = a*cos - b*sin
				head[i+1] = a*sin + b*cos
			}
		}
	}
}

// turnHalves turns the pairs that a number of low and its like in high are.
func turnHalves(low, high, cs []float32, sign float32) {
	for i, a := range low {
		b, cos, sin := high[i], cs[2*i], sign*cs[2*i+1]
		low[i] = a*cos - b*sin
		high[i] = a*sin + b*cos
	}
}
