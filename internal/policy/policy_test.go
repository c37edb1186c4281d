package policy

import (
	"fmt"
	"math"
	"testing"

	"github.com/r2rec/r2rec/internal/event"
	"pgregory.net/rapid"
)

func TestSharesSumToOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, model := drawContext(t)
		for _, m := range [][]float64{nil, model} {
			var sum float64
			for _, s := range Pool(Exp(LogSoftmax(byChains(c))), m, 0.5) {
				sum += math.Exp(s.Final)
			}
			if math.Abs(sum-1) > 1e-9 {
				t.Fatalf("final shares sum to %v", sum)
			}
		}
	})
}

// TestModelDecidesWhereTheGraphIsIndifferent also fixes the direction: a larger share is a better place.
func TestModelDecidesWhereTheGraphIsIndifferent(t *testing.T) {
	c := event.Context{Candidates: []event.Candidate{{ItemID: "a"}, {ItemID: "b"}, {ItemID: "c"}}}
	d := event.Decision{Context: c, Scores: Pool(Exp(LogSoftmax(byChains(c))), []float64{math.Log(.2), math.Log(.7), math.Log(.1)}, 1)}
	got := Slate(d, 3)
	for i, want := range []string{"b", "a", "c"} {
		if got[i].ItemID != want || got[i].Probability != 1 || got[i].Position != i+1 {
			t.Errorf("slot %d is %+v, want item %s with probability 1", i+1, got[i], want)
		}
	}
}

// TestDrawnProbabilitiesAreTheFrequencies draws many slates and compares how often each item came first with the
// probability that the slates state, and with the softmax at the decision's temperature.
func TestDrawnProbabilitiesAreTheFrequencies(t *testing.T) {
	final := LogSoftmax([]float64{1, 0, -1, 0.5})
	const n = 20_000
	count, stated := map[string]float64{}, map[string]float64{}
	for seed := range uint64(n) {
		d := event.Decision{Explore: true, Seed: seed, Temperature: 2}
		for i, f := range final {
			d.Context.Candidates = append(d.Context.Candidates, event.Candidate{ItemID: fmt.Sprint(i)})
			d.Scores = append(d.Scores, event.Score{Final: f})
		}
		s := Slate(d, 2)
		count[s[0].ItemID] += 1.0 / n
		stated[s[0].ItemID] = s[0].Probability
		if s[0].ItemID == s[1].ItemID {
			t.Fatal("an item was drawn twice")
		}
	}
	var norm float64
	for _, f := range final {
		norm += math.Exp(f / 2)
	}
	for i, f := range final {
		id, want := fmt.Sprint(i), math.Exp(f/2)/norm
		if math.Abs(stated[id]-want) > 1e-12 {
			t.Errorf("item %s states probability %v, softmax is %v", id, stated[id], want)
		}
		if math.Abs(count[id]-want) > 4*math.Sqrt(want*(1-want)/n) {
			t.Errorf("item %s came first in a share of %v, stated %v", id, count[id], want)
		}
	}
}

func TestSharesOfUsersAreAsConfigured(t *testing.T) {
	const n = 50_000
	for _, share := range []float64{0, 0.05, 0.5, 1} {
		var in, both float64
		for i := range n {
			user := fmt.Sprint("user-", i)
			if InShare("control", user, share) {
				in++
				if InShare("explore", user, share) {
					both++
				}
			}
		}
		if tol := 4*math.Sqrt(share*(1-share)/n) + 1e-12; math.Abs(in/n-share) > tol || math.Abs(both/n-share*share) > tol+0.005 {
			t.Errorf("share %v: %v of the users are in it, %v also in an independent one", share, in/n, both/n)
		}
	}
}

// byChains ranks by the weight of the chains, relative to the largest.
func byChains(c event.Context) []float64 {
	z := make([]float64, len(c.Candidates))
	var top float64
	for _, x := range c.Candidates {
		top = max(top, x.Evidence.Chains)
	}
	for i, x := range c.Candidates {
		if top > 0 {
			z[i] = 5 * x.Evidence.Chains / top
		}
	}
	return z
}

func drawContext(t *rapid.T) (event.Context, []float64) {
	var c event.Context
	var z []float64
	for i := range rapid.IntRange(1, 20).Draw(t, "candidates") {
		size := rapid.Float64Range(0, 1e6)
		c.Candidates = append(c.Candidates, event.Candidate{ItemID: fmt.Sprint(i), Evidence: event.Evidence{
			Chains: size.Draw(t, "chains"), Recent: [3]float64{1: size.Draw(t, "recent")}, Popularity: rapid.IntRange(0, 128).Draw(t, "popularity"), Category: rapid.Float64Range(0, 1).Draw(t, "category")}})
		z = append(z, rapid.Float64Range(-50, 50).Draw(t, "model"))
	}
	return c, LogSoftmax(z)
}

// The two rankings are pooled, each by its part: with all of it one alone counts, and two that agree keep their shares.
func TestScoresPoolGraphAndModel(t *testing.T) {
	graph, model := []float64{.5, .5}, []float64{math.Log(.8), math.Log(.2)}
	for weight, want := range map[float64]float64{0: .5, .5: 2. / 3, 1: .8} {
		got := Pool(graph, model, weight)
		if p := math.Exp(got[0].Final); math.Abs(p-want) > 1e-12 {
			t.Errorf("with the model's part %v the first has share %v, want %v", weight, p, want)
		}
		if *got[0].Model != math.Exp(model[0]) || got[0].Graph != graph[0] {
			t.Errorf("%+v", got[0])
		}
	}
	if got := Pool([]float64{.8, .2}, model, .3); math.Abs(math.Exp(got[0].Final)-.8) > 1e-12 {
		t.Errorf("two that agree on .8 are pooled to %v", math.Exp(got[0].Final))
	}
}
