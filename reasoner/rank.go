package reasoner

import (
	"cmp"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/r2rec/r2rec/internal/event"
)

// Streams of one decision's seed: each use draws from its own, so that none shifts another.
const (
	exploration = iota + 1
	slateDraw
	anotherShuffle
	randomChain
)

func generator(seed, stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }

// inShare tells whether the user belongs to a fixed share of all users, by a hash salted with the share's purpose.
func inShare(purpose, user string, share float64) bool {
	h := fnv.New64a()
	h.Write([]byte(purpose))
	h.Write([]byte{0})
	h.Write([]byte(user))
	x := h.Sum64() // FNV leaves its high bits poorly mixed for short input: finish as in SplitMix64
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return float64((x^x>>31)>>11)/(1<<53) < share
}

// scores joins the two rankings in a logarithmic opinion pool: final = log softmax((1 - weight) · log graph + weight · log
// model), which is about as sure of itself as they are, where their product would be too sure (Genest and Zidek 1986). model
// holds log shares; nil: the graph alone.
func scores(graph, model []float64, weight float64) []event.Score {
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
	for i, f := range logSoftmax(final) {
		out[i].Final = f
	}
	return out
}

// graphShares are the candidates' shares by the graph's ranking.
func (r *Reasoner) graphShares(c event.Context) []float64 { return exp(logSoftmax(r.opt.Rank(c))) }

// withoutModel are the scores as the graph alone would have given them.
func (r *Reasoner) withoutModel(ranked []event.Score) []event.Score {
	graph := make([]float64, len(ranked))
	for i, s := range ranked {
		graph[i] = s.Graph
	}
	return scores(graph, nil, r.opt.ModelWeight)
}

// logShares are what candidates were ranked by.
func logShares(ranked []event.Score) []float64 {
	out := make([]float64, len(ranked))
	for i, s := range ranked {
		out[i] = s.Final
	}
	return out
}

// slate orders k of the candidates: the best ones, or, on exploring users, a draw without replacement from
// softmax(final / τ) (Plackett-Luce). A slot's probability is that of its item given the slots before it.
func slate(d event.Decision, k int) []event.Slot {
	n := len(d.Scores)
	left := make([]int, n)
	for i := range left {
		left[i] = i
	}
	slices.SortStableFunc(left, func(a, b int) int {
		return cmp.Or(cmp.Compare(d.Scores[b].Final, d.Scores[a].Final), cmp.Compare(d.Context.Candidates[a].ItemID, d.Context.Candidates[b].ItemID))
	})
	draw := generator(d.Seed, slateDraw)
	var out []event.Slot
	for pos := 1; pos <= min(k, n); pos++ {
		at, p := 0, 1.0
		if d.Explore {
			z := make([]float64, len(left))
			for i, c := range left {
				z[i] = d.Scores[c].Final / d.Temperature
			}
			shares := exp(logSoftmax(z))
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

func logSoftmax(z []float64) []float64 {
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

func exp(z []float64) []float64 {
	out := make([]float64, len(z))
	for i, v := range z {
		out[i] = math.Exp(v)
	}
	return out
}
