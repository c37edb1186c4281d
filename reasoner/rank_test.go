package reasoner

import "github.com/r2rec/r2rec/internal/event"

// byChains ranks by the weight of the chains, relative to the largest.
func byChains(c event.Context) []float64 {
	z := make([]float64, len(c.Candidates))
	var top float64
	for _, x := range c.Candidates {
		top = max(top, x.Evidence.Chains)
	}
	for i, x := range c.Candidates {
		if top > 0 {
			z[i] = 5 * x.Evidence.Chains / top
		}
	}
	return z
}
