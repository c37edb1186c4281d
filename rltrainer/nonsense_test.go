package rltrainer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama/learn"
	"github.com/r2rec/r2rec/internal/lm"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/internal/ope"
	"github.com/r2rec/r2rec/internal/simulate"
)

// Where rewards have nothing to do with what was shown, no policy is better, and hardly any round may find one: here at most
// one in twenty, of which the first look spends .03. Rewards are shuffled over all decisions, and everything after that is
// done again: click models, the policy gradient, the gate. Unshuffled, the same round passes.
func TestShuffledRewardsPromoteNothing(t *testing.T) {
	decisions, rewards := log(t, 1500, .1, 11)
	rollouts := Join(decisions, rewards, JoinOptions{Model: toyModel}).Rollouts
	round := func(seed uint64) ope.Verdict {
		learnFrom, held := Split(rollouts, .5)
		q, err := FitClicks(learnFrom, Folds)
		must(t, err)
		tasks, err := Prepare(t.Context(), byCategory(.1), learnFrom, q.Q, TaskOptions{})
		must(t, err)
		next := &linear{byCategory: .1, rate: 2}
		must(t, Improve(t.Context(), next, tasks, ImproveOptions{Steps: 15, Batch: len(tasks), Beta: .03, Seed: seed}))
		return gate(t, next.byCategory, held, ope.GateOptions{Detect: .1, Resampling: ope.Resampling{Resamples: 200, Seed: seed}}).Verdict
	}
	if v := round(0); v != ope.Passed {
		t.Errorf("what can be learned from is %s", v)
	}
	found := map[ope.Verdict]int{}
	const reruns = 200
	for seed := range uint64(reruns) {
		r := rand.New(rand.NewPCG(seed, 5))
		r.Shuffle(len(rollouts), func(i, j int) { rollouts[i].Reward, rollouts[j].Reward = rollouts[j].Reward, rollouts[i].Reward })
		found[round(seed+1)]++
	}
	t.Log(found)
	if found[ope.Passed] > reruns/20 || found[ope.Refused] < reruns/2 {
		t.Errorf("of %d rounds on shuffled rewards: %v", reruns, found)
	}
}

// byLetter is the mean share that a model gives to each place of the prompt, over contexts that are each shuffled in
// several ways, and the largest standard error of these means.
func byLetter(t *testing.T, m Ranker, contexts []event.Context) (means []float64, se float64) {
	t.Helper()
	n := len(contexts[0].Candidates)
	means = make([]float64, n)
	squares := make([]float64, n)
	for i, c := range contexts {
		p, err := iot.Build(iot.FullFigures, c, uint64(i))
		must(t, err)
		shares, err := m.Rank(t.Context(), p)
		must(t, err)
		for a, letter := range p.Letters {
			x := math.Exp(shares[a])
			means[letter-'A'] += x / float64(len(contexts))
			squares[letter-'A'] += x * x / float64(len(contexts))
		}
	}
	for j, m := range means {
		se = max(se, math.Sqrt((squares[j]-m*m)/float64(len(contexts))))
	}
	return means, se
}

// moved is by how much the share of each place moved between two models, in standard errors.
func moved(t *testing.T, before, after Ranker, contexts []event.Context) []float64 {
	t.Helper()
	a, se := byLetter(t, before, contexts)
	b, _ := byLetter(t, after, contexts)
	by := make([]float64, len(a))
	for j := range a {
		by[j] = (b[j] - a[j]) / se
	}
	t.Logf("shares by place %.3f before, %.3f after", a, b)
	return by
}

// most is by how much that place moved which moved most in the same direction in every look.
func most(looks ...[]float64) (worst float64) {
	for j := range looks[0] {
		up, down := math.Inf(1), math.Inf(1)
		for _, by := range looks {
			up, down = min(up, by[j]), min(down, -by[j])
		}
		worst = max(worst, up, down)
	}
	return worst
}

