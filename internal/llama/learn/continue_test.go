package learn_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/llama/learn"
)

// goesOn is a text and ways in which it goes on, of the vocabulary of the small model.
func goesOn(t *testing.T) (text []int32, ways [][]int32) {
	t.Helper()
	r := rand.New(rand.NewPCG(8, 9))
	draw := func(n int) []int32 {
		out := make([]int32, n)
		for i := range out {
			out[i] = int32(r.IntN(model(t).Vocabulary))
		}
		return out
	}
	return draw(11), [][]int32{draw(5), draw(1), draw(9)}
}

func continued(t *testing.T, text []int32, ways ...learn.Continuation) learn.Example {
	t.Helper()
	e, err := learn.Continue(text, ways)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// The loss of a text that goes on in several ways is the mean of those of the ways, each read after the text by itself;
// and a step from it changes the same.
func TestContinueIsTheMeanOfTheWays(t *testing.T) {
	text, ways := goesOn(t)
	var together []learn.Continuation
	var alone []learn.Example
	tr := trainer(t, all(t), learn.Options{Workers: 1})
	want := 0.
	for _, w := range ways {
		together = append(together, learn.Continuation{Tokens: w})
		joined := append(append([]int32{}, text...), w[:len(w)-1]...)
		e := learn.Example{Tokens: joined, Loss: learn.NextToken(w)}
		for j := range w {
			e.Want = append(e.Want, len(text)-1+j)
		}
		alone = append(alone, e)
		loss, err := tr.Loss(e)
		if err != nil {
			t.Fatal(err)
		}
		want += loss / float64(len(ways))
	}
	e := continued(t, text, together...)
	got, err := tr.Loss(e)
	if err != nil || math.Abs(got-want) > 1e-5 {
		t.Errorf("loss %v (error %v), want %v", got, err, want)
	}
	one, other := all(t), all(t)
	a, b := trainer(t, one, learn.Options{Workers: 1}), trainer(t, other, learn.Options{Workers: 1})
	ra, err := a.Step(t.Context(), []learn.Example{e})
	if err != nil {
		t.Fatal(err)
	}
	rb, err := b.Step(t.Context(), alone)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(ra.Gradient-rb.Gradient) > 1e-4*rb.Gradient || math.Abs(ra.Loss-rb.Loss) > 1e-5 {
		t.Errorf("together: loss %v, gradient %v; apart: %v, %v", ra.Loss, ra.Gradient, rb.Loss, rb.Gradient)
	}
	if ra.Tokens != len(text)+4+0+8 {
		t.Errorf("%d tokens are counted as read", ra.Tokens)
	}
}

// Objectives get the log-probabilities of their own tokens, and their gradients are followed.
func TestContinueFollowsObjectives(t *testing.T) {
	text, ways := goesOn(t)
	var saw [][]float64
	watch := func(weight float64) learn.TokenObjective {
		return func(logs, by []float64) (loss float64, err error) {
			saw = append(saw, append([]float64{}, logs...))
			for j, l := range logs {
				by[j] = weight * float64(j+1) * l
				loss += weight * float64(j+1) * l * l / 2
			}
			return loss, nil
		}
	}
	tr := trainer(t, all(t), learn.Options{Workers: 1, Optimiser: learn.AdamW{Rate: 1e-2}})
	e := continued(t, text, learn.Continuation{Tokens: ways[0], Objective: watch(1)}, learn.Continuation{Tokens: ways[2], Objective: watch(.3)})
	before, err := tr.Loss(e)
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range [][]int32{ways[0], ways[2]} {
		sum := 0.
		for _, l := range saw[i] {
			sum -= l / float64(len(w))
		}
		if want, err := tr.Loss(continued(t, text, learn.Continuation{Tokens: w})); err != nil || math.Abs(sum-want) > 1e-5 {
			t.Errorf("way %d: the objective saw a cross-entropy of %v, want %v (error %v)", i, sum, want, err)
		}
	}
	for range 20 { // of log-probabilities towards 0
		if _, err := tr.Step(t.Context(), []learn.Example{e}); err != nil {
			t.Fatal(err)
		}
	}
	if after, err := tr.Loss(e); err != nil || after > before/2 {
		t.Errorf("the loss went from %v to %v (error %v)", before, after, err)
	}
}

func TestContinueRefuses(t *testing.T) {
	text, ways := goesOn(t)
	if _, err := learn.Continue(nil, []learn.Continuation{{Tokens: ways[0]}}); err == nil {
		t.Error("an empty text goes on")
	}
	if _, err := learn.Continue(text, nil); err == nil {
		t.Error("a text goes on in no way")
	}
	if _, err := learn.Continue(text, []learn.Continuation{{Tokens: ways[0]}, {}}); err == nil || !strings.Contains(err.Error(), "continuation 1") {
		t.Errorf("a continuation without a token: %v", err)
	}
	tr := trainer(t, all(t), learn.Options{Workers: 1})
	if _, err := tr.Loss(continued(t, text, learn.Continuation{Tokens: []int32{3, 1 << 20}})); err == nil || !strings.Contains(err.Error(), "token 1 of continuation 0 is 1048576") {
		t.Errorf("a token that is none: %v", err)
	}
	fails := errors.New("no")
	e := continued(t, text, learn.Continuation{Tokens: ways[0], Objective: func([]float64, []float64) (float64, error) { return 0, fails }})
	if _, err := tr.Loss(e); !errors.Is(err, fails) {
		t.Errorf("an objective that fails: %v", err)
	}
}
