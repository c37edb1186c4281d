package reasoner

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/policy"
)

// maskable is a graph with three chains to each of two items. Without one, its item's chains weigh what worth says less.
type maskable struct {
	*part
	worth     map[string]float64 // by neighbour
	asked     []iot.Prompt
	again     func(context.Context) error // asked of the model for a masked context
	identity  event.Model
	withoutFn Without // nil: as worth says
}

func newMaskable() *maskable {
	m := &maskable{part: &part{}, worth: map[string]float64{"ann": .2, "bob": .1, "cat": 0}}
	m.identity, _ = m.part.Identity(context.Background())
	m.context = event.Context{Likes: 1, History: []event.HistoryItem{{ItemID: "h", Title: "Old Film", Timestamp: 1.7e12}}}
	for i := range 2 {
		it := film(i)
		it.Evidence.Popularity = 3 - i
		m.context.Candidates = append(m.context.Candidates, it)
		for _, neighbour := range []string{"cat", "bob", "ann"} {
			m.context.Chains = append(m.context.Chains, event.Chain{Via: "h", Neighbour: neighbour, ItemID: film(i).ItemID, Shared: 2, NeighbourAt: 1.7e12})
		}
	}
	return m
}

func (m *maskable) Snapshot(context.Context, GraphQuery) (GraphSnapshot, error) {
	without := m.withoutFn
	if without == nil {
		without = m.without
	}
	return GraphSnapshot{Context: m.context, Without: without}, nil
}

func (m *maskable) without(chains ...event.Chain) (event.Context, error) {
	c := m.context
	c.Candidates = slices.Clone(c.Candidates)
	for _, ch := range chains {
		for i := range c.Candidates {
			if c.Candidates[i].ItemID == ch.ItemID {
				c.Candidates[i].Evidence.Chains -= m.worth[ch.Neighbour]
				c.Candidates[i].Evidence.Popularity-- // which the prompt shows
			}
		}
	}
	return c, nil
}

func (m *maskable) Identity(context.Context) (event.Model, error) { return m.identity, nil }

// Rank prefers what is popular.
func (m *maskable) Rank(ctx context.Context, p iot.Prompt) ([]float64, error) {
	m.asked = append(m.asked, p)
	if len(m.asked) > 1 && m.again != nil {
		if err := m.again(ctx); err != nil {
			return nil, err
		}
	}
	z := make([]float64, len(p.Letters))
	for j, i := range p.Order {
		z[i] = float64(p.Content.Candidates[j].Digits[5])
	}
	return policy.LogSoftmax(z), nil
}

