package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// elementwise is one of the functions on slices: it gets slices of one length and two numbers, of which it changes the
// first written and returns result, 0 where it has none.
type elementwise struct {
	name            string
	slices, written int
	run, plain      func(s [][]float32, alpha, beta float32) (result float32)
}

var elementwises = []elementwise{
	{"Dot", 2, 0,
		func(s [][]float32, _, _ float32) float32 { return Dot(s[0], s[1]) },
		func(s [][]float32, _, _ float32) float32 { return dotGeneric(s[0], s[1]) }},
	{"Axpy", 2, 1,
		func(s [][]float32, alpha, _ float32) float32 { Axpy(s[0], alpha, s[1]); return 0 },
		func(s [][]float32, alpha, _ float32) float32 { axpyGeneric(s[0], alpha, s[1]); return 0 }},
	{"Max", 1, 0,
		func(s [][]float32, _, _ float32) float32 { return Max(s[0]) },
		func(s [][]float32, _, _ float32) float32 { return largestGeneric(s[0]) }},
	{"ExpSum", 1, 1,
		func(s [][]float32, alpha, beta float32) float32 { return ExpSum(s[0], alpha, beta) },
		func(s [][]float32, alpha, beta float32) float32 { return expSumGeneric(s[0], alpha, beta) }},
	{"Scale", 1, 1,
		func(s [][]float32, alpha, _ float32) float32 { Scale(s[0], alpha); return 0 },
		func(s [][]float32, alpha, _ float32) float32 { scaleByGeneric(s[0], alpha); return 0 }},
	{"MulScaled", 3, 1,
		func(s [][]float32, alpha, _ float32) float32 { MulScaled(s[0], s[1], s[2], alpha); return 0 },
		func(s [][]float32, alpha, _ float32) float32 { mulScaledGeneric(s[0], s[1], s[2], alpha); return 0 }},
	{"SwiGLU", 3, 1,
		func(s [][]float32, _, _ float32) float32 { SwiGLU(s[0], s[1], s[2]); return 0 },
		func(s [][]float32, _, _ float32) float32 { swiGLUGeneric(s[0], s[1], s[2]); return 0 }},
	{"SwiGLUGrad", 5, 2,
		func(s [][]float32, _, _ float32) float32 { SwiGLUGrad(s[0], s[1], s[2], s[3], s[4]); return 0 },
		func(s [][]float32, _, _ float32) float32 { swiGLUGradGeneric(s[0], s[1], s[2], s[3], s[4]); return 0 }},
	{"SwiGLUGrad in place", 3, 2,
		func(s [][]float32, _, _ float32) float32 { SwiGLUGrad(s[0], s[1], s[2], s[0], s[1]); return 0 },
		func(s [][]float32, _, _ float32) float32 { swiGLUGradGeneric(s[0], s[1], s[2], s[0], s[1]); return 0 }},
	{"SoftmaxGrad", 2, 1,
		func(s [][]float32, alpha, beta float32) float32 { SoftmaxGrad(s[0], s[1], alpha, beta); return 0 },
		func(s [][]float32, alpha, beta float32) float32 {
			softmaxGradGeneric(s[0], s[1], alpha, beta)
			return 0
		}},
}

// near says whether two results differ by rounding only; both may be NaN, or the same infinity.
func near(got, want, bound float32) bool {
	if math.IsNaN(float64(want)) || math.IsNaN(float64(got)) {
		return math.IsNaN(float64(want)) && math.IsNaN(float64(got))
	}
	return got == want || math.Abs(float64(got)-float64(want)) <= float64(bound)
}

