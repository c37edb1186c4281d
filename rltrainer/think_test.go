package rltrainer

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama"
	"github.com/r2rec/r2rec/internal/llama/learn"
	"github.com/r2rec/r2rec/internal/llama/token"
	"github.com/r2rec/r2rec/internal/lm"
	"github.com/r2rec/r2rec/internal/lm/engine"
)

// The loss of a reply is that of the papers, and its gradient the slope of it.
func TestThoughtObjective(t *testing.T) {
	o := ThinkOptions{Steps: 1, Batch: 1, Beta: .3, MostTokens: 10}
	must(t, o.fill())
	r := rand.New(rand.NewPCG(1, 2))
	for _, advantage := range []float64{.7, -.4, 0} {
		s := &thoughtSample{}
		var logs []float64
		for range 12 {
			l := -3 * r.Float64()
			logs = append(logs, l)
			s.old = append(s.old, l+1.6*(r.Float64()-.5)) // ratios on both sides of both bounds
			s.ofReference = append(s.ofReference, l+r.NormFloat64())
			s.given = append(s.given, len(logs)%5 == 0) // a guide's tokens count for nothing
		}
		objective := s.objective(advantage, o)
		by := make([]float64, len(logs))
		loss, err := objective(logs, by)
		must(t, err)
		want, clipped := 0., 0
		for i, l := range logs {
			if s.given[i] {
				continue
			}
			ratio := math.Exp(l) / math.Exp(s.old[i])
			gain := math.Min(ratio*advantage, math.Max(.8, math.Min(1.28, ratio))*advantage)
			if gain != ratio*advantage {
				clipped++
			}
			other := math.Exp(s.ofReference[i]) / math.Exp(l)
			want += (.3*(other-1-math.Log(other)) - gain) / 10
		}
		if math.Abs(loss-want) > 1e-12 || s.clipped != clipped || (advantage != 0 && clipped == 0) {
			t.Errorf("advantage %v: loss %v with %d tokens clipped, want %v with %d", advantage, loss, s.clipped, want, clipped)
		}
		for i := range logs {
			const h = 1e-6
			at := func(d float64) float64 {
				moved := append([]float64{}, logs...)
				moved[i] += d
				loss, err := objective(moved, make([]float64, len(logs)))
				must(t, err)
				return loss
			}
			if slope := (at(h) - at(-h)) / (2 * h); math.Abs(slope-by[i]) > 1e-6 {
				t.Errorf("advantage %v, token %d: gradient %v, slope %v", advantage, i, by[i], slope)
			}
		}
	}
	if _, err := (&thoughtSample{old: []float64{1}, given: []bool{false}}).objective(1, o)([]float64{1, 2}, make([]float64, 2)); err == nil {
		t.Error("other tokens than were drawn are accepted")
	}
}

func TestThoughtRewards(t *testing.T) {
	q := Question{Context: chained().Context, Values: []float64{-1, 3, 0, .5}}
	p, err := iot.Build(iot.Thoughts, q.Context, 3)
	must(t, err)
	rival, chosen := string(p.Letters[0]), string(p.Letters[1])
	o := ThinkOptions{Steps: 1, Batch: 1, Beta: 1}
	must(t, o.fill())
	for _, test := range []struct {
		text  string
		whole bool
		want  float64
	}{
		{"[2] " + chosen + ": good\nAnswer: " + chosen, true, 3 + .1 + .1},
		{"[2] " + chosen + ": good\nAnswer: " + chosen, false, 3 + .1},
		{"[2] " + chosen + ": good\nAnswer: " + rival, true, -1 + .1 + .1},
		{"[2] " + chosen + ": good\n[2] " + rival + ": wrong\nAnswer: " + chosen, true, 3 + .05 + .1},
		{"nonsense\nAnswer: " + chosen, true, 3},
		{"Answer: " + chosen, true, 3},
		{"[2] " + chosen + ": good", true, -1 + .1}, // no answer earns what the worst one does
		{"", true, -1},
	} {
		if s := earned(p.ReadReply(q.Context, test.text, true), lm.Written{Whole: test.whole}, q, o); math.Abs(s.reward-test.want) > 1e-12 {
			t.Errorf("%q (to its end: %v) earns %v, want %v", test.text, test.whole, s.reward, test.want)
		}
	}
}

