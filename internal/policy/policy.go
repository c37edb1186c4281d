// Package policy is how a list comes out of scores: the pool of the graph's and the model's ranking, the softmax over it,
// and the draw of the shown items. Whoever serves lists, learns from them or judges how another model would have drawn
// them computes it here, and so the same.
//
// It promises that a slate is a pure function of its decision (scores, temperature, seed, explore), so that every logged
// probability can be computed again, and that a user's place in a share of all users depends on the user's id and the
// share's purpose alone.
//
// It knows no model, no graph and no server.
package policy

import (
	"cmp"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/r2rec/r2rec/internal/event"
)

// The streams of one decision's seed: each use draws from its own, so that none shifts another.
const (
	Exploration uint64 = iota + 1 // which items without evidence become candidates
	SlateDraw                     // which items are shown
	AnotherShuffle
	RandomChain
)

// Generator draws one stream of a seed.
func Generator(seed, stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }

// InShare tells whether the user belongs to a fixed share of all users, by a hash salted with the share's purpose. A
// larger share of the same purpose holds all users of a smaller one.
func InShare(purpose, user string, share float64) bool {
	h := fnv.New64a()
	h.Write([]byte(purpose))
	h.Write([]byte{0})
	h.Write([]byte(user))
	x := h.Sum64() // FNV leaves its high bits poorly mixed for short input: finish as in SplitMix64
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return float64((x^x>>31)>>11)/(1<<53) < share
}

// InRollOut tells whether a user is among the share that gets an adapter first. Another adapter has other users.
func InRollOut(adapter, user string, share float64) bool {
	return InShare("rollout "+adapter, user, share)
}

// Pool joins the two rankings in a logarithmic opinion pool: final = log softmax((1 - weight) · log graph + weight · log
// model), which is about as sure of itself as they are, where their product would be too sure (Genest and Zidek 1986).
// graph holds shares, one a candidate, model log shares in the same order; nil: the graph alone.
func Pool(graph, model []float64, weight float64) []event.Score {
	final := make([]float64, len(graph))
	out := make([]event.Score, len(graph))
	for i, g := range graph {
		out[i].Graph = g
		final[i] = math.Log(g)
		if model != nil {
			p := math.Exp(model[i])
			out[i].Model = &p
			final[i] = (1-weight)*final[i] + weight*model[i]
		}
	}
	for i, f := range LogSoftmax(final) {
		out[i].Final = f
	}
	return out
}

// First is the probability of each candidate to be drawn into slot 1: softmax(final / temperature).
func First(scores []event.Score, temperature float64) []float64 {
	z := make([]float64, len(scores))
	for i, s := range scores {
		z[i] = s.Final / temperature
	}
	return Exp(LogSoftmax(z))
}

// Slate orders k of a decision's candidates: the best ones, or, where it explores, a draw without replacement from
// softmax(final / temperature) (Plackett-Luce). A slot's probability is that of its item given the slots before it.
func Slate(d event.Decision, k int) []event.Slot {
	n := len(d.Scores)
	left := make([]int, n)
	for i := range left {
		left[i] = i
	}
	slices.SortStableFunc(left, func(a, b int) int {
		return cmp.Or(cmp.Compare(d.Scores[b].Final, d.Scores[a].Final), cmp.Compare(d.Context.Candidates[a].ItemID, d.Context.Candidates[b].ItemID))
	})
	draw := Generator(d.Seed, SlateDraw)
	var out []event.Slot
	for pos := 1; pos <= min(k, n); pos++ {
		at, p := 0, 1.0
		if d.Explore {
			remaining := make([]event.Score, len(left))
			for i, c := range left {
				remaining[i] = d.Scores[c]
			}
			shares := First(remaining, d.Temperature)
			u := draw.Float64()
			for at = 0; at < len(shares)-1 && u >= shares[at]; at++ {
				u -= shares[at]
			}
			p = shares[at]
		}
		out = append(out, event.Slot{Position: pos, ItemID: d.Context.Candidates[left[at]].ItemID, Probability: p})
		left = slices.Delete(left, at, at+1)
	}
	return out
}

// LogSoftmax turns scores into log shares.
func LogSoftmax(z []float64) []float64 {
	top := slices.Max(z)
	var sum float64
	for _, v := range z {
		sum += math.Exp(v - top)
	}
	norm := top + math.Log(sum)
	out := make([]float64, len(z))
	for i, v := range z {
		out[i] = v - norm
	}
	return out
}

// Exp is the exponential of each value.
func Exp(z []float64) []float64 {
	out := make([]float64, len(z))
	for i, v := range z {
		out[i] = math.Exp(v)
	}
	return out
}
