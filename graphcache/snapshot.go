package graphcache

import (
	"context"
	"math/rand/v2"
	"slices"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/factors"
	"github.com/r2rec/r2rec/internal/parallel"
	"github.com/redis/go-redis/v9"
)

// Query asks for what a ranking for one user is made from.
type Query struct {
	User       string
	Items      []string   // candidates to give evidence of, in this order; none: candidates are to be found, see below
	Candidates int        // to find; fewer come back where the graph knows fewer
	Rank       Rank       // chooses the best of what is found; nil: the order of the chains' weights does
	Trending   int        // of them, from what is popular at the moment
	Explore    int        // of them, drawn at random from what was chosen lately
	Chains     int        // returned, the strongest, and those of the three strongest neighbours to every candidate; 0: none, and none in the evidence of Items
	History    int        // history items returned, newest first
	At         event.Time // the moment of asking, from which ages are counted; 0: the newest edge of the user and the candidates
	Rand       *rand.Rand // draws the exploration
}

// Rank gives one score a candidate of the context, larger is better.
type Rank func(event.Context) []float64

// Snapshot is what the graph knew about a user at one moment, and what it cost to ask.
type Snapshot struct {
	Context    event.Context
	NoEntry    int // candidates that were left out for want of a catalogue entry
	RoundTrips int // to Redis, one after the other

	basis *basis // nil: no chain can be masked, for none leads to a candidate
}

// Snapshot reads a user's history, candidates, evidence and chains in at most four pipelined round trips:
//
//  1. the user's edges, purchases and hides;
//  2. the lists of the newest items the user dealt with: who else did;
//  3. the lists of the like-minded among those, what else they chose;
//  4. titles and lists of the best candidates so found, and of what is popular at the moment (see RefreshTrends).
//
// How long the lists of others are is asked beside the last two, over a second connection.
//
// An item in the user's edges, bought or hidden, unavailable or without a catalogue entry is not a candidate. Where the
// query names its candidates, they are taken as they are, whatever the user or the catalogue says about them; only chains
// never lead to what the user has touched.
func (c *Cache) Snapshot(ctx context.Context, q Query) (Snapshot, error) {
	return (&walk{Cache: c, q: q}).walk(ctx)
}

func (w *walk) walk(ctx context.Context) (Snapshot, error) {
	w.space = w.pools.space()
	defer w.space.release() // what the snapshot keeps of the lists is copied
	if err := w.steps(ctx, w.readUser, w.readItems, w.readNeighbours, w.readCandidates); err != nil {
		return Snapshot{}, err
	}
	return w.snapshot(), nil
}

