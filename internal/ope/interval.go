package ope

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"

	"gonum.org/v1/gonum/stat/distuv"
)

// Bounds is an estimate with its standard error and two one-sided bounds: each is missed by the truth with a chance of at
// most alpha, so that between them it lies with 1 - 2 alpha. With fewer than two users there are none, and Low and High
// are the estimate.
type Bounds struct {
	Estimate, SE, Low, High float64
}

// Resampling says how users are resampled.
type Resampling struct {
	Resamples int    // 0: DefaultResamples; fewer than 200 are taken as 200
	Seed      uint64 // of the draws
}

// DefaultResamples is how many times users are drawn.
const DefaultResamples = 2000

// deepest is the smallest alpha whose quantile is read off the resamples: 10 of DefaultResamples lie beyond it. One
// further out is that one, stretched as t's quantiles are.
const deepest = .005

func (r Resampling) count() int {
	if r.Resamples <= 0 {
		return DefaultResamples
	}
	return max(r.Resamples, 1/deepest)
}

// mostT is the largest studentized deviation of a resample that is told from others: where hardly any drawn user has
// anything to say its standard error can come out as 0.
const mostT = 1000

// bounds gives both bounds of each statistic at a one-sided level.
//
// A bound is the wider of two. One is the cluster-robust t bound, estimate ± t(1 - alpha; users - 1) SE, with the standard
// error by users: it rests on the mean over users being near normal. The other is the studentized bootstrap (Hall 1988;
// Efron and Tibshirani 1993, chapter 12): users are drawn with replacement, as many as there are, with all of their
// decisions, and the quantiles of (drawn estimate - estimate)/(drawn SE) take the place of t's, so that the skewness of
// rare rewards under large weights counts. The percentile bootstrap does neither, and at the levels of later looks, .001
// and less, it would hang on its most extreme draws. Where the two differ, the log is too small to say which is right, and
// the wider bound holds its level if either does.
//
// Where the reward is rare and few decisions carry large weights, most logs hold none of those that would raise the
// estimate: then the lower bound is missed less often than alpha, and the upper one more often. A gate looks at the lower.
func (u *users) bounds(alpha float64, o Resampling, stats ...statistic) []Bounds {
	out := u.tBounds(alpha, stats...)
	if u.n < 2 {
		return out
	}
	all := make([]*moments, len(stats))
	for i, s := range stats {
		all[i] = newMoments(u, s)
	}
	level := max(alpha, deepest)
	stretch := u.tQuantile(alpha) / u.tQuantile(level)
	t := u.studentized(all, out, o.count(), o.Seed)
	for i := range out {
		b := &out[i]
		slices.Sort(t[i])
		k := int(level * float64(len(t[i])+1)) // of the order statistic beyond which a share of at most level lies
		b.Low = min(b.Low, b.Estimate-stretch*t[i][len(t[i])-k]*b.SE)
		b.High = max(b.High, b.Estimate-stretch*t[i][k-1]*b.SE)
	}
	return out
}

// tQuantile is what a standard normal mean over the users, studentized, exceeds with a chance of alpha.
func (u *users) tQuantile(alpha float64) float64 {
	return distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(u.n - 1)}.Quantile(1 - alpha)
}

// tBounds are the cluster-robust t bounds alone.
func (u *users) tBounds(alpha float64, stats ...statistic) []Bounds {
	out := make([]Bounds, len(stats))
	for i, s := range stats {
		m := newMoments(u, s)
		b := &out[i]
		if b.Estimate, b.SE = m.estimate(m.all(), u.n); u.n < 2 {
			b.SE, b.Low, b.High = 0, b.Estimate, b.Estimate
			continue
		}
		t := u.tQuantile(alpha)
		b.Low, b.High = b.Estimate-t*b.SE, b.Estimate+t*b.SE
	}
	return out
}

// studentized draws users and gives, for each statistic, (drawn estimate - estimate)/(drawn SE) of every resample.
// Resample r draws from its own stream of the seed, so that threads change nothing.
func (u *users) studentized(stats []*moments, at []Bounds, resamples int, seed uint64) [][]float64 {
	t := make([][]float64, len(stats))
	for i := range t {
		t[i] = make([]float64, resamples)
	}
	workers := min(runtime.GOMAXPROCS(0), resamples)
	var wait sync.WaitGroup
	for first := range workers {
		wait.Go(func() {
			drawn := make([]int32, u.n)
			sums := make([]float64, 16)
			for r := first; r < resamples; r += workers {
				random := rand.New(rand.NewPCG(seed, uint64(r)))
				for j := range drawn {
					drawn[j] = random.Int32N(int32(u.n))
				}
				for i, m := range stats {
					m.of(drawn, sums[:m.stride])
					value, se := m.estimate(sums, u.n)
					t[i][r] = deviation(value-at[i].Estimate, se)
				}
			}
		})
	}
	wait.Wait()
	return t
}

// deviation is d/se, within ±mostT.
func deviation(d, se float64) float64 {
	if d == 0 {
		return 0
	}
	return min(max(d/se, -mostT), mostT)
}
