package eval

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/r2rec/r2rec/internal/event"
)

func run(t *testing.T, events Stream, cases []Case, cfg Config, rankers ...Named) []Result {
	t.Helper()
	results, err := Run(t.Context(), events, cases, rankers, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

func TestACaseSeesOnlyWhatIsStrictlyBefore(t *testing.T) {
	events := stream(
		click(1, "u", "a"),
		click(2, "u", "b"), click(2, "v", "b"), // at the time of the second case
		click(3, "u", "c"),
	)
	cases := []Case{
		ask("first of all", "u", 1, "a", "b", "c"),
		ask("with events of its time", "u", 2, "a", "b", "c"),
		ask("its own event is the last", "u", 3, "a", "b", "c"),
		ask("after the end", "u", 9, "a", "b", "c"),
		ask("before the start", "u", -9, "a", "b", "c"),
	}
	want := [][]float64{{0, 0, 0}, {1, 0, 0}, {1, 2, 0}, {1, 2, 1}, {0, 0, 0}}
	for _, batch := range []int{1, 2, 3, 0} {
		got := run(t, events, cases, Config{Batch: batch}, Named{"counter", newCounter()})[0]
		if diff := cmp.Diff(want, got.Scores); diff != "" {
			t.Errorf("batches of %d: scores (-want +got):\n%s", batch, diff)
		}
		if diff := cmp.Diff([]float64{2, 1, 2, 2.5, 2}, got.Ranks); diff != "" {
			t.Errorf("batches of %d: ranks (-want +got):\n%s", batch, diff)
		}
	}
}

// Cases may stand in any order: they are asked in that of time, and answered in their own.
func TestAnswersKeepTheOrderOfTheCases(t *testing.T) {
	cases := []Case{
		ask("late", "u", 5, "a", "b"), ask("early", "u", 1, "a", "b"), ask("late too", "u", 5, "b", "a"), ask("middle", "u", 3, "a", "b"),
	}
	c := newCounter()
	got := run(t, stream(click(0, "u", "b"), click(2, "u", "a"), click(4, "u", "a")), cases, Config{}, Named{"counter", c})[0]
	if diff := cmp.Diff([]float64{1, 2, 2, 1.5}, got.Ranks); diff != "" {
		t.Errorf("ranks (-want +got):\n%s", diff)
	}
	var asked []string
	for _, c := range c.asked {
		asked = append(asked, c.ID)
	}
	if want := []string{"early", "middle", "late", "late too"}; !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
	if cases[0].ID != "late" {
		t.Error("the cases were moved")
	}
}

// Also where there are so many cases of one time that a sort which is not stable would mix them.
func TestCasesOfOneTimeKeepTheirOrder(t *testing.T) {
	var cases []Case
	for i := range 100 {
		cases = append(cases, ask(fmt.Sprint(i), "u", i%2, "a", "b"))
	}
	c := newCounter()
	run(t, stream(), cases, Config{}, Named{"counter", c})
	for i, got := range c.asked {
		if want := fmt.Sprint(i*2%100 + i/50); got.ID != want {
			t.Fatalf("case %s was asked in place %d, want %s", got.ID, i, want)
		}
	}
}

func TestTheStreamIsLeftAfterTheLastCase(t *testing.T) {
	taken := 0
	var events Stream = func(yield func(event.Interaction, error) bool) {
		for i := range 1000 {
			if taken++; !yield(click(i, "u", "a"), nil) {
				return
			}
		}
	}
	run(t, events, []Case{ask("x", "u", 10, "a", "b")}, Config{Batch: 1}, Named{"counter", newCounter()})
	if taken < 10 || taken > 12 {
		t.Errorf("took %d interactions to answer a case after 10", taken)
	}
}

func TestTheAnswerIsHidden(t *testing.T) {
	c := newCounter()
	cases := []Case{ask("x", "u", 1, "a", "b")}
	run(t, stream(), cases, Config{}, Named{"counter", c})
	if c.asked[0].Positive != "" {
		t.Errorf("the ranker was told %q", c.asked[0].Positive)
	}
	c.asked[0].Candidates[0] = "changed"
	if cases[0].Candidates[0] != "a" {
		t.Error("a ranker can change the candidates of others")
	}
}

func TestBatchesHaveABound(t *testing.T) {
	c := newCounter()
	var events []event.Interaction
	for i := range 10 {
		events = append(events, click(i, "u", "a"))
	}
	events = append(events, click(11, "u", "a")) // after the last case: nobody needs it
	run(t, stream(events...), []Case{ask("x", "u", 7, "a", "b"), ask("y", "u", 10, "a", "b")}, Config{Batch: 4}, Named{"counter", c})
	if want := []int{4, 3, 3}; !slices.Equal(c.batches, want) {
		t.Errorf("batches of %v, want %v", c.batches, want)
	}
}

// Rankers may keep their batches: nobody writes into them again.
func TestABatchMayBeKept(t *testing.T) {
	k := &keeper{}
	events := []event.Interaction{click(0, "u", "a"), click(1, "u", "b"), click(2, "u", "c"), click(4, "u", "d")}
	run(t, stream(events...), []Case{ask("x", "u", 1, "a", "b"), ask("y", "u", 5, "a", "b")}, Config{Batch: 2}, Named{"keeper", k})
	if diff := cmp.Diff(events, slices.Concat(k.batches...)); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
}

type keeper struct{ batches [][]event.Interaction }

func (k *keeper) Observe(_ context.Context, batch []event.Interaction) error {
	k.batches = append(k.batches, batch)
	return nil
}

func (k *keeper) Scores(_ context.Context, c Case) ([]float64, error) {
	return make([]float64, len(c.Candidates)), nil
}

func TestRankersShareOnePass(t *testing.T) {
	passes := 0
	var events Stream = func(yield func(event.Interaction, error) bool) {
		passes++
		stream(click(0, "u", "a"), click(1, "u", "b"), click(1, "v", "b"))(yield)
	}
	cases := []Case{ask("x", "u", 1, "a", "b"), ask("y", "u", 2, "a", "b")}
	var last Progress
	var reports atomic.Int32
	cfg := Config{Progress: func(p Progress) {
		reports.Add(1)
		if p.Observed < last.Observed || p.Answered < last.Answered {
			t.Errorf("progress goes back: %+v after %+v", p, last)
		}
		last = p
	}}
	got := run(t, events, cases, cfg, Named{"one", newCounter()}, Named{"flat", fixed{3, 3}}, Named{"two", newCounter()})
	if passes != 1 {
		t.Errorf("%d passes", passes)
	}
	want := []Result{
		{Name: "one", Ranks: []float64{1, 2}, Scores: [][]float64{{1, 0}, {1, 2}}},
		{Name: "flat", Ranks: []float64{1.5, 1.5}, Scores: [][]float64{{3, 3}, {3, 3}}},
		{Name: "two", Ranks: []float64{1, 2}, Scores: [][]float64{{1, 0}, {1, 2}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	if want := (Progress{Observed: 9, Answered: 6, Total: 6}); last != want || reports.Load() < 3 {
		t.Errorf("progress %+v after %d reports, want %+v", last, reports.Load(), want)
	}
}

func TestRankAveragesTies(t *testing.T) {
	for _, c := range []struct {
		scores []float64
		want   float64
	}{
		{[]float64{5, 1, 2}, 1},
		{[]float64{1, 5, 2}, 3},
		{[]float64{2, 2, 1}, 1.5},
		{[]float64{2, 2, 2}, 2},
		{[]float64{2, 3, 2, 2, 2, 9}, 4.5}, // two above, three beside: places 3 to 6
		{[]float64{-1, 0}, 2},
	} {
		if got := rank(c.scores, 0); got != c.want {
			t.Errorf("%v: rank %v, want %v", c.scores, got, c.want)
		}
	}
}

type failing struct {
	fixed
	observe error
}

func (f failing) Observe(context.Context, []event.Interaction) error { return f.observe }

func TestRunRefuses(t *testing.T) {
	broken := errors.New("broken")
	ok := []Named{{"flat", fixed{1, 2}}}
	good := []Case{ask("q1", "u", 5, "a", "b")}
	some := stream(click(1, "u", "a"), click(2, "u", "b"))
	for name, c := range map[string]struct {
		events  Stream
		cases   []Case
		rankers []Named
		want    string
	}{
		"no ranker":           {some, good, nil, "no ranker"},
		"two of one name":     {some, good, []Named{ok[0], ok[0]}, `two rankers are called "flat"`},
		"a case without its":  {some, []Case{{ID: "q2", Candidates: []string{"a", "b"}, Positive: "c"}}, ok, `case "q2": positive: "c": is not among`},
		"not a number":        {some, good, []Named{{"odd", fixed{1, nan}}}, `ranker "odd": case "q1": gave NaN for candidate "b"`},
		"too few scores":      {some, good, []Named{{"odd", fixed{1}}}, `ranker "odd": case "q1": gave 1 scores for 2 candidates`},
		"a ranker that fails": {some, good, []Named{ok[0], {"odd", failing{fixed{1, 2}, broken}}}, `ranker "odd": observe 2 interactions up to 2001-09-09T01:46:42.000Z: broken`},
		"going back in time":  {stream(click(2, "u", "a"), click(1, "u", "b")), good, ok, `event "1-u-b" at 2001-09-09T01:46:41.000Z comes after one at 2001-09-09T01:46:42.000Z`},
		"a refused record":    {refusing(broken), good, ok, "broken"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Run(t.Context(), c.events, c.cases, c.rankers, Config{Batch: 2})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
			if c.want == "broken" && !errors.Is(err, broken) {
				t.Errorf("%v does not wrap its cause", err)
			}
		})
	}
}

// refusing gives an error between two interactions.
func refusing(err error) Stream {
	return func(yield func(event.Interaction, error) bool) {
		_ = yield(click(1, "u", "a"), nil) && yield(event.Interaction{}, err) && yield(click(2, "u", "a"), nil)
	}
}

func TestRefusedRecordsAreToldAndLeftOut(t *testing.T) {
	broken := errors.New("broken")
	var refused []error
	c := newCounter()
	run(t, refusing(broken), []Case{ask("x", "u", 5, "a", "b")}, Config{Refused: func(err error) { refused = append(refused, err) }}, Named{"counter", c})
	if len(refused) != 1 || refused[0] != broken || c.events != 2 {
		t.Errorf("refused %v, observed %d", refused, c.events)
	}
}

// endless is a stream without end; it is only left when somebody says stop.
func endless(yield func(event.Interaction, error) bool) {
	for yield(click(1, "u", "a"), nil) {
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cfg := Config{Batch: 1, Progress: func(Progress) { cancel() }}
	_, err := Run(ctx, endless, []Case{ask("x", "u", 5, "a", "b")}, []Named{{"flat", fixed{1, 2}}}, cfg)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was cancelled", err)
	}
}

type finder struct {
	*counter
	items []string
}

func (f finder) Retrieve(_ context.Context, _ string, _ event.Time, _ int) (Retrieval, error) {
	return Retrieval{Stage: f.items[:min(1, len(f.items))], Ranked: f.items}, nil
}

func TestRetrieversAreAskedForItems(t *testing.T) {
	cases := []Case{ask("x", "u", 5, "a", "b"), ask("y", "u", 6, "a", "b")}
	finds := func(items ...string) Named { return Named{"finder", finder{newCounter(), items}} }
	got := run(t, stream(), cases, Config{Retrieve: 3}, finds("c", "a", "b"), Named{"counter", newCounter()})
	if diff := cmp.Diff([]Retrieval{{[]string{"c"}, []string{"c", "a", "b"}}, {[]string{"c"}, []string{"c", "a", "b"}}}, got[0].Retrieved); diff != "" {
		t.Errorf("retrieved (-want +got):\n%s", diff)
	}
	if got[1].Retrieved != nil {
		t.Errorf("a ranker that retrieves nothing retrieved %v", got[1].Retrieved)
	}
	if got := run(t, stream(), cases, Config{}, finds("c")); got[0].Retrieved != nil {
		t.Errorf("retrieved %v without being asked", got[0].Retrieved)
	}
	for want, items := range map[string][]string{
		`case "x": retrieved item "c" twice`:       {"c", "a", "c"},
		`case "x": retrieved 4 items, asked for 3`: {"a", "b", "c", "d"},
	} {
		_, err := Run(t.Context(), stream(), cases, []Named{finds(items...)}, Config{Retrieve: 3})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
