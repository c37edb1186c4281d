package fusion

import (
	"fmt"
	"math"
	"slices"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/parallel"
)

// Group is a kind of evidence that a fit can do without, to show what it is worth.
type Group string

// The groups. What a fit is told about how candidates were drawn belongs to none: it is no evidence.
const (
	Popularity Group = "popularity"  // how many have it, and chose it
	Recency    Group = "recency"     // how many chose it lately, and when
	LikeMinded Group = "like-minded" // who of those that are like the user has it
	Similar    Group = "similar"     // items with the same users
	Sequence   Group = "sequence"    // what people went on to, came from, and dealt with at once
	Category   Group = "category"    // shared categories
	Latent     Group = "latent"      // latent factors
	User       Group = "user"        // how much the user liked so far, and how long the user was idle
)

// Groups lists every group, in the order of the constants.
var Groups = []Group{Popularity, Recency, LikeMinded, Similar, Sequence, Category, Latent, User}

// form says how a candidate's value becomes columns of the network's input.
type form int

const (
	share form = iota // r = value over the list's largest: 2r - 1 and log((r + .01) / 1.01)/2 + 1; 0 and 0 where all are 0
	young             // minus log(1 + seconds), never: -25; less the list's largest, over 4
	old               // log(1 + seconds), never: 0; likewise
)

// neverChosen stands for minus the log of an age that does not exist: longer than any.
const neverChosen = -25

// floor of a share under the logarithm: a hundredth of the list's best is as good as nothing.
const floor = .01

// input is one value of the evidence.
type input struct {
	name  string // as in the JSON form of event.Evidence
	group Group
	form  form
	value func(*event.Evidence) float64
}

// width is how many columns an input takes.
func (in input) width() int {
	if in.form == share {
		return 2
	}
	return 1
}

// inputs lists the values that the network sees, in the order of its columns. Evidence.Chains is not among them: it is
// what candidates are found by and thoughts are made of, and its weights are tuned for that.
var inputs = []input{
	{"popularity", Popularity, share, func(e *event.Evidence) float64 { return float64(e.Popularity) }},
	{"liked", Popularity, share, func(e *event.Evidence) float64 { return e.Liked }},
	{"support", LikeMinded, share, func(e *event.Evidence) float64 { return float64(e.Support) }},
	{"recent[0]", Recency, share, func(e *event.Evidence) float64 { return e.Recent[0] }},
	{"recent[1]", Recency, share, func(e *event.Evidence) float64 { return e.Recent[1] }},
	{"recent[2]", Recency, share, func(e *event.Evidence) float64 { return e.Recent[2] }},
	{"recent_any[0]", Recency, share, func(e *event.Evidence) float64 { return e.RecentAny[0] }},
	{"recent_any[1]", Recency, share, func(e *event.Evidence) float64 { return e.RecentAny[1] }},
	{"recent_any[2]", Recency, share, func(e *event.Evidence) float64 { return e.RecentAny[2] }},
	{"ages[0]", Recency, young, func(e *event.Evidence) float64 { return e.Ages[0] }},
	{"ages[1]", Recency, young, func(e *event.Evidence) float64 { return e.Ages[1] }},
	{"ages[2]", Recency, young, func(e *event.Evidence) float64 { return e.Ages[2] }},
	{"ages[3]", Recency, old, func(e *event.Evidence) float64 { return e.Ages[3] }},
	{"like_minded", LikeMinded, share, func(e *event.Evidence) float64 { return e.LikeMinded }},
	{"like_minded_recent[0]", LikeMinded, share, func(e *event.Evidence) float64 { return e.LikeMindedRecent[0] }},
	{"like_minded_recent[1]", LikeMinded, share, func(e *event.Evidence) float64 { return e.LikeMindedRecent[1] }},
	{"like_minded_recent[2]", LikeMinded, share, func(e *event.Evidence) float64 { return e.LikeMindedRecent[2] }},
	{"interest", LikeMinded, share, func(e *event.Evidence) float64 { return e.Interest }},
	{"similar", Similar, share, func(e *event.Evidence) float64 { return e.Similar }},
	{"similar_last", Similar, share, func(e *event.Evidence) float64 { return e.SimilarLast }},
	{"similar_any", Similar, share, func(e *event.Evidence) float64 { return e.SimilarAny }},
	{"similar_recent", Similar, share, func(e *event.Evidence) float64 { return e.SimilarRecent }},
	{"lift", Similar, share, func(e *event.Evidence) float64 { return e.Lift }},
	{"best", Similar, share, func(e *event.Evidence) float64 { return e.Best }},
	{"after[0]", Sequence, share, func(e *event.Evidence) float64 { return e.After[0] }},
	{"after[1]", Sequence, share, func(e *event.Evidence) float64 { return e.After[1] }},
	{"after[2]", Sequence, share, func(e *event.Evidence) float64 { return e.After[2] }},
	{"before[0]", Sequence, share, func(e *event.Evidence) float64 { return e.Before[0] }},
	{"before[1]", Sequence, share, func(e *event.Evidence) float64 { return e.Before[1] }},
	{"before[2]", Sequence, share, func(e *event.Evidence) float64 { return e.Before[2] }},
	{"together", Sequence, share, func(e *event.Evidence) float64 { return e.Together }},
	{"near[0]", Sequence, share, func(e *event.Evidence) float64 { return e.Near[0] }},
	{"near[1]", Sequence, share, func(e *event.Evidence) float64 { return e.Near[1] }},
	{"near[2]", Sequence, share, func(e *event.Evidence) float64 { return e.Near[2] }},
	{"transition[0]", Sequence, share, func(e *event.Evidence) float64 { return e.Transition[0] }},
	{"transition[1]", Sequence, share, func(e *event.Evidence) float64 { return e.Transition[1] }},
	{"session[0]", Sequence, share, func(e *event.Evidence) float64 { return e.Session[0] }},
	{"session[1]", Sequence, share, func(e *event.Evidence) float64 { return e.Session[1] }},
	{"category", Category, share, func(e *event.Evidence) float64 { return e.Category }},
	{"latent[0]", Latent, share, func(e *event.Evidence) float64 { return e.Latent[0] }},
	{"latent[1]", Latent, share, func(e *event.Evidence) float64 { return e.Latent[1] }},
}

