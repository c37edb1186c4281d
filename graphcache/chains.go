package graphcache

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/r2rec/r2rec/internal/event"
)

// neighbour is a user who chose items that the target user chose.
type neighbour struct {
	id     string
	shared []sharedItem
	weight float64
}

type sharedItem struct {
	id     string
	weight float64
}

// minShared is how many items a neighbour shares with a user: two, so that each confirms the other. A user with a
// single item has no such neighbours; then one must do, and the chains are not closed.
func minShared(history int) int { return min(2, history) }

// idf of a node falls with its degree: what everybody chose tells little.
func idf(degree int64) float64 { return 1 / math.Log2(2+float64(degree)) }

// halved is 2^(-age/halfLife); an age below zero counts as zero.
func halved(age event.Time, halfLife time.Duration) float64 {
	return math.Exp2(-float64(max(0, age)) / float64(halfLife.Milliseconds()))
}

// likeMinded finds the users behind the positive roots' lists and keeps the strongest: the weight is the sum, over the
// shared items, of the item's idf halved with the age of the root within the history.
func likeMinded(t *taste, r Read) []neighbour {
	found := make([]neighbour, len(t.met))
	var newest event.Time
	for i := range t.roots {
		if t.roots[i].positive {
			newest = max(newest, t.roots[i].At)
		}
	}
	roots := 0
	for i := range t.roots {
		root := &t.roots[i]
		if !root.positive {
			continue
		}
		roots++
		weight := idf(root.list.degree) * halved(newest-root.At, r.HalfLife)
		for _, e := range root.list.edges {
			k, ok := t.index[e.ID]
			if !ok || !e.Kind.Positive() {
				continue
			}
			n := &found[k]
			n.id = e.ID
			n.shared = append(n.shared, sharedItem{root.ID, weight})
			n.weight += weight
		}
	}
	var ns []neighbour
	for _, n := range found {
		if n.id != "" && len(n.shared) >= minShared(roots) {
			ns = append(ns, n)
		}
	}
	slices.SortFunc(ns, func(a, b neighbour) int {
		return cmp.Or(cmp.Compare(len(b.shared), len(a.shared)), cmp.Compare(b.weight, a.weight), cmp.Compare(a.id, b.id))
	})
	return ns[:min(r.Neighbours, len(ns))]
}

// findChains returns every chain user -> shared item -> neighbour -> item over the neighbours' lists that ends in an
// item the user has not touched, strongest first. A chain weighs what its shared item does for the neighbour, times the
// neighbour's share of taste (shared items over the root of its degree, as in a cosine), halved with the age of the
// neighbour's choice, counted from the newest choice of any neighbour.
func findChains(ns []neighbour, lists []node, touched map[string]bool, halfLife time.Duration) []event.Chain {
	newest := event.Time(0)
	for _, l := range lists {
		for _, e := range l.edges {
			newest = max(newest, e.At)
		}
	}
	var chains []event.Chain
	for i, n := range ns {
		taste := float64(len(n.shared)) / math.Sqrt(float64(max(1, lists[i].degree)))
		for _, e := range lists[i].edges {
			if !e.Kind.Positive() || touched[e.ID] {
				continue
			}
			for _, s := range n.shared {
				chains = append(chains, event.Chain{
					Via: s.id, Neighbour: n.id, ItemID: e.ID, Shared: len(n.shared), NeighbourAt: e.At,
					Weight: s.weight * taste * halved(newest-e.At, halfLife),
				})
			}
		}
	}
	slices.SortFunc(chains, func(a, b event.Chain) int {
		return cmp.Or(cmp.Compare(b.Weight, a.Weight), cmp.Compare(a.ItemID, b.ItemID), cmp.Compare(a.Neighbour, b.Neighbour), cmp.Compare(a.Via, b.Via))
	})
	return chains
}

// strongest keeps n of the chains that support one of the items, but the strongest of every item in any case.
func strongest(chains []event.Chain, in map[string]bool, n int) []event.Chain {
	first := map[string]bool{}
	var kept []event.Chain
	for _, ch := range chains {
		if !in[ch.ItemID] {
			continue
		}
		if len(kept) < n || !first[ch.ItemID] {
			kept = append(kept, ch)
		}
		first[ch.ItemID] = true
	}
	return kept
}