// Users who always click slot 1, whatever stands there, teach nothing: neither the policy gradient nor fine-tuning on what
// they clicked makes a model prefer a place of the prompt, because candidates are shuffled into it. A prompt that gave
// slots away, with the shown item always in line A, would be learned at once.
func TestSlotOneTeachesNoPlace(t *testing.T) {
	s := shop{8}
	l := loop{dir: t.TempDir(), steps: 20, beta: .1}
	base := l.open(t, "")
	who, err := base.Identity(t.Context())
	must(t, err)
	service := simulate.Service{Model: base, Identity: who}
	var decisions []event.Decision
	var rewards []event.Reward
	for i := range 1200 {
		r := rand.New(rand.NewPCG(31, uint64(i)))
		d, err := service.Decide(t.Context(), fmt.Sprint("d", i), fmt.Sprint("u", i%400), event.Time(1_700_000_000_000+i), s.context(r), r.Uint64()>>11)
		must(t, err)
		decisions = append(decisions, d)
		rewards = append(rewards, simulate.User{Wants: func(string) float64 { return 1 }}.Browse(d, r)...)
	}
	rollouts := Join(decisions, rewards, JoinOptions{Model: who}).Rollouts
	if len(rollouts) != 1200 || slices.ContainsFunc(rollouts, func(r Rollout) bool { return r.Reward != 1 }) {
		t.Fatalf("%d rollouts, or one whose first slot was not clicked", len(rollouts))
	}
	var contexts []event.Context
	for i := range 400 {
		contexts = append(contexts, s.context(rand.New(rand.NewPCG(32, uint64(i)))))
	}
	clicks, err := FitClicks(rollouts, Folds)
	must(t, err)
	nothing := make([][]float64, len(rollouts)) // a click model that expects no click, so that every click is a surprise
	for i := range nothing {
		nothing[i] = make([]float64, s.candidates)
	}
	half := len(rollouts) / 2 // a few steps move places by chance; what is learned moves them alike by the decisions of others
	for name, q := range map[string][][]float64{"with the click model": clicks.Q, "without": nothing} {
		x := most(moved(t, base, l.open(t, l.learn(t, "", rollouts[:half], q[:half], 1)), contexts),
			moved(t, base, l.open(t, l.learn(t, "", rollouts[half:], q[half:], 2)), contexts))
		if x > 3 {
			t.Errorf("the policy gradient %s moved the shares of places by %.1f standard errors", name, x)
		}
	}

	trainable, err := engine.Open(engine.Options{Trainable: true})
	must(t, err)
	defer trainable.Close()
	fresh := func() *engine.Learner {
		learner, err := trainable.NewAdapter(engine.AdapterOptions{Seed: 1, Learn: learn.Options{Optimiser: learn.AdamW{Rate: 3e-3}, Workers: 2}})
		must(t, err)
		return learner
	}
	tuned := fresh()
	must(t, Fit(t.Context(), tuned, Choices(rollouts), FitOptions{PromptVersion: iot.FullFigures, Steps: 20, Batch: 64, Seed: 1}))
	if x := most(moved(t, base, tuned, contexts)); x > 3 {
		t.Errorf("fine-tuning moved the shares of places by %.1f standard errors", x)
	}

	leaky := fresh()
	for step := range 20 {
		var batch []lm.Lesson
		for _, r := range rollouts[step*30 : step*30+30] {
			p, err := iot.Build(iot.FullFigures, r.Decision.Context, 0)
			must(t, err)
			batch = append(batch, lm.Lesson{Prompt: p, Chosen: p.Order[0]})
		}
		_, err := leaky.Learn(t.Context(), batch)
		must(t, err)
	}
	if x := most(moved(t, base, leaky, contexts)); x < 10 {
		t.Errorf("where line A always holds the answer, the shares of places move by %.1f standard errors only: the test sees nothing", x)
	}
}
