package graphcache

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestHalveIsAPowerOfTwo(t *testing.T) {
	for x := range 1000 {
		if got, want := halve(float64(x)), math.Exp2(-float64(x)); got != want {
			t.Errorf("halve(%d) is %v, want %v", x, got, want)
		}
	}
	for _, x := range []float64{1000, 1e6, 1e300, math.Inf(1)} {
		if got := halve(x); got != 0 {
			t.Errorf("halve(%v) is %v, want 0", x, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		x := rapid.OneOf(rapid.Float64Range(0, 999), rapid.Float64Range(0, 1)).Draw(t, "x")
		got, want := halve(x), math.Exp2(-x)
		if math.Abs(got/want-1) > 1e-15 {
			t.Fatalf("halve(%v) is %v, want %v", x, got, want)
		}
	})
}

func BenchmarkHalve(b *testing.B) {
	sum := 0.0
	for i := range b.N {
		sum += halve(float64(i&1023) / 100)
	}
	_ = sum
}
