package main

import (
	"strconv"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/gotypes"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// unroll is how many registers the loops take at once: sums have as many parts, so that additions do not wait for each
// other.
const unroll = 4

// step writes what happens to one register of each slice: u counts the registers of a round, at is the register's
// place in a slice, and m says which lanes count.
type step func(u int, at func(slice string) operand.Mem, m mask)

// function starts a function of the slices named, which have the length of the first, and of float32 parameters.
func (v vector) function(name, doc, signature string) {
	TEXT(name+v.name, NOSPLIT, "func"+signature)
	Pragma("noescape")
	Doc(name + v.name + " " + doc)
}

// over writes the loops over the slices: rounds of several registers, then single ones, then one that is partly filled.
func (v vector) over(slices []string, s step) {
	base := map[string]reg.Register{}
	for _, name := range slices {
		base[name] = Load(Param(name).Base(), GP64())
	}
	n := Load(Param(slices[0]).Len(), GP64()).(reg.GPVirtual)
	i := GP64() // the elements done
	XORQ(i, i)
	at := func(u int) func(string) operand.Mem {
		return func(slice string) operand.Mem {
			return operand.Mem{Base: base[slice], Index: i, Scale: 4, Disp: u * v.bytes()}
		}
	}
	for _, registers := range []int{unroll, 1} {
		loop, done := "loop"+strconv.Itoa(registers), "done"+strconv.Itoa(registers)
		Label(loop)
		CMPQ(n, operand.U8(registers*v.lanes))
		JL(operand.LabelRef(done))
		for u := range registers {
			s(u, at(u), mask{vector: v})
		}
		ADDQ(operand.U8(registers*v.lanes), i)
		SUBQ(operand.U8(registers*v.lanes), n)
		JMP(operand.LabelRef(loop))
		Label(done)
	}
	TESTQ(n, n)
	JZ(operand.LabelRef("end"))
	s(0, at(0), v.first(n, v.maskRegister()))
	Label("end")
}

// param is a parameter in every lane.
func (v vector) param(name string) reg.VecVirtual {
	r := v.new()
	VBROADCASTSS(resolve(Param(name)), r)
	return r
}

// resolve is where a parameter or result lies.
func resolve(c gotypes.Component) operand.Mem {
	basic, err := c.Resolve()
	if err != nil {
		panic(err)
	}
	return basic.Addr
}

// returns stores as result i what op makes of all lanes of all parts.
func (v vector) returns(i int, parts []reg.VecVirtual, op func(a, b, to operand.Op)) {
	for n := len(parts); n > 1; n = (n + 1) / 2 {
		for j := range n / 2 {
			op(parts[n-1-j], parts[j], parts[j])
		}
	}
	r := parts[0]
	if v.lanes == 16 {
		half := YMM()
		VEXTRACTF64X4(operand.U8(1), r, half)
		op(half, r.AsY(), r.AsY())
	}
	x, other := r.AsX(), XMM()
	VEXTRACTF128(operand.U8(1), r.AsY(), other)
	op(other, x, x)
	for _, order := range []uint8{0b1110, 0b01} {
		VPERMILPS(operand.U8(order), x, other)
		op(other, x, x)
	}
	VMOVSS(x, resolve(ReturnIndex(i)))
}

// elementwise writes everything but the products.
func elementwise(v vector) {
	v.function("dot", "is the sum of x[i] y[i].", "(x, y []float32) float32")
	sum := v.zeros(unroll)
	v.over([]string{"x", "y"}, func(u int, at func(string) operand.Mem, m mask) {
		x, y := v.new(), v.new()
		m.load(at("x"), x)
		m.load(at("y"), y)
		VFMADD231PS(x, y, sum[u])
	})
	v.returns(0, sum, func(a, b, to operand.Op) { VADDPS(a, b, to) })
	v.ret()

	v.function("axpy", "adds alpha x[i] to y[i].", "(y []float32, alpha float32, x []float32)")
	alpha := v.param("alpha")
	v.over([]string{"x", "y"}, func(_ int, at func(string) operand.Mem, m mask) {
		x, y := v.new(), v.new()
		m.load(at("x"), x)
		m.load(at("y"), y)
		VFMADD231PS(x, alpha, y)
		m.store(y, at("y"))
	})
	v.ret()

	v.function("scaleBy", "multiplies x[i] by alpha.", "(x []float32, alpha float32)")
	alpha = v.param("alpha")
	v.over([]string{"x"}, func(_ int, at func(string) operand.Mem, m mask) {
		x := v.new()
		m.load(at("x"), x)
		VMULPS(x, alpha, x)
		m.store(x, at("x"))
	})
	v.ret()

	v.function("mulScaled", "computes dst[i] = alpha x[i] w[i].", "(dst, x, w []float32, alpha float32)")
	alpha = v.param("alpha")
	v.over([]string{"x", "w", "dst"}, func(_ int, at func(string) operand.Mem, m mask) {
		x, w := v.new(), v.new()
		m.load(at("x"), x)
		m.load(at("w"), w)
		VMULPS(x, alpha, x)
		VMULPS(x, w, x)
		m.store(x, at("dst"))
	})
	v.ret()

	v.function("softmaxGrad", "computes d[i] = scale p[i] (d[i] - mean).", "(d, p []float32, scale, mean float32)")
	scale, mean := v.param("scale"), v.param("mean")
	v.over([]string{"d", "p"}, func(_ int, at func(string) operand.Mem, m mask) {
		d, p := v.new(), v.new()
		m.load(at("d"), d)
		m.load(at("p"), p)
		VSUBPS(mean, d, d)
		VMULPS(p, scale, p)
		VMULPS(p, d, d)
		m.store(d, at("d"))
	})
	v.ret()

	// What stays over of full registers is read together with some that was read before, which changes no maximum.
	v.function("largest", "is the largest element of x, and the largest |x| as bits times 2, which tells of NaN. x fills at least one register.",
		"(x []float32) (top float32, twice uint32)")
	x, n := Load(Param("x").Base(), GP64()), Load(Param("x").Len(), GP64())
	last := GP64()
	LEAQ(operand.Mem{Base: x, Index: n, Scale: 4, Disp: -v.bytes()}, last)
	top, twice := v.new(), v.zeros(1)[0]
	VMOVUPS(operand.Mem{Base: x}, top)
	take := func(from reg.Register) {
		y, bits := v.new(), v.new()
		VMOVUPS(operand.Mem{Base: from}, y)
		VPADDD(y, y, bits)
		VPMAXUD(bits, twice, twice)
		VMAXPS(y, top, top)
	}
	Label("loop")
	CMPQ(x, last)
	JAE(operand.LabelRef("rest"))
	take(x)
	ADDQ(operand.U8(v.bytes()), x)
	JMP(operand.LabelRef("loop"))
	Label("rest")
	take(last)
	v.returns(0, []reg.VecVirtual{top}, func(a, b, to operand.Op) { VMAXPS(a, b, to) })
	v.returns(1, []reg.VecVirtual{twice}, func(a, b, to operand.Op) { VPMAXUD(a, b, to) })
	v.ret()
}