// babbler writes what it is told to, and keeps what it is to learn.
type babbler struct {
	says   func(i int) string
	fail   error
	learnt [][]lm.TextLesson
}

func (b *babbler) Write(_ context.Context, _ string, n int, _ lm.WriteOptions) (out []lm.Written, err error) {
	for i := range n {
		out = append(out, lm.Written{Text: b.says(i), Tokens: []int32{1, 2}, LogProbs: []float64{-1, -2}, Given: []bool{false, false}, Whole: true})
	}
	return out, b.fail
}

func (b *babbler) LogProbs(_ context.Context, _ string, c [][]int32) (out [][]float64, err error) {
	for range c {
		out = append(out, []float64{-1, -2})
	}
	return out, nil
}

func (b *babbler) LearnTexts(_ context.Context, batch []lm.TextLesson) (lm.Progress, error) {
	b.learnt = append(b.learnt, batch)
	for _, l := range batch {
		for _, c := range l.Continuations {
			if _, err := c.Objective([]float64{-1, -2}, make([]float64, 2)); err != nil {
				return lm.Progress{}, err
			}
		}
	}
	return lm.Progress{Step: len(b.learnt)}, nil
}

// A group whose replies are all worth the same teaches nothing.
func TestThinkLeavesFlatGroupsOut(t *testing.T) {
	questions, err := Questions([]Example{chained(), chained()})
	must(t, err)
	b := &babbler{says: func(int) string { return "well" }}
	var told []ThinkStep
	o := ThinkOptions{Steps: 2, Batch: 2, Beta: .1, Group: 4, Told: func(s ThinkStep) error { told = append(told, s); return nil }}
	must(t, Think(t.Context(), b, b, questions, o))
	if told[0].Flat != 2 || told[0].Answered != 0 || told[0].Reward != 0 || told[0].Length != 2 {
		t.Errorf("all say the same: %+v", told[0])
	}
	calls := 0
	b.says = func(i int) string { // of the first question's group, one says otherwise
		if calls++; calls == 1 {
			return "Answer: A"
		}
		return "well"
	}
	o.Steps, b.learnt, told = 1, nil, nil
	must(t, Think(t.Context(), b, b, questions, o))
	right := chained().Chosen
	p, err := iot.Build(iot.Thoughts, chained().Context, rand.NewPCG(0, 0).Uint64())
	must(t, err)
	if flat := 1; p.Order[0] == right && (told[0].Flat != flat || len(b.learnt[0]) != 1 || told[0].Answered != 1./8) {
		t.Errorf("one of two groups has a spread: %+v, %d lessons", told[0], len(b.learnt[0]))
	}
}

