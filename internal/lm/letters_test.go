package lm

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/r2rec/r2rec/internal/iot"
)

func p(text string, probability float64) Token { return Token{text, math.Log(probability)} }

func TestLettersSumTheirVariants(t *testing.T) {
	shares, stated, mass, err := Letters([]Token{
		p(" B", .3), p("B", .1), p("B.", .05), p("(B)", .05), // .5
		p("A", .2), p("**A**", .05), // .25
		p("b", .1), p("Be", .05), p(" ", .02), p("", .01), p("D", .01), p("\ufffd", .001), p("Ｂ", .001),
	}, 3, 0)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(mass-.75) > 1e-9 || !slices.Equal(stated, []bool{true, true, false}) {
		t.Errorf("mass %g, want .75; stated %v", mass, stated)
	}
	missing := .001 / math.E // e times below the least likely token
	for i, want := range []float64{.25, .5, missing} {
		if got := math.Exp(shares[i]); math.Abs(got-want/(.75+missing)) > 1e-9 {
			t.Errorf("letter %c has share %g, want %g", 'A'+i, got, want/(.75+missing))
		}
	}
}

// A letter that was learned is one token, and it is known which letters were stated.
func TestLearnedLettersAreOneToken(t *testing.T) {
	shares, stated, mass, err := LearnedLetters([]Token{p(" B", .3), p("B", .1), p("(B)", .05), p(" A", .2), p(" A.", .05), p("  C", .1), p(" c", .05), p(" D", .01), p(" The", .005)}, 3, 0)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(mass-.5) > 1e-9 || !slices.Equal(stated, []bool{true, true, false}) {
		t.Errorf("mass %g, stated %v", mass, stated)
	}
	missing := .005 / math.E
	for i, want := range []float64{.2, .3, missing} {
		if got := math.Exp(shares[i]); math.Abs(got-want/(.5+missing)) > 1e-9 {
			t.Errorf("letter %c has share %g, want %g", 'A'+i, got, want/(.5+missing))
		}
	}
	if _, _, _, err := LearnedLetters([]Token{p("A", .5), p("B", .4)}, 2, 0); !errors.Is(err, ErrNonsense) {
		t.Errorf("letters that nobody taught: %v", err)
	}
}

func TestLettersRefusesWhatRanksNothing(t *testing.T) {
	for why, top := range map[string][]Token{
		"no tokens":              nil,
		"no letters":             {p("The", .9), p("a", .1)},
		"letters out of range":   {p("X", .9)},
		"too little mass":        {p("The", .9), p("A", .0099)},
		"NaN":                    {p("A", .5), {"B", math.NaN()}},
		"NaN of another token":   {p("A", .5), {"the", math.NaN()}},
		"infinitely unlikely":    {p("A", .5), {"B", math.Inf(-1)}},
		"infinitely likely":      {{"A", math.Inf(1)}},
		"more than certain":      {{"A", .5}},
		"more than one together": {p("A", .9), p("B", .2)},
	} {
		if shares, _, _, err := Letters(top, 20, 0); !errors.Is(err, ErrNonsense) || shares != nil {
			t.Errorf("%s: %v, %v", why, shares, err)
		}
	}
	for _, n := range []int{0, -1, 21} {
		if _, _, _, err := Letters([]Token{p("A", 1)}, n, 0); err == nil {
			t.Errorf("%d letters: no error", n)
		}
	}
	if _, _, _, err := Letters([]Token{p("A", .02)}, 1, .03); !errors.Is(err, ErrNonsense) {
		t.Errorf("a mass below the one asked for: %v", err)
	}
}

// TestNonsenseNeedsNoImport: the method by which packages that do not import this one know the error.
func TestNonsenseNeedsNoImport(t *testing.T) {
	_, _, _, err := Letters(nil, 1, 0)
	var n interface{ Nonsense() bool }
	if !errors.As(fmt.Errorf("rank: %w", err), &n) || !n.Nonsense() {
		t.Errorf("%v does not say that it is nonsense", err)
	}
	if errors.As(fmt.Errorf("rank: %w", ErrUnavailable), &n) && n.Nonsense() {
		t.Error("an unavailable model is taken for nonsense")
	}
}

// TestLettersAreSharesWhateverComesIn draws tokens of all kinds: the result is a distribution or an error.
func TestLettersAreSharesWhateverComesIn(t *testing.T) {
	text := rapid.OneOf(rapid.SampledFrom([]string{"A", " A", "B", "B.", "T", "the", ""}), rapid.String())
	logprob := rapid.OneOf(rapid.Float64Range(-30, 0), rapid.Float64Range(-4, -2), rapid.Float64())
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, MaxLetters).Draw(t, "letters")
		top := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Token {
			return Token{text.Draw(t, "text"), logprob.Draw(t, "logprob")}
		}), 0, 20).Draw(t, "top")
		shares, _, mass, err := Letters(top, n, 0)
		if err != nil {
			return
		}
		checkShares(t, shares, n)
		if mass < DefaultMinMass || mass > 1+2*tolerance {
			t.Fatalf("mass %g", mass)
		}
	})
}

type failer interface {
	Helper()
	Fatalf(string, ...any)
}

