package gguf

import (
	"encoding/binary"
	"fmt"
	"math"
)

// decoders turn the data of whole blocks into numbers. The layouts are those of ggml-common.h, the arithmetic that of
// ggml-quants.c.
var decoders = map[Type]func(dst []float32, src []byte){
	F32: func(dst []float32, src []byte) {
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	},
	F16: func(dst []float32, src []byte) {
		for i := range dst {
			dst[i] = half(src[2*i:])
		}
	},
	BF16: func(dst []float32, src []byte) {
		for i := range dst {
			dst[i] = FromBF16(binary.LittleEndian.Uint16(src[2*i:]))
		}
	},
	Q8_0: func(dst []float32, src []byte) {
		for ; len(dst) > 0; dst, src = dst[32:], src[34:] {
			scale := half(src)
			for i, q := range src[2:34] {
				dst[i] = scale * float32(int8(q))
			}
		}
	},
	Q4_0: func(dst []float32, src []byte) {
		for ; len(dst) > 0; dst, src = dst[32:], src[18:] {
			scale := half(src)
			for i, q := range src[2:18] {
				dst[i] = scale * float32(int(q&15)-8)
				dst[i+16] = scale * float32(int(q>>4)-8)
			}
		}
	},
	Q4_1: func(dst []float32, src []byte) {
		for ; len(dst) > 0; dst, src = dst[32:], src[20:] {
			scale, least := half(src), half(src[2:])
			for i, q := range src[4:20] {
				// The conversions keep the compiler from fusing: the same number on every processor.
				dst[i] = float32(scale*float32(q&15)) + least
				dst[i+16] = float32(scale*float32(q>>4)) + least
			}
		}
	},
	Q5_0: decodeQ50, Q5_1: decodeQ51,
	Q2_K: decodeQ2K, Q3_K: decodeQ3K, Q4_K: decodeQ4K, Q5_K: decodeQ5K, Q6_K: decodeQ6K,
	IQ4_NL: decodeIQ4NL, IQ4_XS: decodeIQ4XS,
}

// decodeQ50: blocks of 32 with a scale, 4 bytes of fifth bits, and 16 bytes of values.
func decodeQ50(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[32:], src[22:] {
		scale, high := half(src), binary.LittleEndian.Uint32(src[2:])
		for i, q := range src[6:22] {
			dst[i] = scale * float32(int(q&15)|int(high>>i&1<<4)-16)
			dst[i+16] = scale * float32(int(q>>4)|int(high>>(i+16)&1<<4)-16)
		}
	}
}

// decodeQ51: as Q5_0, with a minimum after the scale.
func decodeQ51(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[32:], src[24:] {
		scale, least, high := half(src), half(src[2:]), binary.LittleEndian.Uint32(src[4:])
		for i, q := range src[8:24] {
			dst[i] = float32(scale*float32(uint32(q&15)|high>>i&1<<4)) + least
			dst[i+16] = float32(scale*float32(uint32(q>>4)|high>>(i+16)&1<<4)) + least
		}
	}
}

func half(b []byte) float32 { return FromF16(binary.LittleEndian.Uint16(b)) }

// encoders append numbers that fit, in whole blocks, to the data of a tensor.
var encoders = map[Type]func(dst []byte, src []float32) []byte{
	F32: func(dst []byte, src []float32) []byte {
		for _, v := range src {
			dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(v))
		}
		return dst
	},
	F16: func(dst []byte, src []float32) []byte {
		for _, v := range src {
			dst = binary.LittleEndian.AppendUint16(dst, ToF16(v))
		}
		return dst
	},
	BF16: func(dst []byte, src []float32) []byte {
		for _, v := range src {
			dst = binary.LittleEndian.AppendUint16(dst, ToBF16(v))
		}
		return dst
	},
	Q8_0: func(dst []byte, src []float32) []byte {
		for ; len(src) > 0; src = src[32:] {
			var largest float32
			for _, v := range src[:32] {
				largest = max(largest, abs(v))
			}
			scale := largest / 127
			rounded := ToF16(scale)
			dst = binary.LittleEndian.AppendUint16(dst, rounded)
			var inverse float32
			if rounded != 0 {
				inverse = 1 / scale
			}
			for _, v := range src[:32] {
				dst = append(dst, byte(int8(math.Round(float64(v*inverse)))))
			}
		}
		return dst
	},
}

// limits are the largest magnitudes that round to a finite number of a type; beyond, the type overflows.
var limits = map[Type]float32{
	F32:  math.MaxFloat32,
	F16:  math.Nextafter32(65520, 0),
	BF16: math.Nextafter32(0x1.ffp127, 0),
	Q8_0: 65504 * 127,
}

// fits finds the first value that the type cannot hold: NaN, infinite or too large.
func fits(values []float32, t Type) error {
	limit := limits[t]
	for i, v := range values {
		if !(abs(v) <= limit) {
			return fmt.Errorf("value %d is %v, which %v cannot hold (at most %v)", i, v, t, limit)
		}
	}
	return nil
}

func abs(v float32) float32 { return math.Float32frombits(math.Float32bits(v) &^ (1 << 31)) }
