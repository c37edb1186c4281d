package graphcache

import (
	"cmp"
	"slices"
	"time"

	"github.com/r2rec/r2rec/internal/event"
)

// pooled is a candidate before the best are kept.
type pooled struct {
	id     string
	origin event.Origin
	weight float64 // of the chains that support it
	list   node
}

// fillPool gathers the items that chains lead to, the strongest first, then trends and a few drawn from what was chosen
// lately. It over-fills: some will be unavailable.
func (w *walk) fillPool() []pooled {
	weights := map[string]float64{}
	for _, ch := range w.chains {
		weights[ch.ItemID] += ch.Weight
	}
	pool := make([]pooled, 0, max(len(weights), len(w.q.Items)))
	if len(w.q.Items) > 0 {
		for _, id := range w.q.Items {
			pool = append(pool, pooled{id: id, weight: weights[id]})
		}
		return pool
	}
	for id, weight := range weights {
		pool = append(pool, pooled{id: id, origin: event.FromChains, weight: weight})
	}
	slices.SortFunc(pool, func(a, b pooled) int { return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.id, b.id)) })
	pool = pool[:min(w.opt.Read.Pool, len(pool))]

	in := make(map[string]bool, len(pool))
	for _, c := range pool {
		in[c.id] = true
	}
	add := func(id string, origin event.Origin) bool {
		if in[id] || w.touched[id] {
			return false
		}
		in[id] = true
		pool = append(pool, pooled{id: id, origin: origin})
		return true
	}
	t := w.currentTrends()
	trending := w.q.Candidates + 2*w.q.Trending - len(pool)/2 // enough to fill up where chains are few
	for _, id := range t.top {
		if trending <= 0 {
			break
		}
		if add(id, event.FromTrends) {
			trending--
		}
	}
	if w.q.Explore > 0 && w.q.Rand != nil {
		for drawn, i := 0, 0; i < len(t.recent) && drawn < 2*w.q.Explore; i++ {
			if add(t.recent[w.q.Rand.IntN(len(t.recent))], event.FromExplore) {
				drawn++
			}
		}
	}
	return pool
}

// choose takes the wanted number of each origin from the pool, in the pool's order, and fills up with whatever is left.
func (w *walk) choose() []pooled {
	quota := map[event.Origin]int{event.FromTrends: w.q.Trending, event.FromExplore: w.q.Explore}
	quota[event.FromChains] = w.q.Candidates - w.q.Trending - w.q.Explore
	chosen := make([]pooled, 0, w.q.Candidates)
	var rest []pooled
	for _, c := range w.pool {
		if quota[c.origin] > 0 {
			quota[c.origin]--
			chosen = append(chosen, c)
		} else {
			rest = append(rest, c)
		}
	}
	for _, c := range rest {
		if len(chosen) == w.q.Candidates {
			break
		}
		chosen = append(chosen, c)
	}
	return chosen
}

// newestOf is the time of the newest edge of any of the candidates: halving by age is only compared within a list, and
// counted from here it neither underflows nor depends on a clock.
func newestOf(cs []pooled) event.Time {
	t := event.Time(0)
	for _, c := range cs {
		for _, e := range c.list.edges {
			t = max(t, e.At)
		}
	}
	return t
}

// recency is the number of positive edges, each halved with its age.
func recency(edges []Edge, newest event.Time, halfLife time.Duration) float64 {
	var sum float64
	for _, e := range edges {
		if e.Kind.Positive() {
			sum += halved(newest-e.At, halfLife)
		}
	}
	return sum
}
