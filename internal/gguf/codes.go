package gguf

import "fmt"

// Codes says how the numbers of a tensor are quantized: each is code x scale + least, with one scale and one least value
// for a block of a row, and the product of code and scale is exact in float32. Bits are 4 for codes of 0 to 15 and 8 for
// -128 to 127; ok is false for other formats.
func (t Tensor) Codes() (bits, block int, ok bool) {
	c, ok := codings[t.Type]
	return c.bits, c.block, ok && t.data != nil
}

// RowCodes reads a row: Shape[0] codes, and a scale and a least value for each block. They are the numbers that
// RowsFloat32 gives. It panics where Codes is not ok or a slice is too short.
func (t Tensor) RowCodes(row int, codes []int8, scales, least []float32) {
	if row < 0 || row >= t.Rows() {
		panic(fmt.Sprintf("gguf: row %d of %d", row, t.Rows()))
	}
	n := len(t.data) / t.Rows()
	codings[t.Type].read(t.data[row*n:(row+1)*n], codes[:t.Shape[0]], scales, least)
}

// coding is how a type splits into codes.
type coding struct {
	bits, block int
	read        func(src []byte, codes []int8, scales, least []float32)
}

var codings = map[Type]coding{
	Q8_0: {8, 32, func(src []byte, codes []int8, scales, least []float32) {
		for b := range len(codes) / 32 {
			scales[b], least[b] = half(src[34*b:]), 0
			for i, q := range src[34*b+2 : 34*b+34] {
				codes[32*b+i] = int8(q)
			}
		}
	}},
	Q4_0: {4, 32, func(src []byte, codes []int8, scales, least []float32) {
		for b := range len(codes) / 32 {
			scales[b] = half(src[18*b:])
			least[b] = -8 * scales[b]
			halves(codes[32*b:], src[18*b+2:18*b+18])
		}
	}},
	Q4_1: {4, 32, func(src []byte, codes []int8, scales, least []float32) {
		for b := range len(codes) / 32 {
			scales[b], least[b] = half(src[20*b:]), half(src[20*b+2:])
			halves(codes[32*b:], src[20*b+4:20*b+20])
		}
	}},
	Q4_K: {4, 32, func(src []byte, codes []int8, scales, least []float32) {
		for b := range len(codes) / blockK {
			block := src[144*b:]
			sixBitScales(block, scales[8*b:], least[8*b:])
			for g := range 4 {
				halves(codes[blockK*b+64*g:], block[16+32*g:48+32*g])
			}
		}
	}},
	Q5_K: {8, 32, func(src []byte, codes []int8, scales, least []float32) {
		for b := range len(codes) / blockK {
			block := src[176*b:]
			sixBitScales(block, scales[8*b:], least[8*b:])
			for g := range 4 {
				halves(codes[blockK*b+64*g:], block[48+32*g:80+32*g])
			}
			for i := range blockK {
				codes[blockK*b+i] |= int8(block[16+i%32]>>(i/32)&1) << 4
			}
		}
	}},
	Q6_K: {8, 16, func(src []byte, codes []int8, scales, least []float32) {
		for b := range len(codes) / blockK {
			block := src[210*b:]
			for g := range 16 {
				scales[16*b+g], least[16*b+g] = half(block[208:])*float32(int8(block[192+g])), 0
			}
			for i := range blockK {
				quarter, at := i/32%4, i%32
				low := block[i/128*64+quarter%2*32+at] >> (quarter / 2 * 4) & 15
				high := block[128+i/128*32+at] >> (2 * quarter) & 3
				codes[blockK*b+i] = int8(low|high<<4) - 32
			}
		}
	}},
}

// sixBitScales are those of the groups of a block of Q4_K and Q5_K.
func sixBitScales(block []byte, scales, least []float32) {
	for g := range 8 {
		s, m := sixBits(block[4:16], g)
		scales[g], least[g] = half(block)*float32(s), -half(block[2:])*float32(m)
	}
}

// halves splits bytes into the codes of their lower halves and then those of their upper ones.
func halves(codes []int8, src []byte) {
	for i, q := range src {
		codes[i], codes[len(src)+i] = int8(q&15), int8(q>>4)
	}
}
