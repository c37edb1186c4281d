package ope

import (
	"errors"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// choices draws the probabilities of n actions, each at least a hundredth.
func choices(n int) *rapid.Generator[[]float64] {
	return rapid.Custom(func(t *rapid.T) []float64 {
		p := make([]float64, n)
		var sum float64
		for i := range p {
			p[i] = rapid.Float64Range(.01, 1).Draw(t, "p")
			sum += p[i]
		}
		for i := range p {
			p[i] /= sum
		}
		return p
	})
}

// In a bandit small enough to list everything that can happen, the estimators' expectations are the truth itself: IPS
// and DR of the judged policy's value, both differences, whatever the model of the reward says.
func TestUnbiasedByEnumeration(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 6).Draw(t, "actions")
		logged, target := choices(n).Draw(t, "logged"), choices(n).Draw(t, "target")
		chance := rapid.SliceOfN(rapid.Float64Range(0, 1), n, n).Draw(t, "chance of the reward")
		size := rapid.SliceOfN(rapid.Float64Range(-3, 3), n, n).Draw(t, "reward")
		q := rapid.SliceOfN(rapid.Float64Range(-3, 3), n, n).Draw(t, "q")
		var v, vLogged, truth, present float64
		for a := range n {
			v += target[a] * q[a]
			vLogged += logged[a] * q[a]
			truth += target[a] * chance[a] * size[a]
			present += logged[a] * chance[a] * size[a]
		}
		var ips, dr, drDiff, weight float64
		for a := range n {
			for _, got := range []bool{false, true} {
				s := Sample{User: "u", Logged: logged[a], Target: target[a], Q: q[a], V: v, VLogged: vLogged}
				p := logged[a] * (1 - chance[a])
				if got {
					s.Reward, p = size[a], logged[a]*chance[a]
				}
				one := []Sample{s}
				if err := Check(one); err != nil {
					t.Fatal(err)
				}
				ips += p * IPS(one, math.Inf(1))
				dr += p * DR(one, math.Inf(1))
				drDiff += p * DRDifference(one, math.Inf(1))
				weight += p * target[a] / logged[a]
			}
		}
		for name, d := range map[string]float64{"IPS": ips - truth, "DR": dr - truth, "the DR difference": drDiff - (truth - present), "the weight": weight - 1} {
			if math.Abs(d) > 1e-9 {
				t.Errorf("the expectation of %s misses the truth by %v", name, d)
			}
		}
	})
}

// drawSamples draws a log of a few users, with weights up to a hundred.
func drawSamples(t *rapid.T) []Sample {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Sample {
		number := rapid.Float64Range(-5, 5)
		return Sample{User: rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "user"), Reward: number.Draw(t, "reward"),
			Logged: rapid.Float64Range(.01, 1).Draw(t, "logged"), Target: rapid.Float64Range(0, 1).Draw(t, "target"),
			Q: number.Draw(t, "q"), V: number.Draw(t, "v"), VLogged: number.Draw(t, "v logged")}
	}), 1, 30).Draw(t, "samples")
}

func TestEstimatorsHaveTheirProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		samples := drawSamples(t)
		clip := rapid.Float64Range(1, 50).Draw(t, "clip")
		n := float64(len(samples))
		near := func(what string, got, want float64) {
			if math.Abs(got-want) > 1e-9*(1+math.Abs(want)) {
				t.Errorf("%s is %v, want %v", what, got, want)
			}
		}
		if ess := EffectiveSample(samples); !(ess >= 0 && ess <= n*(1+1e-12)) {
			t.Errorf("an effective sample of %v of %v", ess, n)
		}
		low, high := math.Inf(1), math.Inf(-1)
		moved, same, unmodelled, foretold := make([]Sample, len(samples)), make([]Sample, len(samples)), make([]Sample, len(samples)), make([]Sample, len(samples))
		for i, s := range samples {
			low, high = min(low, s.Reward), max(high, s.Reward)
			moved[i], same[i], unmodelled[i], foretold[i] = s, s, s, s
			moved[i].Reward += 7
			same[i].Target, same[i].V = s.Logged, s.VLogged
			unmodelled[i].Q, unmodelled[i].V, unmodelled[i].VLogged = 0, 0, 0
			foretold[i].Q = s.Reward
		}
		if SNIPS(samples, clip) != 0 {
			if v := SNIPS(samples, clip); v < low-1e-9 || v > high+1e-9 {
				t.Errorf("SNIPS is %v, and no reward is outside %v to %v", v, low, high)
			}
			near("SNIPS of rewards that are 7 larger", SNIPS(moved, clip), SNIPS(samples, clip)+7)
			near("the SNIPS difference of rewards that are 7 larger", SNIPSDifference(moved, clip), SNIPSDifference(samples, clip))
		}
		near("the SNIPS difference of the same policy", SNIPSDifference(same, clip), 0)
		near("the DR difference of the same policy", DRDifference(same, clip), 0)
		near("the effective sample of the same policy", EffectiveSample(same), n)
		near("DR without a model", DR(unmodelled, clip), IPS(samples, clip))
		near("DR of a perfect model", DR(foretold, clip), DM(samples))
	})
}

