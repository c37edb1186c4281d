package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Quantized weights are codes of 4 or 8 bits, 16 values to a group, each w = code x scale + least in one rounding. A group
// of bytes holds its values in order; one of nibbles holds values 0 to 7 in the lower halves of 8 bytes and 8 to 15 in
// the upper ones, so that both come out of one widening load.

// codes writes the kernels for quantized weights, all of AVX2: they are bound by memory and by the order of sums, which
// wider registers do not change.
func codes(v vector) {
	for _, bits := range []int{4, 8} {
		w := coded{vector: v, bits: bits}
		w.vectorProduct()
		w.expandPanel()
		w.expandRow()
		w.dot()
	}
}

// coded is an instruction set at work on codes of so many bits.
type coded struct {
	vector
	bits int
}

// groupBytes is what a group of 16 codes takes.
func (w coded) groupBytes() int { return 2 * w.bits }

func (w coded) name(what string) string { return fmt.Sprintf("%s%dx%s", what, w.bits, w.vector.name) }

// nibbles is where the mask of the lower halves is kept.
const nibbles = 15

// start loads what all groups need.
func (w coded) start() {
	if w.bits == 4 {
		one := GP32()
		MOVL(operand.U32(15), one)
		x := w.all()[nibbles].AsX()
		VMOVD(one, x)
		VPBROADCASTD(x, w.all()[nibbles])
	}
}

// group writes the code that makes numbers of 16 codes: lower and upper 8 in turn, in one of two registers, by the given
// scales and least values. use takes each.
func (w coded) group(at operand.Mem, scratch [2]reg.VecPhysical, scale, least [2]reg.Register, use func(half int, x reg.Register)) {
	finish := func(half int, x reg.Register) {
		VCVTDQ2PS(x, x)
		VFMADD213PS(least[half], scale[half], x)
		use(half, x)
	}
	if w.bits == 8 {
		for half, x := range scratch {
			from := at
			from.Disp += 8 * half
			VPMOVSXBD(from, x)
			finish(half, x)
		}
		return
	}
	VPMOVZXBD(at, scratch[0])
	VPAND(w.all()[nibbles], scratch[0], scratch[1])
	finish(0, scratch[1])
	VPSRLD(operand.U8(4), scratch[0], scratch[0])
	finish(1, scratch[0])
}

// panelLoop runs body for each row of a panel of 32 columns, blocks of rows with the same scales: registers 4 to 7 hold
// those, 8 to 11 the least values.
func (w coded) panelLoop(body func(codes reg.Register)) {
	r := w.all()
	k, codes, scales, block := Load(Param("k"), GP64()), Load(Param("codes"), GP64()), Load(Param("scales"), GP64()), Load(Param("block"), GP64())
	left := GP64()
	w.start()
	Label("block")
	for i := range 4 {
		VMOVUPS(operand.Mem{Base: scales, Disp: i * w.bytes()}, r[4+i])
		VMOVUPS(operand.Mem{Base: scales, Disp: (4 + i) * w.bytes()}, r[8+i])
	}
	ADDQ(operand.U32(8*w.bytes()), scales)
	MOVQ(block, left)
	Label("row")
	body(codes)
	ADDQ(operand.U8(2*w.groupBytes()), codes)
	DECQ(left)
	JNZ(operand.LabelRef("row"))
	SUBQ(block, k)
	JNZ(operand.LabelRef("block"))
}

// panelRow makes numbers of one row of a panel; use takes each register of 8.
func (w coded) panelRow(codes reg.Register, use func(i int, x reg.Register)) {
	r := w.all()
	for g := range 2 {
		w.group(operand.Mem{Base: codes, Disp: g * w.groupBytes()}, [2]reg.VecPhysical{r[13], r[14]},
			[2]reg.Register{r[4+2*g], r[5+2*g]}, [2]reg.Register{r[8+2*g], r[9+2*g]}, func(half int, x reg.Register) { use(2*g+half, x) })
	}
}

// vectorProduct writes the product of one row with a panel.
func (w coded) vectorProduct() {
	name, r := w.name("vectorCodes"), w.all()
	TEXT(name, NOSPLIT, "func(k int, x *float32, codes *byte, scales *float32, block int, c *float32)")
	Pragma("noescape")
	Doc(name + " computes C += x W for one row x and a panel of 32 columns. k is a positive multiple of block.")
	x, c := Load(Param("x"), GP64()), Load(Param("c"), GP64())
	for i := range 4 {
		VMOVUPS(operand.Mem{Base: c, Disp: i * w.bytes()}, r[i])
	}
	w.panelLoop(func(codes reg.Register) {
		VBROADCASTSS(operand.Mem{Base: x}, r[12])
		w.panelRow(codes, func(i int, y reg.Register) { VFMADD231PS(r[12], y, r[i]) })
		ADDQ(operand.U8(4), x)
	})
	for i := range 4 {
		VMOVUPS(r[i], operand.Mem{Base: c, Disp: i * w.bytes()})
	}
	w.ret()
}

