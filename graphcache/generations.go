package graphcache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/internal/event"
)

// Generations is the graph of which one generation is current. Everybody who reads or writes the graph goes through it,
// so that a graph that was built anew beside it can take its place from one moment to the next.
//
// The pointer is one hash, r2:generation:
//
//	current   number of the current generation; absent: 0
//	before    number of the one that was current before
//	last      the highest number that was ever given
//	N         of each other generation that may have keys: "building TOKEN", "old" or "kept"
//
// Batches ask for the pointer before they are applied, and snapshots with the first of their round trips; a snapshot that finds
// another generation than it knew begins again, and costs one round trip more. Nobody else has to be told of a switch: who
// wrote to the former generation finds in the watermarks of the current one where that stands (*event.BehindError), and
// goes on from there. Users are forgotten in all generations.
//
// Recommendations, the join's state, adapters and factors belong to no generation.
type Generations struct {
	first   *Cache // generation 0, by whose settings the others are made
	current atomic.Pointer[Cache]
}

// NewGenerations returns the graph kept by rdb. It does not talk to the server; Configure does.
func NewGenerations(rdb redis.UniversalClient, opt Options) (*Generations, error) {
	if opt.Generation != 0 {
		return nil, fmt.Errorf("graphcache: Generation is %d, but Generations chooses it: leave it out", opt.Generation)
	}
	c, err := New(rdb, opt)
	if err != nil {
		return nil, err
	}
	g := &Generations{first: c}
	g.current.Store(c)
	return g, nil
}

// Configure is Cache.Configure. Call it before the first use.
func (g *Generations) Configure(ctx context.Context) error {
	if err := g.first.Configure(ctx); err != nil {
		return err
	}
	c, err := g.Current(ctx)
	if err == nil {
		_, err = g.bounded(ctx, c, false)
	}
	return err
}

// Bound is how many edges a node keeps.
func (g *Generations) Bound() int { return g.current.Load().Bound() }

// Ping tells whether Redis answers.
func (g *Generations) Ping(ctx context.Context) error { return g.first.Ping(ctx) }

// Writable is Cache.Writable.
func (g *Generations) Writable(ctx context.Context) error { return g.first.Writable(ctx) }

func (c *Cache) pointerKey() string { return c.opt.Prefix + "generation" }

// Current asks which generation is current, in one round trip, and returns it.
func (g *Generations) Current(ctx context.Context) (*Cache, error) {
	n, err := pointed(g.first.rdb.HGet(ctx, g.first.pointerKey(), "current"))
	if err != nil {
		return nil, err
	}
	return g.enter(n), nil
}

// pointed is the generation that the pointer names.
func pointed(cmd *redis.StringCmd) (int, error) {
	n, err := cmd.Int()
	if errors.Is(err, redis.Nil) {
		return 0, nil
	}
	return n, wrap("read which generation of the graph is current", err)
}

// enter returns generation n, and remembers it as the one that was current last.
func (g *Generations) enter(n int) *Cache {
	for {
		c := g.current.Load()
		if c.opt.Generation == n {
			return c
		}
		if next := c.generation(n); g.current.CompareAndSwap(c, next) {
			return next
		}
	}
}

// Watermark is Cache.Watermark of the current generation.
func (g *Generations) Watermark(ctx context.Context, topic string, partition int) (lowest int64, ok bool, err error) {
	c, err := g.Current(ctx)
	if err != nil {
		return 0, false, err
	}
	return c.Watermark(ctx, topic, partition)
}

// SetWatermark is Cache.SetWatermark of the current generation.
func (g *Generations) SetWatermark(ctx context.Context, topic string, partition int, offset int64) error {
	return g.do(ctx, func(c *Cache) error { return c.SetWatermark(ctx, topic, partition, offset) })
}

func (g *Generations) do(ctx context.Context, f func(*Cache) error) error {
	c, err := g.Current(ctx)
	if err != nil {
		return err
	}
	return f(c)
}

// ApplyInteractions is Cache.ApplyInteractions of the current generation. What apps read of a user who has bought or hidden
// something is deleted: before that is in the graph, so that nothing is left of it by whoever is killed then, and after it,
// because a list may have been stored in between.
func (g *Generations) ApplyInteractions(ctx context.Context, span event.Span, batch []event.Interaction) error {
	users := g.settledBy(batch)
	c, err := g.unread(ctx, users)
	if err == nil {
		c, err = g.bounded(ctx, c, true)
	}
	if err == nil {
		err = c.ApplyInteractions(ctx, span, batch)
	}
	var behind *event.BehindError
	if errors.As(err, &behind) {
		g.unbounded(c)
	}
	if len(users) == 0 || err != nil && ctx.Err() == nil { // then the batch comes again
		return err
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeBackWithin) // on the way out it may be in the graph, too
	defer cancel()
	_, after := g.unread(last, users)
	return cmp.Or(err, after)
}

// ApplyItems is Cache.ApplyItems of the current generation.
func (g *Generations) ApplyItems(ctx context.Context, span event.Span, batch []event.Item) error {
	return g.do(ctx, func(c *Cache) error { return c.ApplyItems(ctx, span, batch) })
}

