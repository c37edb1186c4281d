package kernel

// FMALoop multiplies and adds in registers for the given number of rounds, at least 1, and returns the floating-point
// operations done. Divided by the time that it takes they are the most that one core can do, the limit by which products
// are measured.
func FMALoop(rounds int) (flops float64) { return fmaLoop(max(1, rounds)) }

// fmaSink keeps the compiler from leaving out a loop whose result nobody wants.
var fmaSink float32

func fmaLoopGeneric(rounds int) (flops float64) {
	var a, b, c, d, e, f, g, h float32
	x, y := fmaSink, fmaSink
	for range rounds {
		a, b, c, d = a+x*y, b+x*y, c+x*y, d+x*y
		e, f, g, h = e+x*y, f+x*y, g+x*y, h+x*y
	}
	fmaSink = a + b + c + d + e + f + g + h
	return float64(rounds) * 8 * 2
}