// steps are taken one after the other. At the end, failed or not, nothing is on its way any more.
func (w *walk) steps(ctx context.Context, steps ...func(context.Context) error) error {
	defer func() { w.degrees.end() }()
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// walk is one Snapshot on its way.
type walk struct {
	*Cache
	q          Query
	trips      int
	edges      []Edge          // the user's, newest first
	history    []Edge          // the positive ones among them
	touched    map[string]bool // never to be offered
	taste      *taste
	degrees    *degrees    // nil: of nobody
	neighbours []neighbour // strongest first
	lists      []node      // theirs
	links      []link
	pool       []pooled
	noEntry    int
	titles     map[string]event.Item
	// beside, where set, asks for something more in the first round trip, and returns what looks at the answer.
	beside func(*batch) func() error
	space  *space // of the lists; nil: they are kept
}

// trip reads one batch; an empty one costs nothing.
func (w *walk) trip(ctx context.Context, what string, fill func(*batch)) error {
	b := w.batch()
	b.space = w.space
	fill(b)
	trips, err := b.send(ctx)
	w.trips += trips
	return wrapf(err, "read %s for user %q", what, w.q.User)
}

func (w *walk) readUser(ctx context.Context) error {
	var edges *listRead
	var settled *redis.StringSliceCmd
	look := func() error { return nil }
	err := w.trip(ctx, "edges", func(b *batch) {
		if w.beside != nil {
			look = w.beside(b)
		}
		edges = b.list(ctx, w.userKey(w.q.User), w.opt.Bound)
		settled = b.ZRange(ctx, w.settledKey(w.q.User), 0, -1)
	})
	if err == nil {
		err = look()
	}
	if err != nil {
		return err
	}
	w.touched = map[string]bool{}
	for _, id := range settled.Val() {
		w.touched[id] = true
	}
	w.edges = edges.node().edges
	for _, e := range w.edges {
		w.touched[e.ID] = true
		if e.Kind.Positive() {
			w.history = append(w.history, e)
		}
	}
	return nil
}

func (w *walk) readItems(ctx context.Context) error {
	roots := rootsOf(w.edges, w.opt.Read.History)
	reads := make([]*listRead, len(roots))
	err := w.trip(ctx, "the lists of the history's items", func(b *batch) {
		for i, e := range roots {
			reads[i] = b.list(ctx, w.itemKey(e.ID), w.opt.Read.ItemList)
		}
	})
	if err != nil {
		return err
	}
	w.taste = newTaste(w.q.User, w.edges, roots, nodes(reads))
	return nil
}

func (w *walk) readNeighbours(ctx context.Context) error {
	if w.q.Chains > 0 || len(w.q.Items) == 0 {
		w.neighbours = likeMinded(w.taste, w.opt.Read)
	}
	w.askDegrees(ctx)
	reads := make([]*listRead, len(w.neighbours))
	err := w.trip(ctx, "the lists of like-minded users", func(b *batch) {
		for i, n := range w.neighbours {
			reads[i] = b.list(ctx, w.userKey(n.id), w.opt.Read.NeighbourList)
		}
	})
	if err != nil {
		return err
	}
	w.lists = nodes(reads)
	w.links = findLinks(w.neighbours, w.lists, w.offers(), w.opt.Read.HalfLife)
	w.pool = w.fillPool()
	return nil
}

// offers tells which items may be offered: the query's, or any, but none that the user has touched.
func (w *walk) offers() func(item string) bool {
	if len(w.q.Items) == 0 {
		return func(item string) bool { return !w.touched[item] }
	}
	asked := make(map[string]bool, len(w.q.Items))
	for _, id := range w.q.Items {
		asked[id] = !w.touched[id]
	}
	return func(item string) bool { return asked[item] }
}

func nodes(reads []*listRead) []node {
	ns := make([]node, len(reads))
	for i, r := range reads {
		ns[i] = r.node()
	}
	return ns
}

func (w *walk) readCandidates(ctx context.Context) error {
	// Of the history, categories count as far as lists were read, and titles as far as asked for.
	history := w.history[:min(max(w.taste.positive, w.q.History), len(w.history))]
	ids := make([]string, 0, len(history)+len(w.pool))
	for _, e := range history {
		ids = append(ids, e.ID)
	}
	for _, c := range w.pool {
		ids = append(ids, c.id)
	}
	reads := make([]*listRead, len(w.pool))
	var docs itemReads
	err := w.trip(ctx, "candidates", func(b *batch) {
		for i, c := range w.pool {
			reads[i] = b.audience(ctx, w.itemKey(c.id), w.opt.Read.ItemList, &w.taste.index)
		}
		docs = w.queueItems(ctx, b, ids)
	})
	if err != nil {
		return err
	}
	if w.titles, err = docs.items(); err != nil {
		return err
	}
	if err := w.degrees.take(w.lists); err != nil {
		return wrapf(err, "count the lists of others for user %q", w.q.User)
	}
	for i := range w.pool {
		w.pool[i].list = reads[i].heard
	}
	if len(w.q.Items) > 0 {
		return nil
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

// countAtOnce is how many candidates' evidence is worth another goroutine: some 0.2 ms of work.
const countAtOnce = 16

// snapshot puts together what was read and chooses among the pool.
func (w *walk) snapshot() Snapshot {
	s := Snapshot{NoEntry: w.noEntry, RoundTrips: w.trips}
	c := &s.Context
	c.Likes = len(w.history)
	for _, e := range w.history[:min(w.q.History, len(w.history))] {
		it := w.item(e.ID)
		c.History = append(c.History, event.HistoryItem{ItemID: e.ID, Title: it.Title, Categories: it.Categories, Timestamp: e.At})
	}
	newest := newestOf(w.pool)
	at := w.q.At
	if at == 0 {
		at = newest
		if len(w.edges) > 0 {
			at = max(at, w.edges[0].At)
		}
	}
	if len(w.edges) > 0 {
		c.Idle = seconds(at - w.edges[0].At)
	}
	w.taste.mention(func(id string) []string { return w.titles[id].Categories })
	if len(w.pool) > 0 {
		c.Candidates = make([]event.Candidate, len(w.pool))
	}
	var taste factors.Taste
	if len(w.pool) > 0 {
		taste = w.latent()
	}
	parallel.Parts(len(w.pool), countAtOnce, func(from, to int) {
		room := w.taste.counting()
		for i, p := range w.pool[from:to] {
			it := w.item(p.id)
			e := w.taste.evidence(room, p.list, it.Categories, newest, at)
			e.Chains = p.weight
			e.Latent[0], e.Latent[1] = taste.Of(p.id)
			c.Candidates[from+i] = event.Candidate{ItemID: p.id, Title: it.Title, Categories: it.Categories, Origin: p.origin, Evidence: e}
		}
	})
	if len(w.q.Items) == 0 {
		c.Candidates = w.q.choose(*c)
	}
	in := map[string]bool{}
	for _, candidate := range c.Candidates {
		in[candidate.ItemID] = true
	}
	links := slices.DeleteFunc(w.links, func(l link) bool { return !in[l.item] })
	c.Chains = strongest(links, w.q.Chains)
	if len(c.Chains) > 0 {
		s.basis = w.newBasis(c.Candidates, links, newest, at)
	}
	return s
}

// item as the catalogue has it; one that it does not know goes by its id.
func (w *walk) item(id string) event.Item {
	if it, ok := w.titles[id]; ok {
		return it
	}
	return event.Item{ItemID: id, Title: id}
}