// expandPanel writes the numbers of a panel out.
func (w coded) expandPanel() {
	name := w.name("expandPanel")
	TEXT(name, NOSPLIT, "func(k int, codes *byte, scales *float32, block int, dst *float32)")
	Pragma("noescape")
	Doc(name + " writes k rows of a panel of 32 columns as numbers. k is a positive multiple of block.")
	dst := Load(Param("dst"), GP64())
	w.panelLoop(func(codes reg.Register) {
		w.panelRow(codes, func(i int, x reg.Register) { VMOVUPS(x, operand.Mem{Base: dst, Disp: i * w.bytes()}) })
		ADDQ(operand.U32(4*w.bytes()), dst)
	})
	w.ret()
}

// expandRow writes the numbers of a row of its own out.
func (w coded) expandRow() {
	name, r := w.name("expandRow"), w.all()
	TEXT(name, NOSPLIT, "func(blocks int, codes *byte, scales *float32, groups int, dst *float32)")
	Pragma("noescape")
	Doc(name + " writes blocks of so many groups of 16 as numbers; scales are a scale and a least value a block. Both counts are positive.")
	blocks, codes, scales, groups, dst := Load(Param("blocks"), GP64()), Load(Param("codes"), GP64()), Load(Param("scales"), GP64()), Load(Param("groups"), GP64()), Load(Param("dst"), GP64())
	left := GP64()
	w.start()
	Label("block")
	VBROADCASTSS(operand.Mem{Base: scales}, r[4])
	VBROADCASTSS(operand.Mem{Base: scales, Disp: 4}, r[8])
	ADDQ(operand.U8(8), scales)
	MOVQ(groups, left)
	Label("group")
	w.group(operand.Mem{Base: codes}, [2]reg.VecPhysical{r[13], r[14]}, [2]reg.Register{r[4], r[4]}, [2]reg.Register{r[8], r[8]}, func(half int, x reg.Register) {
		VMOVUPS(x, operand.Mem{Base: dst, Disp: half * w.bytes()})
	})
	ADDQ(operand.U8(w.groupBytes()), codes)
	ADDQ(operand.U8(2*w.bytes()), dst)
	DECQ(left)
	JNZ(operand.LabelRef("group"))
	DECQ(blocks)
	JNZ(operand.LabelRef("block"))
	w.ret()
}

// dot writes the product of a row of its own with numbers, summed up in the order of the dot product of numbers.
func (w coded) dot() {
	name, r := w.name("dotCodes"), w.all()
	TEXT(name, NOSPLIT, "func(rounds int, codes *byte, scales *float32, second int, x *float32) float32")
	Pragma("noescape")
	Doc(name + " is the sum of w[i] x[i] over rounds of 32 values, at least 1. second is the distance in bytes from the scale and least value of the first 16 values of a round to those of the others: 0 where they are the same, or 8.")
	rounds, codes, scales, second, x := Load(Param("rounds"), GP64()), Load(Param("codes"), GP64()), Load(Param("scales"), GP64()), Load(Param("second"), GP64()), Load(Param("x"), GP64())
	sums := w.zeros(4)
	w.start()
	Label("round")
	for g := range 2 {
		VBROADCASTSS(operand.Mem{Base: scales}, r[4])
		VBROADCASTSS(operand.Mem{Base: scales, Disp: 4}, r[8])
		w.group(operand.Mem{Base: codes, Disp: g * w.groupBytes()}, [2]reg.VecPhysical{r[13], r[14]}, [2]reg.Register{r[4], r[4]}, [2]reg.Register{r[8], r[8]}, func(half int, y reg.Register) {
			VFMADD231PS(operand.Mem{Base: x, Disp: (2*g + half) * w.bytes()}, y, sums[2*g+half])
		})
		if g == 0 {
			ADDQ(second, scales)
		}
	}
	ADDQ(operand.U8(8), scales)
	ADDQ(operand.U8(2*w.groupBytes()), codes)
	ADDQ(operand.U32(4*w.bytes()), x)
	DECQ(rounds)
	JNZ(operand.LabelRef("round"))
	w.returns(0, sums, func(a, b, to operand.Op) { VADDPS(a, b, to) })
	w.ret()
}
