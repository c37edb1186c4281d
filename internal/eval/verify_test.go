package eval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/event"
)

var (
	nan = math.NaN()
	inf = math.Inf(1)
)

// world is a stream in which many events share a time, and a case at each of them.
func world() (Stream, []Case) {
	var events []event.Interaction
	var cases []Case
	for i := range 60 {
		second := i / 3
		events = append(events, click(second, fmt.Sprint("u", i%7), fmt.Sprint("i", i*3%11)))
		cases = append(cases, ask(fmt.Sprint("q", i), fmt.Sprint("u", i%5), second, fmt.Sprint("i", i%11), "i99", "i98"))
	}
	return stream(events...), cases
}

// seer adds to a counter what lies in all the data that there are.
type seer struct {
	*counter
	future map[string]float64
}

func newSeer(all Stream) seer {
	s := seer{newCounter(), map[string]float64{}}
	for in := range all {
		s.future[in.ItemID]++
	}
	return s
}

func (s seer) Scores(_ context.Context, c Case) ([]float64, error) {
	scores := make([]float64, len(c.Candidates))
	for i, id := range c.Candidates {
		scores[i] = s.future[id]
	}
	return scores, nil
}

// rememberer lets the cases that it was asked before change its answer.
type rememberer struct{ *counter }

func (r rememberer) Scores(ctx context.Context, c Case) ([]float64, error) {
	scores, err := r.counter.Scores(ctx, c)
	scores[0] += float64(len(r.asked))
	return scores, err
}

// shaky computes with rounding errors that differ from one making to the next.
type shaky struct {
	*counter
	off float64
}

func (s shaky) Scores(ctx context.Context, c Case) ([]float64, error) {
	scores, err := s.counter.Scores(ctx, c)
	for i := range scores {
		scores[i] *= 1 + s.off
	}
	return scores, err
}

func TestVerifyCatchesWhoeverLooksAhead(t *testing.T) {
	events, cases := world()
	made := 0
	for name, c := range map[string]struct {
		fresh Fresh
		all   bool // every case but the last few is caught
		none  bool
	}{
		"honest":               {fresh: func(context.Context, Stream) (Ranker, error) { return newCounter(), nil }, none: true},
		"looks ahead":          {fresh: func(_ context.Context, past Stream) (Ranker, error) { return newSeer(past), nil }, all: true},
		"remembers the asking": {fresh: func(context.Context, Stream) (Ranker, error) { return rememberer{newCounter()}, nil }, all: true},
		"rounding": {fresh: func(context.Context, Stream) (Ranker, error) {
			made++
			return shaky{newCounter(), float64(made) * 1e-13}, nil
		}, none: true},
	} {
		t.Run(name, func(t *testing.T) {
			ranker, err := c.fresh(t.Context(), events)
			if err != nil {
				t.Fatal(err)
			}
			full := run(t, events, cases, Config{}, Named{name, ranker})[0]
			differ, err := Verify(t.Context(), events, cases, full.Scores, c.fresh, len(cases), 1)
			if err != nil {
				t.Fatal(err)
			}
			if c.none && len(differ) > 0 {
				t.Errorf("%d cases differ, the first: %+v", len(differ), differ[0])
			}
			if c.all && len(differ) < len(cases)*4/5 {
				t.Errorf("only %d of %d cases differ", len(differ), len(cases))
			}
		})
	}
}

// A run that observed the events at the case's own time would be caught too.
func TestVerifyIsStrict(t *testing.T) {
	events := stream(click(1, "u", "a"), click(2, "u", "b"), click(3, "u", "c"))
	cases := []Case{ask("x", "u", 2, "a", "b")}
	fresh := func(context.Context, Stream) (Ranker, error) { return newCounter(), nil }
	for _, c := range []struct {
		scores []float64
		differ int
	}{{[]float64{1, 0}, 0}, {[]float64{1, 1}, 1}, {[]float64{0, 0}, 1}} {
		differ, err := Verify(t.Context(), events, cases, [][]float64{c.scores}, fresh, 1, 1)
		if err != nil || len(differ) != c.differ {
			t.Errorf("%v: %+v, %v, want %d cases", c.scores, differ, err, c.differ)
		}
	}
}

