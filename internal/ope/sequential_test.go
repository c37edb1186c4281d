package ope

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// rollOut streams rewards of users who differ and come back often, in two arms, and looks after every batch. It gives the
// first look that decides, or the last one.
func rollOut(t *testing.T, seed uint64, mean, difference, spread, share float64, users, batch, looks int, o SequentialOptions) (Look, *Sequential) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 17))
	s, err := NewSequential(o)
	if err != nil {
		t.Fatal(err)
	}
	type person struct {
		name   string
		arm    Arm
		chance float64
	}
	people := make([]person, users)
	for i := range people {
		p := &people[i]
		p.name = fmt.Sprint(i)
		if r.Float64() < share {
			p.arm = Candidate
			p.chance = difference
		}
		p.chance = min(1, (mean+p.chance)*math.Exp(spread*r.NormFloat64()-spread*spread/2))
	}
	var l Look
	for range looks {
		for range batch {
			x := r.Float64()
			p := people[int(x*x*float64(users))] // some come far more often than others
			reward := 0.
			if r.Float64() < p.chance {
				reward = 1
			}
			if err := s.Add(p.arm, p.name, reward); err != nil {
				t.Fatal(err)
			}
		}
		if l = s.Decide(); l.Direction != Continue {
			break
		}
	}
	return l, s
}

// Looking after every batch raises a false alarm, to either side, in a share of at most alpha: with users of equal and of
// very different tastes, arms of equal and of very different size, common and rare rewards.
func TestSequentialHoldsItsLevelAtEveryLook(t *testing.T) {
	for name, c := range map[string]struct{ mean, spread, share float64 }{
		"alike":        {.3, 0, .5},
		"differ":       {.2, .7, .5},
		"a small arm":  {.2, .7, .1},
		"rare rewards": {.02, .7, .2},
	} {
		const runs = 200
		alarms, most := 0, .05*runs+3.1*math.Sqrt(.05*runs)
		for i := range uint64(runs) {
			if l, _ := rollOut(t, i, c.mean, 0, c.spread, c.share, 800, 150, 80, SequentialOptions{Share: c.share, Variance: c.mean}); l.Direction != Continue {
				alarms++
			}
		}
		if t.Logf("%s: %d of %d", name, alarms, runs); float64(alarms) > most {
			t.Errorf("%s: %d of %d roll-outs of what is no different are decided", name, alarms, runs)
		}
	}
}

func TestSequentialFindsADifference(t *testing.T) {
	for difference, want := range map[float64]Direction{.08: Forward, -.08: Back} {
		found := 0
		for i := range uint64(40) {
			l, _ := rollOut(t, i, .2, difference, .5, .3, 3000, 500, 80, SequentialOptions{Share: .3})
			if l.Direction == want {
				found++
			} else if l.Direction != Continue {
				t.Errorf("a difference of %v: %s, %s", difference, l.Direction, l.Reason)
			}
		}
		if found < 36 {
			t.Errorf("a difference of %v is found in %d of 40 roll-outs", difference, found)
		}
	}
}

func TestToleranceLetsWhatIsAsGoodForward(t *testing.T) {
	o := SequentialOptions{Share: .5, Tolerance: .05}
	forward := 0
	for i := range uint64(20) {
		l, _ := rollOut(t, i, .2, 0, .3, .5, 3000, 1000, 40, o)
		if l.Direction == Forward {
			forward++
			if l.Low <= -.05 || !strings.Contains(l.Reason, "not worse by more than 0.05") && !strings.Contains(l.Reason, "better") {
				t.Errorf("%+v", l)
			}
		}
		if l, _ = rollOut(t, i, .3, -.15, .3, .5, 3000, 1000, 40, o); l.Direction != Back {
			t.Errorf("worse by .15, with a tolerance of .05: %s", l.Reason)
		}
	}
	if forward < 18 {
		t.Errorf("%d of 20 go forward", forward)
	}
}

// The state is what the rewards say, in whatever order they come, and is held by user.
func TestSequentialIsRebuiltByReplay(t *testing.T) {
	type reward struct {
		arm   Arm
		user  string
		value float64
	}
	r := rand.New(rand.NewPCG(4, 4))
	var rewards []reward
	for range 5000 {
		u := r.IntN(300)
		rewards = append(rewards, reward{Arm(u % 2), fmt.Sprint(u), float64(r.IntN(4) - 1)})
	}
	replay := func() (Look, *Sequential) {
		s, err := NewSequential(SequentialOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range rewards {
			if err := s.Add(x.arm, x.user, x.value); err != nil {
				t.Fatal(err)
			}
		}
		return s.Decide(), s
	}
	first, s := replay()
	if len(s.users) != 300 {
		t.Errorf("%d users are held", len(s.users))
	}
	r.Shuffle(len(rewards), func(i, j int) { rewards[i], rewards[j] = rewards[j], rewards[i] })
	again, _ := replay()
	if math.Abs(first.Low-again.Low) > 1e-12 || math.Abs(first.High-again.High) > 1e-12 || first.Decisions != again.Decisions {
		t.Errorf("%+v in another order is %+v", first, again)
	}
	// The sums agree with what they are sums of.
	var direct [2]float64
	for _, u := range s.users {
		d := u.rewards - first.Mean[u.arm]*float64(u.n)
		direct[u.arm] += d * d * 150 / 149
	}
	for i := range direct {
		if got := s.arms[i].spread(first.Mean[i]); math.Abs(got-direct[i]) > 1e-9*direct[i] {
			t.Errorf("%s: a spread of %v, by its definition %v", Arm(i), got, direct[i])
		}
	}
}

func TestSequentialSaysWhatIsWrong(t *testing.T) {
	for want, o := range map[string]SequentialOptions{
		"alpha is 0.5":     {Alpha: .5},
		"tolerance is -1":  {Tolerance: -1},
		"min users is 1":   {MinUsers: 1},
		"share is 1":       {Share: 1},
		"decisions is -1":  {Decisions: -1},
		"variance is +Inf": {Variance: math.Inf(1)},
	} {
		if _, err := NewSequential(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	s, err := NewSequential(SequentialOptions{MinUsers: 2})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Add(Present, "a", 1); err != nil {
		t.Fatal(err)
	}
	before := s.Decide()
	if err := s.Add(Candidate, "a", 1); !errors.Is(err, ErrBothArms) {
		t.Errorf("%v, want %v", err, ErrBothArms)
	}
	for want, err := range map[string]error{"arm is 7": s.Add(7, "b", 1), "user is empty": s.Add(Present, "", 1), "NaN": s.Add(Present, "b", math.NaN())} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if after := s.Decide(); after != before || after.Known || after.Direction != Continue || !strings.Contains(after.Reason, "want 2 of each") {
		t.Errorf("after errors only %+v, before %+v", after, before)
	}
}
