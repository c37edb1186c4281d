package kernel

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// randomCodes are codes, scales with 11 bits as in F16, and the numbers that they stand for.
func randomCodes(r *rand.Rand, rows, cols, bits, block int) (Codes, Matrix) {
	codes, scales, least := make([]int8, rows*cols), make([]float32, rows*cols/block), make([]float32, rows*cols/block)
	for i := range codes {
		codes[i] = int8(r.IntN(256) - 128)
		if bits == 4 {
			codes[i] &= 15
		}
	}
	for i := range scales {
		scales[i], least[i] = float32(r.IntN(4095)-2047)/(1<<14), float32(r.NormFloat64())
	}
	w := View(make([]float32, rows*cols), rows, cols)
	for i, code := range codes {
		w.Data[i] = float32(float64(code)*float64(scales[i/block]) + float64(least[i/block]))
	}
	return Codes{Rows: rows, Cols: cols, Bits: bits, Block: block, Read: func(row int, c []int8, s, l []float32) {
		copy(c, codes[row*cols:])
		copy(s, scales[row*cols/block:])
		copy(l, least[row*cols/block:])
	}}, w
}

// everyCoding runs a test with codes of every kind.
func everyCoding(t *testing.T, test func(t *testing.T, r *rand.Rand, bits, block int)) {
	t.Helper()
	for _, bits := range []int{4, 8} {
		for _, block := range []int{16, 32} {
			t.Run(fmt.Sprintf("%d bits, blocks of %d", bits, block), func(t *testing.T) {
				everyVersion(t, func(t *testing.T) { test(t, rand.New(rand.NewPCG(uint64(bits), uint64(block))), bits, block) })
			})
		}
	}
}

func TestProductsWithCodesHaveTheBitsOfThoseWithNumbers(t *testing.T) {
	everyCoding(t, func(t *testing.T, r *rand.Rand, bits, block int) {
		for range 30 {
			m, n, k := 1+size(r)%40, 1+size(r)%200, block*(1+r.IntN(20))
			if r.IntN(2) == 0 {
				m = 1
			}
			codes, w := randomCodes(r, n, k, bits, block)
			a, _ := framed(r, m, k)
			want, _ := framed(r, m, n)
			got, whole := framed(r, m, n)
			for i := range m {
				copy(got.Row(i), want.Row(i))
			}
			add := r.IntN(2) == 0
			MulPacked(want, a, Pack(w), add)
			MulPacked(got, a, PackCodes(codes), add)
			for i := range m {
				for j, x := range got.Row(i) {
					if x != want.Row(i)[j] {
						t.Fatalf("%d x %d x %d, added %v: element %d %d is %v, want %v", m, k, n, add, i, j, x, want.Row(i)[j])
					}
					got.Row(i)[j] = canary
				}
			}
			for i, x := range whole {
				if x != canary {
					t.Fatalf("%d x %d x %d: wrote outside, at %d", m, k, n, i)
				}
			}
		}
	})
}

func TestATableGivesItsNumbers(t *testing.T) {
	everyCoding(t, func(t *testing.T, r *rand.Rand, bits, block int) {
		codes, w := randomCodes(r, 7, block*(1+r.IntN(9)), bits, block)
		table, got := NewTable(codes), make([]float32, w.Cols+1)
		for i := range w.Rows {
			got[w.Cols] = canary
			table.Row(got, i)
			for j, want := range w.Row(i) {
				if got[j] != want {
					t.Fatalf("value %d of row %d is %v, want %v", j, i, got[j], want)
				}
			}
			x, _ := framed(r, 1, w.Cols)
			if dot, want := table.Dot(i, x.Row(0), got), Dot(x.Row(0), w.Row(i)); dot != want {
				t.Fatalf("the product with row %d is %v, want %v", i, dot, want)
			}
			if got[w.Cols] != canary {
				t.Fatalf("row %d was written beyond its end", i)
			}
		}
	})
}

func TestColumnsOfWhatIsPackedGiveColumnsOfTheProduct(t *testing.T) {
	everyVersion(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(15, 16))
		codes, w := randomCodes(r, 150, 64, 4, 32)
		for _, m := range []int{1, 9} {
			a, _ := framed(r, m, 64)
			whole, parts := View(make([]float32, m*150), m, 150), View(make([]float32, m*150), m, 150)
			for name, p := range map[string]*Packed{"numbers": Pack(w), "codes": PackCodes(codes)} {
				MulPacked(whole, a, p, false)
				for _, at := range [][2]int{{0, 64}, {64, 96}, {96, 150}} {
					part := p.Columns(at[0], at[1])
					MulPacked(parts.Columns(at[0], at[1]), a, &part, false)
				}
				for i, x := range parts.Data {
					if x != whole.Data[i] {
						t.Fatalf("%s, %d rows: element %d is %v in parts, %v in the whole", name, m, i, x, whole.Data[i])
					}
				}
			}
		}
	})
}
