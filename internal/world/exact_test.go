package world

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestLogAndExp(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 100_000 {
		x := 1400*rng.Float64() - 700
		if got, want := exp(x), math.Exp(x); math.Abs(got-want) > 1e-13*want {
			t.Fatalf("exp(%v) = %v, want %v", x, got, want)
		}
		y := math.Exp(x)
		if got, want := log(y), math.Log(y); math.Abs(got-want) > 1e-14*max(1, math.Abs(want)) {
			t.Fatalf("log(%v) = %v, want %v", y, got, want)
		}
	}
	for x, want := range map[float64]float64{math.SmallestNonzeroFloat64: -744.4400719213812, math.MaxFloat64: 709.782712893384, 1: 0} {
		if got := log(x); math.Abs(got-want) > 1e-12 {
			t.Errorf("log(%v) = %v, want %v", x, got, want)
		}
	}
	if exp(0) != 1 || exp(-1e9) != exp(-700) || exp(1e9) != exp(700) || math.IsInf(exp(1e9), 0) {
		t.Error("exp is not what it says at 0 or beyond 700")
	}
}

// Mean and variance of the distributions, to about four standard errors.
func TestDistributions(t *testing.T) {
	const n = 200_000
	for name, d := range map[string]struct {
		draw           func(*rand.Rand) float64
		mean, variance float64
	}{
		"normal":      {normal, 0, 1},
		"exponential": {exponential, 1, 1},
		"gumbel":      {gumbel, .57722, math.Pi * math.Pi / 6},
	} {
		rng := rand.New(rand.NewPCG(2, 2))
		sum, squares := 0.0, 0.0
		for range n {
			x := d.draw(rng)
			sum += x
			squares += x * x
		}
		mean := sum / n
		variance := squares/n - mean*mean
		if math.Abs(mean-d.mean) > .012 || math.Abs(variance-d.variance) > .04 {
			t.Errorf("%s: mean %.3f, variance %.3f, want %.3f, %.3f", name, mean, variance, d.mean, d.variance)
		}
	}
}

// A path keeps its variance between its knots, forgets where it was after one, and does not jump.
func TestPath(t *testing.T) {
	const n = 40_000
	p := newPath(rand.New(rand.NewPCG(3, 3)), n, .25)
	for _, at := range []float64{0, .1, .125, .5, .99, 1} {
		if v := p.at(at); math.Abs(dot(v, v)/n-1) > .03 {
			t.Errorf("at %v the variance is %.3f, want 1", at, dot(v, v)/n)
		}
	}
	for _, c := range []struct{ a, b, low, high float64 }{
		{.3, .301, .99, 1.03}, {0, 1, -.02, .02},
	} {
		if r := dot(p.at(c.a), p.at(c.b)) / n; r < c.low || r > c.high {
			t.Errorf("from %v to %v the correlation is %.3f, want %v to %v", c.a, c.b, r, c.low, c.high)
		}
	}
	still := newPath(rand.New(rand.NewPCG(3, 3)), 8, 0)
	if a, b := still.at(0), still.at(1); dot(a, b) != dot(a, a) {
		t.Error("a path without distance moves")
	}
}