// ApplyUsers is Cache.ApplyUsers of the current generation, after the users were forgotten in all others: in one that is
// being built, which may have read the topic already, and in those that were not deleted yet.
func (g *Generations) ApplyUsers(ctx context.Context, span event.Span, batch []event.User) error {
	if len(batch) == 0 {
		return g.do(ctx, func(c *Cache) error { return c.ApplyUsers(ctx, span, batch) })
	}
	all, err := g.List(ctx)
	if err != nil {
		return err
	}
	for _, other := range all[1:] {
		if err := g.first.generation(other.Number).ForgetBeside(ctx, span, batch); err != nil {
			return err
		}
	}
	return g.enter(all[0].Number).ApplyUsers(ctx, span, batch)
}

// Snapshot is Cache.Snapshot of the generation that is current when the first round trip is answered.
func (g *Generations) Snapshot(ctx context.Context, q Query) (Snapshot, error) {
	for trips := 0; ; {
		c := g.current.Load()
		now := c.opt.Generation
		w := &walk{Cache: c, q: q, trips: trips}
		w.beside = func(b *batch) func() error {
			cmd := b.HGet(ctx, c.pointerKey(), "current")
			return func() (err error) {
				if now, err = pointed(cmd); err == nil && now != c.opt.Generation {
					err = errSwitched
				}
				return err
			}
		}
		s, err := w.walk(ctx)
		if !errors.Is(err, errSwitched) {
			return s, err
		}
		g.enter(now)
		trips = w.trips
	}
}

var errSwitched = errors.New("another generation is current")

// RefreshTrends is Cache.RefreshTrends of the current generation.
func (g *Generations) RefreshTrends(ctx context.Context) error {
	return g.do(ctx, func(c *Cache) error { return c.RefreshTrends(ctx) })
}

// RefreshFactors is Cache.RefreshFactors, for all generations.
func (g *Generations) RefreshFactors(ctx context.Context) error { return g.first.RefreshFactors(ctx) }

// History is Cache.History of the current generation.
func (g *Generations) History(ctx context.Context, user string, n int) (items []event.HistoryItem, newest event.Time, err error) {
	c, err := g.Current(ctx)
	if err != nil {
		return nil, 0, err
	}
	return c.History(ctx, user, n)
}

// Items is Cache.Items of the current generation.
func (g *Generations) Items(ctx context.Context, ids []string) (map[string]event.Item, error) {
	c, err := g.Current(ctx)
	if err != nil {
		return nil, err
	}
	return c.Items(ctx, ids)
}

// Stats is Cache.Stats of the current generation.
func (g *Generations) Stats(ctx context.Context) (Stats, error) {
	c, err := g.Current(ctx)
	if err != nil {
		return Stats{}, err
	}
	return c.Stats(ctx)
}

// Traces is Cache.Traces, of all generations.
func (g *Generations) Traces(ctx context.Context, user string) (Traces, error) {
	all, err := g.List(ctx)
	if err != nil {
		return Traces{}, err
	}
	var sum Traces
	for i, one := range all {
		t, err := g.first.generation(one.Number).tracesInGraph(ctx, user)
		if err != nil {
			return Traces{}, err
		}
		sum.Edges, sum.Settled, sum.Lists = sum.Edges+t.Edges, sum.Settled+t.Settled, sum.Lists+t.Lists
		sum.Later, sum.Newest = sum.Later+t.Later, max(sum.Newest, t.Newest)
		if i == 0 {
			sum.Before = t.Before
		}
	}
	return sum, g.first.tracesOutside(ctx, user, &sum)
}

// LoadJoin is Cache.LoadJoin; who is forgotten is told by the current generation.
func (g *Generations) LoadJoin(ctx context.Context, topic string, partition int, users []string, due event.Time, most int) (event.JoinState, error) {
	c, err := g.Current(ctx)
	if err != nil {
		return event.JoinState{}, err
	}
	return c.LoadJoin(ctx, topic, partition, users, due, most)
}

// CommitJoin is Cache.CommitJoin.
func (g *Generations) CommitJoin(ctx context.Context, topic string, partition int, version int64, head []byte, users []event.JoinUser) (bool, error) {
	return g.first.CommitJoin(ctx, topic, partition, version, head, users)
}

// What a generation that is not current can be.
const (
	Building = "building" // being filled, or left by who was
	Old      = "old"      // was current, and is to be deleted
	Kept     = "kept"     // was current, and is kept to go back to
)

// Generation is one graph under one prefix.
type Generation struct {
	Number int    `json:"generation"`
	State  string `json:"state"` // "current", or one of Building, Old, Kept
	token  string // of who builds it
}

// List returns all generations that may have keys, the current one first.
func (g *Generations) List(ctx context.Context) ([]Generation, error) {
	const doing = "read the generations of the graph"
	fields, err := g.first.rdb.HGetAll(ctx, g.first.pointerKey()).Result()
	if err != nil {
		return nil, wrap(doing, err)
	}
	all := []Generation{{State: "current"}}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if name == "last" || name == "before" {
			continue
		}
		number := name
		if name == "current" {
			number = fields[name]
		}
		n, err := strconv.Atoi(number)
		if err != nil {
			return nil, &lasting{fmt.Errorf("graphcache: %s: %s holds %s = %q, want numbers: another program wrote it", doing, g.first.pointerKey(), name, fields[name])}
		}
		if name == "current" {
			all[0].Number = n
			continue
		}
		state, token, _ := strings.Cut(fields[name], " ")
		all = append(all, Generation{n, state, token})
	}
	return all, nil
}
