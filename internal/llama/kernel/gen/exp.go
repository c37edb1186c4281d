package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// exp(x) = 2^n exp(r), n the integer nearest to x / ln 2 and |r| <= ln 2 / 2. exp(r) = 1 + r + r² q(r) with the q of
// degree 4 that minimises the largest relative error, 3.1e-9; rounding adds about 1e-7.
var expCoefficients = []float32{0.001381461308209312, 0.008368709825654684, 0.04166838736516847, 0.16666520689816494,
	0.4999999345168743, 1, 1}

const (
	log2e = 1.4426950408889634
	// ln2High has so few digits that n ln2High is exact; ln2Low is the rest of ln 2.
	ln2High = 0.693359375
	ln2Low  = -0.00021219444005469058
	// expLow is the logarithm of the smallest normal number: below it the result is 0.
	expLow = -87.33654
	// expHigh is beyond the logarithm of the largest number: there the result is infinite.
	expHigh = 89
)

// exp replaces x by exp(x). NaN stays NaN, since VMAXPS and VMINPS return their first operand if either is NaN.
func (v vector) exp(x reg.VecVirtual) {
	var inRange reg.Register
	if v.lanes == 8 {
		inRange = YMM()
	} else {
		inRange = K()
	}
	const notLess = 5
	VCMPPS(operand.U8(notLess), v.constant(expLow), x, inRange)
	bound := v.new()
	VMOVUPS(v.constant(expLow), bound)
	VMAXPS(x, bound, x)
	VMOVUPS(v.constant(expHigh), bound)
	VMINPS(x, bound, x)

	n, p := v.new(), v.new()
	VMULPS(v.constant(log2e), x, n)
	const nearest = 8
	if v.lanes == 8 {
		VROUNDPS(operand.U8(nearest), n, n)
	} else {
		VRNDSCALEPS(operand.U8(nearest), n, n)
	}
	VFNMADD231PS(v.constant(ln2High), n, x)
	VFNMADD231PS(v.constant(ln2Low), n, x)
	VMOVUPS(v.constant(expCoefficients[0]), p)
	for _, c := range expCoefficients[1:] {
		VFMADD213PS(v.constant(c), x, p)
	}

	if v.lanes == 16 {
		VSCALEFPS(n, p, x)
		VMOVAPS_Z(x, inRange, x)
		return
	}
	// 2^n in two factors, because 2^128 is no float32 but p 2^128 may be.
	half, one := v.new(), v.constant(1)
	VCVTPS2DQ(n, n)
	VPSRAD(operand.U8(1), n, half)
	VPSUBD(half, n, n)
	for _, e := range []reg.VecVirtual{half, n} {
		VPSLLD(operand.U8(23), e, e)
		VPADDD(one, e, e)
		VMULPS(e, p, p)
	}
	VANDPS(inRange, p, x)
}

// exponential writes the functions that need exp.
func exponential(v vector) {
	v.function("expSum", "replaces x[i] by exp(scale (x[i] - top)) and returns their sum.", "(x []float32, scale, top float32) float32")
	scale, top, sum := v.param("scale"), v.param("top"), v.zeros(unroll)
	v.over([]string{"x"}, func(u int, at func(string) operand.Mem, m mask) {
		x := v.new()
		m.load(at("x"), x)
		VSUBPS(top, x, x)
		VMULPS(scale, x, x)
		v.exp(x)
		m.store(x, at("x"))
		m.zeroOthers(x)
		VADDPS(x, sum[u], sum[u])
	})
	v.returns(0, sum, func(a, b, to operand.Op) { VADDPS(a, b, to) })
	v.ret()

	v.function("swiGLU", "computes dst[i] = silu(gate[i]) up[i].", "(dst, gate, up []float32)")
	v.over([]string{"gate", "up", "dst"}, func(_ int, at func(string) operand.Mem, m mask) {
		g, up := v.new(), v.new()
		m.load(at("gate"), g)
		e := v.onePlusExpMinus(g)
		m.load(at("up"), up)
		VDIVPS(e, g, g)
		VMULPS(up, g, g)
		m.store(g, at("dst"))
	})
	v.ret()

	v.function("swiGLUGrad", "computes dgate[i] = d[i] up[i] silu'(gate[i]) and dup[i] = d[i] silu(gate[i]).", "(dgate, dup, d, gate, up []float32)")
	v.over([]string{"gate", "up", "d", "dgate", "dup"}, func(_ int, at func(string) operand.Mem, m mask) {
		g, up, d, s, slope := v.new(), v.new(), v.new(), v.new(), v.new()
		m.load(at("gate"), g)
		e := v.onePlusExpMinus(g)
		VMOVUPS(v.constant(1), s)
		VDIVPS(e, s, s)
		m.load(at("up"), up)
		m.load(at("d"), d)
		VMULPS(s, d, d)
		VMULPS(d, up, up)
		// 1 + g (1 - s)
		VMOVUPS(v.constant(1), slope)
		VSUBPS(s, slope, slope)
		VFMADD213PS(v.constant(1), g, slope)
		VMULPS(slope, up, up)
		m.store(up, at("dgate"))
		VMULPS(d, g, g)
		m.store(g, at("dup"))
	})
	v.ret()
}

// onePlusExpMinus is 1 + exp(-x).
func (v vector) onePlusExpMinus(x reg.VecVirtual) reg.VecVirtual {
	e := v.zeros(1)[0]
	VSUBPS(x, e, e)
	v.exp(e)
	VADDPS(v.constant(1), e, e)
	return e
}
