package graphcache

import (
	"slices"

	"github.com/r2rec/r2rec/internal/event"
)

// audience is an item's list, as a node, but its users go by their numbers in an index: of 25,000 edges of the candidates
// hardly one user in ten is known, and no id of any is shown.
type audience struct {
	edges  []contact
	degree int64
}

// contact is an edge to one of the known, or to a stranger.
type contact struct {
	score int64 // of the edge
	who   int32
}

// stranger is who is not in the index.
const stranger = -1

func (c contact) at() event.Time { return event.Time(c.score >> 3) }
func (c contact) positive() bool { return Kind(c.score & 7).Positive() }

func (a audience) lengths() (liked, all float64) {
	n := 0
	for i := range a.edges {
		if a.edges[i].positive() {
			n++
		}
	}
	return lengths(n, len(a.edges), a.degree)
}

func (a audience) has(who int32) bool {
	return slices.ContainsFunc(a.edges, func(c contact) bool { return c.who == who })
}

// without is the list without one of its edges; one that was not read is not missed.
func (a audience) without(who int32) audience {
	i := slices.IndexFunc(a.edges, func(c contact) bool { return c.who == who })
	if i < 0 {
		return a
	}
	return audience{edges: slices.Concat(a.edges[:i], a.edges[i+1:]), degree: a.degree - 1}
}

// audience is a list that was read with its ids.
func (x *index) audience(n node) audience {
	a := audience{edges: make([]contact, len(n.edges)), degree: n.degree}
	for i, e := range n.edges {
		a.edges[i] = contact{score: e.Score(), who: x.of(e.ID)}
	}
	return a
}
