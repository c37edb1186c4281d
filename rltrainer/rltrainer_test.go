package rltrainer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/event"
)

// A case is asked when the graph was fed exactly the events strictly before it, and what comes back stands in the order of
// the cases, whatever their order in time.
func TestAskLooksAtNothingLater(t *testing.T) {
	events := likes(60)
	cases := []eval.Case{
		{ID: "late", User: "u1", At: events[50].Timestamp, Candidates: []string{"i1", "i2", "i3"}, Positive: "i3"},
		{ID: "early", User: "u2", At: events[10].Timestamp, Candidates: []string{"i4", "i1"}, Positive: "i4"}, // events 9 to 11 are of this moment
		{ID: "first", User: "u0", At: events[0].Timestamp, Candidates: []string{"i1", "i2"}, Positive: "i2"},
		{ID: "between", User: "u3", At: events[20].Timestamp + 1, Candidates: []string{"i1", "i5"}, Positive: "i1"},
		{ID: "same moment", User: "u2", At: events[10].Timestamp, Candidates: []string{"i5", "i6"}, Positive: "i6"},
	}
	before := []int{48, 9, 0, 21, 9}
	g := testGraph(t)
	var told []string
	examples, err := Ask(t.Context(), g, streamOf(events), cases, func(done, total int) { told = append(told, fmt.Sprint(done, "/", total)) })
	must(t, err)
	if len(told) == 0 || told[len(told)-1] != "5/5" {
		t.Errorf("told %q", told)
	}
	if len(g.fed) != 48 || len(g.asked) != len(cases) {
		t.Errorf("fed %d events for %d questions, want the 48 before the last", len(g.fed), len(g.asked))
	}
	for i, c := range cases {
		at := slices.IndexFunc(g.asked, func(q question) bool { return q.user == c.User && slices.Equal(q.candidates, c.Candidates) })
		if at < 0 || g.asked[at].fed != before[i] || g.asked[at].at != c.At {
			t.Errorf("case %s: asked %+v, want with %d events known", c.ID, g.asked[at], before[i])
			continue
		}
		// What the graph says alone, when it has only these events.
		alone := testGraph(t)
		if before[i] > 0 {
			must(t, alone.Join(t.Context(), events[:before[i]]))
		}
		s, err := alone.Snapshot(t.Context(), graphcache.Query{User: c.User, Items: c.Candidates, At: c.At})
		must(t, err)
		if diff := cmp.Diff(s.Context, examples[i].Context); diff != "" {
			t.Errorf("case %s (-alone +asked):\n%s", c.ID, diff)
		}
		if got := examples[i].Context.Candidates[examples[i].Chosen].ItemID; got != c.Positive {
			t.Errorf("case %s: %s is taken for chosen, want %s", c.ID, got, c.Positive)
		}
	}
}

func TestAskLeavesOutWhatIsRefused(t *testing.T) {
	events := likes(20)
	cases := []eval.Case{{ID: "a", User: "u1", At: events[19].Timestamp + 1, Candidates: []string{"i1", "i2"}, Positive: "i1"}}
	broken := eval.Stream(func(yield func(event.Interaction, error) bool) {
		for i, in := range events {
			if i%4 == 0 && !yield(event.Interaction{}, errors.New("a broken line")) || !yield(in, nil) {
				return
			}
		}
	})
	g := testGraph(t)
	examples, err := Ask(t.Context(), g, broken, cases, nil)
	must(t, err)
	if diff := cmp.Diff(events, g.fed); diff != "" || len(examples) != 1 {
		t.Errorf("%d examples; fed (-want +got):\n%s", len(examples), diff)
	}
}

func TestAskFails(t *testing.T) {
	events := likes(20)
	good := eval.Case{ID: "a", User: "u1", At: events[19].Timestamp, Candidates: []string{"i1", "i2"}, Positive: "i1"}
	other := good
	other.Positive = "i9"
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	down := errors.New("the graph is down")
	for what, tc := range map[string]struct {
		ctx   context.Context
		cases []eval.Case
		graph func(*graph)
		want  string
	}{
		"two cases of one name":    {t.Context(), []eval.Case{good, good}, nil, `two are called "a"`},
		"an answer that is absent": {t.Context(), []eval.Case{other}, nil, "i9"},
		"apply":                    {t.Context(), []eval.Case{good}, func(g *graph) { g.failApply = down }, "the graph is down"},
		"evidence":                 {t.Context(), []eval.Case{good}, func(g *graph) { g.failEvidence = down }, "the graph is down"},
		"interrupted":              {gone, []eval.Case{good}, nil, "context canceled"},
	} {
		g := testGraph(t)
		if tc.graph != nil {
			tc.graph(g)
		}
		examples, err := Ask(tc.ctx, g, streamOf(events), tc.cases, nil)
		if err == nil || examples != nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %d examples, %v; want %q", what, len(examples), err, tc.want)
		}
	}
}

func TestDigestTellsExamplesApart(t *testing.T) {
	examples := someExamples(4)
	digest := func() string {
		d, err := Digest(examples)
		must(t, err)
		return d
	}
	first := digest()
	if len(first) != 64 || digest() != first {
		t.Errorf("%q, and then %q", first, digest())
	}
	examples[2].Chosen++
	if digest() == first {
		t.Error("another choice has the same digest")
	}
	examples[2].Chosen--
	examples[3].Context.Candidates[0].Evidence.Popularity++
	if digest() == first {
		t.Error("other evidence has the same digest")
	}
}