func TestClippingIsCounted(t *testing.T) {
	samples := []Sample{
		{User: "a", Reward: 1, Logged: .01, Target: .5}, // weight 50
		{User: "b", Reward: 1, Logged: .5, Target: .5},
		{User: "c", Reward: 0, Logged: .5, Target: .25},
		{User: "d", Reward: 1, Logged: .1, Target: 1}, // exactly at the clip
	}
	for what, got := range map[string][2]float64{
		"share":        {ClippedShare(samples, 10), .25},
		"largest":      {MaxWeight(samples), 50},
		"IPS":          {IPS(samples, 10), (10 + 1 + 10) / 4.},
		"unclipped":    {IPS(samples, math.Inf(1)), (50 + 1 + 10) / 4.},
		"SNIPS":        {SNIPS(samples, 10), 21 / 21.5},
		"effective":    {EffectiveSample(samples), 61.5 * 61.5 / (2500 + 1 + .25 + 100)},
		"of no weight": {SNIPS([]Sample{{User: "a", Reward: 1, Logged: 1}}, 10), 0},
	} {
		if math.Abs(got[0]-got[1]) > 1e-12 {
			t.Errorf("%s: %v, want %v", what, got[0], got[1])
		}
	}
}

func TestSamplesThatCannotBe(t *testing.T) {
	good := Sample{User: "u", Reward: 1, Logged: .5, Target: .25, Q: .1, V: .2, VLogged: .3}
	for field, spoil := range map[string]func(*Sample){
		"User":    func(s *Sample) { s.User = "" },
		"Logged":  func(s *Sample) { s.Logged = 0 },
		"Logged ": func(s *Sample) { s.Logged = 1.01 },
		"Logged.": func(s *Sample) { s.Logged = math.SmallestNonzeroFloat64 },
		"Target":  func(s *Sample) { s.Target = -.1 },
		"Target ": func(s *Sample) { s.Target = math.NaN() },
		"Reward":  func(s *Sample) { s.Reward = math.NaN() },
		"Q":       func(s *Sample) { s.Q = math.Inf(1) },
		"V":       func(s *Sample) { s.V = math.Inf(-1) },
		"VLogged": func(s *Sample) { s.VLogged = math.NaN() },
	} {
		samples := []Sample{good, good, good}
		spoil(&samples[1])
		var wrong *SampleError
		field = strings.Trim(field, " .")
		if err := Check(samples); !errors.As(err, &wrong) || wrong.Index != 1 || wrong.Field != field || !strings.Contains(err.Error(), "sample 1: "+field) {
			t.Errorf("%s: %v", field, err)
		}
		if _, err := Evaluate(samples, Options{}); !errors.As(err, &wrong) {
			t.Errorf("Evaluate with a wrong %s: %v", field, err)
		}
		if _, err := Gate(samples, GateOptions{}); !errors.As(err, &wrong) {
			t.Errorf("Gate with a wrong %s: %v", field, err)
		}
	}
	good.Logged, good.Target = 1+1e-12, 1+1e-12 // a softmax may sum to that
	if err := Check([]Sample{good}); err != nil {
		t.Error(err)
	}
	if _, err := Evaluate(nil, Options{}); !errors.Is(err, ErrNoSamples) {
		t.Error(err)
	}
}

func TestFoldsPartUsersEvenly(t *testing.T) {
	const users, folds = 5000, 5
	var counts [folds]int
	for i := range users {
		f := Fold(strings.Repeat("x", i%7)+string(rune('0'+i%10))+string(rune(0x4e00+i)), folds)
		counts[f]++
	}
	for f, n := range counts {
		if n < users/folds*9/10 || n > users/folds*11/10 {
			t.Errorf("fold %d has %d of %d users", f, n, users)
		}
	}
	// What another process has to find, too.
	for user, want := range map[string]int{"671": 3, "a user": 4} {
		if got := Fold(user, folds); got != want {
			t.Errorf("user %q is in fold %d, want %d", user, got, want)
		}
	}
	if Fold("671", 1) != 0 || Fold("671", 0) != 0 {
		t.Error("there is another fold than the only one")
	}
}