// recommendMasked asks for both items.
func recommendMasked(t *testing.T, m *maskable, change func(*Options)) (*Reasoner, event.Recommendation, event.Decision) {
	t.Helper()
	r, _ := newTestReasoner(t, m.part, func(o *Options) {
		o.Graph, o.Models, o.MaskTimeout = m, Only(m), time.Minute
		if change != nil {
			change(o)
		}
	})
	rec, d, err := r.Recommend(t.Context(), Request{User: "u"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := event.Encode(d); err != nil {
		t.Fatalf("the decision breaks its contract: %v", err)
	}
	if len(d.Slate) != 2 || len(d.Thought.Steps) != 2 {
		t.Fatalf("the slate is %+v, the thought %+v; want two items and a step for each", d.Slate, d.Thought)
	}
	return r, rec, d
}

func graphOnly(o *Options) { o.Models = nil }

// shareOf computes, by definition, the log share of item i by the graph, where its chains weigh less.
func shareOf(i int, less float64) float64 {
	c := event.Context{Candidates: []event.Candidate{film(0), film(1)}}
	c.Candidates[i].Evidence.Chains -= less
	return policy.LogSoftmax(byChains(c))[i]
}

func TestContributionIsTheFallOfTheLogShare(t *testing.T) {
	r, rec, d := recommendMasked(t, newMaskable(), graphOnly)
	for i, s := range d.Thought.Steps {
		var want []float64
		for _, neighbour := range []string{"ann", "bob"} {
			want = append(want, shareOf(i, 0)-shareOf(i, newMaskable().worth[neighbour]))
		}
		if s.ItemID != film(i).ItemID || !cmp.Equal(s.Chains, []int{3*i + 3, 3*i + 2}) {
			t.Fatalf("step %d is %+v, want ann's chain, then bob's, and not cat's, which contributes nothing", i, s)
		}
		if len(s.Contributions) != 2 || math.Abs(*s.Contributions[0]-want[0]) > 1e-12 || math.Abs(*s.Contributions[1]-want[1]) > 1e-12 {
			t.Errorf("step %d contributes %v, want %v", i, s.Contributions, want)
		}
		for k, shown := range rec.Items[i].Reasons[0].Chains {
			if shown.Contribution == nil || *shown.Contribution != *s.Contributions[k] {
				t.Errorf("the document shows %+v, want the step's contributions", shown)
			}
		}
	}
	if d := cmp.Diff(&event.Masking{By: event.Graph, Proposed: 6, Measured: 6, Positive: 4}, d.Thought.Masking); d != "" || rec.MeasuredBy != event.Graph {
		t.Errorf("measured by %q; masking:\n%s", rec.MeasuredBy, d)
	}
	for stage, want := range map[string]float64{"proposed": 6, "measured": 6, "positive": 4, "shown": 4} {
		if n := testutil.ToFloat64(r.metrics.chains.WithLabelValues(stage)); n != want {
			t.Errorf("%v chains are counted as %s, want %v", n, stage, want)
		}
	}
	if n := testutil.ToFloat64(r.metrics.cited); n != 1 {
		t.Errorf("%v thoughts with chains are counted, want 1", n)
	}
}

// TestNothingContributes: words without chains, and no noise of rounding is taken for a contribution.
func TestNothingContributes(t *testing.T) {
	m := newMaskable()
	m.worth = map[string]float64{"ann": 0, "bob": 0, "cat": -.1}
	r, rec, d := recommendMasked(t, m, graphOnly)
	for i, s := range d.Thought.Steps {
		if len(s.Chains) != 0 || s.Text == "" || len(rec.Items[i].Reasons) != 1 {
			t.Errorf("step %d is %+v, want words and no chain", i, s)
		}
	}
	if d.Thought.Masking.Measured != 6 || d.Thought.Masking.Positive != 0 || testutil.ToFloat64(r.metrics.cited) != 0 {
		t.Errorf("masking is %+v", d.Thought.Masking)
	}
}

// TestModelIsAskedAgain with the same letters, and its share counts as it does in the ranking.
func TestModelIsAskedAgain(t *testing.T) {
	m := newMaskable()
	m.worth = map[string]float64{"ann": .2}
	_, rec, d := recommendMasked(t, m, func(o *Options) { o.MaskModel = true })
	if rec.MeasuredBy != event.Reasoned || d.Thought.Masking.By != event.Reasoned || len(m.asked) != 7 {
		t.Fatalf("measured by %q, the model was asked %d times; want the served ranking, and 1 and 6 times", rec.MeasuredBy, len(m.asked))
	}
	for _, p := range m.asked {
		if !slices.Equal(p.Letters, m.asked[0].Letters) {
			t.Error("a masked prompt has other letters")
		}
	}
	masked, err := m.without(m.context.Chains[2]) // ann's to the first
	if err != nil {
		t.Fatal(err)
	}
	model := policy.LogSoftmax([]float64{9, 9}) // now both are as popular
	final := policy.Pool(policy.Exp(policy.LogSoftmax(byChains(masked))), model, .5)
	var got *float64
	for _, s := range d.Thought.Steps {
		if s.ItemID == film(0).ItemID {
			got = s.Contributions[slices.Index(s.Chains, 3)]
		}
	}
	if want := d.Scores[0].Final - final[0].Final; got == nil || math.Abs(*got-want) > 1e-12 {
		t.Errorf("ann's chain contributes %v, want %v", got, want)
	}
	if d.Thought.Masking.Positive != 6 {
		t.Errorf("%d contribute, want all: the model sees that one user less has the film", d.Thought.Masking.Positive)
	}
}

// TestModelIsNotAskedAgain where it is too slow for that, or has no say: then the graph's ranking is measured.
func TestModelIsNotAskedAgain(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"slow":   nil,
		"no say": func(o *Options) { o.MaskModel, o.ModelWeight = true, 0 },
	} {
		m := newMaskable()
		_, rec, d := recommendMasked(t, m, change)
		if len(m.asked) != 1 || rec.Source != event.Reasoned || rec.MeasuredBy != event.Graph {
			t.Fatalf("%s: the model was asked %d times, source %s, measured by %s; want once, reasoned, graph", name, len(m.asked), rec.Source, rec.MeasuredBy)
		}
		for _, s := range d.Thought.Steps {
			i := m.context.Candidate(s.ItemID)
			if want := shareOf(i, 0) - shareOf(i, .2); math.Abs(*s.Contributions[0]-want) > 1e-12 {
				t.Errorf("%s: %s contributes %v, want %v", name, s.ItemID, *s.Contributions[0], want)
			}
		}
	}
}

// TestMaskingFailsAlone: whatever goes wrong, the list is reasoned as it was, and chains are shown without contribution.
func TestMaskingFailsAlone(t *testing.T) {
	for name, spoil := range map[string]func(*maskable, *Options){
		"the model fails": func(m *maskable, _ *Options) { m.again = func(context.Context) error { return errDown } },
		"the model hangs": func(m *maskable, o *Options) {
			o.MaskTimeout = time.Millisecond
			m.again = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		},
		"the server exchanges the model": func(m *maskable, _ *Options) {
			m.again = func(context.Context) error { m.identity.Digest = "sha256:2"; return nil }
		},
		"no time": func(_ *maskable, o *Options) { o.MaskTimeout = time.Nanosecond },
		"the graph fails": func(m *maskable, _ *Options) {
			m.withoutFn = func(...event.Chain) (event.Context, error) { return event.Context{}, errDown }
		},
		"another number": func(m *maskable, _ *Options) {
			m.withoutFn = func(...event.Chain) (event.Context, error) { return newPart().context, nil }
		},
		"nothing is finite": func(m *maskable, _ *Options) {
			m.worth = map[string]float64{"ann": math.Inf(1), "bob": math.Inf(1), "cat": math.Inf(1)}
		},
		"nobody can mask it": func(m *maskable, o *Options) { o.Graph = m.part },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMaskable()
			_, rec, d := recommendMasked(t, m, func(o *Options) { o.MaskModel = true; spoil(m, o) })
			measured := 0
			if d.Thought.Masking != nil {
				measured = d.Thought.Masking.Measured
			}
			if rec.Source != event.Reasoned || d.Fallback != "" || measured > 1 || (measured == 0) != (rec.MeasuredBy == "") {
				t.Errorf("source %s, fallback %q, %d measured by %q; want it reasoned and hardly anything measured", rec.Source, d.Fallback, measured, rec.MeasuredBy)
			}
			for _, s := range d.Thought.Steps {
				if len(s.Chains) != 3 {
					t.Errorf("the step cites %v, want all three chains: nothing is known against any", s.Chains)
				}
			}
		})
	}
}