type closing struct {
	*counter
	closed *int
}

func (c closing) Close() error { *c.closed++; return nil }

func TestVerifyDrawsEachCaseOnceAndCloses(t *testing.T) {
	events, cases := world()
	full := run(t, events, cases, Config{}, Named{"counter", newCounter()})[0]
	made, closed := 0, 0
	var seen [][]string
	for _, seed := range []uint64{1, 1, 2} {
		var ids []string
		fresh := func(context.Context, Stream) (Ranker, error) { made++; return closing{newCounter(), &closed}, nil }
		wrong := make([][]float64, len(cases)) // so that every drawn case is told
		for i := range wrong {
			wrong[i] = []float64{inf, 0, 0}
		}
		differ, err := Verify(t.Context(), events, cases, wrong, fresh, 5, seed)
		if err != nil {
			t.Fatal(err)
		}
		distinct := map[string]bool{}
		for _, d := range differ {
			ids = append(ids, d.Case.ID)
			distinct[d.Case.ID] = true
		}
		if len(distinct) != 5 {
			t.Errorf("seed %d drew %v, want five cases", seed, ids)
		}
		seen = append(seen, ids)
	}
	if fmt.Sprint(seen[0]) != fmt.Sprint(seen[1]) || fmt.Sprint(seen[0]) == fmt.Sprint(seen[2]) {
		t.Errorf("draws %v: want two equal ones and another", seen)
	}
	if made != 15 || closed != made {
		t.Errorf("made %d rankers, closed %d", made, closed)
	}
	broken := errors.New("broken")
	_, err := Verify(t.Context(), events, cases, full.Scores, func(context.Context, Stream) (Ranker, error) { return nil, broken }, 1, 1)
	if !errors.Is(err, broken) {
		t.Errorf("%v, want %v", err, broken)
	}
	if _, err := Verify(t.Context(), events, cases, full.Scores[1:], nil, 1, 1); err == nil || !strings.Contains(err.Error(), "59 lists of scores for 60 cases") {
		t.Error(err)
	}
}

func TestVerifyFeedsInBatches(t *testing.T) {
	var events []event.Interaction
	for range 5000 {
		events = append(events, click(0, "u", "a"))
	}
	c := newCounter()
	fresh := func(context.Context, Stream) (Ranker, error) { return c, nil }
	differ, err := Verify(t.Context(), stream(events...), []Case{ask("x", "u", 1, "a", "b")}, [][]float64{{5000, 0}}, fresh, 1, 1)
	if err != nil || len(differ) > 0 || !slices.Equal(c.batches, []int{4096, 904}) {
		t.Errorf("%v %v, batches %v", differ, err, c.batches)
	}
}

func TestSame(t *testing.T) {
	for _, c := range []struct {
		a, b []float64
		want bool
	}{
		{[]float64{1, 0}, []float64{1, 0}, true},
		{[]float64{1e9, 0}, []float64{1e9, 0.5}, true}, // within 1e-9 of the largest
		{[]float64{1e9, 0}, []float64{1e9, 2}, false},
		{[]float64{1, inf}, []float64{1, inf}, true},
		{[]float64{1, inf}, []float64{1, 1}, false},
		{[]float64{1, inf}, []float64{1, -inf}, false},
		{[]float64{1, inf}, []float64{1.1, inf}, false},
		{[]float64{1, 2}, []float64{1}, false},
		{[]float64{0, 0}, []float64{0, 1e-300}, false},
	} {
		if got := same(c.a, c.b); got != c.want {
			t.Errorf("%v and %v: %v", c.a, c.b, got)
		}
	}
}
