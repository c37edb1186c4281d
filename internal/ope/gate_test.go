package ope

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// improved is better by .05 a decision than what was logged.
var improved = bandit{logged: []float64{.4, .3, .2, .1}, target: []float64{.2, .4, .2, .2}, means: []float64{.1, .35, .2, .1}, spread: .3, often: 5}

func gate(t *testing.T, samples []Sample, o GateOptions) Finding {
	t.Helper()
	f, err := Gate(samples, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := json.Marshal(f); err != nil {
		t.Errorf("no JSON: %v", err)
	}
	return f
}

// A gate that promotes what is no better must do so in a share of at most alpha, whatever the users are like. The bound
// below is what a true share of alpha exceeds in one of a thousand runs of this test.
func TestGateHoldsItsLevel(t *testing.T) {
	for name, world := range noDifference {
		if d := world.truth(); math.Abs(d) > 1e-12 {
			t.Fatalf("%s: the policies differ by %v", name, d)
		}
		for round, reruns := range map[int]int{1: 160, 5: 160} {
			alpha := AlphaOf(DefaultAlpha, round)
			most := alpha*float64(reruns) + 3.1*math.Sqrt(alpha*float64(reruns)) + 1
			promoted, decided := 0, 0
			for i := range reruns {
				samples := world.draw(rand.New(rand.NewPCG(11, uint64(i))), 60)
				f := gate(t, samples, GateOptions{Round: round, Detect: 1, Resampling: Resampling{Resamples: 200}})
				if f.Verdict == Passed {
					promoted++
				}
				if f.Verdict != Underpowered {
					decided++
				}
			}
			if float64(promoted) > most {
				t.Errorf("%s, round %d: %d of %d gates promote what is no better, at alpha %.4f", name, round, promoted, reruns, alpha)
			}
			if decided < reruns*3/4 {
				t.Errorf("%s: only %d of %d gates decide", name, decided, reruns)
			}
		}
	}
}

// Rewards shuffled over the decisions say nothing of the actions, and 200 reruns promote at most 5 %.
func TestShuffledRewardsAreNotLearned(t *testing.T) {
	promoted := 0
	for i := range 200 {
		r := rand.New(rand.NewPCG(5, uint64(i)))
		samples := improved.draw(r, 300)
		r.Shuffle(len(samples), func(a, b int) { samples[a].Reward, samples[b].Reward = samples[b].Reward, samples[a].Reward })
		for j := range samples { // the model of the reward knows the true one
			samples[j].Q, samples[j].V, samples[j].VLogged = .2, .2, .2
		}
		if gate(t, samples, GateOptions{Detect: .1, Resampling: Resampling{Resamples: 200}}).Verdict == Passed {
			promoted++
		}
	}
	if promoted > 10 {
		t.Errorf("%d of 200 gates promote", promoted)
	}
}

func TestGatePassesWhatIsBetter(t *testing.T) {
	passed, covered, looked := 0, 0, 0
	for i := range 40 {
		samples := improved.draw(rand.New(rand.NewPCG(3, uint64(i))), 600)
		f := gate(t, samples, GateOptions{Detect: improved.truth(), Resampling: Resampling{Resamples: 200}})
		if f.Decisions >= f.Needed {
			looked++
			if f.Verdict == Passed {
				passed++
			}
		}
		if f.SNIPS.Low <= improved.truth() && f.DR.Low <= improved.truth() && f.SNIPS.High >= improved.truth() && f.DR.High >= improved.truth() {
			covered++
		}
	}
	if looked < 30 || passed < looked*7/10 || covered < 34 {
		t.Errorf("of 40 gates %d had enough decisions, %d of these passed, %d intervals hold the truth", looked, passed, covered)
	}
	f := gate(t, improved.draw(rand.New(rand.NewPCG(3, 0)), 600), GateOptions{Margin: .2})
	if f.Verdict != Refused || !strings.Contains(f.Reason, "not shown to be better by more than 0.2") {
		t.Errorf("a margin of .2: %s, %s", f.Verdict, f.Reason)
	}
}

// The figures of the method: variance .16, a difference of .02 takes about 3,000 decisions and one of .01 about 11,800; at
// the fifth round twice that.
func TestNeededDecisions(t *testing.T) {
	// Every user decides once, weights are 1.4 or .6, rewards 1: (w - 1) r is ±.4, of variance .16.
	var samples []Sample
	for i := range 4000 {
		s := Sample{User: fmt.Sprint(i), Reward: 1, Logged: .5, Target: .7}
		if i%2 == 0 {
			s.Target = .3
		}
		samples = append(samples, s)
	}
	at := func(detect float64, round int) int {
		return gate(t, samples, GateOptions{Detect: detect, Round: round}).Needed
	}
	for _, c := range []struct{ got, low, high int }{{at(.02, 1), 2930, 2970}, {at(.01, 1), 11700, 11900}} {
		if c.got < c.low || c.got > c.high {
			t.Errorf("%d decisions are needed, want %d to %d", c.got, c.low, c.high)
		}
	}
	if ratio := float64(at(.02, 5)) / float64(at(.02, 1)); ratio < 1.9 || ratio > 2.1 {
		t.Errorf("round 5 needs %v times the decisions of round 1", ratio)
	}
	var spent float64
	for k := 1; k < 100_000; k++ {
		spent += AlphaOf(.05, k)
	}
	if math.Abs(spent-.05) > 1e-5 {
		t.Errorf("all rounds together spend %v", spent)
	}
	// The same decisions, ten times by the same users: no more is known than before, and more decisions are needed.
	var again []Sample
	for range 10 {
		again = append(again, samples...)
	}
	if f := gate(t, again, GateOptions{}); math.Abs(f.DesignEffect-10) > .1 {
		t.Errorf("a design effect of %v", f.DesignEffect)
	}
}

func TestGateSaysWhatIsWrong(t *testing.T) {
	enough := improved.draw(rand.New(rand.NewPCG(1, 1)), 600)
	with := func(change func(i int, s *Sample)) []Sample {
		out := append([]Sample(nil), enough...)
		for i := range out {
			change(i, &out[i])
		}
		return out
	}
	for name, c := range map[string]struct {
		samples []Sample
		o       GateOptions
		verdict Verdict
		want    string
	}{
		"no change":       {with(func(_ int, s *Sample) { s.Target = s.Logged }), GateOptions{}, Refused, "changes nothing"},
		"few users":       {with(func(i int, s *Sample) { s.User = fmt.Sprint(i % 49) }), GateOptions{}, Underpowered, "49 users"},
		"few decisions":   {enough, GateOptions{Detect: .001}, Underpowered, "too few: a difference of 0.001"},
		"a later round":   {enough, GateOptions{Detect: .01, Round: 40}, Underpowered, "alpha 0.0000"},
		"no overlap":      {with(func(_ int, s *Sample) { s.Target = 0 }), GateOptions{}, Underpowered, "the weights tell nothing"},
		"a few weigh all": {with(func(i int, s *Sample) { s.Logged, s.Target = .5, min(1, .001+float64(i/(len(enough)-2))) }), GateOptions{}, Underpowered, "the weights tell nothing"},
		"no rewards":      {with(func(_ int, s *Sample) { s.Reward = 0 }), GateOptions{Margin: -.1}, Underpowered, "only 0 users earned something"},
		"few rewards":     {with(func(i int, s *Sample) { s.Reward = float64(1 - min(i, 1)) }), GateOptions{Margin: -.1}, Underpowered, "only 1 users earned something"},
		"false logs":      {with(func(_ int, s *Sample) { s.Logged /= 2 }), GateOptions{Detect: 1}, Refused, "not those by which the actions were drawn"},
		"rarely logged":   {with(func(_ int, s *Sample) { s.Target *= .8 }), GateOptions{Detect: 1}, Underpowered, "takes actions that hardly stand in the log"},
	} {
		f := gate(t, c.samples, c.o)
		if f.Verdict != c.verdict || !strings.Contains(f.Reason, c.want) {
			t.Errorf("%s: %s, %s; want %s, %s", name, f.Verdict, f.Reason, c.verdict, c.want)
		}
	}
	for want, o := range map[string]GateOptions{
		"clip is 0.5":    {Clip: .5},
		"margin is NaN":  {Margin: math.NaN()},
		"detect is -0.1": {Detect: -.1},
		"round is -1":    {Round: -1},
		"alpha is 0.7":   {Alpha: .7},
		"power is 1":     {Power: 1},
	} {
		if _, err := Gate(enough, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// A policy that often takes what the log rarely shows, and what earned less there than is expected, does not pass because the
// weights of that are clipped.
func TestClippingHidesNoLoss(t *testing.T) {
	better := improved
	better.means = []float64{.1, .7, .2, .1}
	samples := better.draw(rand.New(rand.NewPCG(3, 0)), 600)
	o := GateOptions{Detect: better.truth()}
	if f := gate(t, samples, o); f.Verdict != Passed || f.HiddenSNIPS != 0 || f.HiddenDR != 0 {
		t.Fatalf("%+v", f)
	}
	for reward, n := range map[float64]int{-1: 2, 0: 6} {
		rare := append([]Sample(nil), samples...)
		for i := range n {
			rare = append(rare, Sample{User: samples[40*i].User, Reward: reward, Logged: .01, Target: 1, Q: .3, V: .3, VLogged: .3})
		}
		f := gate(t, rare, o)
		if f.Verdict != Refused || !strings.Contains(f.Reason, "that clipping would add") {
			t.Errorf("%d rare actions that earned %v: %+v, want it refused", n, reward, f)
		}
		if f.SNIPS.Low+f.HiddenSNIPS <= 0 || f.DR.Low+f.HiddenDR <= 0 {
			t.Errorf("the clipped estimates show the loss themselves: %+v", f)
		}
		if f.SNIPS.Low > 0 || f.DR.Low > 0 {
			t.Errorf("%d rare actions that earned %v are hidden from one of the two lower bounds: %+v", n, reward, f)
		}
	}
}
