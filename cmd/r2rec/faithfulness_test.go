package main

import (
	"cmp"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/dataset"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/fusion"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/reasoner"
	"github.com/redis/go-redis/v9"
)

// TestReasonsAreFaithful measures lists of MovieLens users, ranked by the graph: what is proposed as a reason mostly is
// one, and is more of one than a random chain to the same film.
func TestReasonsAreFaithful(t *testing.T) {
	t.Parallel()
	graph := films(t)
	weights := fusion.Default()
	rank := func(c event.Context) []float64 { return weights.Scores(fusion.FromContext(c)) }
	f, err := reasoner.Measure(lists(t, graph, rank, 40), func(c event.Context, _ uint64) ([]float64, error) { return logShares(rank(c)), nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", f)
	e := f.Served
	if f.Decisions != 40 || f.Steps < 150 || f.Chains < 2*f.Steps {
		t.Errorf("%d decisions, %d steps, %d chains; want 40, about 5 steps a decision, 2 to 3 chains a step", f.Decisions, f.Steps, f.Chains)
	}
	if 2*e.PositiveChains < f.Chains || 10*e.Decisions < 9*f.Decisions || e.Mean <= 0 {
		t.Errorf("%+v: want most chains to contribute, and nearly every decision to show one", e)
	}
	if f.Shuffled != e || f.Both != e.PositiveChains {
		t.Errorf("under another shuffle %+v, want the same: the graph's ranking knows no order", f.Shuffled)
	}
}

// The same of the base model alone, which reads nothing but digits: rounding hides some contributions, and another shuffle
// changes what it says a little.
func TestReasonsOfTheBaseModelAreFaithful(t *testing.T) {
	t.Parallel()
	graph := films(t)
	model, err := engine.Open(engine.Options{Concurrency: 1})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(c event.Context, seed uint64) ([]float64, error) {
		prompt, err := iot.Build(iot.FullFigures, c, seed)
		if err != nil {
			return nil, err
		}
		return model.Rank(t.Context(), prompt)
	}
	rank := func(c event.Context) []float64 { // chooses candidates and slates
		if len(c.Candidates) > iot.MaxCandidates {
			return fusion.Default().Scores(fusion.FromContext(c))
		}
		shares, err := ask(c, 0)
		if err != nil {
			t.Fatal(err)
		}
		return shares
	}
	f, err := reasoner.Measure(lists(t, graph, rank, 40), ask)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", f)
	e := f.Served
	if 10*e.PositiveChains < 4*f.Chains || 10*e.Decisions < 9*f.Decisions || e.Mean <= 0 {
		t.Errorf("%+v: want a good part of the chains to contribute, and nearly every decision to show one", e)
	}
	if f.Shuffled.Mean <= 0 || 10*f.Both < 6*e.PositiveChains {
		t.Errorf("under another shuffle %+v, %d of %d chains contribute in both: want most", f.Shuffled, f.Both, e.PositiveChains)
	}
}

// films is the bundled data in a graph.
func films(t *testing.T) *graphcache.Cache {
	t.Helper()
	ctx := t.Context()
	rdb := redis.NewClient(&redis.Options{Addr: embeddedtest.Redis(t)})
	t.Cleanup(func() { rdb.Close() })
	graph, err := graphcache.New(rdb, graphcache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	data, err := dataset.Bundled()
	if err != nil {
		t.Fatal(err)
	}
	batch := collect(t, data.Interactions())
	for chunk := range slices.Chunk(batch, 5000) {
		if err := graph.Join(ctx, chunk); err != nil {
			t.Fatal(err)
		}
	}
	items := collect(t, data.Items())
	if err := graph.ApplyItems(ctx, event.Span{Topic: "items", End: int64(len(items))}, items); err != nil {
		t.Fatal(err)
	}
	if err := graph.RefreshTrends(ctx); err != nil {
		t.Fatal(err)
	}
	return graph
}

func collect[T any](t *testing.T, seq iter.Seq2[T, error]) (all []T) {
	t.Helper()
	for v, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

// lists are those of n of the 671 users, five films each.
func lists(t *testing.T, graph *graphcache.Cache, rank func(event.Context) []float64, n int) iter.Seq2[reasoner.Case, error] {
	return func(yield func(reasoner.Case, error) bool) {
		for user := range n {
			seed := uint64(user)
			s, err := graph.Snapshot(t.Context(), graphcache.Query{User: strconv.Itoa(1 + user*671/n), Candidates: 20, Rank: rank, Trending: 3, Explore: 2,
				Chains: 48, History: 32, Rand: rand.New(rand.NewPCG(seed, 1))})
			c := reasoner.Case{Context: s.Context, Seed: seed, Without: s.Without, Chains: s.ChainsTo}
			if err == nil {
				c.Slate = best(s.Context, rank(s.Context), 5)
			}
			if !yield(c, err) {
				return
			}
		}
	}
}

func best(c event.Context, scores []float64, k int) (slate []event.Slot) {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
	for i, place := range order[:min(k, len(order))] {
		slate = append(slate, event.Slot{Position: i + 1, ItemID: c.Candidates[place].ItemID, Probability: 1})
	}
	return slate
}

func logShares(scores []float64) []float64 {
	var sum float64
	for _, s := range scores {
		sum += math.Exp(s - slices.Max(scores))
	}
	out := make([]float64, len(scores))
	for i, s := range scores {
		out[i] = s - slices.Max(scores) - math.Log(sum)
	}
	return out
}
