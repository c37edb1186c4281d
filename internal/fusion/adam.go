package fusion

import "math"

// adam is the state of AdamW (Loshchilov and Hutter, Decoupled Weight Decay Regularization) over one network.
type adam struct {
	rate, decay float64
	mean        []float64 // running mean of the gradient
	square      []float64 // and of its square
	done, total int       // steps
}

func newAdam(weights int, o FitOptions, steps int) *adam {
	return &adam{rate: o.Rate, decay: o.Decay, mean: make([]float64, weights), square: make([]float64, weights), total: steps}
}

const (
	beta1, beta2 = .9, .98
	tiny         = 1e-8 // keeps a weight without gradient from a division by 0
	flat         = .3   // share of the steps at the full rate
	last         = .03  // what is left of the rate at the end
)

// schedule gives the rate of a step as a share of the full rate; done counts it.
func schedule(done, total int) float64 {
	progress := float64(done) / float64(total)
	if progress <= flat {
		return 1
	}
	return last + (1-last)*(1-progress)/(1-flat)
}

// step moves the weights against the gradient.
func (a *adam) step(weights, grad []float64) {
	a.done++
	rate := a.rate * schedule(a.done, a.total)
	// Both means start at 0 and are corrected for it.
	mean1, mean2 := 1-math.Pow(beta1, float64(a.done)), 1-math.Pow(beta2, float64(a.done))
	mean, square := a.mean[:len(weights)], a.square[:len(weights)]
	for i, g := range grad[:len(weights)] {
		mean[i] = beta1*mean[i] + (1-beta1)*g
		square[i] = beta2*square[i] + (1-beta2)*g*g
		weights[i] -= rate * (mean[i]/mean1/(math.Sqrt(square[i]/mean2)+tiny) + a.decay*weights[i])
	}
}