func TestThinkRefuses(t *testing.T) {
	questions, err := Questions([]Example{chained()})
	must(t, err)
	b := &babbler{says: func(int) string { return "" }}
	for what, o := range map[string]ThinkOptions{"beta": {Steps: 1, Batch: 1}, "steps": {Batch: 1, Beta: 1}, "groups": {Steps: 1, Batch: 1, Beta: 1, Group: 1}} {
		if err := Think(t.Context(), b, b, questions, o); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if err := Think(t.Context(), b, b, nil, ThinkOptions{Steps: 1, Batch: 1, Beta: 1}); err == nil {
		t.Error("nothing is asked, and nobody says so")
	}
	b.fail = lm.ErrUnavailable
	if err := Think(t.Context(), b, b, questions, ThinkOptions{Steps: 1, Batch: 1, Beta: 1}); !errors.Is(err, lm.ErrUnavailable) {
		t.Errorf("a writer that fails: %v", err)
	}
	questions[0].Values = questions[0].Values[1:]
	if err := Think(t.Context(), b, b, questions, ThinkOptions{Steps: 1, Batch: 1, Beta: 1}); err == nil || !strings.Contains(err.Error(), "3 values of 4 candidates") {
		t.Errorf("too few values: %v", err)
	}
	e := chained()
	e.Chosen = -1
	if _, err := Questions([]Example{e}); err == nil {
		t.Error("nothing was chosen, and nobody says so")
	}
}

// newWriter is a small model that has learned nothing, with the words of a context's prompts, and four of these.
func newWriter(t *testing.T, c event.Context, dim int, o learn.Options) (prompts []iot.Prompt, l *engine.Learner) {
	t.Helper()
	for seed := range uint64(4) {
		p, err := iot.Build(iot.Thoughts, c, seed)
		must(t, err)
		prompts = append(prompts, p)
	}
	var required []string
	for i := range iot.MaxCandidates {
		required = append(required, " "+string(rune('A'+i)))
	}
	vocabulary, err := token.Train(func(yield func(string) bool) {
		for _, p := range prompts {
			if !yield(p.Text) {
				return
			}
		}
	}, 320, token.TrainOptions{Required: required})
	must(t, err)
	l, err = engine.NewModel(engine.ModelOptions{Name: "toy", Spread: .1, Seed: 1, Tokens: vocabulary, PromptVersion: iot.Thoughts, Readout: engine.Letters, Learn: o,
		Shape: llama.Config{Dim: dim, Layers: 2, Heads: 2, KVHeads: 1, HeadDim: dim / 2, FeedForward: 2 * dim, Context: 1024, Epsilon: 1e-5, Tied: true, Rope: llama.Rope{Base: 100, Dims: dim / 2}}})
	must(t, err)
	return prompts, l
}

// A small model that has seen good replies and bad ones writes more of the good ones once it is rewarded for them.
func TestThinkLearns(t *testing.T) {
	c := event.Context{
		Candidates: []event.Candidate{{ItemID: "a", Title: "A"}, {ItemID: "b", Title: "B"}},
		Chains:     []event.Chain{{Via: "h", Neighbour: "ann", ItemID: "a", Shared: 2}, {Via: "h", Neighbour: "bob", ItemID: "b", Shared: 2}},
		History:    []event.HistoryItem{{ItemID: "h", Title: "H"}},
	}
	const imitated = 120
	question := Question{Context: c, Values: []float64{0, 0}} // only form is rewarded
	prompts, l := newWriter(t, c, 16, learn.Options{Optimiser: learn.AdamW{Rate: 1e-2}, Workers: 1, Schedule: func(step int) float64 {
		if step < imitated {
			return 1
		}
		return .2
	}})
	for range imitated { // half of what it sees is grounded
		var batch []lm.TextLesson
		for _, p := range prompts {
			good, bad := "[1] "+string(p.Letters[0])+": Whoever enjoys H may like A, since it\nAnswer: A\n\n", "[9] A: it\nAnswer: A\n\n" // guided behind [1]
			batch = append(batch, lm.TextLesson{Text: p.Thinking(), Continuations: []lm.Continuation{{Tokens: l.Completion(good)}, {Tokens: l.Completion(bad)}}})
		}
		_, err := l.LearnTexts(t.Context(), batch)
		must(t, err)
	}
	path := t.TempDir() + "/toy.gguf"
	must(t, gguf.WriteFile(path, l.Write))
	reference, err := engine.Open(engine.Options{Path: path})
	must(t, err)
	defer reference.Close()
	var grounded []float64
	o := ThinkOptions{Steps: 25, Batch: 4, Beta: .01, MostTokens: 90, Grounded: 1, Told: func(s ThinkStep) error {
		if math.IsNaN(s.KL) || s.KL < 0 {
			t.Errorf("step %d: KL %v", s.Step, s.KL)
		}
		grounded = append(grounded, s.Grounded)
		return nil
	}}
	must(t, Think(t.Context(), thinking{l, l.Writer()}, reference, []Question{question}, o))
	first, last := mean(grounded[:3]), mean(grounded[len(grounded)-3:])
	if !(last > first+.2) {
		t.Errorf("the grounded share of lines went from %.2f to %.2f: %.2f", first, last, grounded)
	}
}

type thinking struct {
	lm.TextLearner
	lm.Writer
}

func mean(x []float64) (sum float64) {
	for _, v := range x {
		sum += v / float64(len(x))
	}
	return sum
}
