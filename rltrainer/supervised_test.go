package rltrainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm"
	"github.com/r2rec/r2rec/internal/lm/engine"
)

// someExamples are lists of 8 in each of which one item was chosen: the one of most like-minded users.
func someExamples(n int) (examples []Example) {
	for i := range n {
		e := Example{Chosen: i % 8}
		for j := range 8 {
			c := event.Candidate{ItemID: fmt.Sprintf("%d/%d", i, j), Title: fmt.Sprintf("Item %d of list %d", j, i)}
			c.Evidence.LikeMindedRecent[2] = .1 * float64((i+j*3)%8)
			c.Evidence.Popularity = (i*j + j) % 7
			if j == e.Chosen {
				c.Evidence.LikeMindedRecent[2] = 1
			}
			e.Context.Candidates = append(e.Context.Candidates, c)
		}
		examples = append(examples, e)
	}
	return examples
}

// recorder is a learner that keeps its lessons, and ranks as it is told to.
type recorder struct {
	batches [][]lm.Lesson
	fail    error
	shares  func(iot.Prompt) []float64
}

func (r *recorder) Learn(_ context.Context, batch []lm.Lesson) (lm.Progress, error) {
	r.batches = append(r.batches, batch)
	return lm.Progress{Step: len(r.batches)}, r.fail
}

func (r *recorder) Rank(_ context.Context, p iot.Prompt) ([]float64, error) {
	return r.shares(p), r.fail
}

func (r *recorder) lessons() []lm.Lesson { return slices.Concat(r.batches...) }

func fit(t *testing.T, examples []Example, o FitOptions) *recorder {
	t.Helper()
	r := &recorder{}
	must(t, Fit(t.Context(), r, examples, o))
	return r
}

// titles gives the titles of a prompt of words in the order of the context: they name the example.
func titles(l lm.Lesson) (titles []string) {
	for _, letter := range l.Prompt.Letters {
		titles = append(titles, l.Prompt.Content.Candidates[letter-'A'].Title)
	}
	return titles
}

// Each epoch goes through all examples, in an order of its own, and shows each with its candidates shuffled anew.
func TestFitShowsEveryExampleInEachEpoch(t *testing.T) {
	examples := someExamples(20)
	r := fit(t, examples, FitOptions{PromptVersion: iot.Words, Steps: 12, Batch: 5, Seed: 1})
	lessons := r.lessons()
	if len(r.batches) != 12 || len(lessons) != 60 {
		t.Fatalf("%d steps of %d lessons in all", len(r.batches), len(lessons))
	}
	var orders [][]int
	texts := map[string]bool{}
	for epoch := range 3 {
		var order []int
		for _, l := range lessons[20*epoch : 20*epoch+20] {
			var list, item int
			_, err := fmt.Sscanf(titles(l)[0], "Item %d of list %d", &item, &list)
			must(t, err)
			if item != 0 || l.Chosen != examples[list].Chosen {
				t.Errorf("list %d: candidate %d was chosen, want %d", list, l.Chosen, examples[list].Chosen)
			}
			order = append(order, list)
			texts[l.Prompt.Text] = true
		}
		orders = append(orders, slices.Clone(order))
		slices.Sort(order)
		if !slices.Equal(order, slices.Collect(func(yield func(int) bool) {
			for i := range 20 {
				if !yield(i) {
					return
				}
			}
		})) {
			t.Errorf("epoch %d shows %v", epoch, order)
		}
	}
	if slices.Equal(orders[0], orders[1]) || slices.Equal(orders[1], orders[2]) || slices.IsSorted(orders[0]) {
		t.Errorf("the order is not another in each epoch: %v", orders)
	}
	if len(texts) != 60 {
		t.Errorf("%d of 60 prompts differ: the candidates are not shuffled anew", len(texts))
	}
	places := map[byte]int{}
	for _, l := range lessons {
		places[l.Prompt.Letters[l.Chosen]]++
	}
	if len(places) != 8 {
		t.Errorf("the chosen one has the letters %v, want each of 8", places)
	}
}

