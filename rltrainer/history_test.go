package rltrainer

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/r2rec/r2rec/internal/event"
)

// What is recalled joins to the same rollouts and counts as all there is.
func TestRecallKeepsWhatTeaches(t *testing.T) {
	s := newSetting(t)
	who := s.school.Model()
	s.past.live(t, 60, s.school.base, who, 1, nil)
	for i := range s.past.decisions {
		d := &s.past.decisions[i]
		switch i % 4 {
		case 0:
			d.Control = true
		case 1:
			d.Explore = false
		case 2:
			d.Source = event.Graph
		}
		for j := range s.past.rewards {
			if r := &s.past.rewards[j]; r.DecisionID == d.DecisionID {
				r.Control, r.Explore, r.Source = d.Control, d.Explore, d.Source
			}
		}
	}
	s.past.forgotten = map[string]event.Time{"u3": s.past.decisions[40].Timestamp, "u7": later, "nobody": later}
	in, err := InputOf(t.Context(), s.past, 0, s.Now())
	must(t, err)
	in.Since = 0
	got, read, err := recall(t.Context(), s.past, in, who)
	must(t, err)
	want := Join(s.past.decisions, s.past.rewards, JoinOptions{Model: who, Forgotten: s.past.forgotten})
	for i := range want.Rollouts {
		want.Rollouts[i].Decision.Thought = event.Thought{} // nothing is learned from it
	}
	// Rewards of decisions that have none of their first slot are orphans, since those are not kept.
	want.Orphans, got.Orphans = 0, 0
	if diff := cmp.Diff(want, got); diff != "" || len(want.Rollouts) == 0 || read.Decisions != 60 {
		t.Errorf("%d rollouts, read %+v (-all +recalled):\n%s", len(want.Rollouts), read, diff)
	}
	forgotten := 0
	for _, d := range s.past.decisions {
		if d.Timestamp < s.past.forgotten[d.UserID] {
			forgotten++
		}
	}
	if forgotten < 2 || got.Dropped[Forgotten] != forgotten {
		t.Errorf("%d decisions are told as forgotten, want %d", got.Dropped[Forgotten], forgotten)
	}
}

// Of what cannot teach next to nothing is kept, however much of it was shown: a site's lists of a month fit.
func TestRecallOfMuchThatCannotTeach(t *testing.T) {
	h := &crowd{lists: 5000, slots: 10}
	j, read, err := recall(t.Context(), h, Input{}, event.Model{})
	must(t, err)
	if read.Decisions != 2*h.lists || j.Dropped[NotExplored] != h.lists || j.Repeated != h.lists*(1+h.slots) {
		t.Errorf("read %+v, dropped %v, %d came again", read, j.Dropped, j.Repeated)
	}
	if a := h.held / uint64(h.lists); a > 250 {
		t.Errorf("%d bytes are held of each list", a)
	}
}

// crowd is a history in which everything comes twice, and nothing explores.
type crowd struct {
	History
	lists, slots int
	held         uint64 // bytes, before the last is given
}

func (h *crowd) Forgotten(context.Context) (map[string]event.Time, error) { return nil, nil }

func (h *crowd) Rewards(_ context.Context, _ event.Time, _ Mark, f func(event.Reward) error) (int, error) {
	h.held = heap()
	for i := range 2 * h.lists {
		for slot := range h.slots {
			r := event.Reward{DecisionID: fmt.Sprintf("decision-%012d", i%h.lists), UserID: fmt.Sprint("u", i), Position: slot + 1, Source: event.Reasoned}
			if err := f(r); err != nil {
				return 0, err
			}
		}
	}
	return 0, nil
}

func (h *crowd) Decisions(_ context.Context, _ event.Time, _ Mark, f func(event.Decision) error) (int, error) {
	for i := range 2 * h.lists {
		d := event.Decision{DecisionID: fmt.Sprintf("decision-%012d", i%h.lists), UserID: fmt.Sprint("u", i), Source: event.Reasoned, Model: &event.Model{}, ModelWeight: 1}
		if i == 2*h.lists-1 {
			h.held = heap() - h.held
		}
		if err := f(d); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// heap is how many bytes are reachable.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// What a forgotten user did teaches nothing, also where a round was under way: it ends as one that began without.
func TestARoundForgets(t *testing.T) {
	s := brief(t, nil)
	o := s.RoundOptions
	o.Teacher = faultyTeacher{o.Teacher, &fault{left: 6, with: errKilled}} // fitted, and the reference not opened
	if _, err := RunRound(t.Context(), o); !errors.Is(err, errKilled) || !there(filepath.Join(s.Dir, fittedFile)) {
		t.Fatalf("it was not killed after it was fitted: %v", err)
	}
	user := s.past.decisions[0].UserID
	s.past.forgotten = map[string]event.Time{user: s.past.decisions[1].Timestamp}
	report, err := RunRound(t.Context(), s.RoundOptions)
	must(t, err)
	undisturbed := brief(t, &s)
	want, err := RunRound(t.Context(), undisturbed.RoundOptions)
	must(t, err)
	if report.Adapter == "" || report.Adapter != want.Adapter || report.Dropped[Forgotten] != 1 || len(report.Policy) != s.Learn.Steps {
		t.Errorf("%s by %+v, want %s, which never knew %s", report.Adapter, report.Dropped, want.Adapter, user)
	}
	s.past.forgotten = nil
	all := brief(t, &s)
	with, err := RunRound(t.Context(), all.RoundOptions)
	must(t, err)
	if with.Adapter == want.Adapter {
		t.Errorf("%s teaches nothing: the test tries nothing", user)
	}
}
