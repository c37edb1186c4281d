package graphcache

import (
	"context"
	"math/rand/v2"
	"slices"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/redis/go-redis/v9"
)

// Query asks for what a ranking for one user is made from.
type Query struct {
	User       string
	Candidates int        // wanted; fewer come back where the graph knows fewer
	Trending   int        // of them, from what is popular at the moment
	Explore    int        // of them, drawn at random from what was chosen lately
	Chains     int        // chains returned, the strongest, at least one for every candidate that has any
	History    int        // history items returned, newest first
	Rand       *rand.Rand // draws the exploration
}

// Snapshot is what the graph knew about a user at one moment, and what it cost to ask.
type Snapshot struct {
	Context    event.Context
	Positive   int // edges of the user that speak for an item, at most the bound
	NoEntry    int // candidates that were left out for want of a catalogue entry
	RoundTrips int // to Redis
}

// Snapshot reads a user's history, candidates, evidence and chains in at most four pipelined round trips:
//
//  1. the user's edges, purchases and hides;
//  2. the lists of the newest items the user chose: who else chose them;
//  3. the lists of the like-minded among those: what else they chose;
//  4. titles and lists of the best candidates so found, and of what is popular at the moment (see RefreshTrends).
//
// An item in the user's edges, bought or hidden, unavailable or without a catalogue entry is not a candidate.
func (c *Cache) Snapshot(ctx context.Context, q Query) (Snapshot, error) {
	w := &walk{Cache: c, q: q}
	for _, step := range []func(context.Context) error{w.readUser, w.readItems, w.readNeighbours, w.readCandidates} {
		if err := step(ctx); err != nil {
			return Snapshot{}, err
		}
	}
	return w.snapshot(), nil
}

// walk is one Snapshot on its way.
type walk struct {
	*Cache
	q          Query
	trips      int
	history    []Edge          // positive, newest first
	touched    map[string]bool // never to be offered
	via        map[string]node // by item of the history
	neighbours []neighbour     // strongest first
	chains     []event.Chain
	pool       []pooled
	noEntry    int
	titles     map[string]event.Item
}

// trip reads one batch; an empty one costs nothing.
func (w *walk) trip(ctx context.Context, what string, fill func(*batch)) error {
	b := w.batch()
	fill(b)
	trips, err := b.send(ctx)
	w.trips += trips
	return wrapf(err, "read %s for user %q", what, w.q.User)
}

func (w *walk) readUser(ctx context.Context) error {
	var edges *listRead
	var settled *redis.StringSliceCmd
	err := w.trip(ctx, "edges", func(b *batch) {
		edges = b.list(ctx, w.userKey(w.q.User), w.opt.Bound)
		settled = b.ZRange(ctx, w.settledKey(w.q.User), 0, -1)
	})
	if err != nil {
		return err
	}
	w.touched = map[string]bool{}
	for _, id := range settled.Val() {
		w.touched[id] = true
	}
	for _, e := range edges.node().edges {
		w.touched[e.ID] = true
		if e.Kind.Positive() {
			w.history = append(w.history, e)
		}
	}
	return nil
}

func (w *walk) readItems(ctx context.Context) error {
	roots := w.history[:min(w.opt.Read.History, len(w.history))]
	reads := make([]*listRead, len(roots))
	err := w.trip(ctx, "the lists of chosen items", func(b *batch) {
		for i, e := range roots {
			reads[i] = b.list(ctx, w.itemKey(e.ID), w.opt.Read.ItemList)
		}
	})
	if err != nil {
		return err
	}
	w.via = make(map[string]node, len(roots))
	for i, e := range roots {
		w.via[e.ID] = reads[i].node()
	}
	w.neighbours = likeMinded(w.q.User, roots, w.via, w.opt.Read)
	return nil
}

func (w *walk) readNeighbours(ctx context.Context) error {
	reads := make([]*listRead, len(w.neighbours))
	err := w.trip(ctx, "the lists of like-minded users", func(b *batch) {
		for i, n := range w.neighbours {
			reads[i] = b.list(ctx, w.userKey(n.id), w.opt.Read.NeighbourList)
		}
	})
	if err != nil {
		return err
	}
	lists := make([]node, len(reads))
	for i, r := range reads {
		lists[i] = r.node()
	}
	w.chains = findChains(w.neighbours, lists, w.touched, w.opt.Read.HalfLife)
	w.pool = w.fillPool()
	return nil
}

func (w *walk) readCandidates(ctx context.Context) error {
	ids := make([]string, 0, len(w.history)+len(w.pool))
	for _, e := range w.history {
		ids = append(ids, e.ID)
	}
	for _, c := range w.pool {
		ids = append(ids, c.id)
	}
	reads := make([]*listRead, len(w.pool))
	var docs itemReads
	err := w.trip(ctx, "candidates", func(b *batch) {
		for i, c := range w.pool {
			reads[i] = b.list(ctx, w.itemKey(c.id), w.opt.Read.ItemList)
		}
		docs = w.queueItems(ctx, b, ids)
	})
	if err != nil {
		return err
	}
	if w.titles, err = docs.items(); err != nil {
		return err
	}
	for i := range w.pool {
		w.pool[i].list = reads[i].node()
	}
	w.pool = slices.DeleteFunc(w.pool, func(c pooled) bool {
		it, ok := w.titles[c.id]
		if !ok {
			w.noEntry++
		}
		return !ok || !it.IsAvailable()
	})
	return nil
}

// snapshot chooses among the pool and puts together what was read.
func (w *walk) snapshot() Snapshot {
	chosen := w.choose()
	in := map[string]bool{}
	s := Snapshot{Positive: len(w.history), NoEntry: w.noEntry, RoundTrips: w.trips}
	for _, e := range w.history[:min(w.q.History, len(w.history))] {
		it := w.item(e.ID)
		s.Context.History = append(s.Context.History, event.HistoryItem{ItemID: e.ID, Title: it.Title, Categories: it.Categories, Timestamp: e.At})
	}
	mentions := categoryMentions(s.Context.History)
	newest := newestOf(chosen)
	for _, c := range chosen {
		in[c.id] = true
		it := w.item(c.id)
		s.Context.Candidates = append(s.Context.Candidates, event.Candidate{
			ItemID: c.id, Title: it.Title, Categories: it.Categories, Origin: c.origin,
			Evidence: event.Evidence{
				Chains: c.weight, Support: c.support,
				Recent:     [3]float64{1: recency(c.list.edges, newest, w.opt.Read.HalfLife)},
				Popularity: int(c.list.degree),
				Category:   overlap(mentions, it.Categories),
			},
		})
	}
	s.Context.Chains = strongest(w.chains, in, w.q.Chains)
	return s
}

// item as the catalogue has it; one that it does not know goes by its id.
func (w *walk) item(id string) event.Item {
	if it, ok := w.titles[id]; ok {
		return it
	}
	return event.Item{ItemID: id, Title: id}
}
