package iot

import (
	"math"

	"github.com/r2rec/r2rec/internal/event"
)

// MaxDigits is the most digits that stand at the end of a candidate's line, those of FullFigures.
const MaxDigits = 13

// figure is a value of evidence that a digit tells of, and how the heading of the candidates calls it.
type figure struct {
	words string
	value func(*event.Evidence) float64
}

// figures are those of most versions, in the order of their digits. They were chosen on validation cases, for what each
// adds to the others (docs/prompt.md).
var figures = []figure{
	{"chosen by like-minded users", func(e *event.Evidence) float64 { return e.LikeMindedRecent[2] }},
	{"similar to the likes", func(e *event.Evidence) float64 { return e.SimilarLast }},
	{"next after them", func(e *event.Evidence) float64 { return e.After[0] }},
	{"together with them", func(e *event.Evidence) float64 { return e.Together }},
	{"recent", func(e *event.Evidence) float64 { return e.Recent[1] }},
	{"popular", func(e *event.Evidence) float64 { return float64(e.Popularity) }},
	{"long known", func(e *event.Evidence) float64 { return e.Ages[3] }},
	{"in liked categories", func(e *event.Evidence) float64 { return e.Category }},
}

// fullFigures are those of FullFigures, chosen likewise. The first is what chains are about: what one of them is worth is
// found by taking it away, and that has to move a digit.
var fullFigures = []figure{
	{"chosen by like-minded users", func(e *event.Evidence) float64 { return e.LikeMindedRecent[2] }},
	{"similar to the likes", func(e *event.Evidence) float64 { return e.SimilarLast }},
	{"next after them", func(e *event.Evidence) float64 { return e.After[0] }},
	{"together with them", func(e *event.Evidence) float64 { return e.Together }},
	{"near them", func(e *event.Evidence) float64 { return e.Near[1] }},
	{"recent", func(e *event.Evidence) float64 { return e.Recent[1] }},
	{"lately dealt with", func(e *event.Evidence) float64 { return e.RecentAny[1] }},
	{"popular", func(e *event.Evidence) float64 { return float64(e.Popularity) }},
	{"long known", func(e *event.Evidence) float64 { return e.Ages[3] }},
	{"in liked categories", func(e *event.Evidence) float64 { return e.Category }},
	{"by latent factors", func(e *event.Evidence) float64 { return e.Latent[0] }},
	{"by their direction", func(e *event.Evidence) float64 { return e.Latent[1] }},
}

// digits is each candidate's evidence relative to the largest of the list: floor(10 x / max), at most 9, and 0 where
// nobody has any. Relative digits transfer from catalogue to catalogue, absolute counts do not. One that tells how the
// candidates were drawn is the last, and the same for all: 9 is wholly by popularity.
func (l *layout) digits(c event.Context) [][MaxDigits]byte {
	digits := make([][MaxDigits]byte, len(c.Candidates))
	for k, f := range l.figures {
		largest := 0.0
		for i := range c.Candidates {
			largest = max(largest, counted(f.value(&c.Candidates[i].Evidence)))
		}
		for i := range c.Candidates {
			if largest > 0 {
				digits[i][k] = byte(min(math.Floor(10*counted(f.value(&c.Candidates[i].Evidence))/largest), 9))
			}
		}
	}
	if l.drawn {
		drawn := byte(math.Round(9 * min(counted(c.Draw), 1)))
		for i := range digits {
			digits[i][len(l.figures)] = drawn
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
