package live

import (
	"math"
	"slices"
	"testing"

	"github.com/r2rec/r2rec/internal/event"
)

// Whoever asks about the candidates of a case is told how they were drawn, by what was liked before it.
func TestAGrowingGraphTellsHowCandidatesWereDrawn(t *testing.T) {
	w := newWorld(t)
	g := newGraph(t)
	growing := Grow(g, GrowOptions{NoFactors: true})
	if err := growing.Apply(t.Context(), w.events[:3000]); err != nil {
		t.Fatal(err)
	}
	likes := map[string]int{}
	for _, in := range w.events[:3000] {
		if *in.Value >= 4 {
			likes[in.ItemID]++
		}
	}
	var known []string
	for id := range likes {
		known = append(known, id)
	}
	slices.SortFunc(known, func(a, b string) int { return likes[b] - likes[a] })
	draw := func(ids []string) float64 {
		c, err := growing.Evidence(t.Context(), "1", w.events[3000].Timestamp, ids)
		if err != nil || len(c.Candidates) != len(ids) {
			t.Fatalf("%d candidates, error %v", len(c.Candidates), err)
		}
		return c.Draw
	}
	if popular, rare := draw(known[:10]), draw(known[len(known)-10:]); !(popular > 1 && rare < .2 && !math.IsInf(popular, 0)) {
		t.Errorf("the ten most liked were drawn by %v, the ten least liked by %v", popular, rare)
	}
	if got, err := growing.Find(t.Context(), "1", w.events[3000].Timestamp, 5); err != nil || got.Draw != 0 {
		t.Errorf("what was found was drawn by %v, error %v", got.Draw, err)
	}
}

// A case sees the factors that were learned before it, the last ones included, though no event came at their time.
func TestAGrowingGraphLearnsBeforeItIsAsked(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		o    GrowOptions
		want int // times learned until the case
	}{
		"whenever it has grown":        {GrowOptions{}, 1},
		"and before the time":          {GrowOptions{LearnBefore: w.events[1100].Timestamp}, 2},
		"only before the time":         {GrowOptions{LearnBefore: w.events[1100].Timestamp, Once: true}, 1},
		"not before the time is there": {GrowOptions{LearnBefore: w.events[len(w.events)-1].Timestamp + 1, Once: true}, 0},
		"never":                        {GrowOptions{NoFactors: true, LearnBefore: w.events[1100].Timestamp}, 0},
	} {
		g := newGraph(t)
		growing := Grow(g, c.o)
		at := w.events[1100].Timestamp
		before := slices.IndexFunc(w.events, func(in event.Interaction) bool { return in.Timestamp >= at })
		if err := growing.Apply(t.Context(), w.events[:before]); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := growing.Evidence(t.Context(), "1", at, []string{"1", "2"}); err != nil {
				t.Fatal(err)
			}
		}
		learned := 0
		for _, one := range g.calls {
			if one.what == "learn" {
				learned++
			}
		}
		if learned != c.want {
			t.Errorf("%s: learned %d times, want %d", name, learned, c.want)
		}
	}
}
