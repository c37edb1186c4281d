package learn_test

import (
	"math"
	"testing"

	"github.com/r2rec/r2rec/internal/llama"
	"github.com/r2rec/r2rec/internal/llama/learn"
)

// textbook is Algorithm 2 of Loshchilov and Hutter 2019, line by line, in float64.
type textbook struct {
	t              int
	theta, m, v    [][]float64
	rate           func(t int) float64
	beta1, beta2   float64
	epsilon, decay float64
	clip           float64
}

// step takes the mean gradient g of a batch.
func (a *textbook) step(params []llama.Parameter, g [][]float64) {
	norm := 0.
	for i := range g {
		for _, x := range g[i] {
			norm += x * x
		}
	}
	norm = math.Sqrt(norm)
	a.t++
	for i, p := range params {
		for j, x := range g[i] {
			if norm > a.clip {
				x *= a.clip / norm
			}
			a.m[i][j] = a.beta1*a.m[i][j] + (1-a.beta1)*x
			a.v[i][j] = a.beta2*a.v[i][j] + (1-a.beta2)*x*x
			m := a.m[i][j] / (1 - math.Pow(a.beta1, float64(a.t)))
			v := a.v[i][j] / (1 - math.Pow(a.beta2, float64(a.t)))
			step := m / (math.Sqrt(v) + a.epsilon)
			if !p.Norm {
				step += a.decay * a.theta[i][j]
			}
			a.theta[i][j] -= a.rate(a.t) * step
		}
	}
}

func TestStepsAreThoseOfTheTextbook(t *testing.T) {
	examples := lessons(1, 24, 4)
	schedule := learn.Trapezoid(6, 3, .5, .1)
	for name, what := range ways {
		trained := what(t)
		clipped := false
		a := &textbook{rate: func(t int) float64 { return .01 * schedule(t-1) }, beta1: .8, beta2: .95, epsilon: 1e-3, decay: .5, clip: .25}
		for _, p := range trained.Parameters() {
			var theta []float64
			for _, x := range p.Value {
				theta = append(theta, float64(x))
			}
			a.theta = append(a.theta, theta)
			a.m, a.v = append(a.m, make([]float64, len(theta))), append(a.v, make([]float64, len(theta)))
		}
		tr := trainer(t, trained, learn.Options{Optimiser: learn.AdamW{Rate: .01, Beta1: a.beta1, Beta2: a.beta2, Epsilon: a.epsilon, Decay: a.decay},
			Schedule: schedule, Clip: a.clip, Workers: 2})
		pass := trained.NewPass()
		for step := range 6 {
			b := batch(examples, step)
			mean := make([][]float64, len(a.theta))
			for i := range mean {
				mean[i] = make([]float64, len(a.theta[i]))
			}
			for _, e := range b {
				g := trained.NewGradients()
				if err := pass.Forward(e.Tokens, e.Want); err != nil {
					t.Fatal(err)
				}
				z := pass.Logits(e.IDs)
				if _, err := e.Loss(z); err != nil {
					t.Fatal(err)
				}
				pass.Backward(z, e.IDs, g)
				for i := range g {
					for j, x := range g[i] {
						mean[i][j] += float64(x) / float64(len(b))
					}
				}
			}
			r, err := tr.Step(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			clipped = clipped || r.Gradient > a.clip
			a.step(trained.Parameters(), mean)
			for i, p := range trained.Parameters() {
				for j, x := range p.Value {
					if want := a.theta[i][j]; math.Abs(float64(x)-want) > 2e-6*max(1, math.Abs(want)) {
						t.Fatalf("%s: after step %d value %d of %s is %v, by the textbook %v", name, step+1, j, p.Name, x, want)
					}
					a.theta[i][j] = float64(x)
				}
			}
		}
		if !clipped {
			t.Errorf("%s: no gradient was long enough to be clipped", name)
		}
	}
}

// oneLayer is a change of rank 1 of one layer.
func oneLayer(t testing.TB) *llama.Trainable {
	m := model(t)
	out, in := m.LinearShape("attn_q")
	c := llama.LowRank{Target: "blk.0.attn_q", Rank: 1, Scale: 1, A: make([]float32, in), B: make([]float32, out)}
	for _, x := range [][]float32{c.A, c.B} {
		for i := range x {
			x[i] = 1
		}
	}
	tr, err := m.TrainChanges([]llama.LowRank{c})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// Without a gradient only weight decay is left, and it leaves normalisations alone, but not the vectors of a change of
// rank 1.
func TestWeightDecay(t *testing.T) {
	norms := 0
	for _, what := range []*llama.Trainable{all(t), oneLayer(t)} {
		before := make([][]float32, len(what.Parameters()))
		for i, p := range what.Parameters() {
			before[i] = append([]float32(nil), p.Value...)
		}
		tr := trainer(t, what, learn.Options{Optimiser: learn.AdamW{Rate: .1, Decay: .5}})
		if _, err := tr.Step(t.Context(), []learn.Example{poisoned(lessons(1, 1, 4)[0], 0, 0)}); err != nil {
			t.Fatal(err)
		}
		for i, p := range what.Parameters() {
			share := float32(.95)
			if p.Norm {
				share = 1
				norms++
			}
			for j, x := range p.Value {
				if want := before[i][j] * share; math.Abs(float64(x-want)) > 1e-6 {
					t.Fatalf("value %d of %s is %v after it was %v, want %v", j, p.Name, x, before[i][j], want)
				}
			}
		}
	}
	if norms != 5 {
		t.Errorf("%d normalisations, want 2 a layer and the last", norms)
	}
}

// Clipping keeps a gradient's direction: with no bound, and with one above its norm, the steps are the same.
func TestClippingLeavesShortGradientsAlone(t *testing.T) {
	examples := lessons(1, 16, 4)
	free, bound, short := all(t), all(t), all(t)
	run(t, trainer(t, free, learn.Options{Clip: -1}), examples, 4)
	run(t, trainer(t, bound, learn.Options{Clip: 1e6}), examples, 4)
	run(t, trainer(t, short, learn.Options{Clip: .1, Optimiser: learn.AdamW{Epsilon: 1}}), examples, 4)
	if values(free) != values(bound) {
		t.Error("a bound that no gradient reaches changes the steps")
	}
	if values(free) == values(short) {
		t.Error("a bound that gradients reach changes nothing")
	}
}
