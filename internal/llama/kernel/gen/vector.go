package main

import (
	"fmt"
	"math"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// vector is an instruction set by the size of its registers.
type vector struct {
	name  string
	lanes int // float32 values in a register
}

var (
	avx2   = vector{"AVX2", 8}
	avx512 = vector{"AVX512", 16}
)

func (v vector) bytes() int { return 4 * v.lanes }

// all are the registers there are: 16 with AVX2, 32 with AVX-512. Kernels that need nearly all of them name them, since
// avo's allocator does not find every solution.
func (v vector) all() []reg.VecPhysical {
	if v.lanes == 8 {
		return []reg.VecPhysical{reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7,
			reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12, reg.Y13, reg.Y14, reg.Y15}
	}
	return []reg.VecPhysical{reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7,
		reg.Z8, reg.Z9, reg.Z10, reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15,
		reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23,
		reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31}
}

// new is any free register.
func (v vector) new() reg.VecVirtual {
	if v.lanes == 8 {
		return YMM()
	}
	return ZMM()
}

// zeros are n registers of zeros.
func (v vector) zeros(n int) []reg.VecVirtual {
	rs := make([]reg.VecVirtual, n)
	for i := range rs {
		rs[i] = v.new()
		v.zero(rs[i])
	}
	return rs
}

func (v vector) zero(r reg.Register) {
	if v.lanes == 8 {
		VXORPS(r, r, r)
	} else {
		VPXORD(r, r, r)
	}
}

// ret returns with the upper halves of the registers cleared, since SSE code that follows would be slow otherwise.
func (vector) ret() {
	VZEROUPPER()
	RET()
}

// constant is the address of a register full of one value.
func (v vector) constant(x float32) operand.Mem {
	bits := math.Float32bits(x) // as an integer, since avo writes 1.0 as one
	name := fmt.Sprintf("all%08x", bits)
	if m, ok := constants[name]; ok {
		return m
	}
	m := GLOBL(name, attr.RODATA|attr.NOPTR)
	for i := range 16 {
		DATA(4*i, operand.U32(bits))
	}
	constants[name] = m
	return m
}

var constants = map[string]operand.Mem{}

// mask says which lanes of a partly filled register count; the others are read as 0 and never written.
type mask struct {
	vector
	reg reg.Register // nil: all lanes
}

// maskRegister is one that holds a mask and that no product needs otherwise.
func (v vector) maskRegister() reg.Register {
	if v.lanes == 8 {
		return reg.Y15
	}
	return reg.K1
}

// first makes the mask of the first n lanes, 1 to all.
func (v vector) first(n reg.GPVirtual, to reg.Register) mask {
	if v.lanes == 16 {
		bits := GP32()
		MOVL(operand.U32(1<<16-1), bits)
		BZHIL(n.As32(), bits, bits)
		KMOVW(bits, to)
		return mask{v, to}
	}
	if _, ok := constants["lanes"]; !ok {
		constants["lanes"] = GLOBL("lanes", attr.RODATA|attr.NOPTR)
		for i := range v.lanes {
			DATA(4*i, operand.U32(math.MaxUint32))
		}
		for i := range v.lanes {
			DATA(4*(v.lanes+i), operand.U32(0))
		}
	}
	from := GP64()
	LEAQ(constants["lanes"], from)
	back := GP64()
	MOVQ(n, back)
	NEGQ(back)
	VMOVUPS(operand.Mem{Base: from, Index: back, Scale: 4, Disp: 4 * v.lanes}, to)
	return mask{v, to}
}

func (m mask) load(from operand.Mem, to reg.Register) {
	switch {
	case m.reg == nil:
		VMOVUPS(from, to)
	case m.lanes == 8:
		VMASKMOVPS(from, m.reg, to)
	default:
		VMOVUPS_Z(from, m.reg, to)
	}
}

func (m mask) store(from reg.Register, to operand.Mem) {
	switch {
	case m.reg == nil:
		VMOVUPS(from, to)
	case m.lanes == 8:
		VMASKMOVPS(from, m.reg, to)
	default:
		VMOVUPS(from, m.reg, to)
	}
}

// zeroOthers clears the lanes that do not count.
func (m mask) zeroOthers(r reg.Register) {
	switch {
	case m.reg == nil:
	case m.lanes == 8:
		VANDPS(r, m.reg, r)
	default:
		VMOVAPS_Z(r, m.reg, r)
	}
}
