package eval

import (
	"math"
	"math/rand/v2"
	"slices"
	"sort"
)

// Level is the share of resamples between the bounds of an Interval.
const Level = 0.95

// Interval is a mean over cases with its percentile bootstrap bounds. Where fewer than two users are resampled the bounds
// are NaN: one user says nothing about another.
type Interval struct {
	Mean, Low, High float64
}

// Paired is the mean difference of two rankers on the same cases.
type Paired struct {
	Interval
	// P is the one-sided p-value of "no better": the share of resamples in which the difference is not above 0, the data
	// themselves counted as one more that is not, so that it is never 0. NaN with fewer than two users.
	P float64
}

// Bootstrap says how uncertain means over cases are. It draws users with replacement, as many as there are, each with
// all of their cases: cases of one user are alike, and drawing single cases would promise too much. Every call draws the
// same users, so that intervals of different values on the same cases are comparable.
type Bootstrap struct {
	user      []int // a case: its user's number
	users     int
	resamples int
	seed      uint64
}

// Resamples is the default number of resamples.
const Resamples = 2000

// NewBootstrap prepares for values of cases; users has the user of each. Without resamples (0) there are Resamples.
func NewBootstrap(users []string, resamples int, seed uint64) *Bootstrap {
	if resamples <= 0 {
		resamples = Resamples
	}
	b := &Bootstrap{user: make([]int, len(users)), resamples: resamples, seed: seed}
	number := map[string]int{}
	for i, u := range users {
		n, ok := number[u]
		if !ok {
			n = len(number)
			number[u] = n
		}
		b.user[i] = n
	}
	b.users = len(number)
	return b
}

// Mean gives the mean of values, one a case, and its interval.
func (b *Bootstrap) Mean(values []float64) Interval {
	interval, _ := b.interval(values)
	return interval
}

// Difference compares two rankers' values, one a case: the mean of a - b.
func (b *Bootstrap) Difference(a, z []float64) Paired {
	values := make([]float64, len(a))
	for i := range a {
		values[i] = a[i] - z[i]
	}
	interval, means := b.interval(values)
	if means == nil {
		return Paired{interval, math.NaN()}
	}
	notAbove := sort.Search(len(means), func(i int) bool { return means[i] > 0 })
	return Paired{interval, float64(1+notAbove) / float64(1+len(means))}
}

// interval also gives the means of the resamples, in ascending order; nil with fewer than two users.
func (b *Bootstrap) interval(values []float64) (Interval, []float64) {
	if b.users < 2 {
		return Interval{mean(values), math.NaN(), math.NaN()}, nil
	}
	type total struct{ sum, n float64 }
	of := make([]total, b.users)
	for i, v := range values {
		of[b.user[i]].sum += v
		of[b.user[i]].n++
	}
	random := rand.New(rand.NewPCG(b.seed, 0))
	means := make([]float64, b.resamples)
	for r := range means {
		var t total
		for range b.users {
			u := of[random.IntN(b.users)]
			t.sum += u.sum
			t.n += u.n
		}
		means[r] = t.sum / t.n
	}
	slices.Sort(means)
	return Interval{mean(values), quantile(means, (1-Level)/2), quantile(means, (1+Level)/2)}, means
}

// quantile interpolates between the order statistics of sorted values.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}
