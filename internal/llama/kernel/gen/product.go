package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// A product is computed in tiles of C that stay in registers while k runs: 12 rows of two registers with AVX-512's 32
// registers, 6 rows of two with AVX2's 16. Each step reads a row of B once and each element of A once. Every element of
// C is summed in the order of k, whatever the tile, which is what makes a row independent of its neighbours.

// product writes the kernels for one panel of C: all rows, and the columns of one or two registers.
func product(v vector) {
	rows := 12
	if v.lanes == 8 {
		rows = 6
		panel(v, rows, 2, false) // AVX2's masked loads take an arithmetic port, AVX-512's are free
	}
	panel(v, rows, 2, true)
	panel(v, rows, 1, true)
}

// panel writes one kernel for C's panel of the given number of registers across, the last of them masked or full.
func panel(v vector, rows, across int, masked bool) {
	name := fmt.Sprintf("product%sx%d", v.name, across*v.lanes)
	maskParam, maskDoc := "", ""
	if masked {
		name += "Masked"
		maskParam, maskDoc = ", last int", fmt.Sprintf(", of which the last %d are no more than last", v.lanes)
	}
	TEXT(name, NOSPLIT, "func(m, k int, a *float32, rs, cs int, b *float32, ldb int, c *float32, ldc int, add bool"+maskParam+")")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s computes C (+)= A B for %d columns%s. m and k are at least 1.", name, across*v.lanes, maskDoc))

	p := panelRegisters{
		m: Load(Param("m"), GP64()), a: Load(Param("a"), GP64()), rs: bytes("rs"), rs3: GP64(), cs: bytes("cs"),
		ldb: bytes("ldb"), c: Load(Param("c"), GP64()), last: mask{vector: v},
	}
	LEAQ(operand.Mem{Base: p.rs, Index: p.rs, Scale: 2}, p.rs3)
	if masked {
		p.last = v.first(Load(Param("last"), GP64()).(reg.GPVirtual), v.maskRegister())
	}

	Label("full")
	CMPQ(p.m, operand.U8(rows))
	JL(operand.LabelRef("rest"))
	p.tile(rows, across)
	for _, s := range []struct{ stride, pointer reg.Register }{{p.rs, p.a}, {bytes("ldc"), p.c}} {
		distance := GP64()
		IMUL3Q(operand.U8(rows), s.stride, distance)
		ADDQ(distance, s.pointer)
	}
	SUBQ(operand.U8(rows), p.m)
	JMP(operand.LabelRef("full"))

	Label("rest")
	for r := 1; r < rows; r++ {
		CMPQ(p.m, operand.U8(r))
		JE(operand.LabelRef(fmt.Sprintf("rows%d", r)))
	}
	v.ret()
	for r := 1; r < rows; r++ {
		Label(fmt.Sprintf("rows%d", r))
		p.tile(r, across)
		v.ret()
	}
}

// bytes loads a distance in elements as one in bytes.
func bytes(param string) reg.Register {
	r := Load(Param(param), GP64())
	SHLQ(operand.U8(2), r)
	return r
}

// panelRegisters are what lives as long as a panel's kernel runs.
type panelRegisters struct {
	m, a, rs, rs3, cs, ldb, c reg.Register
	last                      mask // of the last register across
}

// tile writes the code for one tile: start from 0 or from C, run over k, store.
func (p panelRegisters) tile(rows, across int) {
	v := p.last.vector
	label := func(s string) string { return fmt.Sprintf("%s%d", s, rows) }
	part := func(j int) mask { // of register j across
		if j == across-1 {
			return p.last
		}
		return mask{vector: v}
	}

	all := v.all()
	acc, right, left := all[:rows*across], all[rows*across:][:across], all[(rows+1)*across:]
	if v.lanes == 8 {
		left = left[:1] // Y15 may be the mask
	}
	for _, r := range acc {
		v.zero(r)
	}
	add := Load(Param("add"), GP64())
	TESTQ(add, add)
	JZ(operand.LabelRef(label("start")))
	c := rowPointers(p.c, bytes("ldc"), nil, rows)
	for i := range rows {
		for j := range across {
			part(j).load(c(i, j*v.bytes()), acc[i*across+j])
		}
	}

	Label(label("start"))
	k := Load(Param("k"), GP64())
	b := Load(Param("b"), GP64())
	var steps []reg.Register
	a := rowPointers(p.a, p.rs, p.rs3, rows, &steps)

	Label(label("step"))
	for j, r := range right {
		part(j).load(operand.Mem{Base: b, Disp: j * v.bytes()}, r)
	}
	if rows <= 4 {
		for j := 0; j < across*v.bytes(); j += 64 {
			PREFETCHT0(operand.Mem{Base: b, Index: p.ldb, Scale: 8, Disp: j})
		}
	}
	ADDQ(p.ldb, b)
	for i := range rows {
		x := left[i%len(left)]
		VBROADCASTSS(a(i, 0), x)
		for j, r := range right {
			VFMADD231PS(x, r, acc[i*across+j])
		}
	}
	for _, s := range steps {
		ADDQ(p.cs, s)
	}
	DECQ(k)
	JNZ(operand.LabelRef(label("step")))

	c = rowPointers(p.c, bytes("ldc"), nil, rows)
	for i := range rows {
		for j := range across {
			part(j).store(acc[i*across+j], c(i, j*v.bytes()))
		}
	}
}

// rowPointers writes code that makes every row reachable: a pointer for each four rows, and the distances to the other
// three as index. stride3 is three strides, computed where it is nil; the pointers are appended to made.
func rowPointers(first, stride, stride3 reg.Register, rows int, made ...*[]reg.Register) func(row, disp int) operand.Mem {
	if stride3 == nil && rows > 3 {
		stride3 = GP64()
		LEAQ(operand.Mem{Base: stride, Index: stride, Scale: 2}, stride3)
	}
	var pointers []reg.Register
	for i := 0; i < rows; i += 4 {
		r := GP64()
		if i == 0 {
			MOVQ(first, r)
		} else {
			LEAQ(operand.Mem{Base: pointers[len(pointers)-1], Index: stride, Scale: 4}, r)
		}
		pointers = append(pointers, r)
	}
	for _, m := range made {
		*m = pointers
	}
	return func(row, disp int) operand.Mem {
		m := operand.Mem{Base: pointers[row/4], Disp: disp}
		switch row % 4 {
		case 1:
			m.Index, m.Scale = stride, 1
		case 2:
			m.Index, m.Scale = stride, 2
		case 3:
			m.Index, m.Scale = stride3, 1
		}
		return m
	}
}
