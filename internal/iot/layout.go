package iot

import "strings"

// layout is what a version of the prompt shows.
type layout struct {
	worded     bool // titles, likes and chains, as many as the bounds allow, before the budget takes more away
	likes      int
	chains     int
	categories int // of a candidate
	titleRunes int

	figures  []figure // which the digits of a candidate's line tell of
	factored bool     // latent factors are among them
	drawn    bool     // one more digit, the last, tells how the candidates were drawn

	thinks bool // a thought is asked for before the answer

	heading string // of the candidates: what their digits tell of
}

// A thought costs a model as much as the prompt that it rests on, for it is written token by token and learned in groups:
// so that prompt is short.
var layouts = laidOut(map[int]*layout{
	Words:       {worded: true, likes: 20, chains: 20, categories: maxCategories, titleRunes: maxTitleRunes, figures: figures},
	Figures:     {figures: figures},
	Thoughts:    {worded: true, likes: 10, chains: 12, titleRunes: 40, figures: figures, thinks: true},
	FullFigures: {figures: fullFigures, factored: true, drawn: true},
})

// laidOut gives the layouts their headings.
func laidOut(layouts map[int]*layout) map[int]*layout {
	for _, l := range layouts {
		words := make([]string, len(l.figures))
		for k, f := range l.figures {
			words[k] = f.words
		}
		l.heading = "Candidates, with digits that compare them, 9 is the most: " + strings.Join(words, ", ")
		if l.drawn {
			l.heading += "; and drawn by popularity"
		}
		l.heading += ":"
	}
	return layouts
}

// lineDigits is how many digits a candidate's line has.
func (l *layout) lineDigits() int {
	if l.drawn {
		return len(l.figures) + 1
	}
	return len(l.figures)
}

// Bounds of all versions.
const (
	maxCategories    = 3    // that are looked at of a candidate
	maxTitleRunes    = 60   // of a title
	maxCategoryRunes = 24   // of a category
	minTitleRunes    = 7    // what the budget leaves of a title at least
	maxNumber        = 9999 // of a chain, and of the items that it says are shared
)
