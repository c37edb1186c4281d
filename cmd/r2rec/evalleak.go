package main

import (
	"cmp"
	"slices"

	"github.com/r2rec/r2rec/internal/dataset"
	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/event"
)

// evalLeak says what becomes of cases whose answers a ranker was taught.
type evalLeak struct {
	Leaky bool `help:"Ask also about what weights or the adapter were learned from, which is refused otherwise. The figures are too good then, and say so." group:"Data"`
}

// untaught finds out whether a ranker was learned from the very events that the cases are of, and refuses cases that are earlier
// than the last of these, unless they are to be asked: then it gives the time before which they are. What it was learned from
// and how to do without are for the error. Of other data, learned says nothing about these.
//
// It is the same data if the events before that time are the same; what came later does not count.
func (f evalLeak) untaught(p *process, taught string, learned event.Past, otherwise string, data *dataset.Dataset, cases []eval.Case) (event.Time, error) {
	early := 0
	for _, k := range cases {
		if k.At < learned.Before {
			early++
		}
	}
	if early == 0 || event.PastOf(data.Interactions(), learned.Before) != learned {
		return 0, nil
	}
	first := slices.MinFunc(cases, func(a, b eval.Case) int { return cmp.Compare(a.At, b.At) })
	if !f.Leaky {
		return 0, misuse("%s: learned from these very events before %s, and %d of the %d cases are earlier, the first, %q, at %s: their answers were learned; "+
			"ask about what happened from then on (--since, or other --cases)%s, or ask all the same by --leaky",
			taught, learned.Before, early, len(cases), first.ID, first.At, otherwise)
	}
	p.log.Warn("asked about what it was learned from: the figures are too good", "who", taught, "learned_before", learned.Before.String(),
		"cases_before", early, "cases", len(cases), "first_case", first.At.String())
	return learned.Before, nil
}
