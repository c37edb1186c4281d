package lora

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestDistancesAreThoseOfTheWholeChanges multiplies the changes out.
func TestDistancesAreThoseOfTheWholeChanges(t *testing.T) {
	draw := rand.New(rand.NewPCG(1, 2))
	random := func(rank int, alpha float64, targets ...string) *Adapter {
		a := &Adapter{Rank: rank, Alpha: alpha}
		for _, target := range targets {
			p := Pair{Target: target, In: 7, Out: 5, A: make([]float32, rank*7), B: make([]float32, 5*rank)}
			for i := range p.A {
				p.A[i] = float32(draw.NormFloat64())
			}
			for i := range p.B {
				p.B[i] = float32(draw.NormFloat64())
			}
			a.Pairs = append(a.Pairs, p)
		}
		return a
	}
	whole := func(a *Adapter, target string) []float64 {
		out := make([]float64, 35)
		p, ok := pair(a, target)
		if !ok {
			return out
		}
		for o := range p.Out {
			for i := range p.In {
				for r := range a.Rank {
					out[o*p.In+i] += a.Scale() * float64(p.B[o*a.Rank+r]) * float64(p.A[r*p.In+i])
				}
			}
		}
		return out
	}
	norm := func(x, y []float64) float64 {
		var sum float64
		for i := range x {
			sum += (x[i] - y[i]) * (x[i] - y[i])
		}
		return math.Sqrt(sum)
	}
	a, b := random(3, 6, "blk.0.attn_q", "blk.0.attn_k"), random(2, 1, "blk.0.attn_k", "blk.1.ffn_up")
	for name, pair := range map[string][2]*Adapter{"two": {a, b}, "itself": {a, a}, "nothing": {a, nil}, "from nothing": {nil, b}} {
		got := Distances(pair[0], pair[1])
		if want := map[string]int{"two": 3, "itself": 2, "nothing": 2, "from nothing": 2}[name]; len(got) != want {
			t.Errorf("%s: %d layers, want %d", name, len(got), want)
		}
		for _, d := range got {
			x, y, zero := whole(pair[0], d.Target), whole(pair[1], d.Target), make([]float64, 35)
			for what, v := range map[string][2]float64{"a": {d.A, norm(x, zero)}, "b": {d.B, norm(y, zero)}, "between": {d.Between, norm(x, y)}} {
				if math.Abs(v[0]-v[1]) > 1e-6 {
					t.Errorf("%s, %s: %s is %v, want %v", name, d.Target, what, v[0], v[1])
				}
			}
		}
	}
}

func TestLayersOfDifferentShapesHaveNoDistance(t *testing.T) {
	a := &Adapter{Rank: 1, Alpha: 1, Pairs: []Pair{{Target: "x", In: 1, Out: 1, A: []float32{1}, B: []float32{1}}}}
	b := &Adapter{Rank: 1, Alpha: 1, Pairs: []Pair{{Target: "x", In: 2, Out: 1, A: []float32{1, 1}, B: []float32{1}}}}
	if d := Distances(a, b); len(d) != 1 || !math.IsNaN(d[0].Between) {
		t.Errorf("%+v, want NaN between", d)
	}
}
