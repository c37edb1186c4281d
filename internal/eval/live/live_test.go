package live

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/dataset"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/factors"
	"github.com/r2rec/r2rec/internal/fusion"
)

// graph is the real one, on an embedded Redis, and a record of what was done to it.
type graph struct {
	*graphcache.Cache
	calls []call
	fails error // what Apply answers
}

// call is one thing that was done to the graph: the last event applied, or what was asked.
type call struct {
	what       string
	at         event.Time
	applied    int // events before it
	candidates []string
	got        event.Context
}

func newGraph(t *testing.T) *graph {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: embeddedtest.Redis(t)})
	t.Cleanup(func() { rdb.Close() })
	c, err := graphcache.New(rdb, graphcache.Options{Prefix: "t:"})
	if err != nil {
		t.Fatal(err)
	}
	return &graph{Cache: c}
}

func (g *graph) applied() (n int) {
	for _, c := range g.calls {
		if c.what == "apply" {
			n = c.applied
		}
	}
	return n
}

func (g *graph) Apply(ctx context.Context, batch []event.Interaction) error {
	if len(batch) == 0 {
		return errors.New("an empty batch")
	}
	g.calls = append(g.calls, call{what: "apply", at: batch[len(batch)-1].Timestamp, applied: g.applied() + len(batch)})
	return errors.Join(g.fails, g.Join(ctx, batch))
}

func (g *graph) Evidence(ctx context.Context, user string, at event.Time, candidates []string) (event.Context, error) {
	s, err := g.Snapshot(ctx, graphcache.Query{User: user, Items: candidates, At: at})
	g.calls = append(g.calls, call{"evidence of " + user, at, g.applied(), candidates, s.Context})
	return s.Context, err
}

func (g *graph) Learn(ctx context.Context) error {
	g.calls = append(g.calls, call{what: "learn", applied: g.applied()})
	edges, err := g.FactorEdges(ctx, nil)
	if err != nil {
		return err
	}
	m, err := factors.Fit(ctx, edges, factors.Options{Dimensions: 2, Sweeps: 1})
	g.UseFactors(m)
	return err
}

func (g *graph) Find(ctx context.Context, user string, at event.Time, k int) (event.Context, error) {
	s, err := g.Snapshot(ctx, graphcache.Query{User: user, Candidates: k, At: at})
	g.calls = append(g.calls, call{what: fmt.Sprintf("find %d for %s", k, user), at: at, applied: g.applied(), got: s.Context})
	return s.Context, err
}

func (g *graph) asked() (asked []call) {
	for _, c := range g.calls {
		if c.what != "apply" && c.what != "learn" {
			asked = append(asked, c)
		}
	}
	return asked
}

// ratings are the first of MovieLens: real lists, real ties of time.
func ratings(t *testing.T, n int) []event.Interaction {
	t.Helper()
	d, err := dataset.Bundled()
	if err != nil {
		t.Fatal(err)
	}
	events := make([]event.Interaction, 0, n)
	for in, err := range d.Interactions() {
		if err != nil {
			t.Fatal(err)
		}
		if events = append(events, in); len(events) == n {
			break
		}
	}
	return events
}

func stream(events []event.Interaction) eval.Stream {
	return func(yield func(event.Interaction, error) bool) {
		for _, in := range events {
			if !yield(in, nil) {
				return
			}
		}
	}
}

// world is a stream, a time to fit before, cases before it to fit with, and some after it to ask.
type world struct {
	events     []event.Interaction
	before     event.Time
	fit, cases []eval.Case
}

