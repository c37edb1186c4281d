package llama

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// shares is the distribution that options ask for, computed the plain way.
func shares(z []float32, o GenerateOptions) []float64 {
	allowed := o.Allowed
	if allowed == nil {
		for id := range z {
			allowed = append(allowed, int32(id))
		}
	}
	order := slices.Clone(allowed)
	slices.Sort(order)
	slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(z[b], z[a]) })
	if o.TopK > 0 {
		order = order[:min(o.TopK, len(order))]
	}
	p := make([]float64, len(z))
	scale := func() {
		sum := 0.
		for _, id := range order {
			sum += p[id]
		}
		for i := range p {
			if !slices.Contains(order, int32(i)) {
				p[i] = 0
			}
			p[i] /= sum
		}
	}
	for _, id := range order {
		p[id] = math.Exp(float64(z[id]-z[order[0]]) / o.Temperature)
	}
	scale()
	if o.TopP > 0 {
		reached := 0.
		for i, id := range order {
			if reached += p[id]; reached >= o.TopP {
				order = order[:i+1]
				break
			}
		}
		scale()
	}
	order = slices.DeleteFunc(order, func(id int32) bool { return p[id] < o.MinP*slices.Max(p) })
	scale()
	return p
}

func TestTokensAreDrawnByTheirShares(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	z := make([]float32, 40)
	for i := range z {
		z[i] = float32(1.5 * r.NormFloat64())
	}
	for _, o := range []GenerateOptions{
		{Temperature: 1},
		{Temperature: .5},
		{Temperature: 2, TopK: 5},
		{Temperature: 1, TopK: 100},
		{Temperature: 1, TopP: .6},
		{Temperature: 1, TopP: 1},
		{Temperature: 3, TopP: .01},
		{Temperature: 1, MinP: .3},
		{Temperature: 1, MinP: 1},
		{Temperature: 1.2, TopK: 12, TopP: .8, MinP: .1},
		{Temperature: 1, Allowed: []int32{39, 3, 17, 3}},
		{Temperature: 1, Allowed: []int32{39, 3, 17, 20, 21}, TopK: 3, TopP: .9},
		{Temperature: 1e-300},
		{Temperature: 1e9},
	} {
		const draws = 20_000
		s, err := newSampler(o, len(z))
		if err != nil {
			t.Fatal(err)
		}
		counts := make([]float64, len(z))
		for range draws {
			counts[s.pick(z)]++
		}
		for id, p := range shares(z, o) {
			deviation := math.Sqrt(p * (1 - p) / draws)
			if got := counts[id] / draws; math.Abs(got-p) > 4.5*deviation {
				t.Errorf("%+v: token %d comes with share %.4f, want %.4f", o, id, got, p)
			}
		}
	}
}

// Half of a tie is cut off where the vocabulary's order says.
func TestTopKOfATie(t *testing.T) {
	s, err := newSampler(GenerateOptions{Temperature: 1, TopK: 3}, 10)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int32]bool{}
	for range 200 {
		seen[s.pick([]float32{0, 1, 1, 0, 1, 1, 1, 0, 0, 0})] = true
	}
	if len(seen) != 3 || !seen[1] || !seen[2] || !seen[4] {
		t.Errorf("tokens %v come, want 1, 2 and 4", seen)
	}
}