func TestCallerWhoLeavesWhileMaskingMakesNoDecision(t *testing.T) {
	m := newMaskable()
	ctx, cancel := context.WithCancel(t.Context())
	m.again = func(context.Context) error { cancel(); return nil }
	r, _ := newTestReasoner(t, m.part, func(o *Options) { o.Graph, o.Models, o.MaskModel, o.MaskTimeout = m, Only(m), true, time.Minute })
	if _, _, err := r.Recommend(ctx, Request{User: "u"}); !errors.Is(err, context.Canceled) || len(m.logged) != 0 {
		t.Errorf("the error is %v and %d decisions were logged, want a cancelled call and none", err, len(m.logged))
	}
	if len(m.asked) != 2 {
		t.Errorf("the model was asked %d times, want no further after the caller left", len(m.asked))
	}
}

func TestMeasure(t *testing.T) {
	m := newMaskable()
	m.worth = map[string]float64{"ann": .2, "bob": -.1, "cat": 0}
	c := Case{Context: m.context, Slate: []event.Slot{{Position: 1, ItemID: film(0).ItemID, Probability: 1}}, Without: m.without,
		Chains: func(string) []event.Chain { return m.context.Chains[2:3] }} // ann's
	cold := Case{Context: event.Context{Candidates: []event.Candidate{film(0)}}, Slate: c.Slate, Chains: func(string) []event.Chain { return nil }}
	var seeds []uint64
	rank := func(c event.Context, seed uint64) ([]float64, error) {
		seeds = append(seeds, seed)
		return policy.LogSoftmax(byChains(c)), nil
	}
	cases := func(err error, cs ...Case) func(func(Case, error) bool) {
		return func(yield func(Case, error) bool) {
			for _, c := range cs {
				if !yield(c, nil) {
					return
				}
			}
			if err != nil {
				yield(Case{}, err)
			}
		}
	}
	got, err := Measure(cases(nil, c, cold, c), rank)
	if err != nil {
		t.Fatal(err)
	}
	ann, bob := shareOf(0, 0)-shareOf(0, .2), shareOf(0, 0)-shareOf(0, -.1)
	mean := (ann + bob) / 3
	e := Effects{PositiveChains: 2, PositiveSteps: 2, Decisions: 2, Mean: mean, Random: ann, RandomPositive: 6}
	want := Faithfulness{Decisions: 3, Steps: 2, Chains: 6, Served: e, Shuffled: e, Both: 2}
	if d := cmp.Diff(want, got, cmpopts.EquateApprox(1e-9, 1e-9)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	slices.Sort(seeds)
	if seeds = slices.Compact(seeds); len(seeds) != 2 {
		t.Errorf("ranked under the shuffles %v, want the decision's and another", seeds)
	}

	one := c                                                                // decisions that differ have a standard error: of the mean of two, half their difference
	one.Chains = func(string) []event.Chain { return m.context.Chains[:1] } // cat's, which is worth nothing
	got, err = Measure(cases(nil, c, one), rank)
	if err != nil || math.Abs(got.Served.Error-ann/2) > 1e-12 || got.Served.RandomPositive != 3 {
		t.Errorf("%+v, %v; want 3 random chains that contribute, and a standard error of %v", got.Served, err, ann/2)
	}
	if _, err = Measure(cases(errDown, c), rank); !errors.Is(err, errDown) {
		t.Errorf("cases that end in an error give %v", err)
	}
	if _, err = Measure(cases(nil, c), func(event.Context, uint64) ([]float64, error) { return nil, errDown }); !errors.Is(err, errDown) {
		t.Errorf("a ranker that fails gives %v", err)
	}
}
