package ope

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/stat/distuv"
)

// GateOptions says what a new policy has to show.
type GateOptions struct {
	Margin float64 // reward a decision by which it has to be better at least; below 0: by which it may be worse
	Detect float64 // difference above Margin that is worth detecting; 0: DefaultDetect
	Round  int     // the number of this look since a promotion last held for all users; 0 counts as 1, the first
	Alpha  float64 // share of false promotions over all rounds together; 0: DefaultAlpha
	Power  float64 // chance of passing, with Needed decisions, for a policy that is better by Margin + Detect; 0: DefaultPower
	Clip   float64 // largest weight; 0: DefaultClip, +Inf: none
	Resampling
}

// Defaults of GateOptions, and the fewest users a gate decides by: all of them, and those whose decisions tell the two
// policies apart. Below that no interval by users holds its level.
const (
	DefaultDetect   = .02
	DefaultAlpha    = .05
	DefaultPower    = .8
	MinUsers        = 50
	MinTellingUsers = 20
)

// Verdict is a gate's answer.
type Verdict string

// Underpowered is neither yes nor no: there were too few decisions, or too few that tell, to find a difference that is
// worth it.
const (
	Passed       Verdict = "passed"
	Refused      Verdict = "refused"
	Underpowered Verdict = "underpowered"
)

// Finding is what a gate found. Differences are the judged policy's value less the logging one's, in reward a decision;
// their bounds are one-sided at Alpha each. Of an underpowered gate they are the t bounds alone, and differences are 0 where
// nothing could be computed.
type Finding struct {
	Verdict   Verdict
	Reason    string  // for people, with the figures that decided
	Round     int     // of GateOptions
	Alpha     float64 // share of false promotions that this round may spend
	Margin    float64
	Detect    float64
	Decisions int
	Users     int
	Needed    int // decisions that would show a difference of Margin + Detect with a chance of Power

	Variance     float64 // of (w - 1) r, a decision
	DesignEffect float64 // by how much decisions of one user being alike multiplies it, 1 or more
	Effective    float64 // Kish's sample size of the weights before clipping
	MeanWeight   float64 // after clipping
	MaxWeight    float64 // before clipping
	Clipped      float64 // share of the decisions whose weight was clipped

	// HiddenSNIPS and HiddenDR are by how much clipping raises the estimates, 0 or more; SNIPS.Low and DR.Low are lower by that.
	HiddenSNIPS, HiddenDR float64
	SNIPS, DR             Bounds
}

// AlphaOf is the share of false promotions that look number round may spend, so that all looks together spend alpha:
// alpha · 6/(π² round²), since Σ 1/k² = π²/6.
func AlphaOf(alpha float64, round int) float64 {
	return alpha * 6 / (math.Pi * math.Pi * float64(round) * float64(round))
}

// Gate decides whether a new policy may act, by decisions that neither it nor a gate before was given. It passes where the
// lower bounds of both SNIPSDifference and DRDifference exceed Margin: as both have to, each at Alpha, the chance of
// passing a policy that is no better is at most Alpha (intersection-union test, Berger 1982). To clip a weight is cautious
// where the reward is above what is expected, and the opposite where it is below: by as much as an estimate without clipping is
// lower, its lower bound is.
//
// It is Underpowered with fewer than
//
//	(z(1 - α_k) + z(power))² Var((w - 1) r) / Detect²
//
// decisions, the usual sample size of a one-sided test, times the design effect of users (Kish 1965); with too few users,
// or an effective sample too small for weights to be believed.
//
// Errors: ErrNoSamples, a *SampleError, or an option that cannot be.
func Gate(samples []Sample, o GateOptions) (Finding, error) {
	if err := o.fill(); err != nil {
		return Finding{}, fmt.Errorf("gate: %w", err)
	}
	if len(samples) == 0 {
		return Finding{}, fmt.Errorf("gate: %w", ErrNoSamples)
	}
	if err := Check(samples); err != nil {
		return Finding{}, fmt.Errorf("gate: %w", err)
	}
	u := sumUsers(samples, o.Clip)
	f := Finding{
		Round: o.Round, Alpha: AlphaOf(o.Alpha, o.Round), Margin: o.Margin, Detect: o.Detect, Decisions: len(samples), Users: u.n,
		Effective: EffectiveSample(samples), MaxWeight: MaxWeight(samples), Clipped: ClippedShare(samples, o.Clip),
		HiddenSNIPS: max(0, SNIPS(samples, o.Clip)-SNIPS(samples, math.Inf(1))),
		HiddenDR:    max(0, DR(samples, o.Clip)-DR(samples, math.Inf(1))),
	}
	f.need(samples, u, o)
	b := u.tBounds(f.Alpha, snipsDifference, drDifference, meanWeight)
	f.MeanWeight = b[2].Estimate
	f.bound(b[0], b[1])
	f.Verdict, f.Reason = f.before(samples, b[2])
	if f.Verdict != "" {
		return f, nil
	}
	b = u.bounds(f.Alpha, o.Resampling, snipsDifference, drDifference)
	f.bound(b[0], b[1])
	f.Verdict, f.Reason = f.decide()
	return f, nil
}

func (f *Finding) bound(snips, dr Bounds) {
	snips.Low -= f.HiddenSNIPS
	dr.Low -= f.HiddenDR
	f.SNIPS, f.DR = snips, dr
}

