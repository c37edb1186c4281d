package reasoner

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/policy"
)

// pensive is a model that says something first, and prefers what its thought speaks of more often.
type pensive struct {
	*maskable
	says func(p iot.Prompt) string
}

func newPensive(says func(p iot.Prompt) string) *pensive {
	m := newMaskable()
	m.identity.PromptVersion, m.identity.Think = iot.Thoughts, 40
	m.withoutFn = func(gone ...event.Chain) (event.Context, error) {
		c, err := m.without(gone...)
		c.Chains = slices.DeleteFunc(slices.Clone(c.Chains), func(ch event.Chain) bool { return slices.Contains(gone, ch) })
		return c, err
	}
	return &pensive{maskable: m, says: says}
}

func (m *pensive) Think(ctx context.Context, c event.Context, p iot.Prompt) (iot.Reply, []float64, error) {
	r := p.ReadReply(c, m.says(p), true)
	shares, err := m.Rank(ctx, p.After(r.Thought, c))
	return r, shares, err
}

func (m *pensive) Rank(_ context.Context, p iot.Prompt) ([]float64, error) {
	m.asked = append(m.asked, p)
	z := make([]float64, len(p.Letters))
	for i, l := range p.Letters {
		z[i] = float64(strings.Count(p.Text, "] "+string(l)+": "))
	}
	return policy.LogSoftmax(z), nil
}

// What a model wrote before it answered is shown where it is grounded, and measured: without a chain the thought does not
// speak of it any more.
func TestModelThinks(t *testing.T) {
	m := newPensive(func(p iot.Prompt) string {
		x := string(p.Letters[0])
		return "[3] " + x + ": Ann has the same taste.\n[1, 2] " + x + ": So have two others.\n[6] " + x + ": a chain to the other film\nWell.\n"
	})
	r, rec, d := recommendThinking(t, m)
	said := []event.Step{{ItemID: "i0", Text: "Ann has the same taste.", Chains: []int{3}}, {ItemID: "i0", Text: "So have two others.", Chains: []int{1, 2}}}
	if diff := cmp.Diff(said, d.Said); diff != "" {
		t.Errorf("the decision says that the model wrote\n%s", diff)
	}
	if p, err := iot.Asked(d); err != nil || p.Digest != d.Model.PromptDigest || p.Text != m.asked[0].Text {
		t.Errorf("the decision gives another prompt than the one that was read (error %v):\n%s", err, p.Text)
	}
	var texts []string
	for _, s := range d.Thought.Steps {
		texts = append(texts, string(d.Thought.Author(s))+": "+s.Text)
	}
	want := []string{"reasoned: Ann has the same taste.", "reasoned: So have two others.", "graph: 2 like-minded users chose it; they share \"Old Film\" with you."}
	slices.Sort(texts)
	slices.Sort(want)
	if diff := cmp.Diff(want, texts); diff != "" || d.Thought.By != event.Reasoned {
		t.Errorf("shown by %s:\n%s", d.Thought.By, diff)
	}
	if rec.MeasuredBy != event.Reasoned {
		t.Errorf("measured by %q", rec.MeasuredBy)
	}
	for _, p := range m.asked[1:] {
		left := 0 // chains to what the thought speaks of
		for _, l := range p.Content.Chains {
			if l.Letter == p.Letters[0] {
				left++
			}
		}
		if same := strings.HasSuffix(p.Text, m.asked[0].Text[strings.Index(m.asked[0].Text, "Thought:"):]); same != (left == 3) {
			t.Errorf("with %d of 3 chains, the thought is\n%s", left, p.Text[strings.Index(p.Text, "Thought:"):])
		}
	}
	alone := d.Thought.Steps[slices.IndexFunc(d.Thought.Steps, func(s event.Step) bool { return s.Text == "Ann has the same taste." })]
	graph := shareOf(0, 0) - shareOf(0, m.worth["ann"])
	if len(alone.Contributions) != 1 || alone.Contributions[0] == nil || *alone.Contributions[0] < graph/2+.05 {
		t.Errorf("the chain that the first line rests on contributes %v, and %.3f by the graph: want what the line does too", *alone.Contributions[0], graph)
	}
	for fate, want := range map[string]float64{"grounded": 2, string(iot.OtherItem): 1, string(iot.Malformed): 1} {
		if n := testutil.ToFloat64(r.metrics.lines.WithLabelValues(fate)); n != want {
			t.Errorf("%v lines are counted as %s, want %v", n, fate, want)
		}
	}
	if n := testutil.ToFloat64(r.metrics.ungrounded); n != 0 {
		t.Errorf("%v steps came as far as to be shown, and were not grounded", n)
	}
}

// A model of which nothing is grounded has said nothing: the reasons are the graph's, and the prompt is as if it had not
// been asked to think.
func TestModelThinksNonsense(t *testing.T) {
	m := newPensive(func(iot.Prompt) string { return "As a film lover, I would choose B.\n[99] A: it is the best\n" })
	_, _, d := recommendThinking(t, m)
	if len(d.Said) != 0 || d.Thought.By != event.Graph || strings.Contains(m.asked[0].Text, "film lover") {
		t.Errorf("said %+v, thought %+v", d.Said, d.Thought)
	}
}

// A model answers at once unless its identity says that it thinks; one that says so and cannot ranks nothing.
func TestModelThatDoesNotThink(t *testing.T) {
	m := newPensive(func(iot.Prompt) string { panic("asked to think") })
	m.identity.Think = 0
	if _, _, d := recommendThinking(t, m); d.Source != event.Reasoned {
		t.Errorf("ranked by the %s", d.Source)
	}
	m.identity.Think = 40
	r, _ := newTestReasoner(t, m.part, func(o *Options) { o.Graph, o.Models = m.maskable, Only(struct{ Model }{m}) })
	if _, d, err := r.Recommend(t.Context(), Request{User: "u"}); err != nil || d.Source != event.Graph || d.Fallback != FallbackUnavailable {
		t.Errorf("ranked by the %s, %q: %v", d.Source, d.Fallback, err)
	}
}

func recommendThinking(t *testing.T, m *pensive) (*Reasoner, event.Recommendation, event.Decision) {
	t.Helper()
	r, _ := newTestReasoner(t, m.part, func(o *Options) {
		o.Graph, o.Models, o.MaskTimeout, o.MaskModel = m.maskable, Only(m), 1<<40, true
	})
	rec, d, err := r.Recommend(t.Context(), Request{User: "u"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := event.Encode(d); err != nil {
		t.Fatalf("the decision breaks its contract: %v", err)
	}
	return r, rec, d
}
