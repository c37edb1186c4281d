package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// everyVersion runs a test with each version that this machine has.
func everyVersion(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	before := active
	t.Cleanup(func() { active = before })
	for v := generic; v <= fastest(); v++ {
		active = v
		t.Run(v.String(), test)
	}
}

// canary stands around every matrix that is written; no result has this value.
const canary = 12345.5

// framed is a random matrix whose rows lie at a stride of its own, at an odd place of a larger slice full of canaries.
func framed(r *rand.Rand, rows, cols int) (m Matrix, whole []float32) {
	before, stride := r.IntN(20), cols+r.IntN(3)*r.IntN(40)
	whole = make([]float32, before+rows*stride+20)
	for i := range whole {
		whole[i] = canary
	}
	m = Matrix{Data: whole[before:], Rows: rows, Cols: cols, Stride: stride}
	for i := range rows {
		for j := range m.Row(i) {
			m.Row(i)[j] = float32(r.NormFloat64())
		}
	}
	return m, whole
}

// size is often small, often a little beside what fills registers, tiles and blocks.
func size(r *rand.Rand) int {
	switch r.IntN(4) {
	case 0:
		return r.IntN(4)
	case 1:
		return r.IntN(40)
	case 2:
		return max(0, []int{6, 8, 12, 16, 24, 32, 64, 96}[r.IntN(8)]+r.IntN(3)-1)
	default:
		return r.IntN(530)
	}
}

// reference is C (+)= A B in float64, with the sum of the absolute products, by which rounding is bounded.
func reference(c, a, b Matrix, add bool) (want, bound []float64) {
	for i := range c.Rows {
		for j, old := range c.Row(i) {
			var sum, abs float64
			if add {
				sum, abs = float64(old), math.Abs(float64(old))
			}
			for p := range a.Cols {
				x := float64(a.Row(i)[p]) * float64(b.Row(p)[j])
				sum, abs = sum+x, abs+math.Abs(x)
			}
			want, bound = append(want, sum), append(bound, abs)
		}
	}
	return want, bound
}

func transposed(m Matrix) Matrix {
	t := View(make([]float32, m.Rows*m.Cols), m.Cols, m.Rows)
	Transpose(t, m)
	return t
}

// product is one of the three ways to multiply.
type product struct {
	name string
	run  func(c, a, b Matrix, add bool)
}

var products = []product{
	{"Mul", Mul},
	{"MulTransA", func(c, a, b Matrix, add bool) { MulTransA(c, transposed(a), b, add) }},
	{"MulPacked", func(c, a, b Matrix, add bool) { MulPacked(c, a, Pack(transposed(b)), add) }},
}

func TestProductsAreRightAndWriteNothingElse(t *testing.T) {
	everyVersion(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 2))
		for range 120 {
			checkProducts(t, r, size(r), size(r), size(r), r.IntN(2) == 0)
		}
	})
}

// FuzzProducts looks for shapes and strides that a version of the machine gets wrong.
func FuzzProducts(f *testing.F) {
	f.Add(uint64(1), uint16(12), uint16(32), uint16(64), true)
	f.Add(uint64(2), uint16(1), uint16(64), uint16(600), false)
	f.Add(uint64(3), uint16(13), uint16(33), uint16(0), true)
	f.Fuzz(func(t *testing.T, seed uint64, m, n, k uint16, add bool) {
		everyVersion(t, func(t *testing.T) {
			checkProducts(t, rand.New(rand.NewPCG(seed, 1)), int(m%200), int(n%200), int(k%700), add)
		})
	})
}

// checkProducts multiplies random matrices, m x k and k x n, in all three ways.
func checkProducts(t *testing.T, r *rand.Rand, m, n, k int, add bool) {
	t.Helper()
	a, _ := framed(r, m, k)
	b, _ := framed(r, k, n)
	for _, way := range products {
		c, whole := framed(r, m, n)
		want, bound := reference(c, a, b, add)
		way.run(c, a, b, add)
		name := fmt.Sprintf("%s of %d x %d x %d, strides %d %d %d, add %v", way.name, m, k, n, a.Stride, b.Stride, c.Stride, add)
		for i := range m {
			for j, got := range c.Row(i) {
				if at := i*n + j; !(math.Abs(float64(got)-want[at]) <= 1e-6*bound[at]) {
					t.Fatalf("%s: element %d %d is %v, want %v", name, i, j, got, want[at])
				}
				c.Row(i)[j] = canary
			}
		}
		for i, x := range whole {
			if x != canary {
				t.Fatalf("%s: wrote outside C, at %d of %d", name, i, len(whole))
			}
		}
	}
}

// Work is split by rows over threads, and must not depend on how.
func TestARowOfAProductDoesNotDependOnTheOthers(t *testing.T) {
	everyVersion(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 4))
		for range 60 {
			m, n, k, add := 1+size(r), 1+size(r), 1+size(r), r.IntN(2) == 0
			a, _ := framed(r, m, k)
			b, _ := framed(r, k, n)
			for _, way := range products {
				whole, _ := framed(r, m, n)
				old := Matrix{Data: append([]float32(nil), whole.Data...), Rows: m, Cols: n, Stride: whole.Stride}
				way.run(whole, a, b, add)
				for from := 0; from < m; {
					to := min(m, from+1+r.IntN(m))
					way.run(old.Slice(from, to), a.Slice(from, to), b, add)
					for i := from; i < to; i++ {
						for j, x := range whole.Row(i) {
							if got := old.Row(i)[j]; math.Float32bits(got) != math.Float32bits(x) {
								t.Fatalf("%s of %d x %d x %d: row %d of %d..%d has %v in column %d, alone %v", way.name, m, k, n, i, from, to, x, j, got)
							}
						}
					}
					from = to
				}
			}
		}
	})
}