func (o *GateOptions) fill() error {
	var err error
	if o.Clip, err = clipOr(o.Clip); err != nil {
		return err
	}
	for _, f := range []struct {
		value    *float64
		standard float64
	}{{&o.Detect, DefaultDetect}, {&o.Alpha, DefaultAlpha}, {&o.Power, DefaultPower}} {
		if *f.value == 0 {
			*f.value = f.standard
		}
	}
	if o.Round == 0 {
		o.Round = 1
	}
	switch {
	case math.IsNaN(o.Margin) || math.IsInf(o.Margin, 0):
		return fmt.Errorf("margin is %v: want a finite number", o.Margin)
	case !(o.Detect > 0) || math.IsInf(o.Detect, 0):
		return fmt.Errorf("detect is %v: want a difference above 0", o.Detect)
	case o.Round < 0:
		return fmt.Errorf("round is %d: want 1 or more", o.Round)
	case !(o.Alpha > 0 && o.Alpha < .5):
		return fmt.Errorf("alpha is %v: want a share above 0 and below .5", o.Alpha)
	case !(o.Power >= .5 && o.Power < 1):
		return fmt.Errorf("power is %v: want a share from .5 and below 1", o.Power)
	}
	return nil
}

// most is the largest number of decisions that is counted.
const most = 1<<31 - 1

// need computes how many decisions a difference takes.
func (f *Finding) need(samples []Sample, u *users, o GateOptions) {
	n := float64(len(samples))
	change := func(s Sample) float64 { return (s.weight(o.Clip) - 1) * s.Reward }
	center := mean(samples, change)
	f.Variance = mean(samples, func(s Sample) float64 { d := change(s) - center; return d * d })
	f.DesignEffect = 1
	if u.n > 1 && f.Variance > 0 {
		se := u.tBounds(f.Alpha, ipsDifference)[0].SE
		f.DesignEffect = max(1, n*se*se/f.Variance)
	}
	f.Needed = Needed(f.Variance*f.DesignEffect, f.Detect, f.Alpha, o.Power)
}

// Needed is how many decisions a one-sided test at level alpha takes to find a difference with a chance of power, where the
// difference that each decision shows has this variance: (z(1 - alpha) + z(power))² variance / difference², and at most
// 2^31 - 1.
func Needed(variance, difference, alpha, power float64) int {
	z := distuv.UnitNormal.Quantile(1-alpha) + distuv.UnitNormal.Quantile(power)
	return int(min(most, math.Ceil(z*z*variance/(difference*difference))))
}

// before gives the verdicts that need no interval; "" where one decides.
func (f *Finding) before(samples []Sample, weight Bounds) (Verdict, string) {
	changes := map[string]bool{}
	same := true
	for _, s := range samples {
		differs := math.Abs(s.Target/s.Logged-1) > 1e-6
		same = same && !differs
		if differs && s.Reward != 0 {
			changes[s.User] = true
		}
	}
	wrong := wrongWeights(weight, f.Clipped)
	switch {
	case same:
		return Refused, "it changes nothing: it would have taken every logged action with the same probability"
	case f.Users < MinUsers:
		return Underpowered, fmt.Sprintf("the decisions are of %d users, and fewer than %d say nothing of all others", f.Users, MinUsers)
	case tooFewEffective(f.Effective, f.Decisions) != "":
		return Underpowered, tooFewEffective(f.Effective, f.Decisions)
	case len(changes) < MinTellingUsers:
		return Underpowered, fmt.Sprintf("only %d users earned something by an action that the two policies take differently, and fewer than %d say nothing of all others", len(changes), MinTellingUsers)
	case wrong != "" && weight.Estimate > 1:
		return Refused, wrong
	case wrong != "": // it may be the log that shows too little
		return Underpowered, wrong
	case f.Decisions < f.Needed:
		return Underpowered, fmt.Sprintf("%d decisions are too few: a difference of %g shows with %d, at a variance of %.3g, %.2f times as large by users, and alpha %.4f",
			f.Decisions, f.Margin+f.Detect, f.Needed, f.Variance, f.DesignEffect, f.Alpha)
	}
	return "", ""
}

// decide compares the lower bounds with the margin.
func (f *Finding) decide() (Verdict, string) {
	what := fmt.Sprintf("SNIPS %+.4f (from %+.4f to %+.4f), DR %+.4f (from %+.4f to %+.4f), by %d decisions of %d users at alpha %.4f",
		f.SNIPS.Estimate, f.SNIPS.Low, f.SNIPS.High, f.DR.Estimate, f.DR.Low, f.DR.High, f.Decisions, f.Users, f.Alpha)
	if f.HiddenSNIPS > 0 || f.HiddenDR > 0 {
		what += fmt.Sprintf(", the lower bounds less %.4f and %.4f that clipping would add", f.HiddenSNIPS, f.HiddenDR)
	}
	snips, dr := f.SNIPS.Low > f.Margin, f.DR.Low > f.Margin
	switch {
	case snips && dr:
		return Passed, fmt.Sprintf("better by more than %g: %s", f.Margin, what)
	case !snips && !dr:
		return Refused, fmt.Sprintf("not shown to be better by more than %g: %s", f.Margin, what)
	case dr:
		return Refused, fmt.Sprintf("SNIPS does not show it to be better by more than %g: %s", f.Margin, what)
	}
	return Refused, fmt.Sprintf("DR does not show it to be better by more than %g: %s", f.Margin, what)
}
