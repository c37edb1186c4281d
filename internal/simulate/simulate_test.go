package simulate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/policy"
)

// fixed ranks every prompt the same.
type fixed struct {
	shares []float64
	err    error
}

func (f fixed) Rank(context.Context, iot.Prompt) ([]float64, error) { return f.shares, f.err }

var identity = event.Model{Name: "toy", Digest: "base", Adapter: "adapter", Readout: "lines", PromptVersion: iot.Figures}

func list(n int) (c event.Context) {
	for i := range n {
		c.Candidates = append(c.Candidates, event.Candidate{ItemID: fmt.Sprint("i", i), Origin: event.FromChains})
	}
	return c
}

// A decision is valid, its own function, and can be computed again from what it says.
func TestDecide(t *testing.T) {
	model := policy.LogSoftmax([]float64{3, 1, 2, 0})
	s := Service{Model: fixed{shares: model}, Identity: identity, Weight: .5, Temperature: 2, K: 3, Graph: func(event.Context) []float64 { return []float64{.1, .2, .3, .4} }}
	d, err := s.Decide(t.Context(), "d1", "u1", 1_700_000_000_000, list(4), 77)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Validate(); err != nil {
		t.Error(err)
	}
	again, err := s.Decide(t.Context(), "d1", "u1", 1_700_000_000_000, list(4), 77)
	if diff := cmp.Diff(d, again); diff != "" || err != nil {
		t.Error(diff, err)
	}
	p, err := iot.Build(iot.Figures, list(4), 77)
	if err != nil {
		t.Fatal(err)
	}
	if d.Model.PromptDigest != p.Digest || d.Model.Adapter != "adapter" || identity.PromptDigest != "" || d.Scores[2].Letter != string(rune(p.Letters[2])) {
		t.Errorf("%+v, letter %s", d.Model, d.Scores[2].Letter)
	}
	for i, want := range policy.Pool([]float64{.1, .2, .3, .4}, model, .5) {
		if d.Scores[i].Final != want.Final {
			t.Errorf("candidate %d: %v, want %v", i, d.Scores[i].Final, want.Final)
		}
	}
	if !cmp.Equal(d.Slate, policy.Slate(d, 3)) || len(d.Slate) != 3 || !d.Explore || d.Temperature != 2 || d.ModelWeight != .5 {
		t.Errorf("%+v", d.Slate)
	}
	plain, err := Service{Model: fixed{shares: model}, Identity: identity}.Decide(t.Context(), "d1", "u1", 1_700_000_000_000, list(4), 77)
	if err != nil || plain.Temperature != 1 || plain.ModelWeight != 1 || len(plain.Slate) != 4 || math.Abs(plain.Scores[0].Final-model[0]) > 1e-12 {
		t.Errorf("by default: %+v, %v", plain, err)
	}

	broken := errors.New("it broke")
	if _, err := (Service{Model: fixed{err: broken}, Identity: identity}).Decide(t.Context(), "d", "u", 1, list(4), 1); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if _, err := (Service{Model: fixed{shares: model}, Identity: identity}).Decide(t.Context(), "d", "u", 1, list(0), 1); err == nil || !strings.Contains(err.Error(), `decide for user "u"`) {
		t.Errorf("%v", err)
	}
}

// Users click as they want what they look at, at most once, and look no further than they stay; examination is what can be
// known of that.
func TestBrowse(t *testing.T) {
	d := event.Decision{DecisionID: "d", UserID: "u", Timestamp: 1_700_000_000_000, Source: event.Reasoned, Model: &identity, Explore: true}
	for i := range 4 {
		d.Slate = append(d.Slate, event.Slot{Position: i + 1, ItemID: fmt.Sprint("i", i), Probability: 1})
	}
	wants := map[string]float64{"i0": .2, "i1": .5, "i2": .1, "i3": .9}
	u := User{Wants: func(item string) float64 { return wants[item] }, Stays: .7}
	const n = 40_000
	var clicks [4]float64
	r := rand.New(rand.NewPCG(1, 2))
	for range n {
		clicked := -1
		rewards := u.Browse(d, r)
		for i, w := range rewards {
			if err := w.Validate(); err != nil {
				t.Fatal(err)
			}
			if w.Position != i+1 || w.ItemID != d.Slate[i].ItemID || w.Adapter != "adapter" || !w.Explore || w.DecidedAt != d.Timestamp {
				t.Fatalf("%+v", w)
			}
			if w.Value == 1 {
				if clicked >= 0 {
					t.Fatal("two clicks on one list")
				}
				clicked = i
				clicks[i] += 1. / n
			}
		}
		for i, w := range rewards {
			want := 1.
			switch {
			case clicked < 0:
				want = math.Pow(.7, float64(i))
			case i > clicked:
				want = 0
			}
			if math.Abs(w.Examination-want) > 1e-12 {
				t.Fatalf("slot %d, click %d: examination %v, want %v", i+1, clicked, w.Examination, want)
			}
		}
	}
	looks := 1.
	for i, item := range []string{"i0", "i1", "i2", "i3"} {
		want := looks * wants[item]
		if math.Abs(clicks[i]-want) > 4*math.Sqrt(want*(1-want)/n) {
			t.Errorf("slot %d was clicked in a share of %.4f, want %.4f", i+1, clicks[i], want)
		}
		looks *= (1 - wants[item]) * .7
	}
}

func TestBrowseIsItsSeeds(t *testing.T) {
	d := event.Decision{DecisionID: "d", Slate: []event.Slot{{Position: 1, ItemID: "a"}, {Position: 2, ItemID: "b"}}}
	u := User{Wants: func(string) float64 { return .5 }, Stays: .5}
	browse := func(seed uint64) (all []event.Reward) {
		r := rand.New(rand.NewPCG(seed, 0))
		for range 20 {
			all = append(all, u.Browse(d, r)...)
		}
		return all
	}
	if !cmp.Equal(browse(1), browse(1)) || cmp.Equal(browse(1), browse(2)) {
		t.Error("the users are not those of the seed")
	}
}

// Who clicks nothing looked as far as their habit says, or, by the cascade, at everything.
func TestBrowseWithoutAClick(t *testing.T) {
	d := event.Decision{Slate: make([]event.Slot, 3)}
	for cascade, want := range map[bool][]float64{false: {1, .5, .25}, true: {1, 1, 1}} {
		user := User{Stays: .5, Cascade: cascade, Wants: func(string) float64 { return 0 }}
		for i, r := range user.Browse(d, rand.New(rand.NewPCG(1, 1))) {
			if r.Examination != want[i] || r.Value != 0 {
				t.Errorf("cascade %v, slot %d: %+v, want an examination of %v", cascade, i+1, r, want[i])
			}
		}
	}
}
