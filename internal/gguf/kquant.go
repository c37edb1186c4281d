package gguf

import "encoding/binary"

// The K types, and IQ4_XS, have blocks of 256 values, cut into groups of 16 or 32 whose scales (and, in some, minima) are
// small integers times a scale of the whole block. Layouts and arithmetic are those of ggml-common.h and ggml-quants.c.
// Conversions keep the compiler from fusing a product and a sum: the same number on every processor.

const blockK = 256

// decodeQ2K: 16 bytes of scale and minimum (4 bits each) of groups of 16, 64 bytes of values (2 bits), scale, minimum.
func decodeQ2K(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[blockK:], src[84:] {
		scales, quants := src[:16], src[16:80]
		scale, least := half(src[80:]), half(src[82:])
		for g, s := range scales {
			step, low := scale*float32(s&15), least*float32(s>>4)
			// A byte has one value of each of four groups, 32 values apart, on one half of the block.
			shift := g / 2 % 4 * 2
			for i, q := range quants[g/8*32+g%2*16:][:16] {
				dst[16*g+i] = float32(step*float32(q>>shift&3)) - low
			}
		}
	}
}

// decodeQ3K: 32 bytes of high bits, 64 bytes of the two low ones, 12 bytes of scales (6 bits) of groups of 16, scale.
func decodeQ3K(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[blockK:], src[110:] {
		high, quants, scales := src[:32], src[32:96], src[96:108]
		scale := half(src[108:])
		for g := range 16 {
			// The low four bits of 16 scales are in 8 bytes, the high two in 4 more.
			s := int(scales[g%8]>>(g/8*4)&15) | int(scales[8+g%4]>>(g/4*2)&3)<<4
			step := scale * float32(s-32)
			shift, bit := g/2%4*2, byte(1)<<(g/2)
			for i, q := range quants[g/8*32+g%2*16:][:16] {
				v := int(q >> shift & 3)
				if high[g%2*16+i]&bit == 0 {
					v -= 4
				}
				dst[16*g+i] = step * float32(v)
			}
		}
	}
}

// decodeQ4K: scale, minimum, 12 bytes of scales and minima (6 bits each) of groups of 32, 128 bytes of values (4 bits).
func decodeQ4K(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[blockK:], src[144:] {
		scale, least := half(src), half(src[2:])
		for g := range 8 {
			s, m := sixBits(src[4:16], g)
			step, low := scale*float32(s), least*float32(m)
			shift := g % 2 * 4 // two groups share their bytes
			for i, q := range src[16+g/2*32:][:32] {
				dst[32*g+i] = float32(step*float32(q>>shift&15)) - low
			}
		}
	}
}

// decodeQ5K: as Q4_K, with 32 bytes of fifth bits before the values.
func decodeQ5K(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[blockK:], src[176:] {
		scale, least, high := half(src), half(src[2:]), src[16:48]
		for g := range 8 {
			s, m := sixBits(src[4:16], g)
			step, low := scale*float32(s), least*float32(m)
			shift := g % 2 * 4
			for i, q := range src[48+g/2*32:][:32] {
				v := q>>shift&15 | high[i]>>g&1<<4
				dst[32*g+i] = float32(step*float32(v)) - low
			}
		}
	}
}

// sixBits are the scale and the minimum of group g of 8: those of the first four stand whole in a byte each, those of the
// others in four bits of a byte of their own and the free two bits of the first ones.
func sixBits(b []byte, g int) (scale, least byte) {
	if g < 4 {
		return b[g] & 63, b[g+4] & 63
	}
	return b[g+4]&15 | b[g-4]>>6<<4, b[g+4]>>4 | b[g]>>6<<4
}

// decodeQ6K: 128 bytes of the low four bits, 64 of the high two, 16 scales (signed bytes) of groups of 16, scale.
func decodeQ6K(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[blockK:], src[210:] {
		low, high, scales := src[:128], src[128:192], src[192:208]
		scale := half(src[208:])
		for g := range 16 {
			step := scale * float32(int8(scales[g]))
			quarter, at := g/2%4, g%2*16 // of one half of the block; where in the quarter's 32 values
			lows, highs := low[g/8*64+quarter%2*32+at:][:16], high[g/8*32+at:][:16]
			for i, q := range lows {
				v := int(q>>(quarter/2*4)&15) | int(highs[i]>>(2*quarter)&3)<<4
				dst[16*g+i] = step * float32(v-32)
			}
		}
	}
}

// levels are the values of the IQ4 types, which lie closer around zero.
var levels = [16]float32{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}

// decodeIQ4NL: blocks of 32 with a scale, and 16 bytes of levels.
func decodeIQ4NL(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[32:], src[18:] {
		decodeLevels(dst, src[2:18], half(src))
	}
}

// decodeIQ4XS: scale, 2 bytes of high bits of scales and 4 of low ones (6 bits) of groups of 32, 128 bytes of levels.
func decodeIQ4XS(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[blockK:], src[136:] {
		scale, high := half(src), binary.LittleEndian.Uint16(src[2:])
		for g := range 8 {
			s := int(src[4+g/2]>>(g%2*4)&15) | int(high>>(2*g)&3)<<4
			decodeLevels(dst[32*g:], src[8+16*g:][:16], scale*float32(s-32))
		}
	}
}

func decodeLevels(dst []float32, src []byte, step float32) {
	for i, q := range src {
		dst[i] = step * levels[q&15]
		dst[i+16] = step * levels[q>>4]
	}
}
