package rltrainer

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/policy"
	"github.com/r2rec/r2rec/internal/simulate"
)

// categoryDigit is which digit of iot.Figures is about categories.
const categoryDigit = 7

// byCategory is a ranker that prefers candidates of a high digit of categories, by temperature degrees: a model with one weight.
type byCategory float64

func (w byCategory) Rank(_ context.Context, p iot.Prompt) ([]float64, error) {
	scores := make([]float64, len(p.Letters))
	for i, letter := range p.Letters {
		digits := p.Content.Candidates[letter-'A'].Digits
		scores[i] = float64(w) * float64(digits[categoryDigit])
	}
	return policy.LogSoftmax(scores), nil
}

var toyModel = event.Model{Name: "toy", Digest: "base", Readout: "lines", PromptVersion: iot.Figures}

// toyContext has n candidates with random evidence.
func toyContext(r *rand.Rand, n int) (c event.Context) {
	for i := range n {
		e := event.Evidence{SimilarLast: r.Float64(), Popularity: r.IntN(50), Category: r.Float64()}
		e.LikeMindedRecent[2] = r.Float64()
		c.Candidates = append(c.Candidates, event.Candidate{ItemID: fmt.Sprint("i", i), Title: fmt.Sprint("Item ", i), Origin: event.FromChains, Evidence: e})
	}
	c.Likes = 7
	return c
}

// log makes n decisions of a policy of one weight, pooled with a graph that likes the popular, over as many users as there
// are decisions over three; the user wants an item as its category fits.
func log(t testing.TB, n int, w byCategory, seed uint64) (decisions []event.Decision, rewards []event.Reward) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 9))
	service := simulate.Service{Model: w, Identity: toyModel, Weight: .6, Temperature: 1.5, Graph: func(c event.Context) []float64 {
		z := make([]float64, len(c.Candidates))
		for i, x := range c.Candidates {
			z[i] = float64(x.Evidence.Popularity) / 25
		}
		return policy.Exp(policy.LogSoftmax(z))
	}}
	for i := range n {
		c := toyContext(r, 6)
		d, err := service.Decide(t.Context(), fmt.Sprint("d", i), fmt.Sprint("u", i%(1+n/3)), event.Time(1_700_000_000_000+1000*i), c, r.Uint64()>>11)
		must(t, err)
		decisions = append(decisions, d)
		user := simulate.User{Stays: .8, Wants: func(item string) float64 { return c.Candidates[d.Context.Candidate(item)].Evidence.Category / 2 }}
		rewards = append(rewards, user.Browse(d, r)...)
	}
	return decisions, rewards
}

