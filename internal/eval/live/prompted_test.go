package live

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/event"
)

// The model is asked about what the graph holds strictly before the case, with a seed that is the case's alone.
func TestPromptedAsksTheModelAboutTheGraph(t *testing.T) {
	w := newWorld(t)
	g := newGraph(t)
	var seen []event.Context
	seeds := map[uint64]bool{}
	model := func(_ context.Context, c event.Context, seed uint64) (scores []float64, err error) {
		seen = append(seen, c)
		seeds[seed] = true
		for i := range c.Candidates {
			scores = append(scores, float64(i))
		}
		return scores, nil
	}
	results, err := eval.Run(t.Context(), stream(w.events), w.cases, []eval.Named{{Name: "lm", Ranker: NewPrompted(g, model)}}, eval.Config{})
	if err != nil {
		t.Fatal(err)
	}
	asked := g.asked()
	if len(asked) != len(w.cases) || len(seeds) != len(w.cases) {
		t.Fatalf("%d questions with %d seeds for %d cases", len(asked), len(seeds), len(w.cases))
	}
	for i, a := range asked {
		earlier := 0
		for _, in := range w.events {
			if in.Timestamp < a.at {
				earlier++
			}
		}
		if a.applied != earlier {
			t.Errorf("question %d: asked when %d events were in the graph, want %d", i, a.applied, earlier)
		}
		if diff := cmp.Diff(a.got, seen[i]); diff != "" {
			t.Errorf("question %d (-graph +model):\n%s", i, diff)
		}
	}
	if want := []float64{0, 1, 2}; !slices.Equal(results[0].Scores[0][:3], want) {
		t.Errorf("the scores are %v, want those of the model", results[0].Scores[0])
	}

	// Alone, a case has the seed that it has among others.
	differ, err := eval.Verify(t.Context(), stream(w.events), w.cases, results[0].Scores, func(context.Context, eval.Stream) (eval.Ranker, error) {
		return NewPrompted(newGraph(t), func(ctx context.Context, c event.Context, seed uint64) ([]float64, error) {
			if !seeds[seed] {
				t.Errorf("seed %d: the case had another one in the run", seed)
			}
			return model(ctx, c, seed)
		}), nil
	}, 3, 1)
	if err != nil || len(differ) > 0 {
		t.Errorf("%v, %v", differ, err)
	}
}

func TestPromptedPassesFailuresOn(t *testing.T) {
	g := newGraph(t)
	g.fails = errors.New("the graph is down")
	ill := errors.New("the model is ill")
	r := NewPrompted(g, func(context.Context, event.Context, uint64) ([]float64, error) { return nil, ill })
	if err := r.Observe(t.Context(), ratings(t, 3)); !errors.Is(err, g.fails) {
		t.Errorf("observe: %v", err)
	}
	if _, err := r.Scores(t.Context(), eval.Case{ID: "a", User: "u", At: event.Earliest, Candidates: []string{"1", "2"}}); !errors.Is(err, ill) {
		t.Errorf("the model's failure: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Scores(gone, eval.Case{ID: "a", User: "u", At: event.Earliest, Candidates: []string{"1", "2"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}
