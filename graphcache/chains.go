package graphcache

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/r2rec/r2rec/internal/event"
)

// neighbour is a user who chose items that the target user chose.
type neighbour struct {
	id     string
	who    int32      // of the acquaintances
	shared []weighted // items, strongest first
	weight float64    // theirs, summed
}

// weighted is an item that counts so much.
type weighted struct {
	id     string
	weight float64
}

// byWeight puts the largest weight first.
func byWeight(a, b weighted) int {
	if a.weight != b.weight {
		return cmp.Compare(b.weight, a.weight)
	}
	return strings.Compare(a.id, b.id)
}

// link is what a neighbour chose and the user may be offered: a chain leads over it from each of the items they share.
type link struct {
	neighbour *neighbour
	item      string
	at        event.Time
	weight    float64 // of a chain, as a multiple of its shared item's
}

// minShared is how many items a neighbour shares with a user: two, so that each confirms the other. A user with a
// single item has no such neighbours; then one must do, and the chains are not closed.
func minShared(history int) int { return min(2, history) }

// idf of a node falls with its degree: what everybody chose tells little.
func idf(degree int64) float64 { return 1 / math.Log2(2+float64(degree)) }

// halved is 2^(-age/halfLife); an age below zero counts as zero.
func halved(age event.Time, halfLife time.Duration) float64 {
	return halve(float64(max(0, age)) / float64(halfLife.Milliseconds()))
}

// likeMinded finds the users behind the positive roots' lists and keeps the strongest: the weight is the sum, over the
// shared items, of the item's idf halved with the age of the root within the history.
func likeMinded(t *taste, r Read) []neighbour {
	var newest event.Time
	roots := 0
	for i := range t.roots {
		if t.roots[i].positive {
			newest = max(newest, t.roots[i].At)
			roots++
		}
	}
	weights := make([]float64, len(t.roots))
	for i := range t.roots {
		weights[i] = idf(t.roots[i].list.degree) * halved(newest-t.roots[i].At, r.HalfLife)
	}
	summed := make([]float64, len(t.met))
	for _, m := range t.meetings {
		if m.positive {
			summed[m.who] += weights[m.root]
		}
	}
	var kept []int32
	for k := range t.met {
		if shared := int(t.met[k].shared); shared > 0 && shared >= minShared(roots) {
			kept = append(kept, int32(k))
		}
	}
	slices.SortFunc(kept, func(a, b int32) int {
		x, y := &t.met[a], &t.met[b]
		return cmp.Or(cmp.Compare(y.shared, x.shared), cmp.Compare(summed[b], summed[a]), strings.Compare(x.id, y.id))
	})
	kept = kept[:min(r.Neighbours, len(kept))]
	ns := make([]neighbour, len(kept))
	for i, k := range kept {
		a := &t.met[k]
		n := neighbour{id: a.id, who: k, weight: summed[k], shared: make([]weighted, 0, int(a.shared))}
		for m := a.last; m >= 0; m = t.meetings[m].previous {
			if meet := &t.meetings[m]; meet.positive {
				n.shared = append(n.shared, weighted{t.roots[meet.root].ID, weights[meet.root]})
			}
		}
		slices.SortFunc(n.shared, byWeight)
		ns[i] = n
	}
	return ns
}

// findLinks returns the neighbours' choices among the items that may be offered. A chain user -> shared item -> neighbour
// -> item weighs what its shared item does for the neighbour, times the neighbour's share of taste (shared items over the
// root of its degree, as in a cosine), halved with the age of the neighbour's choice, counted from the newest choice of
// any neighbour.
func findLinks(ns []neighbour, lists []node, offered func(item string) bool, halfLife time.Duration) []link {
	newest, edges := event.Time(0), 0
	for _, l := range lists {
		edges += len(l.edges)
		for _, e := range l.edges {
			newest = max(newest, e.At)
		}
	}
	links := make([]link, 0, edges)
	for i := range ns {
		n := &ns[i]
		taste := float64(len(n.shared)) / math.Sqrt(float64(max(1, lists[i].degree)))
		for _, e := range lists[i].edges {
			if e.Kind.Positive() && offered(e.ID) {
				links = append(links, link{neighbour: n, item: e.ID, at: e.At, weight: taste * halved(newest-e.At, halfLife)})
			}
		}
	}
	return links
}

// chainWeights are, of every item that chains lead to, the summed weights of all of them.
func chainWeights(links []link) map[string]float64 {
	weights := make(map[string]float64, len(links)/2) // most items are reached more than once
	for _, l := range links {
		weights[l.item] += l.neighbour.weight * l.weight
	}
	return weights
}

// path is one chain over a link: from the link's neighbour's shared item of that place.
type path struct {
	*link
	place int
}

func (p path) via() *weighted { return &p.neighbour.shared[p.place] }

func (p path) chain() event.Chain {
	return event.Chain{
		Via: p.via().id, Neighbour: p.neighbour.id, ItemID: p.item, Shared: len(p.neighbour.shared), NeighbourAt: p.at,
		Weight: p.weight * p.via().weight,
	}
}

// byStrength puts the strongest chain first.
func byStrength(a, b path) int {
	if c := cmp.Compare(b.weight*b.via().weight, a.weight*a.via().weight); c != 0 {
		return c
	}
	return cmp.Or(strings.Compare(a.item, b.item), strings.Compare(a.neighbour.id, b.neighbour.id), strings.Compare(a.via().id, b.via().id))
}

// toEach is how many like-minded users' chains to a candidate come back at least, where there are as many: what a thought
// cites.
const toEach = 3

// strongest returns the n strongest chains over the links, and the strongest of each neighbour to every item that they do
// not show toEach neighbours of, strongest first; none where n is 0. There are about as many chains as links times shared
// items, tens of thousands for one user, so that no more of them are looked at than can be among the strongest.
func strongest(links []link, n int) []event.Chain {
	if n < 1 {
		return nil
	}
	best := make([]path, len(links)) // of each link
	for i := range links {
		best[i] = path{&links[i], 0}
	}
	slices.SortFunc(best, byStrength)
	var top []path // a link whose best is not among the n best of all has no other chain there
	for _, p := range best[:min(n, len(best))] {
		for place := range min(n, len(p.neighbour.shared)) {
			top = append(top, path{p.link, place})
		}
	}
	slices.SortFunc(top, byStrength)
	shown, neighbours := map[*link]bool{}, map[string]int{}
	var kept []event.Chain
	keep := func(p path) {
		kept = append(kept, p.chain())
		if !shown[p.link] {
			shown[p.link] = true
			neighbours[p.item]++
		}
	}
	for _, p := range top[:min(n, len(top))] {
		keep(p)
	}
	for _, p := range best {
		if neighbours[p.item] < toEach && !shown[p.link] {
			keep(p)
		}
	}
	return kept
}
