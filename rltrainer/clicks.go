package rltrainer

import (
	"errors"
	"fmt"

	"github.com/r2rec/r2rec/internal/fusion"
	"github.com/r2rec/r2rec/internal/ope"
)

// Folds is how many parts the users are cut into where nobody says.
const Folds = 5

// Clicks is what a click model says of rollouts: q(a), the expected reward of slot 1 if candidate a stood there, from the
// evidence alone.
type Clicks struct {
	Q        [][]float64 `json:"-"`        // one a candidate, for each rollout
	Error    float64     `json:"error"`    // mean squared error of q for the items that were shown
	Constant float64     `json:"constant"` // the same, of the mean reward of the other folds
	Means    int         `json:"means"`    // folds for which there was too little to fit: their q is the mean reward of the others
}

// FitClicks fits a click model to what slot 1 earned, cross-fitted by user: users are cut into folds by a hash of their id,
// and q of a rollout comes from a model that saw no rollout of its user's fold, so that no reward predicts itself. The
// same rollouts in the same order give the same q.
func FitClicks(rollouts []Rollout, folds int) (Clicks, error) {
	if folds < 2 {
		return Clicks{}, fmt.Errorf("fit a click model: %d folds, want 2 or more", folds)
	}
	c := Clicks{Q: make([][]float64, len(rollouts))}
	lists := make([]fusion.List, len(rollouts))
	fold := make([]int, len(rollouts))
	for i, r := range rollouts {
		lists[i] = fusion.FromContext(r.Decision.Context)
		fold[i] = ope.Fold(r.Decision.UserID, folds)
	}
	for f := range folds {
		var seen []fusion.Valued
		mean := 0.
		for i, r := range rollouts {
			if fold[i] != f {
				seen = append(seen, fusion.Valued{List: lists[i], Item: r.First, Value: r.Reward})
				mean += r.Reward
			}
		}
		if len(seen) > 0 {
			mean /= float64(len(seen))
		}
		model, err := fusion.FitValues(seen, fusion.ValueOptions{})
		switch {
		case errors.Is(err, fusion.ErrTooFew):
			c.Means++
			model = fusion.ConstantValue(mean)
		case err != nil:
			return Clicks{}, fmt.Errorf("fit a click model on all users but fold %d of %d: %w", f+1, folds, err)
		}
		for i, r := range rollouts {
			if fold[i] == f {
				c.Q[i] = model.Values(lists[i])
				n := float64(len(rollouts))
				c.Error += square(r.Reward-c.Q[i][r.First]) / n
				c.Constant += square(r.Reward-mean) / n
			}
		}
	}
	return c, nil
}

func square(x float64) float64 { return x * x }
