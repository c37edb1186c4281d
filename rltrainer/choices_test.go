package rltrainer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/policy"
	"github.com/r2rec/r2rec/internal/simulate"
)

// An item's exposure is the share of lists in which it is shown and looked at.
func TestExposureIsHowOftenItIsSeen(t *testing.T) {
	d := event.Decision{Explore: true, Temperature: 1.3, Slate: make([]event.Slot, 3)}
	for i, f := range policy.LogSoftmax([]float64{2, 1, .5, 0, -1, -2}) {
		d.Context.Candidates = append(d.Context.Candidates, event.Candidate{ItemID: fmt.Sprint(i)})
		d.Scores = append(d.Scores, event.Score{Final: f})
	}
	looks := []float64{1, .8, .5}
	const n = 40_000
	seen := make([]float64, 6)
	mean := make([]float64, 6)
	for seed := range uint64(n) {
		d.Seed = seed
		for k, s := range policy.Slate(d, 3) {
			seen[d.Context.Candidate(s.ItemID)] += looks[k] / n
		}
		if seed < 400 {
			for i := range mean {
				mean[i] += exposure(d, i, looks) / 400
			}
		}
	}
	for i := range seen {
		if math.Abs(mean[i]-seen[i]) > 4*math.Sqrt(seen[i]/n)+.002 {
			t.Errorf("candidate %d is seen in a share of %.4f of the lists, its exposure is %.4f", i, seen[i], mean[i])
		}
		d.Seed = 5
		if x := exposure(d, i, looks); math.Abs(x/seen[i]-1) > .2 || x != exposure(d, i, looks) {
			t.Errorf("candidate %d: exposure %.4f of one decision, want about %.4f, and the same again", i, x, seen[i])
		}
	}
}

// Weighted by their exposure, choices are what users want, whatever was shown: by a policy that shows one of two items far
// more often, both are still chosen as they are wanted.
func TestChoicesAreWhatIsWanted(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	c := toyContext(r, 6)
	for i := range c.Candidates {
		c.Candidates[i].Evidence.Category = []float64{.1, 1, .5, .6, .7, .8}[i]
	}
	wanted := []string{"i0", "i1"} // by half of the users each; the policy has no liking for the first
	service := simulate.Service{Model: byCategory(.22), Identity: toyModel, K: 3}
	var decisions []event.Decision
	var rewards []event.Reward
	for i := range 6000 {
		want := wanted[r.IntN(2)]
		d, err := service.Decide(t.Context(), fmt.Sprint("d", i), fmt.Sprint("u", i), 1_700_000_000_000, c, r.Uint64()>>11)
		must(t, err)
		decisions = append(decisions, d)
		rewards = append(rewards, simulate.User{Stays: .7, Wants: func(item string) float64 {
			if item == want {
				return 1
			}
			return 0
		}}.Browse(d, r)...)
	}
	rollouts := Join(decisions, rewards, JoinOptions{Model: toyModel}).Rollouts
	if got := looks(rollouts); len(got) != 3 || math.Abs(got[1]-.7) > 1e-9 || math.Abs(got[2]-.49) > 1e-9 {
		t.Errorf("slots are looked at with probability %v", got)
	}
	counted, weighed := [2]float64{}, [2]float64{}
	choices := Choices(rollouts)
	for _, e := range choices {
		at := slices.Index(wanted, e.Context.Candidates[e.Chosen].ItemID)
		counted[at]++
		weighed[at] += e.Weight
	}
	if share := weighed[0] / (weighed[0] + weighed[1]); math.Abs(share-.5) > .04 || counted[0] > .4*counted[1] {
		t.Errorf("%v were chosen, weighed %v", counted, weighed)
	}
	if sum := weighed[0] + weighed[1]; math.Abs(sum-float64(len(choices))) > 1e-6 {
		t.Errorf("%d choices count as %v", len(choices), sum)
	}
}
