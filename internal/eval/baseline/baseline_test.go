package baseline_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/eval/baseline"
	"github.com/r2rec/r2rec/internal/event"
)

// noDecay turns both decays off, so that a score can be counted on paper.
var noDecay = baseline.Options{HalfLife: math.Inf(1), HistoryHalfLife: math.Inf(1)}

// likes reads "user item" pairs, one like a second, in their order.
func likes(pairs ...string) []event.Interaction {
	stream := make([]event.Interaction, len(pairs))
	for i, p := range pairs {
		user, item, _ := strings.Cut(p, " ")
		stream[i] = event.Interaction{EventID: p, UserID: user, ItemID: item, Type: event.Like, Timestamp: second(i)}
	}
	return stream
}

func second(i int) event.Time { return event.Earliest + event.Time(i)*1000 }

// world: u shares a and b with v, only b with w, and nothing with x.
var world = likes("u a", "v a", "u b", "v b", "w b", "v c", "w d", "w c", "x d", "x e")

func ranker(t *testing.T, name string, opt baseline.Options, batches ...[]event.Interaction) eval.Ranker {
	t.Helper()
	r, err := baseline.New(name, opt)
	if err != nil {
		t.Fatal(err)
	}
	for _, batch := range batches {
		if err := r.Observe(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func scores(t *testing.T, r eval.Ranker, user string, candidates ...string) []float64 {
	t.Helper()
	got, err := r.Scores(t.Context(), eval.Case{ID: "case", User: user, Candidates: candidates})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func checkScores(t *testing.T, got []float64, want ...float64) {
	t.Helper()
	near := func(a, b float64) bool { return math.Abs(a-b) <= 1e-12*math.Max(1, math.Abs(b)) }
	if !slices.EqualFunc(got, want, near) {
		t.Errorf("scores are %v, want %v", got, want)
	}
}

// The ages in world: "x e" 0, "x d" 1, "w c" 2, "w d" 3, "v c" 4, "w b" 5, "v b" 6, "u b" 7, "v a" 8, "u a" 9.
// Degrees: a 2, b 3, c 2, d 2, e 1; u 2, v 3, w 3, x 2.
func TestScoresByHand(t *testing.T) {
	pow, sqrt := math.Pow, math.Sqrt
	halving := baseline.Options{HalfLife: 2, HistoryHalfLife: 1}
	for _, c := range []struct {
		name string
		opt  baseline.Options
		want []float64 // of c, d, e and an unknown item, for u
	}{
		{"popularity", halving, []float64{2, 2, 1, 0}},
		{"recent", noDecay, []float64{2, 2, 1, 0}},
		{"recent", halving, []float64{pow(2, -1) + pow(2, -2), pow(2, -.5) + pow(2, -1.5), 1, 0}},
		{"recent", baseline.Options{}, []float64{pow(2, -2./2000) + pow(2, -4./2000), pow(2, -1./2000) + pow(2, -3./2000), 1, 0}},
		// a and c have v in common; b and c have v and w; b and d have w.
		{"itemknn", noDecay, []float64{1/sqrt(2*2) + 2/sqrt(3*2), 1 / sqrt(3*2), 0, 0}},
		{"itemknn", halving, []float64{.5/sqrt(2*2) + 2/sqrt(3*2), 1 / sqrt(3*2), 0, 0}},
		{"itemknn", baseline.Options{}, []float64{pow(2, -1./3)/sqrt(2*2) + 2/sqrt(3*2), 1 / sqrt(3*2), 0, 0}},
		// Only v shares two items, and likes three; w shares one and is no neighbour.
		{"chain", noDecay, []float64{(pow(2, -.8) + pow(3, -.8)) * pow(3, -.5) * pow(2, -.4), 0, 0, 0}},
		{"chain", halving, []float64{(.5*pow(2, -.8) + pow(3, -.8)) * pow(3, -.5) * pow(2, -.4) * pow(2, -2), 0, 0, 0}},
		{"chain", baseline.Options{}, []float64{
			(pow(2, -1./12)*pow(2, -.8) + pow(3, -.8)) * pow(3, -.5) * pow(2, -.4) * pow(2, -4./12_000), 0, 0, 0}},
		// Two items in common with v, one with w.
		{"usercf", noDecay, []float64{4./(2*3) + 1./(2*3), 1. / (2 * 3), 0, 0}},
		{"usercf", halving, []float64{4./(2*3)*pow(2, -2) + 1./(2*3)*pow(2, -1), 1. / (2 * 3) * pow(2, -1.5), 0, 0}},
		{"usercf", baseline.Options{}, []float64{4./(2*3)*pow(2, -4./6000) + 1./(2*3)*pow(2, -2./6000), 1. / (2 * 3) * pow(2, -3./6000), 0, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			checkScores(t, scores(t, ranker(t, c.name, c.opt, world), "u", "c", "d", "e", "unknown"), c.want...)
		})
	}
}

// z is the only one who likes what z likes, and nobody has heard of the stranger: neither has a neighbour.
func TestWithoutNeighbours(t *testing.T) {
	for _, name := range []string{"itemknn", "chain", "usercf"} {
		t.Run(name, func(t *testing.T) {
			alone := likes("z new")
			alone[0].Timestamp = second(50)
			r := ranker(t, name, noDecay, world, alone)
			checkScores(t, scores(t, r, "z", "c", "d", "new"), 0, 0, 0)
			checkScores(t, scores(t, r, "stranger", "c", "d", "new"), 0, 0, 0)
		})
	}
}

func TestRandom(t *testing.T) {
	items := []string{"a", "b", "c", "d", "e", "f"}
	ask := func(seed uint64, id string, items ...string) []float64 {
		got, err := ranker(t, "random", baseline.Options{Seed: seed}, world).Scores(t.Context(), eval.Case{ID: id, User: "u", Candidates: items})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	first := ask(1, "case-1", items...)
	if again := ask(1, "case-1", items...); !slices.Equal(first, again) {
		t.Errorf("the same seed and case gave %v and %v", first, again)
	}
	if slices.Equal(first, ask(2, "case-1", items...)) {
		t.Error("another seed changed nothing")
	}
	if slices.Equal(first, ask(1, "case-2", items...)) {
		t.Error("another case changed nothing")
	}
	if slices.Equal(ask(1, "a", "bc"), ask(1, "ab", "c")) {
		t.Error("case a with candidate bc is taken for case ab with candidate c")
	}
	sum, n := 0.0, 0
	for seed := range uint64(500) {
		for _, s := range ask(seed, "case", items...) {
			if s < 0 || s >= 1 {
				t.Fatalf("a score of %v: not in [0, 1)", s)
			}
			sum, n = sum+s, n+1
		}
	}
	if mean := sum / float64(n); math.Abs(mean-.5) > .03 {
		t.Errorf("%d scores have a mean of %.3f, not about .5", n, mean)
	}
}

// each runs a test for every ranker, with its defaults.
func each(t *testing.T, test func(t *testing.T, name string)) {
	for _, name := range baseline.Names {
		t.Run(name, func(t *testing.T) { test(t, name) })
	}
}

func allScores(t *testing.T, r eval.Ranker) []float64 {
	var all []float64
	for _, user := range []string{"u", "v", "w", "x", "stranger"} {
		all = append(all, scores(t, r, user, "a", "b", "c", "d", "e", "unknown")...)
	}
	return all
}

func TestBatchesDoNotMatter(t *testing.T) {
	each(t, func(t *testing.T, name string) {
		want := allScores(t, ranker(t, name, baseline.Options{}, world))
		for size := 1; size <= len(world); size++ {
			r := ranker(t, name, baseline.Options{})
			for batch := range slices.Chunk(world, size) {
				allScores(t, r) // an earlier question must not matter either
				if err := r.Observe(t.Context(), batch); err != nil {
					t.Fatal(err)
				}
			}
			if got := allScores(t, r); !slices.Equal(got, want) {
				t.Errorf("batches of %d gave %v, want %v", size, got, want)
			}
		}
	})
}

func TestOrderOfCandidatesDoesNotMatter(t *testing.T) {
	each(t, func(t *testing.T, name string) {
		r := ranker(t, name, baseline.Options{}, world)
		forwards := scores(t, r, "u", "c", "d", "e")
		backwards := scores(t, r, "u", "e", "d", "c")
		slices.Reverse(backwards)
		if !slices.Equal(forwards, backwards) {
			t.Errorf("scores are %v, and %v in another order", forwards, backwards)
		}
	})
}

func TestADuplicateChangesNothing(t *testing.T) {
	var twice []event.Interaction
	for _, in := range world {
		twice = append(twice, in, in)
	}
	each(t, func(t *testing.T, name string) {
		got, want := allScores(t, ranker(t, name, baseline.Options{}, twice)), allScores(t, ranker(t, name, baseline.Options{}, world))
		if !slices.Equal(got, want) {
			t.Errorf("scores are %v, want %v", got, want)
		}
	})
}

// Of two likes of one pair the later counts: the stream without the earlier one gives the same, also where it is in the
// middle of a list.
func TestTheLaterOfTwoLikesCounts(t *testing.T) {
	for repeated := range world {
		again := world[repeated]
		again.Timestamp = second(100)
		without := slices.Concat(world[:repeated], world[repeated+1:])
		each(t, func(t *testing.T, name string) {
			got := allScores(t, ranker(t, name, noDecayOfAge, world, []event.Interaction{again}))
			want := allScores(t, ranker(t, name, noDecayOfAge, without, []event.Interaction{again}))
			checkScores(t, got, want...)
		})
	}
	// The stream has gone on by one like, though: ages are counted in likes given.
	r := ranker(t, "recent", baseline.Options{HalfLife: 1}, likes("u a", "u b", "v a", "u a"))
	checkScores(t, scores(t, r, "u", "a", "b"), 1+.5, .25)
}

// noDecayOfAge leaves the decay by the place in a history.
var noDecayOfAge = baseline.Options{HalfLife: math.Inf(1), HistoryHalfLife: 2}

func TestWhatIsALike(t *testing.T) {
	value := func(v float64) *float64 { return &v }
	stream := []event.Interaction{
		{ItemID: "click", Type: event.Click}, {ItemID: "like", Type: event.Like}, {ItemID: "cart", Type: event.Cart},
		{ItemID: "purchase", Type: event.Purchase}, {ItemID: "four", Type: event.Rating, Value: value(4)},
		{ItemID: "less", Type: event.Rating, Value: value(3.5)}, {ItemID: "view", Type: event.View},
		{ItemID: "impression", Type: event.Impression}, {ItemID: "dislike", Type: event.Dislike}, {ItemID: "hide", Type: event.Hide},
	}
	for i := range stream {
		stream[i].UserID, stream[i].Timestamp = "u", second(i)
	}
	r := ranker(t, "popularity", baseline.Options{}, stream)
	checkScores(t, scores(t, r, "u", "click", "like", "cart", "purchase", "four"), 1, 1, 1, 1, 1)
	checkScores(t, scores(t, r, "u", "less", "view", "impression", "dislike", "hide"), 0, 0, 0, 0, 0)
}

// Items in the same place of the graph must tie exactly: half a rank hangs on it.
func TestTies(t *testing.T) {
	stream := likes("u a", "v a", "w a", "u b", "v b", "w b", "v c", "w c", "v d", "w d")
	for _, name := range []string{"popularity", "recent", "itemknn", "chain", "usercf"} {
		t.Run(name, func(t *testing.T) {
			got := scores(t, ranker(t, name, noDecay, stream), "u", "c", "d")
			if got[0] != got[1] || got[0] <= 0 {
				t.Errorf("scores are %v: want the same, above 0", got)
			}
		})
	}
}

func TestObserveRefusesAStreamOutOfOrder(t *testing.T) {
	for _, name := range baseline.Names[1:] { // random looks at no event
		t.Run(name, func(t *testing.T) {
			r := ranker(t, name, baseline.Options{}, world[5:6])
			err := r.Observe(t.Context(), world[4:5])
			if err == nil || !strings.Contains(err.Error(), `event "w b"`) || !strings.Contains(err.Error(), "order of time") {
				t.Errorf("error is %v: want one about the order of event w b", err)
			}
		})
	}
}

func TestBadOptions(t *testing.T) {
	for _, c := range []struct {
		name string
		opt  baseline.Options
		want string
	}{
		{"recent", baseline.Options{HalfLife: -1}, "half-life of -1"},
		{"recent", baseline.Options{HalfLife: math.NaN()}, "half-life of NaN"},
		{"recent", baseline.Options{HalfLife: math.Inf(-1)}, "half-life of -Inf"},
		{"itemknn", baseline.Options{HistoryHalfLife: -3}, "half-life of the history of -3"},
		{"chain", baseline.Options{HistoryHalfLife: math.NaN()}, "half-life of the history of NaN"},
		{"best", baseline.Options{}, `no ranker "best": use one of ` + strings.Join(baseline.Names, ", ")},
		{"", baseline.Options{}, `no ranker ""`},
	} {
		if r, err := baseline.New(c.name, c.opt); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("New(%q, %v) gives %v, %v: want an error with %q", c.name, c.opt, r, err, c.want)
		}
	}
}
