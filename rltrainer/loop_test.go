package rltrainer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama/learn"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/internal/ope"
	"github.com/r2rec/r2rec/internal/policy"
	"github.com/r2rec/r2rec/internal/simulate"
)

// shop is a synthetic world whose best policy is known: lists of random evidence, and users who want what suits their
// categories and nobody else has. The base model learned elsewhere that what many have is wanted.
type shop struct{ candidates int }

func (s shop) context(r *rand.Rand) (c event.Context) {
	for i := range s.candidates {
		e := event.Evidence{SimilarLast: r.Float64(), Together: r.Float64(), Popularity: 1 + r.IntN(60), Category: r.Float64()}
		e.LikeMindedRecent[2], e.After[0], e.Recent[1], e.Ages[3] = r.Float64(), r.Float64(), r.Float64(), 1e6*r.Float64()
		e.Near[1], e.RecentAny[1], e.Latent = r.Float64(), r.Float64(), [2]float64{r.Float64(), r.Float64()}
		c.Candidates = append(c.Candidates, event.Candidate{ItemID: fmt.Sprint("i", i), Title: fmt.Sprint("Item ", i), Origin: event.FromChains, Evidence: e})
	}
	return c
}

// wants is the probability that a user clicks each candidate of a list where it is looked at: a function of two of the
// digits that the model reads, the share of the categories and of the list's largest popularity.
func (s shop) wants(c event.Context) []float64 {
	var category, popularity float64
	for _, x := range c.Candidates {
		category, popularity = max(category, x.Evidence.Category), max(popularity, float64(x.Evidence.Popularity))
	}
	wants := make([]float64, len(c.Candidates))
	for i, x := range c.Candidates {
		fits := .6*x.Evidence.Category/category + .4*(1-float64(x.Evidence.Popularity)/popularity)
		wants[i] = .05 + .9*fits*fits*fits
	}
	return wants
}

// value of a policy that draws slot 1 by a model at temperature 1, exact but for which contexts there are; best is what the
// best one earns, which shows what is wanted most.
func (s shop) value(t *testing.T, model Ranker, contexts []event.Context) (value, best float64) {
	t.Helper()
	for i, c := range contexts {
		p, err := iot.Build(iot.FullFigures, c, uint64(i))
		must(t, err)
		shares, err := model.Rank(t.Context(), p)
		must(t, err)
		top := 0.
		for a, w := range s.wants(c) {
			value += math.Exp(shares[a]) * w / float64(len(contexts))
			top = max(top, w)
		}
		best += top / float64(len(contexts))
	}
	return value, best
}

// log makes decisions by a model, at temperature 1, by as many users as half of them.
func (s shop) log(t *testing.T, model *engine.Model, n int, seed uint64) []Rollout {
	t.Helper()
	who, err := model.Identity(t.Context())
	must(t, err)
	service := simulate.Service{Model: model, Identity: who}
	var decisions []event.Decision
	var rewards []event.Reward
	for i := range n {
		r := policy.Generator(seed, uint64(i))
		c := s.context(r)
		d, err := service.Decide(t.Context(), fmt.Sprint("d", seed, "-", i), fmt.Sprint("u", r.IntN(n/2)), event.Time(1_700_000_000_000+int(seed)*1e8+i), c, r.Uint64()>>11)
		must(t, err)
		wants := s.wants(c)
		user := simulate.User{Stays: .85, Wants: func(item string) float64 { return wants[d.Context.Candidate(item)] }}
		decisions, rewards = append(decisions, d), append(rewards, user.Browse(d, r)...)
	}
	j := Join(decisions, rewards, JoinOptions{Model: who})
	if len(j.Rollouts) != n {
		t.Fatalf("%d of %d decisions teach: %v", len(j.Rollouts), n, j.Dropped)
	}
	return j.Rollouts
}

// loop is what goes around: a serving adapter, and the rounds that may replace it.
type loop struct {
	dir   string
	steps int
	beta  float64
}

func (l loop) open(t *testing.T, adapter string) *engine.Model {
	t.Helper()
	m, err := engine.Open(engine.Options{Adapter: adapter})
	must(t, err)
	t.Cleanup(func() { m.Close() })
	return m
}

// learn goes on from an adapter (empty: none) by rollouts and what a click model says of them, and gives the file of another.
func (l loop) learn(t *testing.T, from string, rollouts []Rollout, q [][]float64, seed uint64) string {
	t.Helper()
	tasks, err := Prepare(t.Context(), l.open(t, from), rollouts, q, TaskOptions{})
	must(t, err)
	base, err := engine.Open(engine.Options{Trainable: true})
	must(t, err)
	defer base.Close()
	learner, err := base.NewAdapter(engine.AdapterOptions{From: from, Seed: seed, Learn: learn.Options{Optimiser: learn.AdamW{Rate: 3e-3},
		Schedule: learn.Trapezoid(l.steps, 5, .3, .03), Workers: 2}})
	must(t, err)
	must(t, Improve(t.Context(), learner, tasks, ImproveOptions{Steps: l.steps, Batch: 64, Beta: l.beta, Seed: seed}))
	path := filepath.Join(l.dir, fmt.Sprintf("round-%d.gguf", seed))
	must(t, gguf.WriteFile(path, learner.Write))
	return path
}

// gate judges a model by rollouts that it did not learn from.
func gate(t *testing.T, model Ranker, held []Rollout, o ope.GateOptions) Judgement {
	t.Helper()
	q, err := FitClicks(held, Folds)
	must(t, err)
	samples, _, err := Judge(t.Context(), model, held, q.Q, nil)
	must(t, err)
	j, err := Gate(held, samples, o)
	must(t, err)
	return j
}

// In a world whose best policy is known, the closed loop closes most of the gap between the base model and the best: the
// serving adapter recommends, clicks teach the next one, and the gate lets it serve if later decisions show that it earns
// more. And it stays there, also when there is little left to gain.
func TestTheLoopLearnsWhatUsersWant(t *testing.T) {
	s := shop{8}
	var contexts []event.Context
	for i := range 300 {
		contexts = append(contexts, s.context(policy.Generator(99, uint64(i))))
	}
	l := loop{dir: t.TempDir(), steps: 40, beta: .1}
	serving := ""
	base, best := s.value(t, l.open(t, serving), contexts)
	t.Logf("the base model earns %.4f, the best policy %.4f", base, best)
	values := []float64{base}
	sinceLast := 0
	for round := range uint64(4) {
		rollouts := s.log(t, l.open(t, serving), 2000, round+1)
		learnFrom, held := Split(rollouts, .6)
		clicks, err := FitClicks(learnFrom, Folds)
		must(t, err)
		next := l.learn(t, serving, learnFrom, clicks.Q, round+1)
		sinceLast++
		model := l.open(t, next)
		verdict := gate(t, model, held, ope.GateOptions{Round: sinceLast, Detect: .1, Resampling: ope.Resampling{Resamples: 500}})
		would, _ := s.value(t, model, contexts)
		t.Logf("round %d: the next earns %.4f; %s: %s", round+1, would, verdict.Verdict, verdict.Reason)
		if verdict.Verdict == ope.Passed {
			serving, sinceLast = next, 0
		}
		value, _ := s.value(t, l.open(t, serving), contexts)
		values = append(values, value)
	}
	for round, v := range values[1:] {
		if closed := (v - base) / (best - base); closed < .5 {
			t.Errorf("after round %d the loop has closed %.2f of the gap: %v", round+1, closed, values)
		}
	}
}
