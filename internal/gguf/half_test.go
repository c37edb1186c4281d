package gguf

import (
	"math"
	"testing"
)

// Every half is converted exactly and comes back; between two neighbours, what is nearer wins, and in the middle the
// even one.
func TestF16(t *testing.T) {
	for i := range 1 << 16 {
		h := uint16(i)
		f := FromF16(h)
		if got := ToF16(f); got != h {
			t.Fatalf("%#04x is %v, which became %#04x", h, f, got)
		}
		if want := exactHalf(h); float64(f) != want && want == want || math.Signbit(float64(f)) != (h>>15 == 1) {
			t.Fatalf("%#04x is %v, want %v", h, f, want)
		}
		checkRounding(t, h, 0x7bff, 65536, FromF16, ToF16)
	}
	for _, f := range []float32{65536, 1e9, math.MaxFloat32, float32(math.Inf(1))} {
		if ToF16(f) != 0x7c00 || ToF16(-f) != 0xfc00 {
			t.Errorf("%v: %#04x, %#04x", f, ToF16(f), ToF16(-f))
		}
	}
	for bits := range uint32(1 << 14) { // NaNs whose payload no half can hold
		if h := ToF16(math.Float32frombits(0x7f800000 + bits)); bits > 0 && (h&0x7c00 != 0x7c00 || h&0x3ff == 0) {
			t.Fatalf("NaN %#x became %#04x", bits, h)
		}
	}
}

func TestBF16(t *testing.T) {
	for i := range 1 << 16 {
		h := uint16(i)
		f := FromBF16(h)
		if math.Float32bits(f) != uint32(h)<<16 {
			t.Fatalf("%#04x is %v", h, f)
		}
		if got := ToBF16(f); got != h {
			t.Fatalf("%#04x is %v, which became %#04x", h, f, got)
		}
		checkRounding(t, h, 0x7f7f, 0x1p128, FromBF16, ToBF16)
	}
	for _, low := range []uint32{1, 0x7fff, 0xffff} {
		if h := ToBF16(math.Float32frombits(0xff800000 + low)); h&0x7f80 != 0x7f80 || h&0x7f == 0 {
			t.Errorf("NaN %#x became %#04x", low, h)
		}
	}
}

// checkRounding looks at the numbers between h, a positive finite one, and its upper neighbour, which is beyond where h
// is the largest.
func checkRounding(t *testing.T, h, largest uint16, beyond float64, from func(uint16) float32, to func(float32) uint16) {
	t.Helper()
	if h > largest {
		return
	}
	upper := float64(from(h + 1))
	if h == largest {
		upper = beyond
	}
	middle := float32((float64(from(h)) + upper) / 2)
	even := h + h&1
	below, above := math.Nextafter32(middle, 0), math.Nextafter32(middle, math.MaxFloat32)
	for _, sign := range []uint16{0, 0x8000} {
		s := float32(1)
		if sign != 0 {
			s = -1
		}
		if to(s*below) != sign|h || to(s*middle) != sign|even || to(s*above) != sign|(h+1) {
			t.Fatalf("after %#04x: %v, %v, %v became %#04x, %#04x, %#04x", h, s*below, s*middle, s*above,
				to(s*below), to(s*middle), to(s*above))
		}
	}
}

// exactHalf is the definition of IEEE 754, for what is no NaN.
func exactHalf(h uint16) float64 {
	exponent, fraction := int(h>>10&0x1f), float64(h&0x3ff)
	value := math.Ldexp(1+fraction/1024, exponent-15)
	switch {
	case exponent == 0:
		value = math.Ldexp(fraction/1024, -14)
	case exponent == 31 && fraction == 0:
		value = math.Inf(1)
	case exponent == 31:
		return math.NaN()
	}
	if h>>15 == 1 {
		return -value
	}
	return value
}
