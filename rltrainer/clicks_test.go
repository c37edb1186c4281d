package rltrainer

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/r2rec/r2rec/internal/ope"
)

// The click model finds what the users want where there is enough to see it by, and knows no more than the mean where
// there is not.
func TestFitClicks(t *testing.T) {
	decisions, rewards := log(t, 3000, .1, 7)
	rollouts := Join(decisions, rewards, JoinOptions{Model: toyModel}).Rollouts
	c, err := FitClicks(rollouts, Folds)
	must(t, err)
	off, mean := 0., 0.
	for i, r := range rollouts {
		for a, x := range r.Decision.Context.Candidates {
			off += square(c.Q[i][a]-x.Evidence.Category/2) / 18000
		}
		mean += square(r.Decision.Context.Candidates[r.First].Evidence.Category/2-.25) / 3000
	}
	if c.Means != 0 || off > mean/4 || !(c.Error < c.Constant-.01) {
		t.Errorf("off by %.4f, the mean by %.4f; error %.4f of %.4f, %d means", off, mean, c.Error, c.Constant, c.Means)
	}

	few, err := FitClicks(rollouts[:100], Folds)
	must(t, err)
	if few.Means != Folds || math.Abs(few.Error-few.Constant) > 1e-12 {
		t.Errorf("of 100: %d means, error %v and %v", few.Means, few.Error, few.Constant)
	}
	for i, q := range few.Q {
		if slices.Min(q) != slices.Max(q) || q[0] <= 0 || q[0] >= .6 {
			t.Errorf("rollout %d: %v", i, q)
		}
	}
	none, err := FitClicks(nil, Folds)
	if err != nil || none.Q == nil || len(none.Q) != 0 {
		t.Errorf("of nothing: %+v, %v", none, err)
	}
}

// No reward of a user has a part in what is predicted for that user, and every reward of the other folds has.
func TestFitClicksIsCrossFitted(t *testing.T) {
	decisions, rewards := log(t, 600, .1, 7)
	rollouts := Join(decisions, rewards, JoinOptions{Model: toyModel}).Rollouts
	before, err := FitClicks(rollouts, Folds)
	must(t, err)
	user := rollouts[5].Decision.UserID
	for i := range rollouts {
		if rollouts[i].Decision.UserID == user {
			rollouts[i].Reward += 5
		}
	}
	after, err := FitClicks(rollouts, Folds)
	must(t, err)
	for i, r := range rollouts {
		same := cmp.Equal(before.Q[i], after.Q[i])
		if own := ope.Fold(r.Decision.UserID, Folds) == ope.Fold(user, Folds); same != own {
			t.Errorf("rollout %d of user %s: the same q %v, the same fold %v", i, r.Decision.UserID, same, own)
		}
	}
}

func TestFitClicksFails(t *testing.T) {
	decisions, rewards := log(t, 300, .1, 7)
	rollouts := Join(decisions, rewards, JoinOptions{Model: toyModel}).Rollouts
	if _, err := FitClicks(rollouts, 1); err == nil || !strings.Contains(err.Error(), "1 folds, want 2 or more") {
		t.Errorf("%v", err)
	}
	rollouts[7].Reward = math.NaN()
	if _, err := FitClicks(rollouts, Folds); err == nil || !strings.Contains(err.Error(), "value is NaN") {
		t.Errorf("%v", err)
	}
}