// The seed decides all lessons, and a run that goes on from any step sees the very lessons that it would have seen.
func TestFitGoesOnWhereItStood(t *testing.T) {
	examples := someExamples(7)
	o := FitOptions{PromptVersion: iot.Figures, Steps: 10, Batch: 4, Seed: 3}
	whole := fit(t, examples, o)
	if diff := cmp.Diff(whole.batches, fit(t, examples, o).batches); diff != "" {
		t.Errorf("the same seed gives other lessons:\n%s", diff)
	}
	other := o
	other.Seed = 4
	if cmp.Equal(whole.batches, fit(t, examples, other).batches) {
		t.Error("another seed gives the same lessons")
	}
	for from := range o.Steps + 1 {
		again := o
		again.From = from
		rest := fit(t, examples, again).batches
		if len(rest) != o.Steps-from || len(rest) > 0 && !cmp.Equal(whole.batches[from:], rest) {
			t.Errorf("from step %d on, %d steps of other lessons", from, len(rest))
		}
	}
}

// A real model learns from it: an adapter over the base model, resumed in the middle, is the one of a run without a break.
func TestFitTeachesARealModel(t *testing.T) {
	m, err := engine.Open(engine.Options{Trainable: true})
	must(t, err)
	defer m.Close()
	learner := func() *engine.Learner {
		l, err := m.NewAdapter(engine.AdapterOptions{Seed: 1})
		must(t, err)
		return l
	}
	examples := someExamples(40)
	before, err := Measure(t.Context(), m, examples, iot.Figures)
	must(t, err)
	o := FitOptions{PromptVersion: iot.Figures, Steps: 12, Batch: 8, Seed: 1}
	steps := 0
	o.Told = func(p lm.Progress) error {
		if steps++; p.Step != steps || p.Skipped != 0 {
			t.Errorf("told of %+v at step %d", p, steps)
		}
		return nil
	}
	whole := learner()
	must(t, Fit(t.Context(), whole, examples, o))
	after, err := Measure(t.Context(), whole, examples, iot.Figures)
	must(t, err)
	if after.CrossEntropy > before.CrossEntropy-.2 || steps != 12 {
		t.Errorf("%d steps; %+v before, %+v after", steps, before, after)
	}

	path := t.TempDir() + "/half.ckpt"
	half := learner()
	o.Told = func(p lm.Progress) error {
		if p.Step == 5 {
			must(t, half.Trainer().Save(path))
			return context.Canceled
		}
		return nil
	}
	if err := Fit(t.Context(), half, examples, o); !errors.Is(err, context.Canceled) {
		t.Errorf("who is told can end the run: %v", err)
	}
	resumed := learner()
	must(t, resumed.Trainer().Resume(path))
	o.Told, o.From = nil, resumed.Trainer().Steps()
	must(t, Fit(t.Context(), resumed, examples, o))
	again, err := Measure(t.Context(), resumed, examples, iot.Figures)
	must(t, err)
	if again != after || o.From != 5 {
		t.Errorf("resumed at step %d: %+v, without a break %+v", o.From, again, after)
	}
}