// hasLatent tells whether a list has evidence of latent factors.
func (l List) hasLatent() bool {
	return slices.ContainsFunc(l.Evidence, func(e event.Evidence) bool { return present(e.Latent[0]) > 0 || present(e.Latent[1]) > 0 })
}

// After the inputs come the columns that are the same for every candidate of a list: what is known about the list, and
// the constant 1, whose weights are the biases of the hidden layer.
const (
	perCandidate = 37*2 + 4 // columns of inputs
	likesColumn  = perCandidate
	idleColumn   = perCandidate + 1
	drawColumn   = perCandidate + 2
	biasColumn   = perCandidate + 3
	columns      = perCandidate + 4
)

// columnNames names every column but the constant, in order: what a stored model must have been fitted on.
func columnNames() []string {
	var names []string
	for _, in := range inputs {
		switch in.form {
		case share:
			names = append(names, in.name+" share", in.name+" log share")
		case young, old:
			names = append(names, in.name+" log")
		}
	}
	return append(names, "likes log", "idle log", "draw")
}

// encodedAtOnce is how many values are worth another goroutine: some 0.1 ms of work.
const encodedAtOnce = 2500

// encode writes the columns of every candidate of a list, row by row, into rows: zeros, columns of them a candidate. The
// columns of removed groups stay 0.
func encode(l List, removed map[Group]bool, rows []float64) {
	if len(l.Evidence) == 0 {
		return
	}
	parallel.Parts(len(inputs), max(1, encodedAtOnce/len(l.Evidence)), func(from, to int) {
		at := 0
		for i, in := range inputs[:to] {
			if i >= from && !removed[in.group] {
				in.encode(l.Evidence, rows[at:])
			}
			at += in.width()
		}
	})
	var likes, idle float64
	if !removed[User] {
		likes = math.Log1p(float64(max(l.Likes, 0))) - 3
		if seconds := present(l.Idle); seconds > 0 {
			idle = math.Log1p(seconds)/8 - 1
		}
	}
	draw := 0.0
	if !math.IsNaN(l.Draw) {
		draw = min(max(l.Draw, -1), 2)
	}
	for row := rows; len(row) > 0; row = row[columns:] {
		row[likesColumn], row[idleColumn], row[drawColumn], row[biasColumn] = likes, idle, draw, 1
	}
}

// encode writes one input of all candidates: its first column is the first of rows, the next candidate's is columns on.
func (in input) encode(evidence []event.Evidence, rows []float64) {
	top := math.Inf(-1)
	for i := range evidence {
		v := present(in.value(&evidence[i]))
		switch {
		case in.form == young && v > 0:
			v = -math.Log1p(v)
		case in.form == young:
			v = neverChosen
		case in.form == old:
			v = math.Log1p(v)
		}
		rows[i*columns] = v
		top = max(top, v)
	}
	for i := range evidence {
		row := rows[i*columns:]
		switch {
		case in.form != share:
			row[0] = (row[0] - top) / 4
		case top > 0:
			r := row[0] / top
			row[0], row[1] = 2*r-1, math.Log((r+floor)/(1+floor))/2+1
		}
	}
}

// present gives a value as evidence: what is not a positive finite number is absent, 0.
func present(v float64) float64 {
	if v > 0 && v <= math.MaxFloat64 {
		return v
	}
	return 0
}

// check names the first value of a list that no graph can have given.
func (l List) check() error {
	bad := func(v float64) bool { return v < 0 || math.IsNaN(v) || math.IsInf(v, 0) }
	switch {
	case len(l.Evidence) == 0:
		return fmt.Errorf("it has no candidates")
	case l.Likes < 0:
		return fmt.Errorf("likes is %d: send a number of 0 or more", l.Likes)
	case bad(l.Idle):
		return fmt.Errorf("idle is %v: send a finite number of seconds, 0 or more", l.Idle)
	case math.IsNaN(l.Draw) || math.IsInf(l.Draw, 0):
		return fmt.Errorf("draw is %v: send a finite number", l.Draw)
	}
	for i := range l.Evidence {
		for _, in := range inputs {
			if v := in.value(&l.Evidence[i]); bad(v) {
				return fmt.Errorf("%s of candidate %d is %v: send a finite number, 0 or more", in.name, i, v)
			}
		}
	}
	return nil
}
