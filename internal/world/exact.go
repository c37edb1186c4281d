package world

import (
	"math"
	"math/rand/v2"
)

// The functions of package math that are used here (Sqrt, Frexp, Ldexp, Floor) are exact on every machine. Exp and Log
// are not: some have them in assembly. A product is converted to float64 before anything is added to it or taken from it,
// even in a later statement, because a compiler may otherwise fuse the two, and round once where others round twice.

// log is the natural logarithm of x > 0, to about 1e-15.
func log(x float64) float64 {
	m, e := math.Frexp(x)
	if m < math.Sqrt2/2 {
		m, e = 2*m, e-1
	}
	s := (m - 1) / (m + 1) // ln m = 2 (s + s³/3 + s⁵/5 + …), |s| < .172
	square := s * s
	sum := 0.0
	for _, c := range oddths {
		sum = float64(sum*square) + c
	}
	return float64(2*s*sum) + float64(float64(e)*math.Ln2)
}

// oddths are 1/19, 1/17, … 1.
var oddths = [...]float64{1. / 19, 1. / 17, 1. / 15, 1. / 13, 1. / 11, 1. / 9, 1. / 7, 1. / 5, 1. / 3, 1}

// exp is e^x, to about 1e-14 of it; x is taken as at least -700 and at most 700.
func exp(x float64) float64 {
	x = min(max(x, -700), 700)
	k := math.Floor(x/math.Ln2 + .5)
	r := x - float64(k*math.Ln2) // at most .35 in size; e^r = 1 + r + r²/2! + r³/3! + …
	sum := 0.0
	for _, c := range factorialths {
		sum = float64(sum*r) + c
	}
	return math.Ldexp(sum, int(k))
}

// factorialths are 1/14!, 1/13!, … 1/0!.
var factorialths = [...]float64{
	1. / 87178291200, 1. / 6227020800, 1. / 479001600, 1. / 39916800, 1. / 3628800, 1. / 362880, 1. / 40320,
	1. / 5040, 1. / 720, 1. / 120, 1. / 24, 1. / 6, 1. / 2, 1, 1,
}

// dot is the scalar product of two vectors of equal length.
func dot(a, b []float64) float64 {
	sum := 0.0
	for i, x := range a {
		sum += float64(x * b[i])
	}
	return sum
}

// normal draws from the standard normal distribution (Marsaglia's polar method).
func normal(rng *rand.Rand) float64 {
	for {
		x, y := float64(2*rng.Float64())-1, float64(2*rng.Float64())-1
		if s := float64(x*x) + float64(y*y); s > 0 && s < 1 {
			return float64(x * math.Sqrt(-2*log(s)/s))
		}
	}
}

func normals(rng *rand.Rand, n int) []float64 {
	v := make([]float64, n)
	for i := range v {
		v[i] = normal(rng)
	}
	return v
}

// lognormal draws exp of a normal variable of mean 0.
func lognormal(rng *rand.Rand, deviation float64) float64 {
	return exp(float64(deviation * normal(rng)))
}

// exponential draws from the exponential distribution of mean 1.
func exponential(rng *rand.Rand) float64 { return -log(1 - rng.Float64()) }

// gumbel draws from the standard Gumbel distribution.
func gumbel(rng *rand.Rand) float64 { return -log(max(exponential(rng), math.SmallestNonzeroFloat64)) }

// path is a vector that wanders in time: a straight line from knot to knot, scaled so that each component keeps the
// variance 1 all the way. Two knots are independent.
type path struct {
	knots [][]float64 // at equal distances over the span, one or more
}

// newPath draws a path whose knots stand at most the share apart of the whole span; 0: one that stays where it is.
func newPath(rng *rand.Rand, size int, apart float64) path {
	p := path{make([][]float64, knots(apart))}
	for k := range p.knots {
		p.knots[k] = normals(rng, size)
	}
	return p
}

// knots is how many a path has whose knots stand at most the share apart of the whole span.
func knots(apart float64) int {
	if apart > 0 {
		return 2 + int(1/apart)
	}
	return 1
}

// at is the vector at a time, as a share of the span from 0 to 1.
func (p path) at(fraction float64) []float64 {
	if len(p.knots) == 1 {
		return p.knots[0]
	}
	place := float64(fraction * float64(len(p.knots)-1))
	k := min(int(place), len(p.knots)-2)
	b := place - float64(k)
	a := 1 - b
	norm := math.Sqrt(float64(a*a) + float64(b*b))
	v := make([]float64, len(p.knots[k]))
	for i := range v {
		v[i] = (float64(a*p.knots[k][i]) + float64(b*p.knots[k+1][i])) / norm
	}
	return v
}