func TestFitFails(t *testing.T) {
	examples := someExamples(3)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	empty := []Example{{}}
	ok := FitOptions{PromptVersion: iot.Figures, Steps: 2, Batch: 2}
	with := func(change func(*FitOptions)) FitOptions {
		o := ok
		change(&o)
		return o
	}
	for want, tc := range map[string]struct {
		ctx      context.Context
		examples []Example
		o        FitOptions
		learner  *recorder
	}{
		"there are no examples to learn from": {t.Context(), nil, ok, &recorder{}},
		"0 steps of 2 examples":               {t.Context(), examples, with(func(o *FitOptions) { o.Steps = 0 }), &recorder{}},
		"2 steps of -1 examples":              {t.Context(), examples, with(func(o *FitOptions) { o.Batch = -1 }), &recorder{}},
		"from step -1 on":                     {t.Context(), examples, with(func(o *FitOptions) { o.From = -1 }), &recorder{}},
		"from step 3 on":                      {t.Context(), examples, with(func(o *FitOptions) { o.From = 3 }), &recorder{}},
		"prompt of version 9":                 {t.Context(), examples, with(func(o *FitOptions) { o.PromptVersion = 9 }), &recorder{}},
		"prompt of 0 candidates":              {t.Context(), empty, ok, &recorder{}},
		"fit: step 1: context canceled":       {gone, examples, ok, &recorder{}},
		"fit: it has diverged":                {t.Context(), examples, ok, &recorder{fail: errors.New("it has diverged")}},
	} {
		if err := Fit(tc.ctx, tc.learner, tc.examples, tc.o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
		if len(tc.learner.batches) > 0 && tc.learner.fail == nil {
			t.Errorf("%s: %d steps were taken", want, len(tc.learner.batches))
		}
	}
}

// Figures by hand: first with certainty, one of two that lead, and third.
func TestMeasure(t *testing.T) {
	examples := []Example{someExamples(1)[0], someExamples(2)[1], someExamples(3)[2]}
	for i := range examples {
		examples[i].Context.Candidates = examples[i].Context.Candidates[:4]
		examples[i].Chosen = i
	}
	asked := 0
	r := &recorder{shares: func(iot.Prompt) []float64 {
		asked++
		return [][]float64{
			{math.Log(.7), math.Log(.1), math.Log(.1), math.Log(.1)},
			{math.Log(.1), math.Log(.4), math.Log(.4), math.Log(.1)},
			{math.Log(.3), math.Log(.4), math.Log(.2), math.Log(.1)},
		}[asked-1]
	}}
	got, err := Measure(t.Context(), r, examples, iot.Figures)
	must(t, err)
	want := Score{Examples: 3, HR1: 1.5 / 3, CrossEntropy: -(math.Log(.7) + math.Log(.4) + math.Log(.2)) / 3}
	if got.Examples != 3 || math.Abs(got.HR1-want.HR1) > 1e-12 || math.Abs(got.CrossEntropy-want.CrossEntropy) > 1e-12 {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got, err := Measure(t.Context(), r, nil, iot.Figures); err != nil || got != (Score{}) {
		t.Errorf("of nothing: %+v, %v", got, err)
	}
	for want, wrong := range map[string]Example{"measure example 0: candidate 4 was chosen of 4": {Context: examples[0].Context, Chosen: 4},
		"candidate -1 was chosen": {Context: examples[0].Context, Chosen: -1}, "measure example 0: build prompt of 0 candidates": {}} {
		if _, err := Measure(t.Context(), r, []Example{wrong}, iot.Figures); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	r.fail, asked = errors.New("no answer"), 0
	if _, err := Measure(t.Context(), r, examples, iot.Figures); err == nil || !strings.Contains(err.Error(), "measure example 0: no answer") {
		t.Errorf("%v", err)
	}
}

// Every model is asked the same prompts.
func TestMeasureAsksTheSamePrompts(t *testing.T) {
	examples := someExamples(5)
	var asked [2][]string
	for i := range asked {
		r := &recorder{shares: func(p iot.Prompt) []float64 {
			asked[i] = append(asked[i], p.Text)
			return make([]float64, len(p.Letters))
		}}
		_, err := Measure(t.Context(), r, examples, iot.Words)
		must(t, err)
	}
	if !slices.Equal(asked[0], asked[1]) || len(asked[0]) != 5 {
		t.Error("the prompts differ")
	}
}

// An example of weight 2 teaches as two would, and one that says nothing of its weight as one.
func TestWeightedExamples(t *testing.T) {
	scores := []float64{.3, -1, 2}
	one, two, differ := make([]float64, 3), make([]float64, 3), make([]float64, 3)
	a, err1 := weighted(1, 1)(scores, one)
	b, err2 := weighted(1, 2)(scores, two)
	if err := errors.Join(err1, err2); err != nil || math.Abs(b-2*a) > 1e-12 || a <= 0 {
		t.Errorf("losses %v and %v, %v", a, b, err)
	}
	for i := range scores {
		const h = 1e-6
		for _, sign := range []float64{1, -1} {
			moved := slices.Clone(scores)
			moved[i] += sign * h
			loss, err := weighted(1, 2)(moved, make([]float64, 3))
			must(t, err)
			differ[i] += sign * loss / (2 * h)
		}
		if math.Abs(two[i]-2*one[i]) > 1e-12 || math.Abs(two[i]-differ[i]) > 1e-6 {
			t.Errorf("gradient of score %d: %v for weight 1, %v for 2, %v by differences", i, one[i], two[i], differ[i])
		}
	}
	if _, err := weighted(3, 1)(scores, one); err == nil || err.Error() != "candidate 3 was chosen of 3" {
		t.Errorf("%v", err)
	}
	examples := someExamples(2)
	examples[1].Weight = 3
	for _, l := range fit(t, examples, FitOptions{PromptVersion: iot.Figures, Steps: 1, Batch: 2}).lessons() {
		if has := l.Objective != nil; has != (l.Chosen == 1) {
			t.Errorf("the choice of candidate %d has an objective: %v", l.Chosen, has)
		}
	}
}
