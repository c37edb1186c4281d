package iot

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/r2rec/r2rec/internal/event"
)

func TestExplainCitesANeighbourOnce(t *testing.T) {
	c := small() // chains 3 and 4 both end in bob's choice of x
	if got := Explain(c, slateOf(c, 1), 3).Steps[0].Chains; !cmp.Equal(got, []int{1, 3}) {
		t.Errorf("cites %v, want 1 and 3: 4 is bob's, as 3 is", got)
	}
}

func nats(xs ...float64) (list []*float64) {
	for _, x := range xs {
		list = append(list, &x)
	}
	return list
}

func TestFaithful(t *testing.T) {
	c := small()
	slate := slateOf(c, 3) // x, y, z
	both := `2 like-minded users chose it; they share "Toy Story" and "The 'Heat'" with you.`
	for _, test := range []struct {
		why           string
		contributions map[int]float64
		want          event.Step // of x
	}{
		{"nothing measured", nil, event.Step{Text: both, Chains: []int{1, 3}}},
		{"both contribute", map[int]float64{1: .1, 3: .2},
			event.Step{Text: `2 like-minded users chose it; they share "The 'Heat'" and "Toy Story" with you.`, Chains: []int{3, 1}, Contributions: nats(.2, .1)}},
		{"one speaks against it", map[int]float64{1: -.1, 3: .2},
			event.Step{Text: `2 like-minded users chose it; one of them shares "The 'Heat'" with you.`, Chains: []int{3}, Contributions: nats(.2)}},
		{"one was not measured", map[int]float64{3: .2},
			event.Step{Text: `2 like-minded users chose it; they share "The 'Heat'" and "Toy Story" with you.`, Chains: []int{3, 1}, Contributions: []*float64{nats(.2)[0], nil}}},
		{"one not, the other for nothing", map[int]float64{1: 0},
			event.Step{Text: `2 like-minded users chose it; one of them shares "The 'Heat'" with you.`, Chains: []int{3}}},
		{"both for nothing", map[int]float64{1: 0, 3: -1}, event.Step{Text: "2 like-minded users chose it.", Chains: []int{}}},
	} {
		thought := Explain(c, slate, 3)
		thought.Masking = &event.Masking{By: event.Graph}
		got := Faithful(thought, c, test.contributions)
		test.want.ItemID = "x"
		if d := cmp.Diff(test.want, got.Steps[0]); d != "" {
			t.Errorf("%s (-want +got):\n%s", test.why, d)
		}
		if d := cmp.Diff(thought.Steps[1:], got.Steps[1:]); d != "" || got.By != event.Graph || got.Masking == nil {
			t.Errorf("%s: the others changed:\n%s", test.why, d)
		}
		if thought.Steps[0].Text != both || len(thought.Steps[0].Chains) != 2 {
			t.Fatalf("%s: the given thought was changed", test.why)
		}
		kept, errs := Check(got, c, slate)
		if d := cmp.Diff(got, kept); d != "" || len(errs) != 0 {
			t.Errorf("%s: checked, %v\n%s", test.why, errs, d)
		}
	}
}

func TestFaithfulMeasuredAnew(t *testing.T) {
	c := small()
	first := Faithful(Explain(c, slateOf(c, 1), 3), c, map[int]float64{1: .1, 3: .2})
	again := Faithful(first, c, map[int]float64{1: .3})
	if *first.Steps[0].Contributions[0] != .2 || !cmp.Equal(again.Steps[0].Contributions, []*float64{nats(.3)[0], nil}) {
		t.Errorf("first %v, measured anew %v; want .2 and .1, then .3 and nothing", first.Steps[0].Contributions, again.Steps[0].Contributions)
	}
}

func TestFaithfulKeepsAModelsWords(t *testing.T) {
	thought := event.Thought{By: event.Reasoned, Steps: []event.Step{
		{ItemID: "x", Text: "one", Chains: []int{1}}, {ItemID: "x", Text: "two", Chains: []int{3, 4}}, {ItemID: "y", Text: "none"}}}
	got := Faithful(thought, small(), map[int]float64{1: -.1, 3: 0, 4: .3})
	want := []event.Step{{ItemID: "x", Text: "two", Chains: []int{4}, Contributions: nats(.3)}, {ItemID: "y", Text: "none", Chains: []int{}}}
	if d := cmp.Diff(want, got.Steps); d != "" {
		t.Error(d)
	}
}

// A model's words go with the chain that alone touches an item they name, and stay where another one touches it too.
func TestFaithfulDropsWordsAboutChainsThatAreLost(t *testing.T) {
	thought := event.Thought{By: event.Reasoned, Steps: []event.Step{
		{ItemID: "x", Text: "Whoever enjoys Toy Story may like it", Chains: []int{1, 3}},
		{ItemID: "x", Text: "Whoever enjoys Toy Story may like it again", Chains: []int{1, 3, 4}}, // 4 starts there, too
		{ItemID: "x", Text: "Whoever enjoys the 'Heat' may like it", Chains: []int{1, 3}},
	}}
	got := Faithful(thought, small(), map[int]float64{1: 0, 3: .2, 4: .1})
	want := []event.Step{
		{ItemID: "x", Text: "Whoever enjoys Toy Story may like it again", Chains: []int{3, 4}, Contributions: nats(.2, .1)},
		{ItemID: "x", Text: "Whoever enjoys the 'Heat' may like it", Chains: []int{3}, Contributions: nats(.2)},
	}
	if d := cmp.Diff(want, got.Steps); d != "" {
		t.Error(d)
	}
}

func TestReasonsCarryContributions(t *testing.T) {
	c := small()
	thought := event.Thought{By: event.Graph, Steps: []event.Step{ // 2 leads to y
		{ItemID: "x", Text: "one", Chains: []int{3, 2, 1}, Contributions: []*float64{nats(.2)[0], nats(9)[0], nil}}}}
	got := Reasons(c, thought, slateOf(c, 1))[0][0].Chains
	want := []event.ReasonChain{{Via: "2", ViaTitle: "The 'Heat'", Neighbour: 1, Contribution: nats(.2)[0]}, {Via: "1", ViaTitle: "Toy Story", Neighbour: 2}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
