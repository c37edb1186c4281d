package gguf

import "math"

// FromF16 converts a number in IEEE 754 half precision, exactly.
func FromF16(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exponent, fraction := uint32(h>>10)&0x1f, uint32(h)&0x3ff
	switch exponent {
	case 0: // zero and the subnormal, multiples of 2^-24
		return math.Float32frombits(sign | math.Float32bits(float32(fraction)*0x1p-24))
	case 0x1f: // infinity and NaN
		return math.Float32frombits(sign | 0xff<<23 | fraction<<13)
	default:
		return math.Float32frombits(sign | (exponent+127-15)<<23 | fraction<<13)
	}
}

// ToF16 rounds to the nearest number in half precision, ties to even. What is 65520 or more becomes infinite.
func ToF16(f float32) uint16 {
	b := math.Float32bits(f)
	sign, b := uint16(b>>16)&0x8000, b&0x7fffffff
	switch {
	case b > 0xff<<23: // NaN: keep what fits of its payload, at least one bit
		payload := uint16(b>>13) & 0x3ff
		if payload == 0 {
			payload = 0x200
		}
		return sign | 0x7c00 | payload
	case b >= (127+16)<<23:
		return sign | 0x7c00
	case b < (127-14)<<23:
		// The values of [.5, 1) are spaced like the subnormal halves, so that this addition rounds as wanted.
		return sign | uint16(math.Float32bits(math.Float32frombits(b)+.5)-math.Float32bits(.5))
	default:
		b += 0xfff + b>>13&1
		return sign | uint16((b-(127-15)<<23)>>13)
	}
}

// FromBF16 converts a bfloat16, the upper half of a float32, exactly.
func FromBF16(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// ToBF16 rounds to the nearest bfloat16, ties to even. What rounds beyond the largest becomes infinite.
func ToBF16(f float32) uint16 {
	b := math.Float32bits(f)
	if b&0x7fffffff > 0xff<<23 { // NaN: rounding could make it infinite
		h := uint16(b >> 16)
		if h&0x7f == 0 {
			h |= 0x40
		}
		return h
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}
