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
	want := [][Digits]byte{{0: 9, 4: 9, 5: 9}, {0: 9, 4: 5, 5: 0}, {0: 0, 4: 0, 5: 9}}
	if diff := cmp.Diff(want, digitsOf(c)); diff != "" {
		t.Error(diff)
	}
}

// TestEachDigitHasItsEvidence, in the order in which the heading explains them.
func TestEachDigitHasItsEvidence(t *testing.T) {
	for k, e := range []event.Evidence{
		{LikeMindedRecent: [3]float64{2: 1}}, {SimilarLast: 1}, {After: [3]float64{1}}, {Together: 1},
		{Recent: [3]float64{1: 1}}, {Popularity: 1}, {Ages: [4]float64{3: 1}}, {Category: 1},
	} {
		var want [Digits]byte
		want[k] = 9
		if got := digitsOf([]event.Candidate{{Evidence: e}})[0]; got != want {
			t.Errorf("%+v gives %v, want %v", e, got, want)
		}
	}
}

func TestDigitsOfNumbersThatNobodyCounted(t *testing.T) {
	c := []event.Candidate{{}, {}, {}, {}}
	for i, x := range []float64{math.NaN(), math.Inf(1), -1, 1} {
		c[i].Evidence.Together = x
	}
	for i, want := range []byte{0, 9, 0, 0} {
		if got := digitsOf(c)[i]; got != ([Digits]byte{3: want}) {
			t.Errorf("candidate %d has %v", i, got)
		}
	}
}
