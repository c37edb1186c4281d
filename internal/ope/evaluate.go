package ope

import (
	"cmp"
	"errors"
	"fmt"
	"math"
)

// Options of Evaluate.
type Options struct {
	Clip  float64 // largest weight; 0: DefaultClip, +Inf: none
	Level float64 // share of the truth between both bounds, above 0 and below 1; 0: .95
	Resampling
}

// Report is what a log says about another policy.
type Report struct {
	Decisions, Users int
	Effective        float64 // Kish's sample size of the weights before clipping
	MeanWeight       Bounds  // after clipping; about 1 where the probabilities are right and little is clipped
	MaxWeight        float64 // before clipping
	Clipped          float64 // share of the decisions

	Logged             Bounds // mean reward a decision of the policy that logged
	DM, IPS, SNIPS, DR Bounds // of the judged policy

	DMDifference, IPSDifference, SNIPSDifference, DRDifference Bounds // judged less logging

	// Refused says in words why the weights tell nothing, and no estimate by them should be believed; "" where they do.
	Refused string
}

// ErrNoSamples says that there is nothing to evaluate.
var ErrNoSamples = errors.New("no samples")

// Evaluate estimates the judged policy's value by every estimator, with two-sided intervals of level o.Level (see Bounds).
// Errors: ErrNoSamples, a *SampleError, or an option that cannot be.
func Evaluate(samples []Sample, o Options) (Report, error) {
	clip, err := clipOr(o.Clip)
	if err != nil {
		return Report{}, err
	}
	if o.Level == 0 {
		o.Level = .95
	}
	if !(o.Level > 0 && o.Level < 1) {
		return Report{}, fmt.Errorf("level is %v: want a share between 0 and 1, such as .95", o.Level)
	}
	if len(samples) == 0 {
		return Report{}, ErrNoSamples
	}
	if err := Check(samples); err != nil {
		return Report{}, err
	}
	u := sumUsers(samples, clip)
	b := u.bounds((1-o.Level)/2, o.Resampling, loggedValue, dmValue, ipsValue, snipsValue, drValue,
		dmDifference, ipsDifference, snipsDifference, drDifference, meanWeight)
	r := Report{
		Decisions: len(samples), Users: u.n,
		Effective: EffectiveSample(samples), MeanWeight: b[9], MaxWeight: MaxWeight(samples), Clipped: ClippedShare(samples, clip),
		Logged: b[0], DM: b[1], IPS: b[2], SNIPS: b[3], DR: b[4],
		DMDifference: b[5], IPSDifference: b[6], SNIPSDifference: b[7], DRDifference: b[8],
	}
	r.Refused = cmp.Or(tooFewEffective(r.Effective, r.Decisions), wrongWeights(r.MeanWeight, r.Clipped))
	return r, nil
}

// wrongWeights says what the weights' mean shows to be wrong with them; "" where it shows nothing. It is 1 in expectation where
// actions were drawn by the logged probabilities and whatever the judged policy takes can be logged. Clipping lowers it; so
// a mean below 1 shows something only where nothing was clipped.
func wrongWeights(mean Bounds, clipped float64) string {
	off := math.Abs(mean.Estimate - 1)
	switch {
	case !(off > max(.05, 5*mean.SE)):
		return ""
	case mean.Estimate > 1:
		return fmt.Sprintf("the weights' mean is %.3f, and it cannot be above 1 but by chance (standard error %.3f): the logged probabilities are not those by which the actions were drawn", mean.Estimate, mean.SE)
	case clipped == 0:
		return fmt.Sprintf("the weights' mean is %.3f, and with none clipped it cannot be below 1 but by chance (standard error %.3f): either the logged probabilities are not those by which the actions were drawn, or the judged policy takes actions that hardly stand in the log", mean.Estimate, mean.SE)
	}
	return ""
}

// The least effective sample by which weights are believed: fewer decisions than that, or a smaller share of all, and the
// estimate hangs on a few of them, whatever its interval says.
const (
	MinEffective      = 100
	MinEffectiveShare = .05
)

func tooFewEffective(effective float64, n int) string {
	if effective >= MinEffective && effective >= MinEffectiveShare*float64(n) {
		return ""
	}
	return fmt.Sprintf("the weights tell nothing: %d decisions weigh as much as %.3g of the judged policy's own, where %.0f are the least to be believed (%d, and %.0f %% of all); the two policies differ too much",
		n, effective, max(MinEffective, MinEffectiveShare*float64(n)), MinEffective, 100*MinEffectiveShare)
}