func checkShares(t failer, shares []float64, n int) {
	t.Helper()
	if len(shares) != n {
		t.Fatalf("%d shares for %d letters", len(shares), n)
	}
	sum := 0.
	for _, s := range shares {
		if math.IsNaN(s) || math.IsInf(s, 0) || s > 1e-9 {
			t.Fatalf("share %g in %v", s, shares)
		}
		sum += math.Exp(s)
	}
	if math.Abs(sum-1) > 1e-9 {
		t.Fatalf("shares sum to %g", sum)
	}
}

// TestCalibrateTakesTheBiasAway: a model that answers A to everything ranks all the same, and what it says beyond its
// bias is what is left.
func TestCalibrateTakesTheBiasAway(t *testing.T) {
	bias := []float64{math.Log(.9), math.Log(.06), math.Log(.04)}
	same, err := Calibrate(Reading{Shares: bias}, Reading{Shares: bias})
	if err != nil {
		t.Fatal(err)
	}
	checkShares(t, same, 3)
	for _, s := range same {
		if math.Abs(s-math.Log(1./3)) > 1e-9 {
			t.Errorf("bias is left: %v", same)
		}
	}
	hint := slices.Clone(bias)
	hint[2] += 1
	got, err := Calibrate(Reading{Shares: hint}, Reading{Shares: bias})
	if err != nil {
		t.Fatal(err)
	}
	checkShares(t, got, 3)
	if math.Abs(got[2]-got[0]-1) > 1e-9 || math.Abs(got[1]-got[0]) > 1e-9 {
		t.Errorf("hint of 1 for the third: %v", got)
	}
	if hint[0] != bias[0] {
		t.Error("the given shares were changed")
	}
}

// A server states its likeliest tokens. What it left out of the answer is never ranked before what it stated, whatever the
// floors of the two lists are; what it left out of the prior alone is known to have been raised.
func TestCalibrateRanksWhatTheServerStated(t *testing.T) {
	read := func(last float64, logprobs ...float64) Reading { // from A on; 0: not stated
		top := []Token{{"the", last}}
		for i, l := range logprobs {
			if l < 0 {
				top = append(top, Token{" " + string(rune('A'+i)), l})
			}
		}
		shares, stated, _, err := Letters(top, len(logprobs), 0)
		if err != nil {
			t.Fatal(err)
		}
		return Reading{shares, stated}
	}
	for why, c := range map[string]struct {
		answer, prior Reading
		want          []float64 // of each letter, less B's
	}{
		"stated nowhere, and a prior that goes deeper":   {read(-6, -2, -.3, -5, 0), read(-12, -.1, -3, -4, 0), []float64{-4.6, 0, -3.7, -4.6}},
		"stated nowhere, and an answer that goes deeper": {read(-12, -2, -.3, -5, 0), read(-6, -.1, -3, -4, 0), []float64{-4.6, 0, -3.7, -4.6}},
		"unlikely already, and not in the answer":        {read(-6, -2, -.3, -5, 0), read(-12, -.1, -3, -4, -11), []float64{-4.6, 0, -3.7, -4.6}},
		"likely before, and not in the answer":           {read(-6, -2, -.3, -5, 0), read(-12, -1, -3, -4, -1.5), []float64{-3.7, 0, -3.7, -8.2}},
		"in the answer alone":                            {read(-12, -2, -.3, -5, -4), read(-6, -.1, -3, -4, 0), []float64{-4.6, 0, -3.7, .3}},
	} {
		got, err := Calibrate(c.answer, c.prior)
		if err != nil {
			t.Fatal(err)
		}
		checkShares(t, got, len(c.want))
		for i, want := range c.want {
			if math.Abs(got[i]-got[1]-want) > 1e-9 {
				t.Errorf("%s: %c has %.3f less B's, want %.3f", why, 'A'+i, got[i]-got[1], want)
			}
		}
	}
	none := Reading{[]float64{-1, -1}, []bool{false, false}}
	if got, err := Calibrate(none, Reading{Shares: []float64{-1, -2}}); !errors.Is(err, ErrNonsense) {
		t.Errorf("an answer that states no letter: %v, %v", got, err)
	}
}

func TestCalibrateRefusesWhatItCannot(t *testing.T) {
	for _, c := range [][2][]float64{{{-1}, {-1, -1}}, {nil, nil}, {{math.NaN()}, {0}}, {{math.Inf(-1)}, {math.Inf(-1)}}, {{-1}, {math.Inf(-1)}}} {
		if got, err := Calibrate(Reading{Shares: c[0]}, Reading{Shares: c[1]}); err == nil {
			t.Errorf("Calibrate(%v, %v) = %v", c[0], c[1], got)
		}
	}
	one, two := Reading{Shares: []float64{-1}}, Reading{[]float64{-1}, []bool{true, true}}
	for _, c := range [][2]Reading{{one, two}, {two, one}} {
		if got, err := Calibrate(c[0], c[1]); err == nil {
			t.Errorf("one letter, two of which are told to be stated or not: %v", got)
		}
	}
}

func TestByCandidate(t *testing.T) {
	prompt := iot.Prompt{Letters: []byte("CAB")}
	got, err := ByCandidate([]float64{-1, -2, -3}, prompt) // A, B, C
	if err != nil || !slices.Equal(got, []float64{-3, -1, -2}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := ByCandidate([]float64{-1, -2}, prompt); !errors.Is(err, ErrNonsense) {
		t.Errorf("a share too few: %v", err)
	}
	if _, err := ByCandidate([]float64{-1, -2, -3}, iot.Prompt{Letters: []byte("CAZ")}); err == nil {
		t.Error("a letter that no line has: no error")
	}
}
