package learn_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/llama/kernel"
	"github.com/r2rec/r2rec/internal/llama/learn"
)

// poisoned is an example whose loss or gradient is what a broken one would be.
func poisoned(e learn.Example, loss float64, gradient float32) learn.Example {
	e.Loss = func(z kernel.Matrix) (float64, error) {
		for r := range z.Rows {
			for c := range z.Row(r) {
				z.Row(r)[c] = 0
			}
		}
		z.Row(0)[1] = gradient
		return loss, nil
	}
	return e
}

func TestAStepThatIsNotFiniteChangesNothing(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	examples := lessons(1, 16, 4)
	for name, what := range ways {
		for _, p := range []struct {
			loss     float64
			gradient float32
		}{{1, float32(nan)}, {1, float32(inf)}, {nan, 1}, {-inf, 1}} {
			clean, hit := what(t), what(t)
			without, with := trainer(t, clean, learn.Options{Workers: 2}), trainer(t, hit, learn.Options{Workers: 2})
			run(t, without, examples, 3)
			run(t, with, examples, 3)
			bad := batch(examples, 3)
			bad[5] = poisoned(bad[5], p.loss, p.gradient)
			r, err := with.Step(t.Context(), bad)
			if err != nil || r.Skipped != 1 || with.Skipped() != 1 || r.Step != 4 || with.Steps() != 4 {
				t.Fatalf("%s: a loss of %v and a gradient of %v: %+v, %v", name, p.loss, p.gradient, r, err)
			}
			if values(hit) != values(clean) {
				t.Errorf("%s: a loss of %v and a gradient of %v changed parameters", name, p.loss, p.gradient)
			}
			// The next step would show moments, or a count of updates, that are not as they were.
			for _, tr := range []*learn.Trainer{without, with} {
				if r, err = tr.Step(t.Context(), batch(examples, 7)); err != nil {
					t.Fatal(err)
				}
			}
			if values(hit) != values(clean) {
				t.Errorf("%s: a loss of %v and a gradient of %v changed moments", name, p.loss, p.gradient)
			}
			if r.Skipped != 1 {
				t.Errorf("%s: %d steps skipped after a good one, want 1", name, r.Skipped)
			}
		}
	}
}

func TestARunThatDivergesEnds(t *testing.T) {
	what := all(t)
	tr := trainer(t, what, learn.Options{MaxSkipped: 3})
	examples := lessons(1, 16, 4)
	bad := []learn.Example{poisoned(examples[0], 1, float32(math.NaN()))}
	run(t, tr, examples, 2)
	step := func(batch []learn.Example) error {
		_, err := tr.Step(t.Context(), batch)
		return err
	}
	if err := errors.Join(step(bad), step(bad), step(examples), step(bad), step(bad)); err != nil {
		t.Fatalf("two bad steps in a row, of at most three, ended the run: %v", err)
	}
	good := values(what)
	err := step(bad)
	if !errors.Is(err, learn.ErrDiverged) || !strings.Contains(err.Error(), "those of step 5") {
		t.Errorf("three bad steps in a row after step 5: %v", err)
	}
	if values(what) != good {
		t.Error("the weights are not those of the last good step")
	}
	if err := step(bad); !errors.Is(err, learn.ErrDiverged) {
		t.Errorf("a fourth one: %v", err)
	}
	if err := step(examples); err != nil || tr.Skipped() != 6 || tr.Steps() != 10 {
		t.Errorf("a good one after that: %v; %d of %d steps skipped", err, tr.Skipped(), tr.Steps())
	}
}

