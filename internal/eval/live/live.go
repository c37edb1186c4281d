// Package live puts the product itself to the test: a ranker that streams a data set into the graph in Redis and ranks
// by the learned fusion of the evidence it reads back, both exactly as a server does.
//
// It can fit the fusion on the way (Options.FitBefore): cases drawn from the events before that time are asked when their
// time comes, and when the time is reached the fusion is fitted on what the graph knew then. Nothing after a case's
// time takes part in its evidence, and nothing at or after FitBefore in the parameters, latent factors included.
//
// It leaves the protocol and the figures to package eval, and the wiring of the graph to its caller.
package live

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/fusion"
)

// Graph is the graph in Redis, empty at the start.
type Graph interface {
	// Apply joins the next interactions into the graph.
	Apply(ctx context.Context, batch []event.Interaction) error
	// Evidence is what the graph knows about these candidates of a user at a time, in their order.
	Evidence(ctx context.Context, user string, at event.Time, candidates []string) (event.Context, error)
	// Learn learns latent factors from what the graph holds, and ranks with them from then on.
	Learn(ctx context.Context) error
	// Find is what the graph finds for a user among all items: about k candidates with their evidence.
	Find(ctx context.Context, user string, at event.Time, k int) (event.Context, error)
}

// Options of a Ranker. The zero value ranks with the fusion that travels with the program.
type Options struct {
	// Model to rank with. Default fusion.Default(); not with FitBefore.
	Model *fusion.Model
	// FitBefore fits the fusion on Cases when the stream reaches this time. Cases before it cannot be asked.
	FitBefore event.Time
	// Cases to fit with, as eval.Draw gives them.
	Cases []eval.Case
	// Fit is how.
	Fit fusion.FitOptions
	// Fitted is told of the model that was fitted, if set; its error ends the run.
	Fitted func(*fusion.Model) error
	// LearnBefore is when latent factors are learned for the last time, from what happened before; 0: never for the last time.
	// Not with FitBefore, which is that time.
	LearnBefore event.Time
	// NoFactors goes without latent factors.
	NoFactors bool
	// Asked is told of every case that was asked to fit with, if set.
	Asked func(done, total int)
}

// Ranker ranks by the fusion. It is an eval.Ranker and an eval.Retriever.
type Ranker struct {
	graph    *Growing
	opt      Options
	model    *fusion.Model
	left     []eval.Case // to be asked, in the order of time
	examples []fusion.Example
	pending  []event.Interaction
}

// New returns a ranker over an empty graph.
func New(g Graph, o Options) (*Ranker, error) {
	r := &Ranker{opt: o, model: o.Model}
	grow := GrowOptions{LearnBefore: o.LearnBefore, Once: o.LearnBefore != 0, NoFactors: o.NoFactors}
	if o.FitBefore != 0 {
		grow.LearnBefore = o.FitBefore
		if o.LearnBefore != 0 {
			return nil, fmt.Errorf("live: latent factors are learned for the last time at the time to fit before: give no other")
		}
		if o.Model != nil {
			return nil, fmt.Errorf("live: a model to rank with and a time to fit one before exclude each other")
		}
		for _, c := range o.Cases {
			if c.At >= o.FitBefore {
				return nil, fmt.Errorf("live: case %q to fit with is at %s, not before %s", c.ID, c.At, o.FitBefore)
			}
		}
		r.left = slices.Clone(o.Cases)
		slices.SortStableFunc(r.left, func(a, b eval.Case) int { return cmp.Compare(a.At, b.At) })
	} else if r.model == nil {
		r.model = fusion.Default()
	}
	r.graph = Grow(g, grow)
	return r, nil
}

// Observe applies the batch, stopping at the cases to fit with.
func (r *Ranker) Observe(ctx context.Context, batch []event.Interaction) error {
	for _, in := range batch {
		if err := r.reach(ctx, in.Timestamp); err != nil {
			return err
		}
		r.pending = append(r.pending, in)
	}
	return r.flush(ctx)
}

func (r *Ranker) flush(ctx context.Context) error {
	if len(r.pending) == 0 {
		return nil
	}
	err := r.graph.Apply(ctx, r.pending)
	r.pending = r.pending[:0]
	return err
}

// reach asks the cases to fit with up to a time, before anything that happens at it is observed, and fits when the time
// to do so has come.
func (r *Ranker) reach(ctx context.Context, at event.Time) error {
	for len(r.left) > 0 && r.left[0].At <= at {
		c := r.left[0]
		if err := r.flush(ctx); err != nil {
			return err
		}
		list, err := r.list(ctx, c)
		if err != nil {
			return fmt.Errorf("case %q to fit with: %w", c.ID, err)
		}
		r.examples = append(r.examples, fusion.Example{List: list, Chosen: slices.Index(c.Candidates, c.Positive)})
		r.left = r.left[1:]
		if r.opt.Asked != nil {
			r.opt.Asked(len(r.examples), len(r.opt.Cases))
		}
	}
	if r.model != nil || at < r.opt.FitBefore {
		return nil
	}
	m, err := fusion.Fit(ctx, r.examples, r.opt.Fit)
	if err != nil {
		return fmt.Errorf("fit the fusion on the events before %s: %w", r.opt.FitBefore, err)
	}
	r.model, r.examples = m, nil
	if r.opt.Fitted != nil {
		return r.opt.Fitted(m)
	}
	return nil
}

// list is what the graph tells about a case.
func (r *Ranker) list(ctx context.Context, c eval.Case) (fusion.List, error) {
	seen, err := r.graph.Evidence(ctx, c.User, c.At, c.Candidates)
	if err != nil {
		return fusion.List{}, err
	}
	return fusion.FromContext(seen), nil
}

// Scores ranks the candidates of a case.
func (r *Ranker) Scores(ctx context.Context, c eval.Case) ([]float64, error) {
	if err := r.ready(ctx, c.At); err != nil {
		return nil, err
	}
	list, err := r.list(ctx, c)
	if err != nil {
		return nil, err
	}
	return r.model.Scores(list), nil
}

func (r *Ranker) ready(ctx context.Context, at event.Time) error {
	if at < r.opt.FitBefore {
		return fmt.Errorf("the case is at %s, but the fusion is fitted on all events before %s: fit before a time at or before the first case",
			at, r.opt.FitBefore)
	}
	return r.reach(ctx, at)
}

// Retrieve gives what the graph finds for a user, at most k items, in its order and ranked by the fusion.
func (r *Ranker) Retrieve(ctx context.Context, user string, at event.Time, k int) (eval.Retrieval, error) {
	if err := r.ready(ctx, at); err != nil {
		return eval.Retrieval{}, err
	}
	found, err := r.graph.Find(ctx, user, at, k)
	if err != nil {
		return eval.Retrieval{}, err
	}
	scores := r.model.Scores(fusion.FromContext(found))
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
	var got eval.Retrieval
	for i, place := range order {
		got.Stage = append(got.Stage, found.Candidates[i].ItemID)
		got.Ranked = append(got.Ranked, found.Candidates[place].ItemID)
	}
	return got, nil
}
