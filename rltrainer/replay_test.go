package rltrainer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/simulate"
)

func pastCases(n int) (cases []eval.Case, examples []Example) {
	r := rand.New(rand.NewPCG(3, 1))
	for i := range n {
		c := toyContext(r, 8)
		k := eval.Case{ID: fmt.Sprint("c", i), User: fmt.Sprint("u", i%9), At: event.Time(1_700_000_000_000 + i)}
		for _, x := range c.Candidates {
			k.Candidates = append(k.Candidates, x.ItemID)
		}
		chosen := r.IntN(8)
		k.Positive = k.Candidates[chosen]
		cases, examples = append(cases, k), append(examples, Example{Context: c, Chosen: chosen})
	}
	return cases, examples
}

// A user of the past clicks what the real one chose, and that alone; who looks as far as it always does. The context is the
// one that was known then.
func TestReplay(t *testing.T) {
	cases, examples := pastCases(300)
	o := ReplayOptions{Service: simulate.Service{Model: byCategory(.2), Identity: toyModel, K: 4}, Stays: 1, Seed: 5}
	told := 0
	o.Told = func(done, total int) {
		if told++; done != told || total != 300 {
			t.Errorf("told %d of %d at decision %d", done, total, told)
		}
	}
	decisions, rewards, err := Replay(t.Context(), cases, examples, o)
	must(t, err)
	if len(decisions) != 300 || len(rewards) != 1200 || told != 300 {
		t.Fatalf("%d decisions, %d rewards, told %d times", len(decisions), len(rewards), told)
	}
	for i, d := range decisions {
		if d.UserID != cases[i].User || d.Timestamp != cases[i].At || !cmp.Equal(d.Context, examples[i].Context) {
			t.Fatalf("decision %d is of user %s at %s", i, d.UserID, d.Timestamp)
		}
		for j, s := range d.Slate {
			if want := s.ItemID == cases[i].Positive; (rewards[4*i+j].Value == 1) != want {
				t.Errorf("decision %d, slot %d: earns %v, was chosen: %v", i, j+1, rewards[4*i+j].Value, want)
			}
		}
	}
	j := Join(decisions, rewards, JoinOptions{Model: toyModel})
	if len(j.Rollouts) != 300 || len(j.Dropped) != 0 {
		t.Errorf("%d rollouts, dropped %v", len(j.Rollouts), j.Dropped)
	}
	for i, r := range j.Rollouts {
		if (r.Reward == 1) != (r.First == examples[i].Chosen) {
			t.Errorf("rollout %d: candidate %d earns %v, in the past %d was chosen", i, r.First, r.Reward, examples[i].Chosen)
		}
	}
	o.Told = nil
	again, _, err := Replay(t.Context(), cases, examples, o)
	must(t, err)
	if !cmp.Equal(decisions, again) {
		t.Error("the same seed gives other decisions")
	}
	o.Seed = 6
	if other, _, err := Replay(t.Context(), cases, examples, o); err != nil || cmp.Equal(decisions, other) {
		t.Errorf("another seed gives the same decisions, %v", err)
	}

	broken := errors.New("it broke")
	o.Service.Model = &recorder{fail: broken, shares: func(iot.Prompt) []float64 { return nil }}
	if _, _, err := Replay(t.Context(), cases, examples, o); !errors.Is(err, broken) || !strings.Contains(err.Error(), `replay case "c`) {
		t.Errorf("%v", err)
	}
	if _, _, err := Replay(t.Context(), cases[1:], examples, o); err == nil || !strings.Contains(err.Error(), "299 cases by 300 examples") {
		t.Errorf("%v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	o.Service.Model = byCategory(.2)
	if _, _, err := Replay(gone, cases, examples, o); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
