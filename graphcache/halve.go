package graphcache

import "math"

// Halving by age is most of the arithmetic of a snapshot, some 80,000 times: math.Exp2 took a fifth of its time.
const (
	halvingBits  = 7
	halvingSteps = 1 << halvingBits
	mostHalvings = 1000 // beyond, the result is 0, which is near enough
)

// halvings[i] is 2^(-i/halvingSteps).
var halvings = func() (t [halvingSteps]float64) {
	for i := range t {
		t[i] = math.Exp2(-float64(i) / halvingSteps)
	}
	return t
}()

// halve is 2^-x for x of 0 and more, to within 4 units in the last place: a power of two, a step of the table, and for the
// rest, which is below 1/128, the series of the exponential function up to the fifth power, whose next term is below 4e-17.
func halve(x float64) float64 {
	if !(x < mostHalvings) {
		return 0
	}
	steps := int(x * halvingSteps)
	y := (float64(steps)/halvingSteps - x) * math.Ln2 // exact but for the product
	series := 1 + y*(1+y*(1./2+y*(1./6+y*(1./24+y*(1./120)))))
	power := math.Float64frombits(uint64(1023-steps>>halvingBits) << 52)
	return power * halvings[steps&(halvingSteps-1)] * series
}
