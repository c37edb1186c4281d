package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"

	"github.com/r2rec/r2rec/internal/dataset"
	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/event"
)

// evalLeak says what becomes of cases whose answers a ranker was taught.
type evalLeak struct {
	Leaky bool `help:"Ask also about what weights or the adapter were learned from, which is refused otherwise. The figures are too good then, and say so." group:"Data"`
}

// untaught refuses cases whose answers a ranker was taught, unless they are to be asked: then it gives the time before which
// they are.
func (f evalLeak) untaught(p *process, s schooling, data *dataset.Dataset, cases []eval.Case) (event.Time, error) {
	early, why := s.taught(p, data, cases)
	switch {
	case early == 0:
		return 0, nil
	case !f.Leaky:
		return 0, misuse("%s; ask about what happened from then on (--since, or other --cases)%s, or ask all the same by --leaky", why, s.otherwise)
	}
	p.log.Warn("asked about what it was learned from: the figures are too good", "who", s.who, "learned_before", s.learned.Before.String(),
		"cases_before", early, "cases", len(cases))
	return s.learned.Before, nil
}

// schooling is what weights or an adapter were learned from.
type schooling struct {
	who       string // they are, for people
	learned   event.Past
	otherwise string     // how to do without them, for errors
	level     slog.Level // of the line that says that nothing is known of earlier cases
}

// taught counts the cases whose answers were learned, and says so: those that are earlier than what was learned reaches, if that
// are the very events that the cases are of. They are if the events before that time are the same; what came later does not
// count. Of other events that are later than a case nothing is known: a line of the log says it.
func (s schooling) taught(p *process, data *dataset.Dataset, cases []eval.Case) (early int, why string) {
	for _, k := range cases {
		if k.At < s.learned.Before {
			early++
		}
	}
	if early == 0 {
		return 0, ""
	}
	if event.PastOf(data.Interactions(), s.learned.Before) != s.learned {
		p.log.Log(context.Background(), s.level, "learned from other events: if these are a part or a later state of them, answers were learned", "who", s.who,
			"learned_before", s.learned.Before.String(), "cases_before", early, "cases", len(cases))
		return 0, ""
	}
	first := slices.MinFunc(cases, func(a, b eval.Case) int { return cmp.Compare(a.At, b.At) })
	return early, fmt.Sprintf("%s: learned from these very events before %s, and %d of the %d cases are earlier, the first, %q, at %s: their answers were learned",
		s.who, s.learned.Before, early, len(cases), first.ID, first.At)
}
