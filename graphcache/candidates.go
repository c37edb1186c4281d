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
	list   audience
}

// fillPool gathers the items that chains lead to, the strongest first, then trends and a few drawn from what was chosen
// lately. It over-fills: some will be unavailable.
func (w *walk) fillPool() []pooled {
	weights := chainWeights(w.links)
	var pool []pooled
	if len(w.q.Items) > 0 {
		for _, id := range w.q.Items {
			pool = append(pool, pooled{id: id, weight: weights[id]})
		}
		return pool
	}
	most := max(w.opt.Read.Pool, w.q.Candidates)
	for _, s := range heaviest(weights, most) {
		pool = append(pool, pooled{id: s.id, origin: event.FromChains, weight: s.weight})
	}

	in := make(map[string]bool, len(pool))
	for _, c := range pool {
		in[c.id] = true
	}
	add := func(id string, origin event.Origin) bool {
		if in[id] || w.touched[id] {
			return false
		}
		in[id] = true
		pool = append(pool, pooled{id: id, origin: origin, weight: weights[id]})
		return true
	}
	t := w.currentTrends()
	trending := 2*w.q.Trending + max(0, w.q.Candidates-len(pool)/2) // enough to fill up where chains are few
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

// heaviest are the n items of the largest weights, largest first.
func heaviest(weights map[string]float64, n int) []weighted {
	all := make([]weighted, 0, len(weights))
	for id, weight := range weights {
		all = append(all, weighted{id, weight})
	}
	return first(all, n, byWeight)
}

// choose takes the wanted number of each origin from the context's candidates, the best first, and fills up with
// whatever is left.
func (q Query) choose(c event.Context) []event.Candidate {
	pool := c.Candidates
	order := make([]int, len(pool))
	for i := range order {
		order[i] = i
	}
	if q.Rank != nil && len(pool) > 0 {
		scores := q.Rank(c)
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
	}
	quota := map[event.Origin]int{event.FromTrends: q.Trending, event.FromExplore: q.Explore}
	quota[event.FromChains] = q.Candidates - q.Trending - q.Explore
	chosen := make([]event.Candidate, 0, max(0, q.Candidates))
	var rest []int
	for _, i := range order {
		if quota[pool[i].Origin] > 0 && len(chosen) < q.Candidates {
			quota[pool[i].Origin]--
			chosen = append(chosen, pool[i])
		} else {
			rest = append(rest, i)
		}
	}
	for _, i := range rest[:min(max(0, q.Candidates-len(chosen)), len(rest))] {
		chosen = append(chosen, pool[i])
	}
	return chosen
}

// newestOf is the time of the newest edge of any of the candidates: halving by age is only compared within a list, and
// counted from here it neither underflows nor depends on a clock.
func newestOf(cs []pooled) event.Time {
	t := event.Time(0)
	for _, c := range cs {
		for i := range c.list.edges {
			t = max(t, c.list.edges[i].at())
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
