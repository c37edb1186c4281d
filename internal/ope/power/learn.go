package power

import (
	"fmt"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/optimize"

	"github.com/r2rec/r2rec/internal/ope"
)

const (
	folds = 2    // of users, for the model of the reward
	ridge = 1    // added to the diagonal of its normal equations
	beta  = .01  // weight of the KL to the logging policy, in reward a nat
	limit = 200  // iterations of an optimiser
	way   = .75  // of the way from nothing to what imitation learns: where the logging policy stands
	tight = 1e-7 // of a true improvement
)

// linear is a model of the reward, weights and an offset: least squares over what was drawn.
type linear struct {
	weights []float64
	offset  float64
}

func (l linear) of(f []float64) float64 { return l.offset + dot(l.weights, f) }

// models fits one for each fold, on the decisions of the users outside of it.
func (w *world) models(samples []ope.Sample, rows []drawn) []linear {
	d := w.width + 1
	out := make([]linear, folds)
	for fold := range out {
		gram, right := mat.NewSymDense(d, nil), mat.NewVecDense(d, nil)
		x := make([]float64, d)
		x[d-1] = 1
		for k, s := range samples {
			if rows[k].fold == fold {
				continue
			}
			copy(x, w.cases[rows[k].at].Features[rows[k].action])
			gram.SymRankOne(gram, 1, mat.NewVecDense(d, x))
			right.AddScaledVec(right, s.Reward, mat.NewVecDense(d, x))
		}
		for i := range d {
			gram.SetSym(i, i, gram.At(i, i)+ridge)
		}
		var factor mat.Cholesky
		factor.Factorize(gram) // positive definite: ridge is above 0
		var solved mat.VecDense
		if err := factor.SolveVecTo(&solved, right); err == nil {
			out[fold] = linear{solved.RawVector().Data[:d-1], solved.AtVec(d - 1)}
		}
	}
	return out
}

// ascend finds the theta that makes the mean of a gain over the cases largest, from where it starts. gain adds a case's
// gain to the sum and writes its gradient by the logits; p are the policy's shares.
func (w *world) ascend(from []float64, gain func(i int, p, byLogit []float64) float64) ([]float64, error) {
	n := float64(len(w.cases))
	visit := func(theta, grad []float64) (sum float64) {
		var p []float64
		var byLogit []float64
		clear(grad)
		for i, c := range w.cases {
			p = shares(theta, c, p)
			byLogit = append(byLogit[:0], p...)
			sum += gain(i, p, byLogit)
			if grad == nil {
				continue
			}
			for a, f := range c.Features {
				for j, v := range f {
					grad[j] -= byLogit[a] * v / n
				}
			}
		}
		return -sum / n
	}
	result, err := optimize.Minimize(optimize.Problem{
		Func: func(theta []float64) float64 { return visit(theta, nil) },
		Grad: func(grad, theta []float64) { visit(theta, grad) },
	}, from, &optimize.Settings{MajorIterations: limit, GradientThreshold: 1e-5, Converger: &optimize.FunctionConverge{Absolute: 1e-8, Iterations: 20}}, &optimize.LBFGS{})
	if err != nil && result == nil {
		return nil, fmt.Errorf("power: learn: %w", err)
	}
	return result.X, nil
}

// imitate maximises the likelihood of what was chosen, and goes only a part of the way there: a logging policy that can be
// improved.
func (w *world) imitate() ([]float64, error) {
	theta, err := w.ascend(make([]float64, w.width), func(i int, p, byLogit []float64) float64 {
		chosen := w.cases[i].Chosen
		for a := range byLogit {
			byLogit[a] = -p[a]
		}
		byLogit[chosen]++
		return math.Log(max(p[chosen], 1e-300))
	})
	for j := range theta {
		theta[j] *= way
	}
	return theta, err
}

