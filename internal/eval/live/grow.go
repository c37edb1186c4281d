package live

import (
	"context"
	"slices"

	"github.com/r2rec/r2rec/internal/event"
)

// GrowOptions say when latent factors are learned of a graph that grows. The zero value: whenever it has grown.
type GrowOptions struct {
	// LearnBefore is when latent factors are learned for the last time, from what happened before; 0: never for the last time.
	LearnBefore event.Time
	// Once says that they are not learned earlier either.
	Once bool
	// NoFactors goes without latent factors.
	NoFactors bool
}

// Growing is a graph that learns latent factors as it grows, as a server's graph has them learned again and again, and
// tells of every list of candidates how it was drawn. Whoever asks it, to measure, to fit or to teach, sees the same.
type Growing struct {
	Graph
	last     event.Time // of learning; 0: there is none, or it is over
	learnAt  int        // with so many interactions latent factors are learned next; 0: never
	observed int        // interactions
	counts   popularity
}

// Latent factors are learned when there are this many interactions, and whenever there are an eighth more. So the cases to
// fit with meet factors as old as those that are measured do.
const learnFirst = 1000

// Grow returns an empty graph as one that learns.
func Grow(g Graph, o GrowOptions) *Growing {
	r := &Growing{Graph: g, counts: popularity{of: map[string]int{}}}
	if !o.NoFactors {
		r.last = o.LearnBefore
		if !o.Once {
			r.learnAt = learnFirst
		}
	}
	return r
}

// Apply joins the next interactions into the graph, and learns where it is time.
func (g *Growing) Apply(ctx context.Context, batch []event.Interaction) error {
	for len(batch) > 0 {
		if err := g.reach(ctx, batch[0].Timestamp); err != nil {
			return err
		}
		n := len(batch) // that may be joined before anything is learned
		if g.learnAt > 0 {
			n = min(n, g.learnAt-g.observed)
		}
		if g.last != 0 {
			if i := slices.IndexFunc(batch[:n], func(in event.Interaction) bool { return in.Timestamp >= g.last }); i > 0 {
				n = i
			}
		}
		if err := g.Graph.Apply(ctx, batch[:n]); err != nil {
			return err
		}
		for _, in := range batch[:n] {
			g.counts.add(in)
		}
		batch, g.observed = batch[n:], g.observed+n
		if g.observed == g.learnAt {
			g.learnAt += g.learnAt / 8
			if err := g.Learn(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// reach learns for the last time where that time has come.
func (g *Growing) reach(ctx context.Context, at event.Time) error {
	if g.last == 0 || at < g.last {
		return nil
	}
	g.last, g.learnAt = 0, 0
	return g.Learn(ctx)
}

// Evidence is what the graph knows about these candidates, and how they were drawn.
func (g *Growing) Evidence(ctx context.Context, user string, at event.Time, candidates []string) (event.Context, error) {
	if err := g.reach(ctx, at); err != nil {
		return event.Context{}, err
	}
	seen, err := g.Graph.Evidence(ctx, user, at, candidates)
	seen.Draw = g.counts.draw(candidates)
	return seen, err
}

// Find is what the graph finds for a user among all items.
func (g *Growing) Find(ctx context.Context, user string, at event.Time, k int) (event.Context, error) {
	if err := g.reach(ctx, at); err != nil {
		return event.Context{}, err
	}
	return g.Graph.Find(ctx, user, at, k)
}
