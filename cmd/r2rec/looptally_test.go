package main

import (
	"fmt"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/web"
)

func earned(decision, user string, value float64, adapter string, control bool) event.Reward {
	r := event.Reward{DecisionID: decision, UserID: user, Position: 1, Value: value, Examination: 1, Adapter: adapter, Control: control, Source: event.Reasoned,
		Explore: true, Surface: web.SimulatedSurface}
	if control {
		r.Source = event.Graph
	}
	if value > 0 {
		r.Attribution = event.ByDecision
	}
	return r
}

func TestRewardsAreSummedByWhoRanked(t *testing.T) {
	y := newTally(1000)
	second := earned("d1", "u1", 3, "aa", false)
	second.Position = 2
	real := earned("d3", "u2", 0, "aa", false)
	real.Surface, real.Explore = "page", false
	batch := []event.Reward{earned("d1", "u1", 1, "aa", false), second, earned("d2", "u1", 0, "aa", false), real, earned("d4", "u3", 1, "", true), earned("d5", "u4", 1, "", false)}
	y.add(batch)
	y.add(batch) // a restart tells them again
	var l web.LoopState
	y.show(&l)
	want := web.LoopState{
		Rewards: web.RewardCounts{Decisions: 5, Simulated: 4, ByDecision: 4},
		Arms: []web.Arm{{Adapter: "aa", Decisions: 3, Users: 2, Mean: 1. / 3}, {Decisions: 1, Users: 1, Mean: 1},
			{Graph: true, Control: true, Decisions: 1, Users: 1, Mean: 1}},
		Uplift: &web.Uplift{Difference: -.5, Users: 3, Control: 1, Least: leastUsers},
	}
	if diff := cmp.Diff(want, l); diff != "" {
		t.Error(diff)
	}
	if n := y.learned(); n != 3 { // d1, d2, d5
		t.Errorf("%d decisions to learn from, want 3: d3 did not explore, d4 is of a control user", n)
	}
}

func TestOldRewardsGiveWayToNewOnes(t *testing.T) {
	y := newTally(10)
	for i := range 100 {
		y.add([]event.Reward{earned(fmt.Sprint("d", i), fmt.Sprint("u", i), 1, fmt.Sprint("a", i/50), false)})
	}
	for i := range 10 {
		y.add([]event.Reward{earned(fmt.Sprint("e", i), fmt.Sprint("v", i%2), float64(i%2), "b", false)})
	}
	var l web.LoopState
	y.show(&l)
	if diff := cmp.Diff([]web.Arm{{Adapter: "b", Decisions: 10, Users: 2, Mean: .5}}, l.Arms); diff != "" || l.Rewards.ByDecision != 5 || len(y.known) != 10 {
		t.Errorf("%s%+v, %d are known", diff, l.Rewards, len(y.known))
	}
}

// Decisions of one user say the same: with 40 users of ten equal decisions each, the interval is that of 40.
func TestIntervalsAreByUser(t *testing.T) {
	y := newTally(10_000)
	for user := range 40 {
		for i := range 10 {
			y.add([]event.Reward{earned(fmt.Sprintf("d%d-%d", user, i), fmt.Sprint("u", user), float64(user%2), "aa", false)})
		}
	}
	for user := range leastUsers - 1 {
		y.add([]event.Reward{earned(fmt.Sprint("c", user), fmt.Sprint("c", user), 0, "", true)})
	}
	var l web.LoopState
	y.show(&l)
	se := .5 / math.Sqrt(39) // of a mean of 40 values, half of them 0 and half 1
	width := 2.022691 * se   // t of 39 degrees of freedom
	if i := l.Arms[0].Interval; i == nil || math.Abs(i.Low-(.5-width)) > 1e-6 || math.Abs(i.High-(.5+width)) > 1e-6 {
		t.Errorf("%+v, want .5 ± %v", i, width)
	}
	if l.Arms[1].Interval != nil || l.Uplift.Interval != nil || l.Uplift.Difference != .5 {
		t.Errorf("an interval is shown for %d users: %+v %+v", leastUsers-1, l.Arms[1], l.Uplift)
	}
	y.add([]event.Reward{earned("c", "c", 0, "", true)})
	l = web.LoopState{}
	y.show(&l)
	width = 2.093024 * se // of 19: the control has 20 users
	if i := l.Uplift.Interval; i == nil || math.Abs(i.Low-(.5-width)) > 1e-6 {
		t.Errorf("%+v, want .5 ± %v: the control earned nothing, ever", i, width)
	}
}
