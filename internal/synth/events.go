package synth

import (
	"cmp"
	"iter"
	"math/rand/v2"
	"slices"
	"sort"
	"strconv"

	"github.com/r2rec/r2rec/internal/event"
)

// Items are the catalogue's records, the first item first.
func (g *Graph) Items() iter.Seq[event.Item] {
	return func(yield func(event.Item) bool) {
		for i := range g.opt.Items {
			if !yield(g.Item(i)) {
				return
			}
		}
	}
}

// choice is one edge on its way: when, counted from the start, and whose how-manieth.
type choice struct {
	at         int64 // ms
	user, item uint32
	kind, nth  uint32
}

// Events are the interactions in the order of time. It can be ranged over more than once.
func (g *Graph) Events() iter.Seq[event.Interaction] {
	return func(yield func(event.Interaction) bool) {
		span := g.opt.Span.Milliseconds()
		windows := int64((g.opt.Edges + g.opt.Window - 1) / g.opt.Window)
		d := &drawer{Graph: g, seen: make([]uint32, g.opt.Items)}
		var found []choice
		for w := range windows {
			from, to := span*w/windows, span*(w+1)/windows
			found = found[:0]
			for user := range g.opt.Users {
				found = d.window(found, user, from, to)
			}
			slices.SortFunc(found, func(a, b choice) int {
				return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.user, b.user), cmp.Compare(a.nth, b.nth))
			})
			for _, c := range found {
				if !yield(g.event(c)) {
					return
				}
			}
		}
	}
}

func (g *Graph) event(c choice) event.Interaction {
	return event.Interaction{
		EventID: "s-" + strconv.FormatUint(uint64(c.user), 10) + "-" + strconv.FormatUint(uint64(c.nth), 10),
		UserID:  g.UserID(int(c.user)), ItemID: g.ItemID(int(c.item)), Type: g.opt.Mix[c.kind].Type,
		Timestamp: event.At(g.opt.Start) + event.Time(c.at),
	}
}

// drawer draws what users choose.
type drawer struct {
	*Graph
	seen  []uint32 // by item: the turn in which it was chosen last
	turns uint32
}

// window appends what a user chooses within a stretch of time.
func (d *drawer) window(found []choice, user int, from, to int64) []choice {
	r := d.draw(user)
	span := float64(d.opt.Span.Milliseconds())
	stay := span * (.1 + .4*r.Float64())
	came := (span - stay) * r.Float64()
	if came >= float64(to) || came+stay < float64(from) {
		return found
	}
	d.turns++
	n := d.Degree(user)
	kind := 0
	for nth := range n {
		if nth%stays == 0 {
			kind = d.popular(r, 0, d.opt.Items) / shelf
		}
		item := d.another(r, kind)
		at := int64(came + stay*(float64(nth)+r.Float64())/float64(n))
		type_ := sort.SearchFloat64s(d.kinds, r.Float64()*d.kinds[len(d.kinds)-1])
		switch {
		case at >= to:
			return found
		case at >= from:
			found = append(found, choice{at: at, user: uint32(user), item: uint32(item), kind: uint32(min(type_, len(d.kinds)-1)), nth: uint32(nth)})
		}
	}
	return found
}

// another item that the user of this turn has not chosen.
func (d *drawer) another(r *rand.Rand, kind int) int {
	const tries = 16
	item := 0
	for try := range tries {
		if try < tries/2 && r.Float64() < similar {
			item = d.popular(r, kind*shelf, min((kind+1)*shelf, d.opt.Items))
		} else {
			item = d.popular(r, 0, d.opt.Items)
		}
		if d.seen[item] != d.turns {
			break
		}
	}
	for d.seen[item] == d.turns { // the popular ones are gone: the next there is
		item = (item + 1) % d.opt.Items
	}
	d.seen[item] = d.turns
	return item
}

// popular draws one of the items in a stretch, by their weights.
func (d *drawer) popular(r *rand.Rand, from, to int) int {
	x := d.summed[from] + r.Float64()*(d.summed[to]-d.summed[from])
	return min(to-1, from+sort.SearchFloat64s(d.summed[from+1:to], x))
}
