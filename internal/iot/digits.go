package iot

import (
	"math"

	"github.com/r2rec/r2rec/internal/event"
)

// Digits is how many digits stand at the end of a candidate's line.
const Digits = 8

// evidence are the values behind a candidate's digits, in the order in which candidatesHeading explains them. They were
// chosen on validation cases, for what each adds to the others (docs/prompt.md).
func evidence(e event.Evidence) [Digits]float64 {
	return [Digits]float64{
		e.LikeMindedRecent[2], e.SimilarLast, e.After[0], e.Together,
		e.Recent[1], float64(e.Popularity), e.Ages[3], e.Category,
	}
}

// digitsOf is each candidate's evidence relative to the largest of the list: floor(10 x / max), at most 9, and 0 where
// nobody has any. Relative digits transfer from catalogue to catalogue, absolute counts do not.
func digitsOf(candidates []event.Candidate) [][Digits]byte {
	values := make([][Digits]float64, len(candidates))
	var largest [Digits]float64
	for i, c := range candidates {
		values[i] = evidence(c.Evidence)
		for k, x := range values[i] {
			if !(x > 0) { // NaN as well
				x = 0
			}
			values[i][k] = min(x, math.MaxFloat64/10)
			largest[k] = max(largest[k], values[i][k])
		}
	}
	digits := make([][Digits]byte, len(candidates))
	for i := range values {
		for k, x := range values[i] {
			if largest[k] > 0 {
				digits[i][k] = byte(min(math.Floor(10*x/largest[k]), 9))
			}
		}
	}
	return digits
}
