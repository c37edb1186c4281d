package iot

import (
	"math"

	"github.com/r2rec/r2rec/internal/event"
)

// MaxDigits is the most digits that stand at the end of a candidate's line, those of FullFigures.
const MaxDigits = 13

// figures are the values behind the digits of most versions, in the order in which the heading explains them. They were
// chosen on validation cases, for what each adds to the others (docs/prompt.md).
var figures = []func(*event.Evidence) float64{
	func(e *event.Evidence) float64 { return e.LikeMindedRecent[2] },
	func(e *event.Evidence) float64 { return e.SimilarLast },
	func(e *event.Evidence) float64 { return e.After[0] },
	func(e *event.Evidence) float64 { return e.Together },
	func(e *event.Evidence) float64 { return e.Recent[1] },
	func(e *event.Evidence) float64 { return float64(e.Popularity) },
	func(e *event.Evidence) float64 { return e.Ages[3] },
	func(e *event.Evidence) float64 { return e.Category },
}

// fullFigures are those of FullFigures, chosen likewise. The first is what chains are about: what one of them is worth is
// found by taking it away, and that has to move a digit. After them stands how the candidates were drawn.
var fullFigures = []func(*event.Evidence) float64{
	func(e *event.Evidence) float64 { return e.LikeMindedRecent[2] },
	func(e *event.Evidence) float64 { return e.SimilarLast },
	func(e *event.Evidence) float64 { return e.After[0] },
	func(e *event.Evidence) float64 { return e.Together },
	func(e *event.Evidence) float64 { return e.Near[1] },
	func(e *event.Evidence) float64 { return e.Recent[1] },
	func(e *event.Evidence) float64 { return e.RecentAny[1] },
	func(e *event.Evidence) float64 { return float64(e.Popularity) },
	func(e *event.Evidence) float64 { return e.Ages[3] },
	func(e *event.Evidence) float64 { return e.Category },
	func(e *event.Evidence) float64 { return e.Latent[0] },
	func(e *event.Evidence) float64 { return e.Latent[1] },
}

// digitsIn is how many digits a line of a version has.
func digitsIn(version int) int {
	if version == FullFigures {
		return len(fullFigures) + 1
	}
	return len(figures)
}

// digitsOf is each candidate's evidence relative to the largest of the list: floor(10 x / max), at most 9, and 0 where
// nobody has any. Relative digits transfer from catalogue to catalogue, absolute counts do not. The last digit of
// FullFigures is the same for all: how far they were drawn by popularity, 9 is wholly.
func digitsOf(version int, c event.Context) [][MaxDigits]byte {
	values := figures
	if version == FullFigures {
		values = fullFigures
	}
	digits := make([][MaxDigits]byte, len(c.Candidates))
	for k, value := range values {
		largest := 0.0
		for i := range c.Candidates {
			largest = max(largest, counted(value(&c.Candidates[i].Evidence)))
		}
		for i := range c.Candidates {
			if largest > 0 {
				digits[i][k] = byte(min(math.Floor(10*counted(value(&c.Candidates[i].Evidence))/largest), 9))
			}
		}
	}
	if version == FullFigures {
		drawn := byte(math.Round(9 * min(counted(c.Draw), 1)))
		for i := range digits {
			digits[i][len(fullFigures)] = drawn
		}
	}
	return digits
}

// counted is a value that somebody can have counted, and ten times of which is a number.
func counted(x float64) float64 {
	if !(x > 0) { // NaN as well
		return 0
	}
	return min(x, math.MaxFloat64/10)
}
