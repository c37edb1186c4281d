package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestTransposeMovesEveryElementAndNothingElse(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for range 100 {
		m, n := size(r)%100, size(r)%100
		src, _ := framed(r, m, n)
		dst, whole := framed(r, n, m)
		Transpose(dst, src)
		for i := range m {
			for j, x := range src.Row(i) {
				if got := dst.Row(j)[i]; got != x {
					t.Fatalf("%d x %d: element %d %d became %v, was %v", m, n, i, j, got, x)
				}
				dst.Row(j)[i] = canary
			}
		}
		for i, x := range whole {
			if x != canary {
				t.Fatalf("%d x %d: wrote outside, at %d", m, n, i)
			}
		}
	}
}

func TestPackedFollowsItsWeights(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	a, _ := framed(r, 7, 40)
	w, _ := framed(r, 50, 40)
	p := Pack(w)
	for i := range w.Rows {
		Scale(w.Row(i), 2)
	}
	got, want := View(make([]float32, 7*50), 7, 50), View(make([]float32, 7*50), 7, 50)
	p.Repack(w)
	MulPacked(got, a, p, false)
	Mul(want, a, transposed(w), false)
	for i, x := range got.Data {
		if x != want.Data[i] {
			t.Fatalf("element %d is %v, with the new weights %v", i, x, want.Data[i])
		}
	}
}

func TestViewsOfNothing(t *testing.T) {
	m := View(make([]float32, 12), 3, 4).Columns(2, 4)
	if end := m.Slice(3, 3); end.Rows != 0 || end.Cols != 2 {
		t.Errorf("no rows at the end are %d x %d", end.Rows, end.Cols)
	}
	if none := View(nil, 0, 4).Columns(2, 4); none.Rows != 0 || none.Cols != 2 {
		t.Errorf("columns of no rows are %d x %d", none.Rows, none.Cols)
	}
}

func TestProductsSpreadNaNOnlyWhereItBelongs(t *testing.T) {
	nan := float32(math.NaN())
	everyVersion(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(13, 14))
		for range 40 {
			m, n, k := 1+size(r)%60, 1+size(r)%60, 1+size(r)
			a, _ := framed(r, m, k)
			b, _ := framed(r, k, n)
			row, col := r.IntN(m), r.IntN(n)
			a.Row(row)[r.IntN(k)] = nan
			b.Row(r.IntN(k))[col] = float32(math.Inf(1))
			b.Row(r.IntN(k))[col] = nan
			for _, way := range products {
				c, _ := framed(r, m, n)
				for i := range m {
					c.Row(i)[0] = nan // what was there before does not count
				}
				way.run(c, a, b, false)
				for i := range m {
					for j, x := range c.Row(i) {
						if (x != x) != (i == row || j == col) {
							t.Fatalf("%s of %d x %d x %d with NaN in row %d and column %d has %v at %d %d", way.name, m, k, n, row, col, x, i, j)
						}
					}
				}
			}
		}
	})
}

