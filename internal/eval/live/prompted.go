package live

import (
	"context"
	"hash/fnv"

	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/event"
)

// Model ranks a context. The same context and seed give the same scores.
type Model func(ctx context.Context, c event.Context, seed uint64) ([]float64, error)

// Prompted ranks by what a model makes of the graph's evidence. It is an eval.Ranker.
type Prompted struct {
	graph Graph
	model Model
}

// NewPrompted returns a ranker over an empty graph.
func NewPrompted(g Graph, m Model) *Prompted { return &Prompted{g, m} }

// Observe applies the batch.
func (r *Prompted) Observe(ctx context.Context, batch []event.Interaction) error {
	return r.graph.Apply(ctx, batch)
}

// Scores ranks the candidates of a case. The seed that shuffles them in the prompt is a hash of the case's name, so that
// it does not depend on what else is asked: see Seed.
func (r *Prompted) Scores(ctx context.Context, c eval.Case) ([]float64, error) {
	seen, err := r.graph.Evidence(ctx, c.User, c.At, c.Candidates)
	if err != nil {
		return nil, err
	}
	return r.model(ctx, seen, Seed(c))
}

// Seed is what shuffles the candidates of a case in its prompt.
func Seed(c eval.Case) uint64 {
	h := fnv.New64a()
	h.Write([]byte(c.ID))
	return h.Sum64()
}
