package fusion

import (
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/r2rec/r2rec/internal/event"
)

func TestFromContext(t *testing.T) {
	rng := source(1)
	c := event.Context{Likes: 3, Idle: 5, Candidates: []event.Candidate{{ItemID: "a", Evidence: someEvidence(rng)}, {ItemID: "b", Evidence: someEvidence(rng)}}}
	want := List{Evidence: []event.Evidence{c.Candidates[0].Evidence, c.Candidates[1].Evidence}, Likes: 3, Idle: 5, Draw: 0}
	if diff := cmp.Diff(want, FromContext(c)); diff != "" {
		t.Error(diff)
	}
}

// The order of the candidates carries no hint: moved candidates keep their scores, bit by bit.
func TestScoresDoNotDependOnTheOrder(t *testing.T) {
	m := quick(t, FitOptions{})
	rapid.Check(t, func(t *rapid.T) {
		rng := source(rapid.Uint64().Draw(t, "seed"))
		l := world(1, rapid.IntRange(1, 40).Draw(t, "candidates"), rng)[0].List
		order := rng.Perm(len(l.Evidence))
		moved := l
		moved.Evidence = nil
		for _, i := range order {
			moved.Evidence = append(moved.Evidence, l.Evidence[i])
		}
		before, after := m.Scores(l), m.Scores(moved)
		for k, i := range order {
			if after[k] != before[i] {
				t.Fatalf("candidate %d scores %v, and %v at place %d", i, before[i], after[k], k)
			}
		}
	})
}

// Evidence has no unit: all values of one evidence times a constant rank the same.
func TestScoresDoNotDependOnUnits(t *testing.T) {
	m := quick(t, FitOptions{})
	rapid.Check(t, func(t *rapid.T) {
		l := world(1, 12, source(rapid.Uint64().Draw(t, "seed")))[0].List
		by := rapid.Float64Range(1e-6, 1e6).Draw(t, "by")
		scaled := l
		scaled.Evidence = slices.Clone(l.Evidence)
		for i := range scaled.Evidence {
			e := &scaled.Evidence[i]
			e.LikeMinded *= by
			e.Similar /= by
			e.After[1] *= by
			e.Recent[2] *= by
			e.Popularity *= 3
			e.Category /= by
		}
		before, after := m.Scores(l), m.Scores(scaled)
		for i := range before {
			if math.Abs(before[i]-after[i]) > 1e-6 {
				t.Fatalf("candidate %d scores %v, and %v after scaling", i, before[i], after[i])
			}
		}
	})
}

// Scores are finite whatever the evidence is, and there is one a candidate.
func TestScoresAreFinite(t *testing.T) {
	m := quick(t, FitOptions{})
	bad := []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1, 0, math.MaxFloat64, math.SmallestNonzeroFloat64}
	rapid.Check(t, func(t *rapid.T) {
		v := func() float64 { return rapid.SampledFrom(bad).Draw(t, "value") }
		three := func() [3]float64 { return [3]float64{v(), v(), v()} }
		l := List{Likes: rapid.SampledFrom([]int{math.MinInt, -1, 0, math.MaxInt}).Draw(t, "likes"), Idle: v(), Draw: v()}
		for range rapid.IntRange(0, 5).Draw(t, "candidates") {
			l.Evidence = append(l.Evidence, event.Evidence{
				Support: rapid.Int().Draw(t, "support"), Popularity: rapid.Int().Draw(t, "popularity"), LikeMinded: v(), LikeMindedRecent: three(),
				Interest: v(), Similar: v(), SimilarLast: v(), SimilarRecent: v(), SimilarAny: v(), Best: v(), Lift: v(), After: three(), Before: three(),
				Together: v(), Near: three(), Transition: [2]float64{v(), v()}, Session: [2]float64{v(), v()},
				Recent: three(), RecentAny: three(), Liked: v(), Ages: [4]float64{v(), v(), v(), v()}, Category: v(), Chains: v(), Latent: [2]float64{v(), v()},
			})
		}
		scores := m.Scores(l)
		if len(scores) != len(l.Evidence) {
			t.Fatalf("%d scores for %d candidates", len(scores), len(l.Evidence))
		}
		for i, s := range scores {
			if math.IsNaN(s) || math.IsInf(s, 0) {
				t.Fatalf("candidate %d scores %v", i, s)
			}
		}
	})
}

