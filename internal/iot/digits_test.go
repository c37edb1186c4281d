package iot

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/r2rec/r2rec/internal/event"
)

func TestDigitsAreRelativeToTheLargest(t *testing.T) {
	c := []event.Candidate{
		{Evidence: event.Evidence{LikeMindedRecent: [3]float64{9, 9, 50}, Recent: [3]float64{0, .3, 9}, Popularity: 128}},
		{Evidence: event.Evidence{LikeMindedRecent: [3]float64{9, 9, 49.9}, Recent: [3]float64{9, .15, 9}, Popularity: 12}},
		{Evidence: event.Evidence{LikeMindedRecent: [3]float64{9, 9, 0}, Recent: [3]float64{9, .0299, 0}, Popularity: 127}},
	}
	want := [][MaxDigits]byte{{0: 9, 4: 9, 5: 9}, {0: 9, 4: 5, 5: 0}, {0: 0, 4: 0, 5: 9}}
	if diff := cmp.Diff(want, layouts[Words].digits(event.Context{Candidates: c})); diff != "" {
		t.Error(diff)
	}
}

// TestEachDigitHasItsEvidence, in the order in which the heading explains them.
func TestEachDigitHasItsEvidence(t *testing.T) {
	for k, e := range []event.Evidence{
		{LikeMindedRecent: [3]float64{2: 1}}, {SimilarLast: 1}, {After: [3]float64{1}}, {Together: 1},
		{Recent: [3]float64{1: 1}}, {Popularity: 1}, {Ages: [4]float64{3: 1}}, {Category: 1},
	} {
		checkDigit(t, Figures, k, e)
	}
	for k, e := range []event.Evidence{
		{LikeMindedRecent: [3]float64{2: 1}}, {SimilarLast: 1}, {After: [3]float64{1}}, {Together: 1}, {Near: [3]float64{1: 1}}, {Recent: [3]float64{1: 1}},
		{RecentAny: [3]float64{1: 1}}, {Popularity: 1}, {Ages: [4]float64{3: 1}}, {Category: 1}, {Latent: [2]float64{1, 0}}, {Latent: [2]float64{0, 1}},
	} {
		checkDigit(t, FullFigures, k, e)
	}
}

func checkDigit(t *testing.T, version, k int, e event.Evidence) {
	t.Helper()
	var want [MaxDigits]byte
	want[k] = 9
	if got := layouts[version].digits(event.Context{Candidates: []event.Candidate{{Evidence: e}}})[0]; got != want {
		t.Errorf("version %d: %+v gives %v, want %v", version, e, got, want)
	}
}

// The last digit of full figures says how the candidates were drawn; others say nothing of it.
func TestFullFiguresTellHowCandidatesWereDrawn(t *testing.T) {
	for draw, want := range map[float64]byte{0: 0, .05: 0, .06: 1, .5: 5, .94: 8, 1: 9, 3.5: 9, -2: 0, math.NaN(): 0, math.Inf(1): 9, math.Inf(-1): 0} {
		c := event.Context{Draw: draw, Candidates: make([]event.Candidate, 2)}
		for i, digits := range layouts[FullFigures].digits(c) {
			if digits != ([MaxDigits]byte{12: want}) {
				t.Errorf("drawn by %v: candidate %d has %v, want %d as the last", draw, i, digits, want)
			}
		}
		if got := layouts[Figures].digits(c)[1]; got != ([MaxDigits]byte{}) {
			t.Errorf("drawn by %v: figures are %v", draw, got)
		}
	}
}

func TestDigitsOfNumbersThatNobodyCounted(t *testing.T) {
	c := []event.Candidate{{}, {}, {}, {}}
	for i, x := range []float64{math.NaN(), math.Inf(1), -1, 1} {
		c[i].Evidence.Together = x
	}
	for i, want := range []byte{0, 9, 0, 0} {
		if got := layouts[Words].digits(event.Context{Candidates: c})[i]; got != ([MaxDigits]byte{3: want}) {
			t.Errorf("candidate %d has %v", i, got)
		}
	}
}
