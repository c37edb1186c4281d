package learn_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/r2rec/r2rec/internal/llama"
	"github.com/r2rec/r2rec/internal/llama/learn"
)

// The vocabulary of the task: digits, the end of a line, and the two tokens whose logits are a line's score.
const (
	newline = 10
	yes     = 11
	no      = 12
	words   = 13
)

// lessons are texts of lines of one digit; the line with the largest one is chosen.
func lessons(seed uint64, count, lines int) []learn.Example {
	r := rand.New(rand.NewPCG(seed, 1))
	out := make([]learn.Example, count)
	for i := range out {
		e := learn.Example{IDs: []int32{yes, no}}
		chosen := 0
		digits := r.Perm(10)[:lines]
		for j, d := range digits {
			e.Tokens = append(e.Tokens, int32(d), newline)
			e.Want = append(e.Want, len(e.Tokens)-1)
			if d > digits[chosen] {
				chosen = j
			}
		}
		e.Loss = learn.Lines(learn.Chosen(chosen))
		out[i] = e
	}
	return out
}

func model(t testing.TB) *llama.Model {
	t.Helper()
	m, err := llama.New(llama.Config{Vocabulary: words, Dim: 16, Layers: 2, Heads: 2, KVHeads: 1, HeadDim: 8, FeedForward: 24, Context: 64,
		Epsilon: 1e-5, Tied: true, Rope: llama.Rope{Base: 10_000, Dims: 8}}, .5, 3)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func all(t testing.TB) *llama.Trainable {
	t.Helper()
	tr, err := model(t).TrainAll()
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// changes are low-rank changes of every layer, which change nothing at first.
func changes(t testing.TB) *llama.Trainable {
	t.Helper()
	m := model(t)
	r := rand.New(rand.NewPCG(11, 12))
	var list []llama.LowRank
	for layer := range m.Layers {
		for _, name := range m.Linears() {
			out, in := m.LinearShape(name)
			c := llama.LowRank{Target: fmt.Sprintf("blk.%d.%s", layer, name), Rank: 4, Scale: 2, A: make([]float32, 4*in), B: make([]float32, out*4)}
			for i := range c.A {
				c.A[i] = float32(r.NormFloat64() / math.Sqrt(float64(in)))
			}
			list = append(list, c)
		}
	}
	tr, err := m.TrainChanges(list)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

var ways = map[string]func(testing.TB) *llama.Trainable{"all weights": all, "low-rank changes": changes}

func trainer(t testing.TB, what *llama.Trainable, o learn.Options) *learn.Trainer {
	t.Helper()
	tr, err := learn.New(what, o)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// batch of a step: the next 8 of the examples.
func batch(examples []learn.Example, step int) []learn.Example {
	var out []learn.Example
	for i := range 8 {
		out = append(out, examples[(8*step+i)%len(examples)])
	}
	return out
}

// run takes steps up to a number of them.
func run(t testing.TB, tr *learn.Trainer, examples []learn.Example, to int) (last learn.Report) {
	t.Helper()
	for tr.Steps() < to {
		var err error
		if last, err = tr.Step(t.Context(), batch(examples, tr.Steps())); err != nil {
			t.Fatal(err)
		}
	}
	return last
}

// values are all parameters, bit for bit.
func values(tr *llama.Trainable) string {
	var b []byte
	for _, p := range tr.Parameters() {
		for _, v := range p.Value {
			u := math.Float32bits(v)
			b = append(b, byte(u), byte(u>>8), byte(u>>16), byte(u>>24))
		}
	}
	return string(b)
}

func TestTrainingLearns(t *testing.T) {
	fit, held := lessons(1, 400, 4), lessons(2, 64, 4)
	for name, what := range ways {
		tr := trainer(t, what(t), learn.Options{Optimiser: learn.AdamW{Rate: 1e-2}, Schedule: learn.Trapezoid(150, 10, .5, .1), Workers: 2})
		mean := func() float64 {
			sum := 0.
			for _, e := range held {
				loss, err := tr.Loss(e)
				if err != nil {
					t.Fatal(err)
				}
				sum += loss
			}
			return sum / float64(len(held))
		}
		before := mean()
		r := run(t, tr, fit, 150)
		after := mean()
		t.Logf("%s: cross-entropy %.3f before, %.3f after; last gradient %.3f", name, before, after, r.Gradient)
		if before < 1 || after > .4 {
			t.Errorf("%s: held-out cross-entropy of 4 candidates is %.3f after training, %.3f before", name, after, before)
		}
		if r.Step != 150 || tr.Steps() != 150 || r.Tokens != 8*8 || r.Skipped != 0 || tr.Skipped() != 0 {
			t.Errorf("%s: the last report is %+v", name, r)
		}
	}
}

func TestAReportTellsTheStep(t *testing.T) {
	tr := trainer(t, all(t), learn.Options{Optimiser: learn.AdamW{Rate: .1}, Schedule: learn.Trapezoid(10, 4, .5, 0), Workers: 2})
	examples := lessons(1, 3, 5)
	want := 0.
	for _, e := range examples {
		loss, err := tr.Loss(e)
		if err != nil {
			t.Fatal(err)
		}
		want += loss / 3
	}
	r, err := tr.Step(t.Context(), examples)
	if err != nil {
		t.Fatal(err)
	}
	if r.Step != 1 || r.Tokens != 30 || r.Rate != .025 || math.Abs(r.Loss-want) > 1e-12 {
		t.Errorf("%+v, want step 1, 30 tokens, rate .025, loss %v", r, want)
	}
}

func TestTheSameSeedGivesTheSameBits(t *testing.T) {
	examples := lessons(1, 24, 4)
	for name, what := range ways {
		for _, workers := range []int{1, 2, 3} {
			one, two := what(t), what(t)
			run(t, trainer(t, one, learn.Options{Workers: workers}), examples, 7)
			run(t, trainer(t, two, learn.Options{Workers: workers}), examples, 7)
			if values(one) != values(two) {
				t.Errorf("%s: two runs of %d workers differ", name, workers)
			}
			if values(one) == values(what(t)) {
				t.Errorf("%s: %d workers learned nothing", name, workers)
			}
		}
	}
}

// Sums in another order give other bits, but not other steps.
func TestWorkersShareABatch(t *testing.T) {
	examples := lessons(1, 8, 4)
	var first learn.Report
	for workers := 1; workers <= 10; workers++ {
		r, err := trainer(t, all(t), learn.Options{Workers: workers}).Step(t.Context(), examples)
		if err != nil {
			t.Fatal(err)
		}
		if workers == 1 {
			first = r
		}
		if math.Abs(r.Gradient/first.Gradient-1) > 1e-5 || math.Abs(r.Loss-first.Loss) > 1e-6 {
			t.Errorf("%d workers: %+v, one: %+v", workers, r, first)
		}
	}
}
