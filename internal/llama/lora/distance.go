package lora

import "math"

// Distance tells how far apart two adapters are in one layer, by Frobenius norms of the changes of its weights.
type Distance struct {
	Target  string
	A, B    float64 // norms of the two changes; 0 where an adapter leaves the layer alone
	Between float64 // norm of their difference
}

// Distances compares two adapters layer by layer: the layers of a in their order, then those that only b changes. Ranks
// may differ, and nil stands for an adapter that changes nothing. Layers of the same name have the same shape where both
// fit one model; where they do not, Between is NaN.
//
// No change is ever multiplied out: <B A, D C> = tr((Bᵀ D)(C Aᵀ)), which takes (in + out) rank² operations. Below about
// 1e-8 of the norms a difference is lost in rounding.
func Distances(a, b *Adapter) []Distance {
	var out []Distance
	for _, p := range pairs(a) {
		d := Distance{Target: p.Target, A: math.Sqrt(inner(a, p, a, p))}
		d.Between = d.A
		if q, ok := pair(b, p.Target); ok {
			d.B = math.Sqrt(inner(b, q, b, q))
			d.Between = math.NaN()
			if p.In == q.In && p.Out == q.Out {
				d.Between = math.Sqrt(max(0, d.A*d.A+d.B*d.B-2*inner(a, p, b, q)))
			}
		}
		out = append(out, d)
	}
	for _, q := range pairs(b) {
		if _, ok := pair(a, q.Target); !ok {
			norm := math.Sqrt(inner(b, q, b, q))
			out = append(out, Distance{Target: q.Target, B: norm, Between: norm})
		}
	}
	return out
}

func pairs(a *Adapter) []Pair {
	if a == nil {
		return nil
	}
	return a.Pairs
}

func pair(a *Adapter, target string) (Pair, bool) {
	for _, p := range pairs(a) {
		if p.Target == target {
			return p, true
		}
	}
	return Pair{}, false
}

// inner is the inner product of two adapters' changes of one layer, of the same shape.
func inner(a *Adapter, p Pair, b *Adapter, q Pair) float64 {
	var sum float64
	for i := range a.Rank {
		for j := range b.Rank {
			var down, up float64 // row i of p.A times row j of q.A, column i of p.B times column j of q.B
			for k := range p.In {
				down += float64(p.A[i*p.In+k]) * float64(q.A[j*q.In+k])
			}
			for k := range p.Out {
				up += float64(p.B[k*a.Rank+i]) * float64(q.B[k*b.Rank+j])
			}
			sum += down * up
		}
	}
	return a.Scale() * b.Scale() * sum
}
