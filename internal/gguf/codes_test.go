package gguf

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestCodesAreTheNumbers(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for kind := range layouts {
		tensor := Tensor{Name: "w", Type: kind, Shape: []int{512, 3}}
		tensor.data = make([]byte, tensor.size())
		bits, block, ok := tensor.Codes()
		if !ok {
			continue
		}
		for i := range tensor.data {
			tensor.data[i] = byte(r.Uint32())
		}
		want, err := tensor.Float32(nil)
		if err != nil {
			t.Fatal(err)
		}
		codes, scales, least := make([]int8, 512), make([]float32, 512/block), make([]float32, 512/block)
		for row := range 3 {
			tensor.RowCodes(row, codes, scales, least)
			for i, code := range codes {
				if bits == 4 && (code < 0 || code > 15) {
					t.Fatalf("%v: code %d of row %d is %d", kind, i, row, code)
				}
				// The product is exact: both ways to sum up give the same.
				fused := float32(math.FMA(float64(code), float64(scales[i/block]), float64(least[i/block])))
				split := float32(float32(code)*scales[i/block]) + least[i/block]
				for _, got := range []float32{fused, split} {
					if w := want[512*row+i]; got != w && (got == got || w == w) {
						t.Fatalf("%v: value %d of row %d is %v by its code, want %v", kind, i, row, got, w)
					}
				}
			}
		}
	}
}
