package fusion

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/event"
)

// valued are lists of 5 whose items are worth .1 + .5 of their share of the largest category.
func valued(n int, noise float64, seed uint64) (seen []Valued) {
	r := rand.New(rand.NewPCG(seed, 3))
	for range n {
		v := Valued{Item: r.IntN(5), List: List{Likes: r.IntN(30), Idle: 1000 * r.Float64()}}
		for range 5 {
			v.Evidence = append(v.Evidence, event.Evidence{Category: r.Float64(), Popularity: r.IntN(9), Similar: r.Float64()})
		}
		v.Value = worth(v.List, v.Item) + noise*r.NormFloat64()
		seen = append(seen, v)
	}
	return seen
}

func worth(l List, item int) float64 {
	top := 0.
	for _, e := range l.Evidence {
		top = max(top, e.Category)
	}
	return .1 + .5*l.Evidence[item].Category/top
}

func TestFitValuesFindsWhatItemsAreWorth(t *testing.T) {
	m, err := FitValues(valued(4000, .3, 1), ValueOptions{})
	if err != nil {
		t.Fatal(err)
	}
	worst := 0.
	for _, v := range valued(200, 0, 2) {
		for i, got := range m.Values(v.List) {
			worst = max(worst, math.Abs(got-worth(v.List, i)))
		}
	}
	if worst > .1 {
		t.Errorf("off by up to %.3f", worst)
	}
}

// The solution is where the penalised squares have no slope: the normal equations hold.
func TestFitValuesSolvesItsEquations(t *testing.T) {
	const penalty = 7
	seen := valued(300, .5, 3)
	m, err := FitValues(seen, ValueOptions{Penalty: penalty})
	if err != nil {
		t.Fatal(err)
	}
	var slope [columns]float64
	for k := range biasColumn {
		slope[k] = penalty * m.weights[k]
	}
	for _, v := range seen {
		rows := make([]float64, len(v.Evidence)*columns)
		encode(v.List, nil, rows)
		off := m.Values(v.List)[v.Item] - v.Value
		for k := range slope {
			slope[k] += off * rows[v.Item*columns+k]
		}
	}
	for k, s := range slope {
		if math.Abs(s) > 1e-8 {
			t.Errorf("column %d: the slope is %v", k, s)
		}
	}
}

// The stronger the penalty, the nearer all values are to the mean; and the mean itself is never drawn to 0.
func TestPenaltyDrawsValuesToTheirMean(t *testing.T) {
	seen := valued(500, .1, 4)
	mean := 0.
	for _, v := range seen {
		mean += v.Value / 500
	}
	m, err := FitValues(seen, ValueOptions{Penalty: 1e9})
	if err != nil {
		t.Fatal(err)
	}
	for i, got := range m.Values(seen[0].List) {
		if math.Abs(got-mean) > .001 {
			t.Errorf("candidate %d is worth %v, the mean is %v", i, got, mean)
		}
	}
	for i, got := range ConstantValue(mean).Values(seen[0].List) {
		if got != mean {
			t.Errorf("candidate %d is worth %v, not the constant %v", i, got, mean)
		}
	}
}

func TestFitValuesRefuses(t *testing.T) {
	for want, change := range map[string]func([]Valued, *ValueOptions) []Valued{
		"too few examples: 199 of 200 needed":          func(s []Valued, _ *ValueOptions) []Valued { return s[:199] },
		"list 3: item is 5, the list has 5":            func(s []Valued, _ *ValueOptions) []Valued { s[3].Item = 5; return s },
		"list 3: item is -1":                           func(s []Valued, _ *ValueOptions) []Valued { s[3].Item = -1; return s },
		"list 0: value is NaN":                         func(s []Valued, _ *ValueOptions) []Valued { s[0].Value = math.NaN(); return s },
		"list 9: category of candidate 2 is -1":        func(s []Valued, _ *ValueOptions) []Valued { s[9].Evidence[2].Category = -1; return s },
		"list 1: it has no candidates":                 func(s []Valued, _ *ValueOptions) []Valued { s[1].Evidence = nil; return s },
		"option Penalty is -1":                         func(s []Valued, o *ValueOptions) []Valued { o.Penalty = -1; return s },
		"option Penalty is NaN: give a number above 0": func(s []Valued, o *ValueOptions) []Valued { o.Penalty = math.NaN(); return s },
		"the values are too large":                     func(s []Valued, _ *ValueOptions) []Valued { s[0].Value = 1e300; return s },
	} {
		var o ValueOptions
		seen := change(valued(200, .1, 5), &o)
		if _, err := FitValues(seen, o); err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, ErrTooFew) != strings.Contains(want, "too few") {
			t.Errorf("%v; want %q", err, want)
		}
	}
}
