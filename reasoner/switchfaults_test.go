package reasoner

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestFaultsKeepTheOldOne(t *testing.T) {
	down := errors.New("the bucket does not answer")
	for _, tc := range []struct {
		fault, want string
		err         error
		refused     bool
	}{
		{"load bad", "does not answer", down, false},
		{"load bad", "for base", refusal{errors.New("the adapter is for base_digest ab")}, true},
		{"prove bad", "slope .4", refusal{errors.New("slope .4")}, true},
		{"prove bad", "does not answer", down, false},
		{"warm bad", "warm up", down, false},
		{"alias", `calls itself adapter "good"`, nil, true},
	} {
		t.Run(tc.fault+" "+tc.want, func(t *testing.T) {
			s := &shelf{}
			sw, clock := newTestSwitch(t, s)
			want(t, sw, Target{Current: "good"})
			s.set(tc.fault, tc.err)
			if tc.err == nil {
				s.alias = "good"
			}
			sw.Want(Target{Current: "bad"})
			faulty := func(attempts int) func(SwitchStatus) bool {
				return func(st SwitchStatus) bool { return len(st.Faults) == 1 && st.Faults[0].Attempts == attempts }
			}
			await(t, sw, faulty(1))
			st := sw.Status()
			if f := st.Faults[0]; f.Adapter != "bad" || !strings.Contains(f.Reason, tc.want) || f.Refused != tc.refused || (f.Again == 0) != tc.refused {
				t.Errorf("%+v, want a reason with %q, refused %v", f, tc.want, tc.refused)
			}
			if got := answers(t, sw, "u"); got != "good" || st.Serving.Current != "good" || st.Wanted.Current != "bad" {
				t.Errorf("%q answers, status %+v; want the old one to go on", got, st)
			}
			if tc.refused {
				clock.forward(time.Hour)
				want(t, sw, Target{Current: "good"})
				if s.loads["bad"] != 1 {
					t.Errorf("a refused adapter was loaded %d times", s.loads["bad"])
				}
				return
			}
			clock.forward(59 * time.Second)
			clock.forward(2 * time.Second)
			await(t, sw, faulty(2))
			s.set(tc.fault, nil)
			clock.forward(61 * time.Second)
			await(t, sw, SwitchStatus.Settled)
			if got := answers(t, sw, "u"); got != "bad" || len(sw.Status().Faults) != 0 {
				t.Errorf("%q answers when the cause is gone, faults %+v", got, sw.Status().Faults)
			}
			if n := testutil.ToFloat64(sw.metrics.loads.WithLabelValues("failed")); n != 2 {
				t.Errorf("%v failures are counted, want 2", n)
			}
		})
	}
}

// TestTheNewestTargetWins: a load that nobody wants any more ends, and what it made is let go.
func TestTheNewestTargetWins(t *testing.T) {
	s := &shelf{begun: make(chan string), proceed: make(chan struct{})}
	sw, _ := newTestSwitch(t, s)
	sw.Want(Target{Current: "slow"})
	<-s.begun
	sw.Want(Target{Current: "newer"})
	if got := <-s.begun; got != "newer" {
		t.Fatalf("%q is loaded next, want the newer one", got)
	}
	if st := sw.Status(); st.Loading != "newer" || len(st.Faults) != 0 {
		t.Errorf("%+v, want the newer one under way and no fault", st)
	}
	s.proceed <- struct{}{}
	await(t, sw, SwitchStatus.Settled)
	if got := answers(t, sw, "u"); got != "newer" {
		t.Errorf("%q answers", got)
	}
	if n := testutil.ToFloat64(sw.metrics.loads.WithLabelValues("overtaken")); n != 1 {
		t.Errorf("%v overtaken loads are counted, want 1", n)
	}
}

// TestATargetBetweenChoosingAndLoadingCounts: what nobody wants any more as its load begins is not loaded.
func TestATargetBetweenChoosingAndLoadingCounts(t *testing.T) {
	s := &shelf{begun: make(chan string), proceed: make(chan struct{})}
	sw, c := newTestSwitch(t, s)
	var once sync.Once
	c.asked = func() { once.Do(func() { sw.Want(Target{Current: "newer"}) }) } // as a load begins
	sw.Want(Target{Current: "slow"})
	if got := <-s.begun; got != "newer" {
		t.Fatalf("%q is loaded, want the newer one", got)
	}
	s.proceed <- struct{}{}
}

func TestACandidateThatFailsLeavesTheCurrentAlone(t *testing.T) {
	s := &shelf{}
	s.set("prove new", refusal{errors.New("it changes nothing")})
	sw, _ := newTestSwitch(t, s)
	sw.Want(Target{Current: "old", Candidate: "new", Share: 1})
	await(t, sw, func(st SwitchStatus) bool { return len(st.Faults) == 1 })
	if got := answers(t, sw, "u"); got != "old" {
		t.Errorf("%q answers, want the current adapter", got)
	}
}
