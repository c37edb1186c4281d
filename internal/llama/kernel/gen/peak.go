package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
)

// independent sums keep both multipliers busy: more than their number times the latency of an addition, 2 x 4.
const independent = 12

// peak writes a loop of nothing but multiply-adds.
func peak(v vector) {
	v.function("fma", "runs n rounds, at least 1, of 12 multiply-adds of whole registers.", "(n int)")
	n := Load(Param("n"), GP64())
	registers := v.all()[:independent+1]
	for _, r := range registers {
		v.zero(r)
	}
	Label("loop")
	for _, sum := range registers[1:] {
		VFMADD231PS(registers[0], registers[0], sum)
	}
	DECQ(n)
	JNZ(operand.LabelRef("loop"))
	v.ret()
}