// improve lets the logging policy decide every case once and follows the exact policy gradient of
//
//	Σ_a π(a) R̂(a) - β KL(π, logging),  R̂(a) = q(a) + 1[a was drawn] min(1/p, 10) (r - q(a))
//
// with q cross-fitted by user.
func (w *world) improve(logging []float64, r *rand.Rand) ([]float64, error) {
	present := w.foresee(logging)
	samples, rows := make([]ope.Sample, len(w.cases)), make([]drawn, len(w.cases))
	for i, c := range w.cases {
		a := draw(present.shares[i], r)
		samples[i].Logged = present.shares[i][a]
		if a == c.Chosen {
			samples[i].Reward = 1
		}
		rows[i] = drawn{i, a, ope.Fold(c.User, folds)}
	}
	models := w.models(samples, rows)
	value := func(i, a int) float64 {
		q := models[rows[i].fold].of(w.cases[i].Features[a])
		if a != rows[i].action {
			return q
		}
		return q + min(1/samples[i].Logged, ope.DefaultClip)*(samples[i].Reward-q)
	}
	return w.gradient(logging, present, value)
}

// improveKnowing follows the gradient of the true value.
func (w *world) improveKnowing(logging []float64) ([]float64, error) {
	return w.gradient(logging, nil, func(i, a int) float64 {
		if a == w.cases[i].Chosen {
			return 1
		}
		return 0
	})
}

// gradient maximises Σ_a π(a) value(a), less the KL to the reference where there is one.
func (w *world) gradient(from []float64, reference *foresight, value func(i, a int) float64) ([]float64, error) {
	return w.ascend(from, func(i int, p, byLogit []float64) float64 {
		var mean float64
		for a := range p {
			byLogit[a] = value(i, a)
			if reference != nil {
				byLogit[a] -= beta * math.Log(max(p[a], 1e-300)/reference.shares[i][a])
			}
			mean += p[a] * byLogit[a]
		}
		for a := range p {
			byLogit[a] = p[a] * (byLogit[a] - mean) // the KL's own slope, Σ ∂π, is 0
		}
		return mean
	})
}

// better gives one policy for each improvement, better by exactly that, and all of them as different from the logging
// policy: their effective sample is the same share of the decisions. As what is learned from noisy clicks, a policy goes
// the way to the learned one for a part, and elsewhere for the rest: a step in a random direction, and as much of the way
// as makes up for it and is better by the improvement.
func (w *world) better(logging, learned []float64, improvements []float64, effective float64, r *rand.Rand) ([][]float64, error) {
	base := w.value(logging)
	direction := make([]float64, len(logging))
	for j := range direction {
		direction[j] = r.NormFloat64()
	}
	out := make([][]float64, len(improvements))
	for i, improvement := range improvements {
		at := func(size, share float64) []float64 {
			theta := make([]float64, len(logging))
			for j := range theta {
				theta[j] = logging[j] + size*direction[j] + share*(learned[j]-logging[j])
			}
			return theta
		}
		reach := func(size float64) ([]float64, bool) {
			share, ok := bisect(-4, 1.5, tight, func(share float64) float64 { return w.value(at(size, share)) - base - improvement })
			return at(size, share), ok
		}
		least, ok := reach(0)
		if !ok {
			return nil, fmt.Errorf("power: an improvement of %g is out of reach: what was learned is better by %.4f; ask for less, or learn from more cases", improvement, w.value(learned)-base)
		}
		if improvement > 0 && w.effective(least, logging) < effective {
			return nil, fmt.Errorf("power: an improvement of %g takes an effective sample of %.3f of the decisions, and %.3f was asked for: ask for less of either", improvement, w.effective(least, logging), effective)
		}
		size, ok := bisect(0, 50, 1e-4, func(size float64) float64 {
			theta, ok := reach(size)
			if !ok {
				return 1 // too far to be made up for
			}
			return effective - w.effective(theta, logging)
		})
		if out[i], _ = reach(size); !ok || math.Abs(w.effective(out[i], logging)-effective) > .01 {
			return nil, fmt.Errorf("power: no policy better by %g was found with an effective sample of %g of the decisions: choose another seed", improvement, effective)
		}
	}
	return out, nil
}

// bisect finds where f, which is below 0 at low and above at high, is 0 to within a tolerance.
func bisect(low, high, tolerance float64, f func(float64) float64) (float64, bool) {
	if f(low) > 0 || f(high) < 0 {
		return 0, false
	}
	for range 60 {
		middle := (low + high) / 2
		v := f(middle)
		if math.Abs(v) < tolerance {
			return middle, true
		}
		if v < 0 {
			low = middle
		} else {
			high = middle
		}
	}
	return (low + high) / 2, true
}
