package ope

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// bandit is a small world whose truth is known: users differ in how much they like anything, and in how often they come;
// actions differ in what they earn.
type bandit struct {
	logged, target []float64 // probabilities of the actions
	means          []float64 // of their rewards, for the average user
	spread         float64   // sd of the log of a user's factor on them
	often          float64   // decisions a user, on average; geometric
}

// truth is the difference of the policies' values.
func (b bandit) truth() (d float64) {
	for a, m := range b.means {
		d += (b.target[a] - b.logged[a]) * m
	}
	return d
}

// draw gives the decisions of so many users.
func (b bandit) draw(r *rand.Rand, users int) (samples []Sample) {
	for u := range users {
		factor := math.Exp(b.spread*r.NormFloat64() - b.spread*b.spread/2)
		name := fmt.Sprint("u", u)
		for {
			a, x := 0, r.Float64()
			for ; a < len(b.logged)-1 && x >= b.logged[a]; a++ {
				x -= b.logged[a]
			}
			s := Sample{User: name, Logged: b.logged[a], Target: b.target[a], Q: b.means[a]}
			if r.Float64() < b.means[a]*factor {
				s.Reward = 1
			}
			for i, m := range b.means {
				s.V += b.target[i] * m
				s.VLogged += b.logged[i] * m
			}
			samples = append(samples, s)
			if r.Float64() < 1/b.often {
				break
			}
		}
	}
	return samples
}

// noDifference are worlds in which both policies earn the same although they differ: the second is as good by what it
// takes more often and what it takes less often. Factors stay below 1 over the means, so that rewards of 0 and 1 do.
var noDifference = map[string]bandit{
	"common rewards": {logged: []float64{.4, .3, .2, .1}, target: []float64{.3, .4, .1, .2}, means: []float64{.2, .2, .2, .2}, spread: .5, often: 10},
	"rare rewards":   {logged: []float64{.4, .3, .2, .1}, target: []float64{.25, .35, .15, .25}, means: []float64{.05, .05, .05, .05}, spread: .8, often: 40},
	"large weights":  {logged: []float64{.5, .45, .03, .02}, target: []float64{.35, .4, .15, .1}, means: []float64{.1, .1, .1, .1}, spread: .6, often: 10},
	"actions matter": {logged: []float64{.4, .3, .2, .1}, target: []float64{.3, .4, .1, .2}, means: []float64{.1, .3, .2, .0}, spread: .4, often: 10},
}
