// Package ope is off-policy evaluation: what another policy would have earned, from what was logged while the present one
// acted. It holds the estimators (direct method, inverse propensities, self-normalised, doubly robust), intervals that
// resample users, the gate that a new policy has to pass before it may act, and the sequential test that follows it when
// it does.
//
// A decision is one Sample: what was earned, and how probable the logged action was by the policy that took it and by the
// one that is judged. Nothing else is known of the world, so the package serves any log with propensities.
//
// What it promises: the formulas stand where they are used, with their sources; a value that cannot be is an error that
// names sample and field; the same samples, options and seed give the same result on any number of threads; and where the
// log cannot tell, the answer says so instead of giving a number.
//
// What it leaves to others: logging true probabilities, leaving out what was not shown or not drawn, and keeping the
// decisions that a policy was trained on from those that judge it. It imports nothing of the project.
package ope

import (
	"fmt"
	"math"
)

// DefaultClip is the largest importance weight that counts in full.
const DefaultClip = 10

// Sample is one logged decision: an action, what it earned, and how probable it was.
type Sample struct {
	User   string  // whose decision it is: users are resampled, not decisions
	Reward float64 // what the action earned
	Logged float64 // probability by which the logging policy took it, above 0 and up to 1
	Target float64 // probability by which the judged policy would have taken it, 0 to 1

	// What a model of the reward says, for DM and DR: it must not have been fitted on this user (see Fold). All zeros:
	// there is no model, DM is 0 and DR is IPS.
	Q       float64 // predicted reward of the logged action
	V       float64 // Σ_a π_target(a) q(a), the judged policy's predicted value
	VLogged float64 // Σ_a π_logging(a) q(a), the logging policy's
}

// SampleError names the first value of a sample that cannot be.
type SampleError struct {
	Index int    // of the sample, from 0
	Field string // as in Sample
	Value any
	Want  string
}

func (e *SampleError) Error() string {
	return fmt.Sprintf("sample %d: %s is %v: want %s", e.Index, e.Field, e.Value, e.Want)
}

// rounding is by how much a probability may exceed 1: sums of exponentials do.
const rounding = 1e-9

// Check returns a *SampleError for the first sample that cannot be.
func Check(samples []Sample) error {
	for i, s := range samples {
		bad := func(field string, value any, want string) error { return &SampleError{i, field, value, want} }
		switch {
		case s.User == "":
			return bad("User", `""`, "an id: users are what is resampled")
		case !(s.Logged > 0 && s.Logged <= 1+rounding):
			return bad("Logged", s.Logged, "a probability above 0 and up to 1: an action that was taken could be taken")
		case !(s.Target >= 0 && s.Target <= 1+rounding):
			return bad("Target", s.Target, "a probability from 0 to 1")
		case math.IsInf(s.Target/s.Logged, 0):
			return bad("Logged", s.Logged, "a probability that Target can be divided by")
		}
		for _, f := range []struct {
			name  string
			value float64
		}{{"Reward", s.Reward}, {"Q", s.Q}, {"V", s.V}, {"VLogged", s.VLogged}} {
			if math.IsNaN(f.value) || math.IsInf(f.value, 0) {
				return bad(f.name, f.value, "a finite number")
			}
		}
	}
	return nil
}

// weight is the importance weight π_target(a)/π_logging(a), at most clip (Ionides 2008, truncated importance sampling):
// what a clipped weight loses is bias, against a variance without bound.
func (s Sample) weight(clip float64) float64 { return min(s.Target/s.Logged, clip) }

// clipOr gives the default where no clip is set. A clip of +Inf clips nothing.
func clipOr(clip float64) (float64, error) {
	switch {
	case clip == 0:
		return DefaultClip, nil
	case !(clip >= 1):
		return 0, fmt.Errorf("clip is %v: want 1 or more; a smaller one would cut the weights of actions that both policies take alike", clip)
	}
	return clip, nil
}
