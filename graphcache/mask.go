package graphcache

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/r2rec/r2rec/internal/event"
)

// Without computes the snapshot's context again as if the choices that the chains end in had never been made: masking,
// by which a chain's contribution to a ranking is measured.
//
// A chain user > via > neighbour > item claims that the neighbour's choice speaks for the item, so it is the edge between
// neighbour and item that is taken away: from the item's list and from the neighbour's, which both count one edge less.
// All chains that end in that edge go with it, and their contribution is one and the same. The evidence of all
// candidates is counted anew, because the neighbour's shorter list makes the neighbour weigh more elsewhere; the
// strongest chains are chosen anew. What stays: user, history, the moment of asking, the candidates and their order, and the evidence by latent
// factors, although the edges may have been among many that these were learned from.
//
// The result is what a graph without these edges would have answered for the same candidates, but that a list which was
// trimmed, or not read to its end, gets no older edge in their place. Nothing is read again. Without any chain it is
// the snapshot's own context. A chain that the snapshot does not know is an error. The result shares history, titles
// and categories with the snapshot; calls may run at the same time.
func (s Snapshot) Without(chains ...event.Chain) (event.Context, error) {
	if len(chains) == 0 {
		return s.Context, nil
	}
	gone := make([]choice, len(chains))
	for i, ch := range chains {
		if s.basis == nil || !s.basis.knows(ch) {
			return event.Context{}, fmt.Errorf("graphcache: mask chain %q > %q > %q: this snapshot has no such chain; take one of its own", ch.Via, ch.Neighbour, ch.ItemID)
		}
		gone[i] = choice{ch.Neighbour, ch.ItemID}
	}
	return s.basis.without(s.Context, gone), nil
}

// ChainsTo returns every chain that leads to a candidate, strongest first, also those that are too weak for the context.
func (s Snapshot) ChainsTo(item string) []event.Chain {
	if s.basis == nil {
		return nil
	}
	b := s.basis
	links := b.links(b.lists, func(id string) bool { return id == item && b.offered[id] })
	n := 0
	for _, l := range links {
		n += len(l.neighbour.shared)
	}
	return strongest(links, n)
}

// choice is an edge between a user and an item.
type choice struct{ user, item string }

// basis is what a snapshot keeps of what was read, to compute its evidence again: a few hundred KB.
type basis struct {
	mu         sync.Mutex // of the taste, where what is gone is taken away
	taste      *taste
	neighbours []neighbour
	lists      []node          // theirs: the edges that chains end in, and the newest other one
	offered    map[string]bool // the candidates, and whether chains may lead to them
	pool       []pooled        // the candidates in their order
	others     event.Time      // newest edge of what the pool held beside them
	newest     event.Time      // of the whole pool
	at         event.Time
	chains     int
	halfLife   time.Duration
}

// newBasis keeps what masking needs of a walk. The links are those to the chosen candidates. What the walk read of
// others is not kept alive.
func (w *walk) newBasis(chosen []event.Candidate, links []link, newest, at event.Time) *basis {
	b := &basis{taste: w.taste, neighbours: w.neighbours, lists: make([]node, len(w.lists)), offered: make(map[string]bool, len(chosen)),
		pool: make([]pooled, len(chosen)), newest: newest, at: at, chains: w.q.Chains, halfLife: w.opt.Read.HalfLife}
	for _, c := range chosen {
		b.offered[c.ItemID] = !w.touched[c.ItemID]
	}
	place := make(map[string]int, len(w.pool))
	for i, p := range w.pool {
		place[p.id] = i
		if _, in := b.offered[p.id]; !in {
			b.others = max(b.others, newestOf(w.pool[i:i+1]))
		}
	}
	for i, c := range chosen {
		b.pool[i] = w.pool[place[c.ItemID]]
		b.pool[i].list.edges = slices.Clone(b.pool[i].list.edges)
	}
	for i, l := range w.lists {
		kept := &b.lists[i]
		kept.degree = l.degree
		if k := slices.IndexFunc(l.edges, func(e Edge) bool { return !e.Kind.Positive() || !b.offered[e.ID] }); k >= 0 {
			kept.edges = append(kept.edges, l.edges[k])
		}
		for ; len(links) > 0 && links[0].neighbour == &w.neighbours[i]; links = links[1:] { // they stand in the lists' order
			kept.edges = append(kept.edges, Edge{ID: links[0].item, At: links[0].at, Kind: Like})
		}
	}
	for i := range b.taste.roots {
		b.taste.roots[i].list.edges = nil
	}
	return b
}

// knows tells whether a chain is one of the snapshot's, shown or not.
func (b *basis) knows(ch event.Chain) bool {
	i := slices.IndexFunc(b.neighbours, func(n neighbour) bool { return n.id == ch.Neighbour })
	return i >= 0 && b.offered[ch.ItemID] &&
		slices.ContainsFunc(b.lists[i].edges, func(e Edge) bool { return e.ID == ch.ItemID && e.Kind.Positive() }) &&
		slices.ContainsFunc(b.neighbours[i].shared, func(via weighted) bool { return via.id == ch.Via })
}

// links to the offered candidates that the filter lets through, by lists that are the basis's or shorter.
func (b *basis) links(lists []node, filter func(item string) bool) []link {
	return findLinks(b.neighbours, lists, filter, b.halfLife)
}

// without is the context c without the edges.
func (b *basis) without(c event.Context, gone []choice) event.Context {
	b.mu.Lock()
	defer b.mu.Unlock()
	lists, pool := slices.Clone(b.lists), slices.Clone(b.pool)
	who := make([]int32, len(gone))
	for n, g := range gone {
		who[n] = b.taste.index.of(g.user)
		i := slices.IndexFunc(b.neighbours, func(n neighbour) bool { return n.id == g.user })
		if !lists[i].has(g.item) {
			continue // gone already: another chain over the same edge
		}
		lists[i] = lists[i].without(g.item)
		for k := range pool {
			if pool[k].id == g.item {
				pool[k].list = pool[k].list.without(who[n])
			}
		}
		if other := &b.taste.met[who[n]]; other.degree > 0 {
			other.degree--
			defer func() { other.degree++ }()
		}
	}
	newest, room := max(b.others, newestOf(pool)), b.taste.counting()
	links := b.links(lists, func(item string) bool { return b.offered[item] })
	weights := chainWeights(links)
	c.Candidates = slices.Clone(c.Candidates)
	for k := range pool {
		it := &c.Candidates[k]
		if newest != b.newest || slices.ContainsFunc(who, b.pool[k].list.has) {
			latent := it.Evidence.Latent // the user did what the user did
			it.Evidence = b.taste.evidence(room, pool[k].list, it.Categories, newest, b.at)
			it.Evidence.Latent = latent
		}
		it.Evidence.Chains = weights[it.ItemID]
	}
	c.Chains = strongest(links, b.chains)
	return c
}

func (n node) has(id string) bool {
	return slices.ContainsFunc(n.edges, func(e Edge) bool { return e.ID == id })
}

// without is the list without one of its edges; one that was not read is not missed.
func (n node) without(id string) node {
	i := slices.IndexFunc(n.edges, func(e Edge) bool { return e.ID == id })
	if i < 0 {
		return n
	}
	return node{edges: slices.Concat(n.edges[:i], n.edges[i+1:]), degree: n.degree - 1}
}
