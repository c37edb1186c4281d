package fusion

import (
	"math"
	"testing"
)

// The gradient is what finite differences of the loss say, weight by weight.
func TestGradient(t *testing.T) {
	const hidden, scale, step = 8, .7, 1e-5
	rng := source(3)
	e := world(1, 7, rng)[0]
	rows := make([]float64, 7*columns)
	encode(e.List, nil, rows)
	n := newNetwork(hidden)
	for i := range n.all {
		n.all[i] = rng.NormFloat64() / 4
	}
	for k := perCandidate; k < columns; k++ {
		n.linear[k] = 0
	}
	grad := newNetwork(hidden)
	var s scratch
	loss := func() float64 { return n.backpropagate(rows, e.Chosen, scale, newNetwork(hidden), &s) }
	n.backpropagate(rows, e.Chosen, scale, grad, &s)
	n.backpropagate(rows, e.Chosen, scale, grad, &s) // adds up
	for i := range n.all {
		w := n.all[i]
		n.all[i] = w + step
		up := loss()
		n.all[i] = w - step
		down := loss()
		n.all[i] = w
		want := 2 * scale * (up - down) / (2 * step)
		if got := grad.all[i]; math.Abs(got-want) > 1e-6*(1+math.Abs(want)) {
			t.Errorf("gradient of weight %d of %d is %v, finite differences say %v", i, len(n.all), got, want)
		}
	}
}

// The loss is minus the log of the chosen candidate's share, also where a plain exp would overflow.
func TestLossOfLargeScores(t *testing.T) {
	n := newNetwork(1)
	n.linear[0] = 1
	rows := make([]float64, 3*columns)
	for i, score := range []float64{1000, 998, -1000} {
		rows[i*columns] = score
	}
	for chosen, want := range []float64{math.Log1p(math.Exp(-2)), 2 + math.Log1p(math.Exp(-2)), 2000 + math.Log1p(math.Exp(-2))} {
		if got := n.backpropagate(rows, chosen, 1, newNetwork(1), &scratch{}); math.Abs(got-want) > 1e-9 {
			t.Errorf("loss of candidate %d is %v, want %v", chosen, got, want)
		}
	}
}

func TestTanh(t *testing.T) {
	for x := -12.0; x <= 12; x += .001 {
		got, want := tanh(x), math.Tanh(x)
		if math.Abs(got-want) > 3e-7 {
			t.Fatalf("tanh(%v) = %v, want %v", x, got, want)
		}
		if got != -tanh(-x) || math.Abs(got) >= 1 {
			t.Fatalf("tanh(%v) = %v and tanh(%v) = %v, want opposites within -1 and 1", x, got, -x, tanh(-x))
		}
	}
	if tanh(math.Inf(1)) != tanh(100) || tanh(math.Inf(-1)) != tanh(-100) {
		t.Error("tanh does not hold its value at infinity")
	}
}

// The first steps of AdamW, by the formulas of the paper.
func TestAdam(t *testing.T) {
	a := newAdam(1, FitOptions{Rate: .1, Decay: .5}, 1000)
	w := []float64{2}
	a.step(w, []float64{3})
	want := 2 - .1*(1+.5*2) // both means, corrected, are those of the only gradient: 3/sqrt(9)
	if math.Abs(w[0]-want) > 1e-8 {
		t.Errorf("after one step the weight is %v, want %v", w[0], want)
	}
	a.step(w, []float64{-1})
	mean := (.9*.1*3 + .1*-1) / (1 - .9*.9)
	square := (.98*.02*9 + .02*1) / (1 - .98*.98)
	want -= .1 * (mean/math.Sqrt(square) + .5*want)
	if math.Abs(w[0]-want) > 1e-8 {
		t.Errorf("after two steps the weight is %v, want %v", w[0], want)
	}
}

func TestSchedule(t *testing.T) {
	for _, c := range []struct {
		done int
		want float64
	}{{1, 1}, {300, 1}, {650, .515}, {1000, .03}} {
		if got := schedule(c.done, 1000); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("rate after %d of 1000 steps is %v of the full one, want %v", c.done, got, c.want)
		}
	}
	a := newAdam(1, FitOptions{Rate: 1, Decay: 1e-300}, 1)
	w := []float64{0}
	if a.step(w, []float64{1}); math.Abs(w[0]+last) > 1e-6 {
		t.Errorf("the last step moved by %v, want %v: the rate of the schedule", -w[0], last)
	}
}
