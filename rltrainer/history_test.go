package rltrainer

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/r2rec/r2rec/internal/event"
)

// What is recalled joins to the same rollouts and counts as all there is; of what cannot teach, hardly anything is kept.
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
	in, err := InputOf(t.Context(), s.past, 0, s.Now())
	must(t, err)
	in.Since = 0
	decisions, rewards, read, err := recall(t.Context(), s.past, in)
	must(t, err)
	want, got := Join(s.past.decisions, s.past.rewards, JoinOptions{Model: who}), Join(decisions, rewards, JoinOptions{Model: who})
	for i := range want.Rollouts {
		want.Rollouts[i].Decision.Thought = event.Thought{} // nothing is learned from it
	}
	// Rewards of decisions that have none of their first slot are orphans, since those are not kept.
	want.Orphans, got.Orphans = 0, 0
	if diff := cmp.Diff(want, got); diff != "" || len(want.Rollouts) == 0 || read.Decisions != 60 {
		t.Errorf("%d rollouts, read %+v (-all +recalled):\n%s", len(want.Rollouts), read, diff)
	}
	whole := 0
	for _, d := range decisions {
		if len(d.Context.Candidates) > 0 {
			whole++
		}
	}
	if whole > 15 {
		t.Errorf("%d decisions are kept whole, and 15 can teach", whole)
	}
}
