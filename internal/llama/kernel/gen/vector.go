package main

import (
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

// registers are all there are: 16 with AVX2, 32 with AVX-512. Kernels that need nearly all of them name them, since avo's
// allocator does not find every solution.
func (v vector) registers() []reg.VecPhysical {
	if v.lanes == 8 {
		return []reg.VecPhysical{reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7,
			reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12, reg.Y13, reg.Y14, reg.Y15}
	}
	return []reg.VecPhysical{reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7,
		reg.Z8, reg.Z9, reg.Z10, reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15,
		reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23,
		reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31}
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

// mask says which lanes of a partly filled register count; the others are read as 0 and never written.
type mask struct {
	vector
	reg reg.Register // nil: all lanes
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
