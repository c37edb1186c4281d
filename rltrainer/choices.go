package rltrainer

import (
	"math"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/policy"
)

// Choices are the rollouts in which a shown item earned something, as examples to fit on: supervised fine-tuning on what was
// chosen.
//
// What a policy hardly ever shows is hardly ever chosen. So each choice counts by its reward over the probability that the
// item was shown and looked at, by which it is what users would choose if they saw everything (inverse propensities;
// Joachims, Swaminathan and Schnabel 2017, "Unbiased Learning-to-Rank with Biased Feedback"): without that a model learns
// to be as sure of itself as the choice of what to show was. 1/p is at most MaxWeight, and all choices together count as
// many as there are.
func Choices(rollouts []Rollout) (examples []Example) {
	looks, sum := looks(rollouts), 0.
	for _, r := range rollouts {
		if r.Chosen >= 0 {
			e := Example{Context: r.Decision.Context, Chosen: r.Chosen, Weight: r.Earned * min(1/exposure(r.Decision, r.Chosen, looks), MaxWeight)}
			examples = append(examples, e)
			sum += e.Weight
		}
	}
	for i := range examples {
		examples[i].Weight *= float64(len(examples)) / sum
	}
	return examples
}

// looks is how probable it is that a slot is looked at, slot 1 first: the mean over lists of which nothing was clicked. Of
// slots that no such list has, the probability is that of the last one before.
func looks(rollouts []Rollout) (mean []float64) {
	var lists []float64
	for _, r := range rollouts {
		for k, p := range r.Looks {
			if k == len(mean) {
				mean, lists = append(mean, 0), append(lists, 0)
			}
			mean[k] += p
			lists[k]++
		}
	}
	for k := range mean {
		mean[k] /= lists[k]
	}
	return mean
}

// exposureDraws is from how many drawn slates an exposure is computed: its relative error is below a few hundredths.
const exposureDraws = 64

// exposure is the probability that a candidate stands in one of the slots that were drawn and is looked at there,
//
//	Σ_k looks(k) · E[probability of the candidate in slot k, given the slots before]
//
// where the expectation is over slates drawn from the decision's scores (Plackett-Luce), by the decision's own seed.
func exposure(d event.Decision, item int, looks []float64) float64 {
	first := policy.First(d.Scores, d.Temperature)
	draw := policy.Generator(d.Seed, exposureStream)
	look := func(k int) float64 {
		if len(looks) == 0 {
			return 1
		}
		return looks[min(k, len(looks)-1)]
	}
	// Slot 1 is the same in every slate: its part is exact.
	p := look(0) * first[item]
	left := make([]float64, len(first))
	for range exposureDraws {
		copy(left, first)
		rest := 1.
		for k := 1; k < len(d.Slate); k++ {
			last := drawn(left, draw.Float64()*rest)
			if last == item {
				break
			}
			rest -= left[last]
			left[last] = 0
			if !(rest > 0) {
				break
			}
			p += look(k) * min(1, left[item]/rest) / exposureDraws
		}
	}
	return math.Min(1, p)
}

// drawn is the index that a uniform number below the sum of the shares falls on.
func drawn(shares []float64, u float64) int {
	last := 0
	for i, s := range shares {
		if s == 0 {
			continue
		}
		last = i
		if u -= s; u < 0 {
			break
		}
	}
	return last
}

// exposureStream of a decision's seed: those below it belong to the service (package policy).
const exposureStream = 1 << 20