// All evidence of the groups matters to a model, and none of a group that it was fitted without; chains matter to none.
func TestWithout(t *testing.T) {
	lists := world(50, 6, source(5))
	// same tells whether a model gives the same scores, bit by bit, after a change of every list.
	same := func(m *Model, change func(*List)) bool {
		for _, e := range lists {
			l := e.List
			l.Evidence = slices.Clone(l.Evidence)
			change(&l)
			if !slices.Equal(m.Scores(e.List), m.Scores(l)) {
				return false
			}
		}
		return true
	}
	rng := source(6)
	changes := map[Group][]func(l *List, e *event.Evidence){
		Popularity: {
			func(_ *List, e *event.Evidence) { e.Popularity = rng.IntN(50) },
			func(_ *List, e *event.Evidence) { e.Liked = rng.Float64() },
		},
		Recency: {
			func(_ *List, e *event.Evidence) { e.Recent[rng.IntN(3)] = rng.Float64() },
			func(_ *List, e *event.Evidence) { e.RecentAny[rng.IntN(3)] = rng.Float64() },
			func(_ *List, e *event.Evidence) { e.Ages[rng.IntN(4)] = 1e5 * rng.Float64() },
		},
		LikeMinded: {
			func(_ *List, e *event.Evidence) { e.Support = rng.IntN(50) },
			func(_ *List, e *event.Evidence) { e.LikeMinded = rng.Float64() },
			func(_ *List, e *event.Evidence) { e.LikeMindedRecent[rng.IntN(3)] = rng.Float64() },
			func(_ *List, e *event.Evidence) { e.Interest = rng.Float64() },
		},
		Similar: {
			func(_ *List, e *event.Evidence) { e.Similar = rng.Float64() },
			func(_ *List, e *event.Evidence) { e.SimilarLast = rng.Float64() },
			func(_ *List, e *event.Evidence) { e.SimilarAny = rng.Float64() },
			func(_ *List, e *event.Evidence) { e.SimilarRecent = rng.Float64() },
			func(_ *List, e *event.Evidence) { e.Lift = rng.Float64() },
			func(_ *List, e *event.Evidence) { e.Best = rng.Float64() },
		},
		Sequence: {
			func(_ *List, e *event.Evidence) { e.After[rng.IntN(3)] = rng.Float64() },
			func(_ *List, e *event.Evidence) { e.Before[rng.IntN(3)] = rng.Float64() },
			func(_ *List, e *event.Evidence) { e.Together = rng.Float64() },
			func(_ *List, e *event.Evidence) { e.Near[rng.IntN(3)] = rng.Float64() },
			func(_ *List, e *event.Evidence) { e.Transition[rng.IntN(2)] = rng.Float64() },
			func(_ *List, e *event.Evidence) { e.Session[rng.IntN(2)] = rng.Float64() },
		},
		Category: {func(_ *List, e *event.Evidence) { e.Category = rng.Float64() }},
		Latent:   {func(_ *List, e *event.Evidence) { e.Latent[rng.IntN(2)] = rng.Float64() }},
		User: {
			func(l *List, _ *event.Evidence) { l.Likes = rng.IntN(100) },
			func(l *List, _ *event.Evidence) { l.Idle = 1e4 * rng.Float64() },
		},
	}
	models := map[Group]*Model{"": quick(t, FitOptions{})}
	for _, g := range Groups {
		models[g] = quick(t, FitOptions{Without: []Group{g}})
		if diff := cmp.Diff([]Group{g}, models[g].Training().Without); diff != "" {
			t.Errorf("a model without %s says: %s", g, diff)
		}
	}
	all := func(change func(*List, *event.Evidence)) func(*List) {
		return func(l *List) {
			for i := range l.Evidence {
				change(l, &l.Evidence[i])
			}
		}
	}
	for group, list := range changes {
		for i, change := range list {
			for without, m := range models {
				if got, want := same(m, all(change)), without == group; got != want {
					t.Errorf("model without %q: change %d of %s leaves the scores as they are: %v, want %v", without, i, group, got, want)
				}
			}
		}
	}
	for without, m := range models {
		if !same(m, all(func(_ *List, e *event.Evidence) { e.Chains = rng.Float64() })) {
			t.Errorf("model without %q: chains change the scores", without)
		}
		if same(m, func(l *List) { l.Draw = 1 - l.Draw }) {
			t.Errorf("model without %q: how candidates were drawn does not change the scores", without)
		}
	}
}

// Where nobody has learned latent factors, a model scores as one does that was fitted without them; one that was fitted
// without has no second ensemble.
func TestListsWithoutLatentFactors(t *testing.T) {
	m, without := quick(t, FitOptions{}), quick(t, FitOptions{Without: []Group{Latent}})
	if m.plain == nil || without.plain != nil {
		t.Fatalf("there is a second ensemble: %v, and fitted without: %v", m.plain != nil, without.plain != nil)
	}
	for _, e := range world(20, 6, source(7)) {
		l := e.List
		if slices.Equal(m.Scores(l), without.Scores(l)) {
			t.Error("latent factors change no score")
		}
		l.Evidence = slices.Clone(l.Evidence)
		for i := range l.Evidence {
			l.Evidence[i].Latent = [2]float64{-1, math.NaN()} // absent, as 0 is
		}
		if got, want := m.Scores(l), without.Scores(l); !slices.Equal(got, want) {
			t.Errorf("without latent factors the scores are %v, want %v", got, want)
		}
		l.Evidence[3].Latent = [2]float64{0, .1}
		if slices.Equal(m.Scores(l), without.Scores(l)) {
			t.Error("factors of one candidate change no score")
		}
	}
}
