package rltrainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/ope"
	"github.com/r2rec/r2rec/internal/policy"
)

const since = event.Time(1.8e12)

var rolled = RollOut{Current: "old", Candidate: "new", Share: .5, Since: since, Base: "base", Readout: "verdicts", Prompt: 4, Think: 96}

// quick decides large differences after some dozen decisions.
var quick = ope.SequentialOptions{MinUsers: 10, Decisions: 100}

// reward of slot 1 of a decision, by the adapter that the user should have.
func reward(i int, value func(adapter string) float64) event.Reward {
	r := event.Reward{DecisionID: fmt.Sprint("d", i), UserID: fmt.Sprint("u", i), ItemID: "i", Position: 1, Examination: 1, Attribution: "none",
		DecidedAt: since + event.Time(i), Timestamp: since + event.Time(i) + 1000, Source: event.Reasoned, Adapter: rolled.Current}
	if policy.InRollOut(rolled.Candidate, r.UserID, rolled.Share) {
		r.Adapter = rolled.Candidate
	}
	r.Value = value(r.Adapter)
	return r
}

func watch(t *testing.T) *Watch {
	t.Helper()
	w, err := NewWatch(rolled, time.Hour, quick)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func better(adapter string) float64 { return map[string]float64{"new": 1}[adapter] }
func worse(adapter string) float64  { return map[string]float64{"old": 1}[adapter] }
func same(string) float64           { return .3 }

func TestRollOutGoesForwardOrBack(t *testing.T) {
	for name, tc := range map[string]struct {
		value func(string) float64
		want  event.Promotion
	}{
		"better": {better, event.Promotion{Kind: event.Complete, Adapter: "new", Parent: "old", Reason: "roll-out: it is better: +1.0000"}},
		"worse":  {worse, event.Promotion{Kind: event.RollBack, Adapter: "old", Parent: "new", Reason: "roll-out: it is worse: -1.0000"}},
		"same":   {same, event.Promotion{}},
	} {
		w := watch(t)
		for i := range 60 {
			if err := w.Add(reward(i, tc.value)); err != nil {
				t.Fatal(err)
			}
		}
		p, ok := w.Decide()
		if !strings.HasPrefix(p.Reason, tc.want.Reason) {
			t.Errorf("%s: %q, want %q", name, p.Reason, tc.want.Reason)
		}
		if tc.want.Kind != "" {
			tc.want.Base, tc.want.Readout, tc.want.Prompt, tc.want.Think = rolled.Base, rolled.Readout, rolled.Prompt, rolled.Think
		}
		if p.Reason = tc.want.Reason; p != tc.want || ok != (tc.want.Kind != "") {
			t.Errorf("%s: %+v, %v; want %+v", name, p, ok, tc.want)
		}
	}
}

// What does not speak of the two adapters, or came before, does not count; and no order changes anything.
func TestWhatCountsInARollOut(t *testing.T) {
	w := watch(t)
	all := []event.Reward{}
	for i := range 40 {
		all = append(all, reward(i, same))
	}
	for i, spoil := range []func(*event.Reward){
		func(r *event.Reward) { r.Control = true },
		func(r *event.Reward) { r.Source, r.Adapter = event.Graph, "" },
		func(r *event.Reward) { r.Position = 2 },
		func(r *event.Reward) { r.DecidedAt = since - 1 },
		func(r *event.Reward) { r.Adapter = "another" },
		func(r *event.Reward) { // has the other arm's adapter
			r.Adapter = map[string]string{"old": "new", "new": "old"}[r.Adapter]
		},
	} {
		r := reward(100+i, same)
		spoil(&r)
		all = append(all, r)
	}
	again := slices.Concat(all, all)
	slices.Reverse(again)
	for _, r := range again {
		if err := w.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.test.Decide().Decisions; n[0]+n[1] != 40 || n[0] < 10 || n[1] < 10 {
		t.Errorf("%v rewards counted, want each of 40 once", n)
	}
}

func TestRollOutEndsInTime(t *testing.T) {
	w := watch(t)
	r := reward(0, same)
	r.Timestamp = since + event.Time(time.Hour.Milliseconds())
	if err := w.Add(r); err != nil {
		t.Fatal(err)
	}
	if p, ok := w.Decide(); ok {
		t.Errorf("%+v at the limit", p)
	}
	r.Timestamp++
	if err := w.Add(r); err != nil {
		t.Fatal(err)
	}
	if p, ok := w.Decide(); !ok || p.Kind != event.RollBack || p.Adapter != "old" || !strings.Contains(p.Reason, "not decided within 1h0m0s: ") {
		t.Errorf("%+v, %v; want it back", p, ok)
	}
	if err := w.Add(reward(7, func(string) float64 { return math.NaN() })); err == nil || !strings.Contains(err.Error(), `"d7"`) {
		t.Errorf("%v", err)
	}
	for _, wrong := range []RollOut{{Candidate: "", Share: .5}, {Candidate: "a", Current: "a", Share: .5}, {Candidate: "a", Share: 0}, {Candidate: "a", Share: 1}} {
		if _, err := NewWatch(wrong, time.Hour, quick); err == nil {
			t.Errorf("%+v is watched", wrong)
		}
	}
	if _, err := NewWatch(rolled, 0, quick); err == nil {
		t.Error("no time at all is enough")
	}
}

// appended is a log that folds what is appended.
type appended struct {
	adapters.State
}

func (l *appended) Append(_ context.Context, p event.Promotion) (adapters.State, bool, error) {
	l.State = l.Apply(l.Offset, p)
	return l.State, l.Entries[len(l.Entries)-1].Void == "", nil
}

// What ends a roll-out is for what the candidate is for, whichever model watches.
func TestWatchWritesToTheLog(t *testing.T) {
	log := &appended{}
	for _, p := range []event.Promotion{
		{Kind: event.Promote, Adapter: "old", Share: 1}, {Kind: event.Promote, Adapter: "new", Parent: "old", Share: .5},
	} {
		p.Base, p.Readout, p.Prompt, p.Think, p.Reason, p.Timestamp = rolled.Base, rolled.Readout, rolled.Prompt, rolled.Think, "test", since
		if s, counts, _ := log.Append(t.Context(), p); !counts {
			t.Fatalf("%+v", s.Entries)
		}
	}
	r, ok := RollOutOf(log.State)
	if !ok || r != rolled {
		t.Fatalf("%+v, %v", r, ok)
	}
	w := watch(t)
	n := 0
	next := func(_ context.Context, add func(event.Reward) error) error {
		n += 5
		for i := n - 5; i < n; i++ {
			if err := add(reward(i, worse)); err != nil {
				return err
			}
		}
		return nil
	}
	s, err := w.Run(t.Context(), next, log, func() time.Time { return since.Std() })
	last := s.Entries[len(s.Entries)-1]
	if err != nil || s.Current != "old" || s.Candidate != "" || last.Record.Kind != event.RollBack || last.Void != "" ||
		last.Record.Base != rolled.Base || last.Record.Readout != rolled.Readout || last.Record.Prompt != rolled.Prompt || last.Record.Think != rolled.Think {
		t.Errorf("%+v, %v; want the roll-out taken back", s, err)
	}
	if _, ok := RollOutOf(s); ok {
		t.Error("it is still under way")
	}
	gone := errors.New("gone")
	if _, err := w.Run(t.Context(), func(context.Context, func(event.Reward) error) error { return gone }, log, time.Now); !errors.Is(err, gone) {
		t.Errorf("%v", err)
	}
}