func TestElementwiseFunctionsAgreeWithPlainGo(t *testing.T) {
	everyVersion(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(5, 6))
		for _, f := range elementwises {
			for n := range 200 {
				got, want, whole := make([][]float32, f.slices), make([][]float32, f.slices), make([][]float32, f.slices)
				for i := range got {
					var m Matrix
					m, whole[i] = framed(r, 1, n)
					got[i] = m.Data[:n:n]
					want[i] = append([]float32(nil), got[i]...)
				}
				alpha, beta := float32(r.NormFloat64()), float32(r.NormFloat64())
				result, wanted := f.run(got, alpha, beta), f.plain(want, alpha, beta)
				if !near(result, wanted, 2e-6*(float32(n)+float32(math.Abs(float64(wanted))))) {
					t.Fatalf("%s of %d elements is %v, want %v", f.name, n, result, wanted)
				}
				for i := range got {
					for j, x := range got[i] {
						if want := want[i][j]; !near(x, want, 4e-6*(1+float32(math.Abs(float64(want))))) || i >= f.written && x != want {
							t.Fatalf("%s of %d elements: slice %d has %v at %d, want %v", f.name, n, i, x, j, want)
						}
						got[i][j] = canary
					}
					for j, x := range whole[i] {
						if x != canary {
							t.Fatalf("%s of %d elements: wrote outside slice %d, at %d of %d", f.name, n, i, j, len(whole[i]))
						}
					}
				}
			}
		}
	})
}

// What a broken model computes must be seen at the end, wherever in a slice it stood.
func TestNaNAndInfinityComeThrough(t *testing.T) {
	inf := float32(math.Inf(1))
	everyVersion(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(7, 8))
		for _, f := range elementwises {
			for _, special := range []float32{float32(math.NaN()), math.Float32frombits(0xffc00001), math.Float32frombits(0x7fa00000), inf, -inf} {
				for n := 1; n < 80; n += 3 {
					at, in := r.IntN(n), r.IntN(f.slices)
					got, want := make([][]float32, f.slices), make([][]float32, f.slices)
					for i := range got {
						m, _ := framed(r, 1, n)
						got[i] = m.Data[:n:n]
						if i == in {
							got[i][at] = special
						}
						want[i] = append([]float32(nil), got[i]...)
					}
					result, wanted := f.run(got, .5, .25), f.plain(want, .5, .25)
					name := fmt.Sprintf("%s of %d elements with %v in slice %d at %d", f.name, n, special, in, at)
					if !near(result, wanted, 1e-3) {
						t.Fatalf("%s is %v, want %v", name, result, wanted)
					}
					for i := range got {
						for j, x := range got[i] {
							if !near(x, want[i][j], 1e-3) {
								t.Fatalf("%s: slice %d has %v at %d, want %v", name, i, x, j, want[i][j])
							}
						}
					}
				}
			}
			if f.name == "Max" {
				if top := Max(make([]float32, 0)); !math.IsInf(float64(top), -1) {
					t.Errorf("Max of nothing is %v", top)
				}
			}
		}
	})
}

func TestExpIsRightToItsPromise(t *testing.T) {
	everyVersion(t, func(t *testing.T) {
		worst, at := 0.0, float32(0)
		check := func(bits uint32) {
			x := []float32{math.Float32frombits(bits)}
			was := x[0]
			ExpSum(x, 1, 0)
			got, want := float64(x[0]), math.Exp(float64(was))
			switch {
			case was != was:
				if got == got {
					t.Fatalf("exp(NaN %x) is %v", bits, got)
				}
			case was < expLow:
				if got != 0 {
					t.Fatalf("exp(%v) is %v, want 0", was, got)
				}
			case want > math.MaxFloat32:
				if !math.IsInf(got, 1) {
					t.Fatalf("exp(%v) is %v, want infinity", was, got)
				}
			default:
				if e := math.Abs(got-want) / want; !(e <= worst) {
					worst, at = e, was
				}
			}
		}
		for bits := uint64(0); bits < 1<<32; bits += 997 { // about one in a thousand numbers, of every size and sign
			check(uint32(bits))
		}
		for _, edge := range []float32{expLow, 88.72283, 88.72284, 88.3762, -.34657359, .34657359, 0, 1, -1} {
			for step := range uint32(2001) {
				check(math.Float32bits(edge) + step - 1000)
			}
		}
		if worst > 1e-7 {
			t.Errorf("exp(%v) is wrong by %.3g of its value", at, worst)
		}
		t.Logf("largest relative error %.3g, at %v", worst, at)
	})
}
