package lm

import (
	"errors"
	"math"
	"testing"
)

func TestVerdict(t *testing.T) {
	for name, c := range map[string]struct {
		top    []Token
		odds   float64 // as a ratio
		stated bool
	}{
		"both":              {[]Token{p(" no", .6), p(" yes", .3), p("\n", .05)}, .5, true},
		"yes alone":         {[]Token{p(" yes", .9), p("\n", .05), p(" Yes", .01), p("no", .01)}, .9 / .01 * math.E, false},
		"no alone":          {[]Token{p(" no", .9), p("\n", .05), p("yes", .02)}, .02 / math.E / .9, false},
		"not far from even": {[]Token{p(" no", .01), p(" yes", .02), p("\n", .9)}, 2, true},
	} {
		odds, stated, mass, err := Verdict(c.top, 0)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if math.Abs(odds-math.Log(c.odds)) > 1e-9 || stated != c.stated {
			t.Errorf("%s: odds %g, stated %v; want %g, %v", name, math.Exp(odds), stated, c.odds, c.stated)
		}
		if want := math.Exp(c.top[0].Logprob); mass < want {
			t.Errorf("%s: mass %g, want at least %g", name, mass, want)
		}
	}
	for why, top := range map[string][]Token{
		"no tokens": nil, "neither": {p("\n", .9), p("Yes", .05)}, "hardly either": {p("\n", .9), p(" yes", .004), p(" no", .005)}, "NaN": {p(" yes", .5), {" no", math.NaN()}},
	} {
		if odds, _, _, err := Verdict(top, 0); !errors.Is(err, ErrNonsense) || odds != 0 {
			t.Errorf("%s: %g, %v", why, odds, err)
		}
	}
}
