package graphcache

import (
	"cmp"
	"context"
	"slices"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/redis/go-redis/v9"
)

// trends is what was popular when it was last read.
type trends struct {
	top    []string // by recent popularity, strongest first
	recent []string // all that was looked at, newest first
}

// trendPool is how many recently chosen items compete to be a trend.
const trendPool = 256

func (c *Cache) currentTrends() *trends {
	if t := c.trends.Load(); t != nil {
		return t
	}
	return &trends{}
}

// RefreshTrends reads, in two round trips, what is popular at the moment; Snapshot uses the last result. Call it before
// the first Snapshot and every few seconds.
func (c *Cache) RefreshTrends(ctx context.Context) error {
	recent := make([]*redis.ZSliceCmd, groups)
	if _, err := c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for g := range recent {
			recent[g] = p.ZRevRangeWithScores(ctx, c.recentKey(g), 0, -1)
		}
		return nil
	}); err != nil {
		return wrap("read recently chosen items", err)
	}
	var pool []Edge
	for _, cmd := range recent {
		for _, z := range cmd.Val() {
			pool = append(pool, edge(z.Member.(string), z.Score))
		}
	}
	slices.SortFunc(pool, func(a, b Edge) int { return cmp.Or(cmp.Compare(b.At, a.At), cmp.Compare(a.ID, b.ID)) })
	pool = pool[:min(trendPool, len(pool))]

	t := &trends{}
	if len(pool) > 0 {
		b := c.batch()
		reads := make([]*listRead, len(pool))
		for i, e := range pool {
			reads[i] = b.list(ctx, c.itemKey(e.ID), c.opt.Read.ItemList)
		}
		if _, err := b.send(ctx); err != nil {
			return wrap("read the lists of recently chosen items", err)
		}
		strength := make(map[string]float64, len(pool))
		for i, e := range pool {
			strength[e.ID] = recency(reads[i].node().edges, pool[0].At, c.opt.Read.HalfLife)
			t.recent = append(t.recent, e.ID)
		}
		t.top = slices.Clone(t.recent)
		slices.SortFunc(t.top, func(a, b string) int { return cmp.Or(cmp.Compare(strength[b], strength[a]), cmp.Compare(a, b)) })
	}
	c.trends.Store(t)
	return nil
}

// History returns the newest n items that speak for a user's taste, with their titles: a page's view of a user. newest is the
// time of the user's newest edge, whatever it says; 0: there is none.
func (c *Cache) History(ctx context.Context, user string, n int) (items []event.HistoryItem, newest event.Time, err error) {
	w := &walk{Cache: c, q: Query{User: user, History: n}}
	if err := w.readUser(ctx); err != nil {
		return nil, 0, err
	}
	if len(w.edges) > 0 {
		newest = w.edges[0].At
	}
	w.taste = newTaste(user, w.edges, nil, nil)
	if err := w.readCandidates(ctx); err != nil {
		return nil, 0, err
	}
	return w.snapshot().Context.History, newest, nil
}
