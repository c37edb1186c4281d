package rltrainer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/simulate"
)

// ReplayOptions say how a service would have met the users of the past.
type ReplayOptions struct {
	Service simulate.Service
	// Stays is the probability that a user looks at the next slot after one that was not clicked. Default .85.
	Stays   float64
	Cascade bool // the rewards do not know how far users look, see simulate.User
	Seed    uint64
	// Told is told of every decision, if set.
	Told func(done, total int)
}

// Replay has a service decide at every case, and the user of the case click what the real one chose next, if it is shown
// and looked at, and nothing else. So what a list earns is known whatever is shown, and nobody's taste is made up: only
// how users look at lists is. The examples are those of the cases (Ask). The service's model is asked from several goroutines; what
// comes of it does not depend on how many.
func Replay(ctx context.Context, cases []eval.Case, examples []Example, o ReplayOptions) (decisions []event.Decision, rewards []event.Reward, err error) {
	if len(cases) != len(examples) {
		return nil, nil, fmt.Errorf("replay %d cases by %d examples", len(cases), len(examples))
	}
	stays := o.Stays
	if stays == 0 {
		stays = .85
	}
	decisions, earned := make([]event.Decision, len(cases)), make([][]event.Reward, len(cases))
	one := counted(o.Told, len(cases))
	err = each(ctx, len(cases), func(ctx context.Context, i int) (err error) {
		k, r := cases[i], rand.New(rand.NewPCG(o.Seed, uint64(i)))
		if decisions[i], err = o.Service.Decide(ctx, "replay-"+k.ID, k.User, k.At, examples[i].Context, r.Uint64()>>11); err != nil {
			return fmt.Errorf("replay case %.80q: %w", k.ID, err)
		}
		user := simulate.User{Stays: stays, Cascade: o.Cascade, Wants: func(item string) float64 {
			if item == k.Positive {
				return 1
			}
			return 0
		}}
		earned[i] = user.Browse(decisions[i], r)
		one()
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return decisions, slices.Concat(earned...), nil
}