func TestWhatCannotBeLearnedFrom(t *testing.T) {
	what := all(t)
	tr := trainer(t, what, learn.Options{Workers: 2})
	before := values(what)
	good := lessons(1, 3, 4)
	with := func(change func(*learn.Example)) []learn.Example {
		e := good[1]
		change(&e)
		return []learn.Example{good[0], e, good[2]}
	}
	for name, c := range map[string]struct {
		batch []learn.Example
		want  string
	}{
		"nothing":           {nil, "learn: an empty batch: there is nothing to learn from"},
		"no loss":           {with(func(e *learn.Example) { e.Loss = nil }), "example 1 of 3: it has no loss"},
		"no text":           {with(func(e *learn.Example) { e.Tokens = nil }), "example 1 of 3: llama: hidden states after the tokens"},
		"nothing asked":     {with(func(e *learn.Example) { e.Want = nil }), "example 1 of 3: llama: nothing is asked for"},
		"a long text":       {with(func(e *learn.Example) { e.Tokens = make([]int32, 65) }), "example 1 of 3: llama: 65 tokens, and the model reads at most 64"},
		"an unknown token":  {with(func(e *learn.Example) { e.Tokens = []int32{words, 0, 0, 0, 0, 0, 0, 0} }), "example 1 of 3: llama: token 0 is 13"},
		"an unknown answer": {with(func(e *learn.Example) { e.IDs = []int32{yes, words} }), "example 1 of 3: it asks for token 13, and the vocabulary has 0 to 12"},
		"a negative answer": {with(func(e *learn.Example) { e.IDs = []int32{-1, yes} }), "example 1 of 3: it asks for token -1"},
		"an unfit loss":     {with(func(e *learn.Example) { e.Loss = learn.Lines(learn.Chosen(4)) }), "example 1 of 3: candidate 4 was chosen of 4"},
	} {
		if _, err := tr.Step(t.Context(), c.batch); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
		if len(c.batch) > 1 {
			if _, err := tr.Loss(c.batch[1]); err == nil {
				t.Errorf("%s: there is a loss", name)
			}
		}
	}
	if values(what) != before || tr.Steps() != 0 {
		t.Error("an error changed something")
	}
}

func TestACancelledStepChangesNothing(t *testing.T) {
	examples := lessons(1, 16, 4)
	clean, hit := all(t), all(t)
	without, with := trainer(t, clean, learn.Options{Workers: 2}), trainer(t, hit, learn.Options{Workers: 2})
	run(t, without, examples, 3)
	run(t, with, examples, 3)
	for name, at := range map[string]int{"before the first example": -1, "amid the batch": 2} {
		ctx, cancel := context.WithCancel(t.Context())
		b := batch(examples, 3)
		if at < 0 {
			cancel()
		} else {
			loss := b[at].Loss
			b[at].Loss = func(z kernel.Matrix) (float64, error) {
				cancel()
				return loss(z)
			}
		}
		r, err := with.Step(ctx, b)
		cancel()
		if !errors.Is(err, context.Canceled) || r != (learn.Report{}) || with.Steps() != 3 {
			t.Errorf("cancelled %s: %+v, %v, after %d steps", name, r, err, with.Steps())
		}
	}
	run(t, without, examples, 5)
	run(t, with, examples, 5)
	if values(hit) != values(clean) {
		t.Error("a run with cancelled steps has other parameters")
	}
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	for want, o := range map[string]learn.Options{
		"rate of learning is -1":            {Optimiser: learn.AdamW{Rate: -1}},
		"rate of learning is NaN":           {Optimiser: learn.AdamW{Rate: math.NaN()}},
		"rate of learning is +Inf":          {Optimiser: learn.AdamW{Rate: math.Inf(1)}},
		"betas of AdamW are 1 and 0.98":     {Optimiser: learn.AdamW{Beta1: 1}},
		"betas of AdamW are 0.9 and NaN":    {Optimiser: learn.AdamW{Beta2: math.NaN()}},
		"epsilon of AdamW is -1":            {Optimiser: learn.AdamW{Epsilon: -1}},
		"weight decay of AdamW is -1":       {Optimiser: learn.AdamW{Decay: -1}},
		"weight decay of AdamW is NaN":      {Optimiser: learn.AdamW{Decay: math.NaN()}},
		"largest norm of a gradient is NaN": {Clip: math.NaN()},
	} {
		if _, err := learn.New(all(t), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	for _, rate := range []float64{-1, math.NaN(), math.Inf(1)} {
		tr := trainer(t, all(t), learn.Options{Schedule: func(int) float64 { return rate }})
		if _, err := tr.Step(t.Context(), lessons(1, 2, 4)); err == nil || !strings.Contains(err.Error(), "rate of step 1") || tr.Steps() != 0 {
			t.Errorf("a share of %v: %v", rate, err)
		}
	}
}