func newWorld(t *testing.T) world {
	t.Helper()
	w := world{events: ratings(t, 6000)}
	w.before = w.events[4500].Timestamp
	var err error
	if w.fit, err = eval.Draw(stream(w.events), w.before, 450, 1); err != nil {
		t.Fatal(err)
	}
	later, err := eval.Draw(stream(w.events), w.events[len(w.events)-1].Timestamp, 200, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range later {
		if c.At >= w.before {
			w.cases = append(w.cases, c)
		}
	}
	if len(w.fit) < fusion.MinExamples || len(w.cases) < 20 {
		t.Fatalf("%d cases to fit with and %d to ask: the world is too small", len(w.fit), len(w.cases))
	}
	return w
}

// small keeps the fits of tests short.
var small = fusion.FitOptions{Hidden: 4, Epochs: 2, Ensemble: 1, Seed: 1}

func (w world) options() Options { return Options{FitBefore: w.before, Cases: w.fit, Fit: small} }

// run asks the world's cases of a fresh ranker over an empty graph.
func (w world) run(t *testing.T, o Options, cfg eval.Config) (*graph, eval.Result) {
	t.Helper()
	g := newGraph(t)
	return g, w.ask(t, g, o, cfg)
}

func (w world) ask(t *testing.T, g *graph, o Options, cfg eval.Config) eval.Result {
	t.Helper()
	r, err := New(g, o)
	if err != nil {
		t.Fatal(err)
	}
	results, err := eval.Run(t.Context(), stream(w.events), w.cases, []eval.Named{{Name: "fusion", Ranker: r}}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return results[0]
}

// Every case, also those to fit with, is asked when exactly the events strictly before it are in the graph.
func TestEvidenceIsOfTheTimeBeforeTheCase(t *testing.T) {
	w := newWorld(t)
	var fitted []*fusion.Model
	var progress []int
	o := w.options()
	o.Fitted = func(m *fusion.Model) error { fitted = append(fitted, m); return nil }
	o.Asked = func(done, total int) {
		if progress = append(progress, done); total != len(w.fit) {
			t.Errorf("told %d of %d, want %d", done, total, len(w.fit))
		}
	}
	g, got := w.run(t, o, eval.Config{})

	ask := slices.Concat(w.fit, w.cases)
	slices.SortStableFunc(ask[len(w.fit):], func(a, b eval.Case) int { return int(a.At - b.At) })
	asked := g.asked()
	if len(asked) != len(ask) {
		t.Fatalf("asked %d times, want %d", len(asked), len(ask))
	}
	for i, c := range ask {
		earlier := 0
		for _, in := range w.events {
			if in.Timestamp < c.At {
				earlier++
			}
		}
		a := asked[i]
		if a.what != "evidence of "+c.User || a.at != c.At || !slices.Equal(a.candidates, c.Candidates) {
			t.Fatalf("question %d is %s at %s, want case %q of %s at %s", i, a.what, a.at, c.ID, c.User, c.At)
		}
		if a.applied != earlier {
			t.Errorf("case %q was asked when %d events were in the graph, want the %d before it", c.ID, a.applied, earlier)
		}
	}

	// The fit by hand, from what the graph answered: the same examples give the same model.
	if len(fitted) != 1 || len(progress) != len(w.fit) || progress[len(progress)-1] != len(w.fit) {
		t.Fatalf("fitted %d times, told of %d cases; want once, %d", len(fitted), len(progress), len(w.fit))
	}
	var counts popularity
	counts.of = map[string]int{}
	var examples []fusion.Example
	next := 0
	list := func(i int, c eval.Case) fusion.List {
		for ; next < len(w.events) && w.events[next].Timestamp < c.At; next++ {
			counts.add(w.events[next])
		}
		l := fusion.FromContext(asked[i].got)
		l.Draw = counts.draw(c.Candidates)
		return l
	}
	for i, c := range w.fit {
		examples = append(examples, fusion.Example{List: list(i, c), Chosen: slices.Index(c.Candidates, c.Positive)})
	}
	m, err := fusion.Fit(t.Context(), examples, small)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m.Training(), fitted[0].Training()); diff != "" {
		t.Errorf("training (-by hand +fitted):\n%s", diff)
	}
	byID := map[string][]float64{}
	for i, c := range w.cases {
		byID[c.ID] = got.Scores[i]
	}
	for i, c := range ask[len(w.fit):] {
		if diff := cmp.Diff(m.Scores(list(len(w.fit)+i, c)), byID[c.ID]); diff != "" {
			t.Fatalf("scores of case %q (-by hand +run):\n%s", c.ID, diff)
		}
	}
}

// Latent factors are learned whenever there is an eighth more, and not of what comes at or after the time of the fit.
func TestFactorsAreLearnedAsTheGraphGrows(t *testing.T) {
	w := newWorld(t)
	w.cases = w.cases[:5]
	last := slices.IndexFunc(w.events, func(in event.Interaction) bool { return in.Timestamp >= w.before })
	growing := []int{1000, 1125, 1265, 1423, 1600, 1800, 2025, 2278, 2562, 2882, 3242, 3647, 4102}
	for name, c := range map[string]struct {
		o    Options
		want []int
	}{
		"a fit":               {w.options(), append(slices.Clone(growing), last)},
		"a model":             {Options{}, append(slices.Clone(growing), 4614, 5190, 5838)},
		"a model and a time":  {Options{LearnBefore: w.before}, []int{last}},
		"without factors":     {Options{NoFactors: true}, nil},
		"a fit without, too":  {Options{FitBefore: w.before, Cases: w.fit, Fit: small, NoFactors: true}, nil},
		"a time and no event": {Options{LearnBefore: w.events[len(w.events)-1].Timestamp + 1}, nil},
	} {
		g := newGraph(t)
		r, err := New(g, c.o)
		if err == nil {
			err = r.Observe(t.Context(), w.events)
		}
		if err != nil {
			t.Fatal(err)
		}
		var got []int
		for _, one := range g.calls {
			if one.what == "learn" {
				got = append(got, one.applied)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: factors are learned of %v events, want %v", name, got, c.want)
		}
	}
}

func TestSizesOfBatchesDoNotMatter(t *testing.T) {
	w := newWorld(t)
	_, want := w.run(t, w.options(), eval.Config{})
	for _, batch := range []int{1, 100} {
		if _, got := w.run(t, w.options(), eval.Config{Batch: batch}); !cmp.Equal(want.Scores, got.Scores) {
			t.Errorf("batches of %d change the scores", batch)
		}
	}
}

// The cases to fit with may come in any order, and the stream may end before the time to fit comes.
func TestCasesToFitWithComeInAnyOrder(t *testing.T) {
	w := newWorld(t)
	cut := slices.IndexFunc(w.events, func(e event.Interaction) bool { return e.Timestamp >= w.before })
	w.events = w.events[:cut]
	w.cases = w.cases[:3]
	w.cases[0].At = w.before // not before it
	var fitted []*fusion.Model
	o := w.options()
	o.Fitted = func(m *fusion.Model) error { fitted = append(fitted, m); return nil }
	_, want := w.run(t, o, eval.Config{})

	// Cases of one time keep their order: it is that of the examples.
	slices.SortStableFunc(w.fit, func(a, b eval.Case) int { return int(b.At - a.At) })
	given := slices.Clone(w.fit)
	o.Cases = w.fit
	_, got := w.run(t, o, eval.Config{})
	if !cmp.Equal(want.Scores, got.Scores) || len(fitted) != 2 {
		t.Errorf("another order of the cases to fit with gives other scores; fitted %d times", len(fitted))
	}
	if !cmp.Equal(given, w.fit) {
		t.Error("the caller's cases were moved")
	}
}

func TestWithoutATimeAGivenModelRanks(t *testing.T) {
	w := newWorld(t)
	_, byDefault := w.run(t, Options{}, eval.Config{})
	_, given := w.run(t, Options{Model: fusion.Default()}, eval.Config{})
	if !cmp.Equal(byDefault.Scores, given.Scores) {
		t.Error("the zero options do not rank with the model that travels with the program")
	}
	var own *fusion.Model
	o := w.options()
	o.Fitted = func(m *fusion.Model) error { own = m; return nil }
	_, fitted := w.run(t, o, eval.Config{})
	_, again := w.run(t, Options{Model: own, LearnBefore: w.before}, eval.Config{})
	if !cmp.Equal(fitted.Scores, again.Scores) || cmp.Equal(fitted.Scores, byDefault.Scores) {
		t.Error("a fitted model ranks otherwise where it is given")
	}
}

func TestWhatTheGraphFindsIsRanked(t *testing.T) {
	w := newWorld(t)
	w.cases = w.cases[:10]
	g := newGraph(t)
	var catalogue []event.Item
	known := map[string]bool{}
	for _, in := range w.events {
		if !known[in.ItemID] {
			known[in.ItemID] = true
			catalogue = append(catalogue, event.Item{ItemID: in.ItemID, Title: in.ItemID})
		}
	}
	if err := g.ApplyItems(t.Context(), event.Span{Topic: "items", End: int64(len(catalogue))}, catalogue); err != nil {
		t.Fatal(err)
	}
	got := w.ask(t, g, Options{}, eval.Config{Retrieve: 30})
	found := 0
	for _, a := range g.asked() {
		if !strings.HasPrefix(a.what, "find 30 for ") {
			continue
		}
		i := slices.IndexFunc(w.cases, func(c eval.Case) bool { return c.At == a.at && strings.HasSuffix(a.what, " "+c.User) })
		var stage []string
		for _, c := range a.got.Candidates {
			stage = append(stage, c.ItemID)
		}
		scores := fusion.Default().Scores(fusion.FromContext(a.got))
		ranked := slices.Clone(stage)
		slices.SortStableFunc(ranked, func(a, b string) int {
			if scores[slices.Index(stage, a)] > scores[slices.Index(stage, b)] {
				return -1
			}
			return 1
		})
		found += len(stage)
		if diff := cmp.Diff(eval.Retrieval{Stage: stage, Ranked: ranked}, got.Retrieved[i]); diff != "" {
			t.Errorf("case %q (-want +got):\n%s", w.cases[i].ID, diff)
		}
	}
	if found < 100 {
		t.Errorf("%d items were found in 10 lists", found)
	}
}

func TestRefuses(t *testing.T) {
	w := newWorld(t)
	broken := errors.New("broken")
	early, late := w.fit[0], w.fit[0]
	late.At = w.before
	ctx := t.Context()
	for name, c := range map[string]struct {
		options func(*Options, *graph)
		do      func(*Ranker) error
		want    string
	}{
		"a model and a time": {func(o *Options, _ *graph) { o.Model = fusion.Default() }, nil, "exclude each other"},
		"two times":          {func(o *Options, _ *graph) { o.LearnBefore = 1 }, nil, "learned for the last time at the time to fit before"},
		"a case too late to fit with": {func(o *Options, _ *graph) { o.Cases = []eval.Case{early, late} }, nil,
			fmt.Sprintf("case %q to fit with is at %s, not before %s", late.ID, late.At, w.before)},
		"a case before the fit": {nil, func(r *Ranker) error { _, err := r.Scores(ctx, early); return err },
			fmt.Sprintf("the case is at %s, but the fusion is fitted on all events before %s", early.At, w.before)},
		"a search before the fit": {nil, func(r *Ranker) error { _, err := r.Retrieve(ctx, "1", w.before-1, 9); return err }, "fitted on all events before"},
		"too few to fit with": {func(o *Options, _ *graph) { o.Cases = o.Cases[:3] },
			func(r *Ranker) error { return r.Observe(ctx, w.events) }, "fit the fusion on the events before " + w.before.String()},
		"a graph that fails": {func(_ *Options, g *graph) { g.fails = broken }, func(r *Ranker) error { return r.Observe(ctx, w.events) }, "broken"},
		"nobody takes the model": {func(o *Options, _ *graph) { o.Fitted = func(*fusion.Model) error { return broken } },
			func(r *Ranker) error { return r.Observe(ctx, w.events) }, "broken"},
	} {
		t.Run(name, func(t *testing.T) {
			g, o := newGraph(t), w.options()
			if c.options != nil {
				c.options(&o, g)
			}
			r, err := New(g, o)
			if c.do != nil && err == nil {
				err = c.do(r)
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestAFitEndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	o := w.options()
	o.Asked = func(done, _ int) {
		if done == 20 {
			cancel()
		}
	}
	g := newGraph(t)
	r, err := New(g, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Observe(ctx, w.events); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was cancelled", err)
	}
	if n := len(g.asked()); n > 21 {
		t.Errorf("asked %d more after the end", n-20)
	}
}
