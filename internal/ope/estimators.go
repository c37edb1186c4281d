package ope

// The estimators of the judged policy's value, the mean reward a decision. w = π_target/π_logging of the logged action, at
// most clip; r its reward; q, V and V_logging what a model of the reward predicts. All give 0 of no samples. They take
// samples that Check has found in order, and a clip above 0, +Inf for none.

// DM is the direct method: mean V (Dudík, Langford and Li 2011). As good or bad as the model of the reward.
func DM(samples []Sample) float64 {
	return mean(samples, func(s Sample) float64 { return s.V })
}

// IPS is inverse propensity scoring: mean w r (Horvitz and Thompson 1952). Unbiased without clipping.
func IPS(samples []Sample, clip float64) float64 {
	return mean(samples, func(s Sample) float64 { return s.weight(clip) * s.Reward })
}

// SNIPS is self-normalised: Σ w r / Σ w (Swaminathan and Joachims 2015). It moves with the rewards when a constant is
// added to all of them, which IPS does not, and has the smaller variance; its bias falls with 1/n. 0 where all w are 0.
func SNIPS(samples []Sample, clip float64) float64 {
	if sum := mean(samples, func(s Sample) float64 { return s.weight(clip) }); sum > 0 {
		return IPS(samples, clip) / sum
	}
	return 0
}

// DR is doubly robust: mean V + w (r - q) (Dudík, Langford and Li 2011). Without clipping it is unbiased whatever q is,
// and the better q, the smaller its variance.
func DR(samples []Sample, clip float64) float64 {
	return mean(samples, func(s Sample) float64 { return s.V + s.weight(clip)*(s.Reward-s.Q) })
}

// SNIPSDifference is by how much more the judged policy earns a decision than the logging one did: SNIPS less the mean
// reward.
func SNIPSDifference(samples []Sample, clip float64) float64 {
	return SNIPS(samples, clip) - mean(samples, func(s Sample) float64 { return s.Reward })
}

// DRDifference is the same, doubly robust on both sides: mean (V - V_logging) + (w - 1)(r - q). What both policies take
// alike cancels in every single decision, and so does its noise.
func DRDifference(samples []Sample, clip float64) float64 {
	return mean(samples, func(s Sample) float64 {
		return s.V - s.VLogged + (s.weight(clip)-1)*(s.Reward-s.Q)
	})
}

// EffectiveSample is Kish's effective sample size (Σ w)² / Σ w² of the weights before clipping: about as many decisions
// drawn from the judged policy itself would tell as much (Kong 1992). Clipping would hide just what it warns of.
func EffectiveSample(samples []Sample) float64 {
	top := MaxWeight(samples)
	if top == 0 {
		return 0
	}
	var sum, square float64
	for _, s := range samples {
		w := s.Target / s.Logged / top // squares stay finite
		sum += w
		square += w * w
	}
	return sum * sum / square
}

// MaxWeight is the largest weight before clipping.
func MaxWeight(samples []Sample) (top float64) {
	for _, s := range samples {
		top = max(top, s.Target/s.Logged)
	}
	return top
}

// ClippedShare is the share of samples whose weight is larger than clip.
func ClippedShare(samples []Sample, clip float64) float64 {
	return mean(samples, func(s Sample) float64 {
		if s.Target/s.Logged > clip {
			return 1
		}
		return 0
	})
}

func mean(samples []Sample, value func(Sample) float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	var sum float64
	for _, s := range samples {
		sum += value(s)
	}
	return sum / float64(len(samples))
}