func TestJoin(t *testing.T) {
	decisions, rewards := log(t, 200, .3, 1)
	for _, d := range decisions {
		must(t, d.Validate())
	}
	j := Join(decisions, rewards, JoinOptions{Model: toyModel})
	if len(j.Rollouts) != 200 || len(j.Dropped) != 0 || j.Repeated != 0 || j.Orphans != 0 {
		t.Fatalf("%d rollouts, dropped %v, repeated %d, orphans %d", len(j.Rollouts), j.Dropped, j.Repeated, j.Orphans)
	}
	clicked := 0
	for i, r := range j.Rollouts {
		of := rewards[i*5 : i*5+5]
		switch {
		case r.Decision.DecisionID != decisions[i].DecisionID:
			t.Fatalf("rollout %d is %s", i, r.Decision.DecisionID)
		case r.Reward != of[0].Value || r.Decision.Context.Candidates[r.First].ItemID != r.Decision.Slate[0].ItemID:
			t.Errorf("rollout %d: %v for candidate %d", i, r.Reward, r.First)
		}
		at := slices.IndexFunc(of, func(r event.Reward) bool { return r.Value == 1 })
		switch {
		case at < 0 && (r.Chosen != -1 || r.Earned != 0 || len(r.Looks) != 5 || math.Abs(r.Looks[2]-.64) > 1e-9):
			t.Errorf("rollout %d: candidate %d earned %v, looked at with %v", i, r.Chosen, r.Earned, r.Looks)
		case at >= 0 && (r.Decision.Context.Candidates[r.Chosen].ItemID != of[at].ItemID || r.Earned != 1 || r.Looks != nil):
			t.Errorf("rollout %d: candidate %d earned %v in slot %d", i, r.Chosen, r.Earned, at+1)
		}
		if at >= 0 {
			clicked++
		}
	}
	if choices := Choices(j.Rollouts); len(choices) != clicked || clicked < 50 || clicked > 190 {
		t.Errorf("%d choices of %d clicks", len(choices), clicked)
	}

	// In any order, any number of times, and through JSON, it is the same.
	var again []event.Decision
	for _, i := range rand.New(rand.NewPCG(1, 1)).Perm(400) {
		raw, err := json.Marshal(decisions[i%200])
		must(t, err)
		var d event.Decision
		must(t, json.Unmarshal(raw, &d))
		again = append(again, d)
	}
	slices.Reverse(rewards)
	shuffled := Join(again, append(rewards, rewards[:10]...), JoinOptions{Model: toyModel})
	if diff := cmp.Diff(j.Rollouts, shuffled.Rollouts, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	if shuffled.Repeated != 210 {
		t.Errorf("%d came again", shuffled.Repeated)
	}
}

// Each reason not to learn from a decision, made by the least change of one to learn from.
func TestJoinDrops(t *testing.T) {
	share := func(x float64) *float64 { return &x }
	for want, change := range map[Reason]func(*event.Decision, *[]event.Reward){
		Control: func(d *event.Decision, _ *[]event.Reward) { d.Control = true },
		ByGraph: func(d *event.Decision, _ *[]event.Reward) { d.ModelWeight = 0 },
		NotExplored: func(d *event.Decision, _ *[]event.Reward) {
			d.Explore = false
			d.Slate = policy.Slate(*d, 5)
		},
		OtherModel:  func(d *event.Decision, _ *[]event.Reward) { d.Model.Readout = "letters" },
		Stale:       func(d *event.Decision, _ *[]event.Reward) { d.Timestamp = 1_699_999_999_999 },
		NoChoice:    func(d *event.Decision, _ *[]event.Reward) { d.Slate = nil },
		NotShown:    func(_ *event.Decision, r *[]event.Reward) { *r = (*r)[1:] },
		OtherPrompt: func(d *event.Decision, _ *[]event.Reward) { d.Context.Candidates[2].Evidence.Category *= 3 },
		OtherScores: func(d *event.Decision, _ *[]event.Reward) { d.Scores[1].Model = share(.999 * *d.Scores[1].Model) },
	} {
		decisions, rewards := log(t, 3, .3, 2)
		of := rewards[5:10:10]
		change(&decisions[1], &of)
		rewards = slices.Concat(rewards[:5], of, rewards[10:])
		j := Join(decisions, rewards, JoinOptions{Model: toyModel, Since: 1_700_000_000_000})
		if len(j.Rollouts) != 2 || !maps.Equal(j.Dropped, map[Reason]int{want: 1}) {
			t.Errorf("%s: %d rollouts, dropped %v", want, len(j.Rollouts), j.Dropped)
		}
	}
	more := map[string]func(*event.Decision, *[]event.Reward){
		"a model's digest":        func(d *event.Decision, _ *[]event.Reward) { d.Model.Digest = "other" },
		"a prompt's version":      func(d *event.Decision, _ *[]event.Reward) { d.Model.PromptVersion = iot.Words },
		"no model":                func(d *event.Decision, _ *[]event.Reward) { d.Source, d.Model = event.Graph, nil },
		"another seed":            func(d *event.Decision, _ *[]event.Reward) { d.Seed++ },
		"another temperature":     func(d *event.Decision, _ *[]event.Reward) { d.Temperature *= 1.01 },
		"another weight":          func(d *event.Decision, _ *[]event.Reward) { d.ModelWeight *= 1.01 },
		"another probability":     func(d *event.Decision, _ *[]event.Reward) { d.Slate[0].Probability *= 1.001 },
		"another first item":      func(d *event.Decision, _ *[]event.Reward) { d.Slate[0].ItemID = d.Slate[1].ItemID },
		"a share of 0":            func(d *event.Decision, _ *[]event.Reward) { d.Scores[0].Model = share(0) },
		"no share of the model":   func(d *event.Decision, _ *[]event.Reward) { d.Scores[0].Model = nil },
		"scores that are missing": func(d *event.Decision, _ *[]event.Reward) { d.Scores = d.Scores[1:] },
		"no temperature":          func(d *event.Decision, _ *[]event.Reward) { d.Temperature = 0 },
		"one candidate": func(d *event.Decision, _ *[]event.Reward) {
			d.Context.Candidates, d.Scores = d.Context.Candidates[:1], d.Scores[:1]
		},
		"nobody looked": func(_ *event.Decision, r *[]event.Reward) { (*r)[0].Examination, (*r)[0].Value = 0, 0 },
		"an unknown item": func(d *event.Decision, r *[]event.Reward) {
			d.Slate[0].ItemID, (*r)[0].ItemID = "unknown", "unknown"
		},
	}
	for what, change := range more {
		decisions, rewards := log(t, 1, .3, 2)
		change(&decisions[0], &rewards)
		if j := Join(decisions, rewards, JoinOptions{Model: toyModel}); len(j.Rollouts) != 0 || len(j.Dropped) != 1 {
			t.Errorf("%s: %d rollouts, dropped %v", what, len(j.Rollouts), j.Dropped)
		}
	}
	_, rewards := log(t, 2, .3, 2)
	if j := Join(nil, rewards, JoinOptions{Model: toyModel}); j.Orphans != 10 || j.Rollouts != nil {
		t.Errorf("rewards alone: %+v", j)
	}
}

func TestSplitKeepsMomentsTogether(t *testing.T) {
	var rollouts []Rollout
	for i := range 20 {
		rollouts = append(rollouts, Rollout{Decision: event.Decision{Timestamp: event.Time(i / 3)}})
	}
	for _, last := range []float64{0, .1, .25, .5, .9, 1} {
		earlier, later := Split(rollouts, last)
		if len(earlier)+len(later) != 20 || math.Abs(float64(len(later))-20*last) > 2 {
			t.Errorf("%v: %d and %d", last, len(earlier), len(later))
		}
		if len(earlier) > 0 && len(later) > 0 && earlier[len(earlier)-1].Decision.Timestamp >= later[0].Decision.Timestamp {
			t.Errorf("%v: a moment is cut", last)
		}
	}
}

// What a model said before it answered is part of the prompt that it read: with it a decision can be computed again,
// without it or with other words not.
func TestJoinReadsWhatWasSaid(t *testing.T) {
	thinks := toyModel
	thinks.PromptVersion, thinks.Readout = iot.Thoughts, "letters"
	for what, c := range map[string]struct {
		change func(*event.Decision)
		kept   int
	}{
		"as it was":   {func(*event.Decision) {}, 1},
		"unsaid":      {func(d *event.Decision) { d.Said = nil }, 0},
		"other words": {func(d *event.Decision) { d.Said[0].Text = "another reason" }, 0},
	} {
		decisions, rewards := log(t, 1, .3, 2)
		d := &decisions[0]
		d.Context.Chains = []event.Chain{{Via: "h", Neighbour: "ann", ItemID: "i2", Shared: 2, NeighbourAt: 1}}
		d.Said = []event.Step{{ItemID: "i2", Text: "a reason", Chains: []int{1}}}
		*d.Model = thinks
		p, err := iot.Asked(*d)
		must(t, err)
		d.Model.PromptDigest = p.Digest
		c.change(d)
		j := Join(decisions, rewards, JoinOptions{Model: thinks})
		if len(j.Rollouts) != c.kept {
			t.Fatalf("%s: %d rollouts, dropped %v", what, len(j.Rollouts), j.Dropped)
		}
		if c.kept == 0 && j.Dropped[OtherPrompt] != 1 {
			t.Errorf("%s: dropped for %v", what, j.Dropped)
		}
	}
}
