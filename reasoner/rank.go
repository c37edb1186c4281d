package reasoner

import (
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/policy"
)

// graphShares are the candidates' shares by the graph's ranking.
func (r *Reasoner) graphShares(c event.Context) []float64 {
	return policy.Exp(policy.LogSoftmax(r.opt.Rank(c)))
}

// withoutModel are the scores as the graph alone would have given them.
func (r *Reasoner) withoutModel(ranked []event.Score) []event.Score {
	graph := make([]float64, len(ranked))
	for i, s := range ranked {
		graph[i] = s.Graph
	}
	return policy.Pool(graph, nil, r.opt.ModelWeight)
}

// logShares are what candidates were ranked by.
func logShares(ranked []event.Score) []float64 {
	out := make([]float64, len(ranked))
	for i, s := range ranked {
		out[i] = s.Final
	}
	return out
}
