package rltrainer

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/ope"
)

// What the log of adapters keeps of a gate are the decisions that it used, and what it found.
func TestGate(t *testing.T) {
	decisions, rewards := log(t, 900, .1, 12)
	held := Join(decisions, rewards, JoinOptions{Model: toyModel}).Rollouts
	better := gate(t, byCategory(.5), held, ope.GateOptions{Round: 2, Margin: .01, Detect: .1})
	f := better.Found
	if better.Verdict != ope.Passed || f.Round != 2 || f.Margin != .01 || f.Decisions != 900 || f.Users != 301 || f.DR.Low <= .01 || f.SNIPS.Low <= .01 || f.Needed == 0 ||
		f.Effective <= 0 || math.Abs(f.Alpha-ope.AlphaOf(ope.DefaultAlpha, 2)) > 1e-12 {
		t.Errorf("%+v", better)
	}
	if f.After != held[0].Decision.Timestamp-1 || f.Until != held[899].Decision.Timestamp {
		t.Errorf("it used decisions after %s until %s", f.After, f.Until)
	}
	if same := gate(t, byCategory(.1), held, ope.GateOptions{}); same.Verdict != ope.Refused || !strings.Contains(same.Reason, "it changes nothing") {
		t.Errorf("the model that served: %+v", same)
	}
	if worse := gate(t, byCategory(-.3), held, ope.GateOptions{Detect: .1}); worse.Verdict != ope.Refused || worse.Found.DR.High >= 0 {
		t.Errorf("a worse one: %+v", worse)
	}
	if _, err := Gate(nil, nil, ope.GateOptions{}); err == nil {
		t.Error("a gate without decisions gives no error")
	}
}

func TestCanariesAreWhatChangesMost(t *testing.T) {
	decisions, rewards := log(t, 1200, .1, 12)
	rollouts := Join(decisions, rewards, JoinOptions{Model: toyModel}).Rollouts
	canaries, err := Canaries(t.Context(), iot.Figures, rollouts, byCategory(0), byCategory(.4), 20, nil)
	must(t, err)
	if len(canaries) != 20 {
		t.Fatalf("%d canaries", len(canaries))
	}
	change := func(c int) (sum float64) {
		for i := range canaries[c].Base {
			sum += square(canaries[c].Adapter[i] - canaries[c].Base[i])
		}
		return sum
	}
	mean := 0.
	for _, r := range rollouts {
		p, err := iot.Build(iot.Figures, r.Decision.Context, r.Decision.Seed)
		must(t, err)
		a, _ := byCategory(0).Rank(t.Context(), p)
		b, _ := byCategory(.4).Rank(t.Context(), p)
		for i := range a {
			mean += square(b[i]-a[i]) / 1200
		}
	}
	if change(19) < mean || change(0) < change(19) {
		t.Errorf("the canaries change by %.2f to %.2f, the mean prompt by %.2f", change(0), change(19), mean)
	}
}

func outcomes() (all []CaseOutcome) {
	for seed := range uint64(2) {
		for i := range 200 {
			o := CaseOutcome{Set: "films", List: "test", Seed: seed, Case: string(rune('0' + i)), User: string(rune('a' + i%50)), Before: Answer{CrossEntropy: 2}, After: Answer{CrossEntropy: 1.75}}
			if i%2 == 0 {
				o.Before.First, o.After.First = 1, 1
			}
			if i%10 == 1 {
				o.After.First = 1
			}
			if i%4 == 3 {
				o.Set, o.List = "music", "test_hard"
			}
			all = append(all, o)
		}
	}
	return all
}

func TestCompare(t *testing.T) {
	found, err := Compare(outcomes(), 1)
	must(t, err)
	var names []string
	for _, d := range found {
		names = append(names, d.Of)
	}
	if !slices.Equal(names, []string{"all", "films test", "music test_hard"}) {
		t.Fatalf("%q", names)
	}
	all := found[0]
	if all.Outcomes != 400 || math.Abs(all.HR1.Mean-.1) > 1e-12 || math.Abs(all.CrossEntropy.Mean+.25) > 1e-12 || math.Abs(all.Before.HR1-.5) > 1e-12 || math.Abs(all.Before.CrossEntropy-2) > 1e-9 {
		t.Errorf("%+v", all)
	}
	if !(all.HR1.Low < .1 && all.HR1.High > .1) || all.CrossEntropy.Low != -.25 {
		t.Errorf("%+v", all)
	}
	if want := math.Exp(-1.75) - math.Exp(-2); math.Abs(all.Drawn.Mean-want) > 1e-9 {
		t.Errorf("drawn, slot 1 earns %v more, want %v", all.Drawn.Mean, want)
	}
	// Users of two sets are others, even under one name.
	if all.Users != found[1].Users+found[2].Users {
		t.Errorf("%d users, of the sets %d and %d", all.Users, found[1].Users, found[2].Users)
	}
	// Five runs of the same cases are no more users: the interval stays as wide.
	twice, err := Compare(outcomes()[:200], 1)
	must(t, err)
	if w, want := all.HR1.High-all.HR1.Low, twice[0].HR1.High-twice[0].HR1.Low; math.Abs(w-want) > 1e-9 {
		t.Errorf("two equal runs give an interval of %.4f, one of %.4f", w, want)
	}
	se := (all.HR1.High - all.HR1.Low) / 3.92
	if want := math.Pow(2.8*se/.01, 2); math.Abs(all.Needed/want-1) > .01 {
		t.Errorf("%.2f times as many users are needed, want %.2f", all.Needed, want)
	}
}

func TestCompareRefuses(t *testing.T) {
	for want, change := range map[string]func([]CaseOutcome) []CaseOutcome{
		"there are no outcomes":                 func([]CaseOutcome) []CaseOutcome { return nil },
		"outcome 3: set, user or case is empty": func(o []CaseOutcome) []CaseOutcome { o[2].User = ""; return o },
		"is there twice with seed 0":            func(o []CaseOutcome) []CaseOutcome { return append(o, o[7]) },
	} {
		if _, err := Compare(change(outcomes()), 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// The report is for machines: it names its figures, and leaves out the click model's values of every candidate.
func TestLearnedAsJSON(t *testing.T) {
	raw, err := json.Marshal(Learned{Dropped: map[Reason]int{NotShown: 3}, Clicks: Clicks{Q: [][]float64{{1, 2}}, Error: .5}, Steps: []Step{{}}})
	must(t, err)
	var fields map[string]any
	must(t, json.Unmarshal(raw, &fields))
	if strings.Contains(string(raw), `"Q"`) || !strings.Contains(string(raw), `"dropped":{"not shown":3}`) || !strings.Contains(string(raw), `"kl":0`) || !strings.Contains(string(raw), `"gradient":0`) {
		t.Errorf("%s", raw)
	}
	if _, there := fields["gate"]; there {
		t.Errorf("a gate that was not asked: %s", raw)
	}
}
