package reasoner

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestEachStepHasItsTime: a proof of many answers may take as long as they take together, and whatever stands still is
// given up and tried again.
func TestEachStepHasItsTime(t *testing.T) {
	for what, stands := range map[string]bool{"": false, "load a": true, "prove a": true, "warm a": true} {
		synctest.Test(t, func(t *testing.T) {
			s := &shelf{answers: 40, takes: map[string]time.Duration{"load a": 9 * time.Minute, "prove a": 9 * time.Minute, "warm a": 9 * time.Minute}}
			if stands {
				s.takes[what] = 1 << 62
			}
			sw, _ := newTestSwitch(t, s)
			sw.Want(Target{Current: "a"})
			time.Sleep(81*9*time.Minute + 11*time.Minute) // all of them, and the bound of one
			switch is := sw.Status(); {
			case !stands && !is.Settled():
				t.Errorf("%+v after the time that all steps take together", is)
			case stands && (len(is.Faults) != 1 || is.Faults[0].Refused || !strings.Contains(is.Faults[0].Reason, "deadline exceeded")):
				t.Errorf("%s stands still: %+v, want it given up", what, is)
			}
		})
	}
}
