package power

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/r2rec/r2rec/internal/ope"
)

// world is the cases of some users, all of them equally likely.
type world struct {
	cases []Case
	users [][]int // a user's cases
	width int     // features a candidate
}

// part splits by user: the first world learns, the other one judges, with at most so many cases a user.
func part(cases []Case, most int) (learning, judging *world) {
	learning, judging = &world{}, &world{}
	number := map[string]int{}
	for _, c := range cases {
		w := learning
		if ope.Fold(c.User, 2) == 1 {
			w = judging
		}
		at, ok := number[c.User]
		if !ok {
			at = len(w.users)
			number[c.User] = at
			w.users = append(w.users, nil)
		}
		if w == judging && len(w.users[at]) == most {
			continue
		}
		w.users[at] = append(w.users[at], len(w.cases))
		w.cases = append(w.cases, c)
		w.width = len(c.Features[0])
	}
	return learning, judging
}

// shares are a policy's probabilities of a case's candidates: softmax(theta · features).
func shares(theta []float64, c Case, into []float64) []float64 {
	into = into[:0]
	top := math.Inf(-1)
	for _, f := range c.Features {
		z := dot(theta, f)
		top = max(top, z)
		into = append(into, z)
	}
	var sum float64
	for i, z := range into {
		into[i] = math.Exp(z - top)
		sum += into[i]
	}
	for i := range into {
		into[i] /= sum
	}
	return into
}

func dot(a, b []float64) (sum float64) {
	for i, x := range a {
		sum += x * b[i]
	}
	return sum
}

// value is a policy's mean reward a decision: the probability of what was chosen.
func (w *world) value(theta []float64) (v float64) {
	var p []float64
	for _, c := range w.cases {
		p = shares(theta, c, p)
		v += p[c.Chosen]
	}
	return v / float64(len(w.cases))
}

// effective is the effective sample of a policy judged by decisions of another, as a share of the decisions, when there are
// many: 1/E[w²].
func (w *world) effective(theta, logging []float64) float64 {
	var p, q []float64
	var square float64
	for _, c := range w.cases {
		p, q = shares(theta, c, p), shares(logging, c, q)
		for a := range p {
			square += p[a] * p[a] / q[a]
		}
	}
	return float64(len(w.cases)) / square
}

// foresight is what a policy would do in every case: its probabilities, and the features that it draws on average, by
// which a linear model of the reward predicts its value.
type foresight struct {
	shares [][]float64
	mean   [][]float64
}

func (w *world) foresee(theta []float64) *foresight {
	f := &foresight{}
	for _, c := range w.cases {
		p := shares(theta, c, nil)
		mean := make([]float64, w.width)
		for a, row := range c.Features {
			for j, v := range row {
				mean[j] += p[a] * v
			}
		}
		f.shares = append(f.shares, p)
		f.mean = append(f.mean, mean)
	}
	return f
}

// log lets the logging policy decide n times, for users who are drawn with replacement, each with all of their cases, and
// gives the decisions as samples that judge the target. The model of the reward is cross-fitted by user on these same
// decisions.
func (w *world) log(logging, target *foresight, n int, r *rand.Rand) []ope.Sample {
	samples := make([]ope.Sample, 0, n)
	rows := make([]drawn, 0, n)
	for u := 0; len(samples) < n; u++ {
		name := fmt.Sprint(u)
		for _, i := range w.users[r.IntN(len(w.users))] {
			if len(samples) == n {
				break
			}
			c := w.cases[i]
			a := draw(logging.shares[i], r)
			s := ope.Sample{User: name, Logged: logging.shares[i][a], Target: target.shares[i][a]}
			if a == c.Chosen {
				s.Reward = 1
			}
			samples = append(samples, s)
			rows = append(rows, drawn{i, a, ope.Fold(name, folds)})
		}
	}
	models := w.models(samples, rows)
	for k := range samples {
		at, m := rows[k], models[rows[k].fold]
		s := &samples[k]
		s.Q = m.of(w.cases[at.at].Features[at.action])
		s.V, s.VLogged = m.of(target.mean[at.at]), m.of(logging.mean[at.at])
	}
	return samples
}

// drawn is one decision: the case, the candidate in slot 1, and the fold of the user.
type drawn struct{ at, action, fold int }

func draw(p []float64, r *rand.Rand) int {
	a, x := 0, r.Float64()
	for ; a < len(p)-1 && x >= p[a]; a++ {
		x -= p[a]
	}
	return a
}
