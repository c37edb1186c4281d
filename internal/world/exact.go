package world

import (
	"math"
	"math/rand/v2"
)

// The functions of package math that are used here (Sqrt, Frexp, Ldexp, Floor) are exact on every machine. Exp and Log
// are not: some have them in assembly. A product is converted to float64 before it is added to something, because a
// compiler may otherwise fuse the two, and round once where others round twice.

// log is the natural logarithm of x > 0, to about 1e-15.
func log(x float64) float64 {
	m, e := math.Frexp(x)
	if m < math.Sqrt2/2 {
		m, e = 2*m, e-1
	}
	s := (m - 1) / (m + 1) // ln m = 2 (s + s³/3 + s⁵/5 + …), |s| < .172
	square := s * s
	sum := 0.0
	for k := 19; k >= 1; k -= 2 {
		sum = float64(sum*square) + 1/float64(k)
	}
	return float64(2*s*sum) + float64(float64(e)*math.Ln2)
}

// exp is e^x, to about 1e-15 of it; x is taken as at least -700 and at most 700.
func exp(x float64) float64 {
	x = min(max(x, -700), 700)
	k := math.Floor(x/math.Ln2 + .5)
	r := x - float64(k*math.Ln2) // at most .35 in size
	sum := 1.0
	for n := 14; n >= 1; n-- {
		sum = 1 + float64(sum*r)/float64(n)
	}
	return math.Ldexp(sum, int(k))
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
			return x * math.Sqrt(-2*log(s)/s)
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
func lognormal(rng *rand.Rand, deviation float64) float64 { return exp(deviation * normal(rng)) }

// exponential draws from the exponential distribution of mean 1.
func exponential(rng *rand.Rand) float64 { return -log(1 - rng.Float64()) }

// gumbel draws from the standard Gumbel distribution.
func gumbel(rng *rand.Rand) float64 { return -log(max(exponential(rng), math.SmallestNonzeroFloat64)) }

// path is a vector that wanders in time: a straight line from knot to knot, scaled so that each component keeps the
// variance 1 all the way. Two knots are independent.
type path struct {
	knots [][]float64 // at equal distances over the span, one or more
}

// newPath draws a path whose knots stand the share apart of the whole span; 0: one that stays where it is.
func newPath(rng *rand.Rand, size int, apart float64) path {
	n := 1
	if apart > 0 {
		n = 2 + int(1/apart)
	}
	p := path{make([][]float64, n)}
	for k := range p.knots {
		p.knots[k] = normals(rng, size)
	}
	return p
}

// at is the vector at a time, as a share of the span from 0 to 1.
func (p path) at(fraction float64) []float64 {
	if len(p.knots) == 1 {
		return p.knots[0]
	}
	place := fraction * float64(len(p.knots)-1)
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