// Assembly would go on beyond a slice's end.
func TestWhatDoesNotFitPanics(t *testing.T) {
	x, short := make([]float32, 20), make([]float32, 20)[:19]
	square := View(make([]float32, 16), 4, 4)
	cut := Matrix{Data: make([]float32, 15), Rows: 4, Cols: 4, Stride: 4}
	wide := View(make([]float32, 20), 4, 5)
	packed := Pack(square)
	codes, numbers := randomCodes(rand.New(rand.NewPCG(17, 18)), 4, 32, 4, 32)
	coded, table := PackCodes(codes), NewTable(codes)
	everyVersion(t, func(t *testing.T) {
		for name, call := range map[string]func(){
			"Dot":                 func() { Dot(x, short) },
			"Axpy":                func() { Axpy(short, 1, x) },
			"MulScaled dst":       func() { MulScaled(short, x, x, 1) },
			"MulScaled w":         func() { MulScaled(x, x, short, 1) },
			"SwiGLU dst":          func() { SwiGLU(short, x, x) },
			"SwiGLU up":           func() { SwiGLU(x, x, short) },
			"SwiGLUGrad dgate":    func() { SwiGLUGrad(short, x, x, x, x) },
			"SwiGLUGrad dup":      func() { SwiGLUGrad(x, short, x, x, x) },
			"SwiGLUGrad d":        func() { SwiGLUGrad(x, x, short, x, x) },
			"SwiGLUGrad up":       func() { SwiGLUGrad(x, x, x, x, short) },
			"SoftmaxGrad":         func() { SoftmaxGrad(short, x, 1, 1) },
			"Mul into cut":        func() { Mul(cut, square, square, false) },
			"Mul of cut":          func() { Mul(square, cut, square, false) },
			"Mul by cut":          func() { Mul(square, square, cut, false) },
			"Mul into wide":       func() { Mul(wide, square, square, false) },
			"Mul of overlapping":  func() { Mul(square, Matrix{Data: x, Rows: 4, Cols: 4, Stride: 3}, square, false) },
			"Mul of wide":         func() { Mul(square, wide, square, false) },
			"Mul by wide":         func() { Mul(square, square, wide, false) },
			"MulTransA of cut":    func() { MulTransA(square, cut, square, false) },
			"MulTransA by cut":    func() { MulTransA(square, square, cut, false) },
			"MulTransA of wide":   func() { MulTransA(square, wide, square, false) },
			"MulPacked of wide":   func() { MulPacked(square, wide, packed, false) },
			"MulPacked of cut":    func() { MulPacked(square, cut, packed, false) },
			"MulPacked into wide": func() { MulPacked(wide, square, packed, false) },
			"Repack":              func() { packed.Repack(wide) },
			"Transpose":           func() { Transpose(wide, wide) },
			"MulPacked of codes":  func() { MulPacked(wide, square, coded, false) },
			"Repack of codes":     func() { coded.Repack(numbers) },
			"Columns":             func() { packed.Columns(1, 4) },
			"Columns beyond":      func() { packed.Columns(0, 5) },
			"Row of a Table":      func() { table.Row(short, 1) },
			"Dot of a Table":      func() { table.Dot(1, short, x) },
			"PackCodes":           func() { codes.Cols = 24; PackCodes(codes) },
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s does not panic", name)
					}
				}()
				call()
			}()
		}
	})
}

func TestNothingAllocates(t *testing.T) {
	everyVersion(t, func(t *testing.T) {
		a, b, c, d := filled(50, 50, 50), filled(50, 50, 50), filled(50, 50, 50), filled(50, 50, 50)
		p := Pack(b)
		codes, _ := randomCodes(rand.New(rand.NewPCG(19, 20)), 50, 64, 4, 16)
		coded, table, in, out := PackCodes(codes), NewTable(codes), filled(3, 64, 64), filled(3, 50, 50)
		calls := map[string]func(){
			"Mul":       func() { Mul(c, a, b, false) },
			"MulTransA": func() { MulTransA(c, a, b, true) },
			"MulPacked": func() { MulPacked(c, a, p, false) },
			"Repack":    func() { p.Repack(b) },
			"Transpose": func() { Transpose(d, a) },
			"one row":   func() { MulPacked(out.Slice(0, 1), in.Slice(0, 1), coded, false) },
			"codes":     func() { MulPacked(out, in, coded, false) },
			"Table":     func() { table.Dot(49, in.Row(0), out.Data) },
			"Columns":   func() { part := coded.Columns(32, 50); MulPacked(out.Columns(32, 50), in, &part, false) },
		}
		for _, f := range elementwises {
			s := make([][]float32, f.slices)
			for i := range s {
				s[i] = make([]float32, 100)
			}
			calls[f.name] = func() { f.run(s, 1, 0) }
		}
		for name, call := range calls {
			if n := testing.AllocsPerRun(10, call); n != 0 {
				t.Errorf("%s allocates %v times", name, n)
			}
		}
	})
}

func TestTheMeasuringLoopCountsWhatItDoes(t *testing.T) {
	perRound := map[version]float64{generic: 8 * 2, avx2: 12 * 8 * 2, avx512: 12 * 16 * 2}
	everyVersion(t, func(t *testing.T) {
		if got, want := FMALoop(1000), 1000*perRound[active]; got != want {
			t.Errorf("%v operations, want %v", got, want)
		}
		if got := FMALoop(-1); got != perRound[active] {
			t.Errorf("no rounds count %v operations, want those of one", got)
		}
		if Version() != active.String() {
			t.Errorf("Version is %q", Version())
		}
	})
}
