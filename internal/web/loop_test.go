package web

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/r2rec/r2rec/internal/event"
)

// learning plays the learning loop.
type learning struct {
	mu    sync.Mutex
	state LoopState
	err   error
	asked int
}

func (l *learning) Loop(context.Context) (LoopState, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	return l.state, l.err
}

func (l *learning) set(change func(*LoopState)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.state)
}

func (l *learning) times() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked
}

func TestHowLearningGoesIsTold(t *testing.T) {
	l := &learning{}
	st := serve(t, func(o *Options) { o.Loop, o.Token = l, "sesame" }, nil)
	if a := st.ask(t, "GET", "/v1/loop", "", sesame...).want(t, 200); !strings.Contains(a.body, `"arms":[]`) || !strings.Contains(a.body, `"ended":[]`) ||
		strings.Contains(a.body, "simulation") || strings.Contains(a.body, "uplift") || strings.Contains(a.body, "offset") {
		t.Errorf("before anything is known: %s", a.body)
	}
	offset := int64(4)
	l.set(func(s *LoopState) {
		*s = LoopState{Simulation: &Simulation{Rule: "clicks what follows", Visits: 3, Limit: 9}, Rewards: RewardCounts{Decisions: 2, ByDecision: 1},
			Arms:   []Arm{{Adapter: "aa", Decisions: 2, Users: 1, Mean: .5}, {Graph: true, Control: true, Decisions: 30, Users: 20, Interval: &Interval{Low: -.1, High: .1}}},
			Uplift: &Uplift{Difference: .5, Users: 1, Control: 20, Least: 20}, Offset: &offset,
			Rounds:  Rounds{Usable: 3, Needed: 5, Running: &Running{Doing: "the gate", Done: 1, Total: 2}, Ended: []Round{{Verdict: "refused", Reward: []float64{.1}, Gate: &event.Gate{Decisions: 7}}}},
			RollOut: &RollOut{Candidate: "bb", Share: .2, Users: [2]int{5, 2}}}
	})
	got := decodeAs[LoopState](t, st.ask(t, "GET", "/v1/loop", "", sesame...).want(t, 200))
	if diff := cmp.Diff(l.state, got); diff != "" {
		t.Error(diff)
	}
	st.ask(t, "GET", "/v1/loop", "").want(t, 401)
	l.mu.Lock()
	l.err = context.DeadlineExceeded
	l.mu.Unlock()
	st.ask(t, "GET", "/v1/loop", "", sesame...).want(t, 504)
}

func TestNothingIsFollowed(t *testing.T) {
	st := serve(t, nil, nil)
	if a := st.ask(t, "GET", "/v1/loop", "").want(t, 404); !strings.Contains(a.body, "--adapters") {
		t.Errorf("it does not say how: %s", a.body)
	}
	if l := st.listen(t); strings.Contains(l.want(kindStats)+l.want(kindHealth), "arms") {
		t.Error("a loop is told that is not followed")
	}
}

// The stream tells the loop when it changes, and to who comes later.
func TestTheStreamTellsTheLoopWhenItChanges(t *testing.T) {
	l := &learning{state: LoopState{Rounds: Rounds{Usable: 1}}}
	st := serve(t, func(o *Options) { o.Loop = l }, nil)
	first := st.listen(t)
	if got := first.want(kindLoop); !strings.Contains(got, `"usable":1,`) || !strings.Contains(got, `"arms":[]`) {
		t.Errorf("%s", got)
	}
	at := l.times()
	waitFor(t, "the loop to be asked again", func() bool { return l.times() > at+3 })
	l.set(func(s *LoopState) { s.Rounds.Usable = 2 })
	if got := first.want(kindLoop); !strings.Contains(got, `"usable":2,`) {
		t.Errorf("what did not change was told again: %s", got)
	}
	if got := st.listen(t).want(kindLoop); !strings.Contains(got, `"usable":2,`) {
		t.Errorf("who comes later is told %s", got)
	}
}

func TestTheStreamMarksSimulatedUsersAndLeavesOutWhatWasShown(t *testing.T) {
	st := serve(t, nil, nil)
	l := st.listen(t)
	l.want(kindStats)
	click, shown := interaction("click"), interaction("shown")
	click.Surface, shown.Type = SimulatedSurface, event.Impression
	st.server.Feed.Applied([]event.Interaction{shown})
	st.server.Feed.Applied([]event.Interaction{click, shown})
	if got := l.want(kindApplied); !strings.Contains(got, `"event_id":"click"`) || !strings.Contains(got, `"simulated":true`) {
		t.Errorf("%s, want the click, as one of a simulated user", got)
	}
	st.server.Feed.Applied([]event.Interaction{interaction("like")})
	if got := l.want(kindApplied); !strings.Contains(got, `"event_id":"like"`) || strings.Contains(got, "simulated") {
		t.Errorf("%s, want the like of a real user", got)
	}
}
