// Package graphcache keeps the user-item graph in Redis: it applies interactions event by event and answers, for one
// user, with everything a ranking is made from.
//
// # The graph
//
// Every user and every item is a node; its edges are one sorted set. The score of a member is a max-register: the
// event's time in milliseconds times 8 plus its Kind, written with ZADD GT and trimmed to the newest Bound. So the
// graph is a join-semilattice: any multiset of events, in any order, in any batches, duplicated or replayed, gives the
// same sorted sets. Negative edges, and those that speak neither for the item nor against it, stay in the list and take a
// slot; were they kept apart, trimming a removal would bring the like back. Purchases and hides also stand in a longer
// register a user, so that what was bought or hidden long ago is not offered again.
//
// # Keys
//
// A node lives in one of 64 groups, g = FNV-1a(id) mod 64, and every key of a group carries the hash tag {g}: the
// keys of a group share a Redis Cluster slot and change in one transaction. With the default prefix:
//
//	r2:{g}:u:USER    ZSET item -> score        the user's edges, newest Bound
//	r2:{g}:i:ITEM    ZSET user -> score        the item's edges, newest Bound
//	r2:{g}:x:USER    ZSET item -> score        purchases and hides, newest SettledBound
//	r2:{g}:recent    ZSET item -> score        items of this group chosen last, newest RecentBound
//	r2:{g}:items     HASH item -> JSON         the catalogue
//	r2:{g}:wm        HASH topic/partition -> n everything below offset n is applied in this group
//	r2:{g}:forget    HASH keyed hash of a user -> forget_before
//	r2:{g}:erasing   HASH topic/partition -> token:steps, how far a batch of forgets has come, gone when it is done; beside:topic/partition, the same of who keeps no watermarks here; and epoch -> how many have begun
//	r2:bounds        HASH generation -> "Bound MaxNew" of its lists
//	r2:generation    HASH which graph is current, and which others have keys, see Generations
//	r2:{join:TOPIC/P}:head, :users, :due, :asked
//	                 HASH, HASH user -> JSON, ZSET user -> ms, SET of users: what waits for its reward, see LoadJoin; expire after a week unused
//	r2:factors       HASH which latent factors serve, and which others have parts, see PublishFactors
//	r2:{factors:K}:NAME
//	                 STRING part K of 64 of them
//	r2:{0}:probe     ZSET within one transaction, to try what the server can
//
// They are private to this package: apps read what the reasoner publishes. A graph that was rebuilt is a later
// generation N >= 1, and the keys of its groups begin with r2:N:{g}: instead of r2:{g}:; all others stay as they are.
// No other graph in the same Redis may have a prefix that continues this one with a number.
//
// # Watermarks
//
// Each batch of a Kafka partition advances the watermark of all 64 groups, each in the transaction that changes the
// group's data, and only if the stored value is not below the batch's start. A stored value below it means that Redis
// lost acknowledged writes (restored, flushed, failed over); Apply then returns *event.BehindError with the offset to
// go back to. The data of such a batch may already be in: being a join, it does no harm.
//
// Nothing here reads Kafka, a clock or a model.
package graphcache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Options of a Cache. The zero value of a field takes the default its comment states.
type Options struct {
	// Prefix of every key. Default "r2:".
	Prefix string
	// Generation of the graph, see Generations. Default 0: the first.
	Generation int
	// Bound is how many edges a node keeps, the newest. Default: 128 where Redis keeps sorted sets of 256 entries
	// compact (zset-max-listpack-entries), else 96; see Configure. All writers of a graph must use the same: Generations
	// keeps to what a graph was begun with, and refuses another one that was chosen.
	Bound int
	// Anew tells Generations that this process begins graphs and writes to no other, so that the bounds of what is there are
	// not its own.
	Anew bool
	// MaxNew is how many edges one command may add to a node before it is trimmed: Bound + MaxNew entries must fit
	// the compact encoding. Default 128, or 32 where Bound fell back to 96.
	MaxNew int
	// SettledBound is how many purchases and hides of a user are remembered. Default 1000.
	SettledBound int
	// RecentBound is how many recently chosen items each of the 64 groups remembers, for trends. Default 32.
	RecentBound int
	// Policy turns interactions into edges. Default DefaultPolicy.
	Policy Policy
	// ForgetKey keys the hash under which forgotten users are remembered, so that the tombstones do not tell who was
	// forgotten. All writers of a graph must use the same. Default empty: hashed, but guessable from a list of ids.
	ForgetKey []byte
	// Read bounds what one Snapshot reads. Default DefaultRead.
	Read Read
	// Lists says by which command lists are read. Default ListsAuto: ranges, until Configure finds that DUMP works.
	Lists Lists
	// Logger takes notices about the server's configuration. Default: discarded.
	Logger *slog.Logger
}

const (
	groups = 64

	compactBound, compactMaxNew = 128, 128 // zset-max-listpack-entries >= 256
	tightBound, tightMaxNew     = 96, 32   // Redis' default of 128
	maxMember                   = 64       // bytes; a longer member makes Redis leave the compact encoding
)

// Cache is the graph in one Redis. It is safe for concurrent use.
type Cache struct {
	rdb redis.UniversalClient
	opt Options
	// graph is what the keys of the groups begin with: Prefix, and the number of a later generation.
	graph string
	// bounded tells that the bounds are those of the graph, see Generations.
	bounded bool
	// chosen tells that the bound of lists is not the default's: Configure leaves it.
	chosen bool
	// trends as last read by RefreshTrends.
	trends atomic.Pointer[trends]
	// factors as last read by RefreshFactors, or given to UseFactors: the same in all generations.
	factors *atomic.Pointer[named]
	// pools are for the lists of snapshots, see space.
	pools pools
	// dumps tells whether lists are read by DUMP.
	dumps atomic.Bool
	// convoys are batches of interactions that travel together.
	convoys convoys
	// calm tells that nobody was ever forgotten in this graph, when last looked.
	calm atomic.Bool
	// between, where set, is called before each transaction, which then travels alone; tests cause faults there.
	between func()
}

// New returns the graph kept by rdb. It does not talk to the server; Configure does.
func New(rdb redis.UniversalClient, opt Options) (*Cache, error) {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	if opt.Prefix == "" {
		opt.Prefix = "r2:"
	}
	chosen := opt.Bound != 0 || opt.MaxNew != 0
	if !chosen {
		opt.MaxNew = compactMaxNew
	}
	def(&opt.Bound, compactBound)
	def(&opt.MaxNew, opt.Bound)
	def(&opt.SettledBound, 1000)
	def(&opt.RecentBound, 32)
	if opt.Policy == (Policy{}) {
		opt.Policy = DefaultPolicy
	}
	if opt.Read == (Read{}) {
		opt.Read = DefaultRead
	}
	if opt.Lists == "" {
		opt.Lists = ListsAuto
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.Generation < 0 {
		return nil, fmt.Errorf("graphcache: Generation is %d, must be at least 0", opt.Generation)
	}
	for name, v := range map[string]int{"Bound": opt.Bound, "MaxNew": opt.MaxNew, "SettledBound": opt.SettledBound, "RecentBound": opt.RecentBound} {
		if v < 1 {
			return nil, fmt.Errorf("graphcache: %s is %d, must be at least 1", name, v)
		}
	}
	if err := opt.Policy.validate(); err != nil {
		return nil, err
	}
	if err := opt.Read.validate(); err != nil {
		return nil, err
	}
	if err := opt.Lists.validate(); err != nil {
		return nil, err
	}
	c := &Cache{rdb: rdb, opt: opt, graph: graphPrefix(opt), chosen: chosen, factors: &atomic.Pointer[named]{}}
	c.dumps.Store(opt.Lists == ListsDump)
	return c, nil
}

// generation is another generation of the graph, on the same server and by the same settings as c has found them.
func (c *Cache) generation(n int) *Cache {
	opt := c.opt
	opt.Generation = n
	d := &Cache{rdb: c.rdb, opt: opt, graph: graphPrefix(opt), chosen: c.chosen, between: c.between, factors: c.factors}
	d.dumps.Store(c.dumps.Load())
	d.trends.Store(c.trends.Load())
	return d
}

// Configure fits the cache to the server; call it before the first use.
//
// It asks how long a sorted set may grow before it leaves the compact encoding, for good and at seven times the memory,
// and falls back to a smaller Bound where 256 entries are too many. A server that does not answer CONFIG (managed
// services) counts as unconfigured. A Bound that was chosen stays, and is only warned about.
//
// It tries whether lists can be read by DUMP, with a key that exists within one transaction only; and it refuses a server
// that, once full, would drop lists by itself (maxmemory-policy allkeys-...).
func (c *Cache) Configure(ctx context.Context) error {
	if err := c.checkEviction(ctx); err != nil {
		return err
	}
	if err := c.configureLists(ctx); err != nil {
		return err
	}
	entries, err := c.limit(ctx, "zset-max-listpack-entries")
	if err != nil {
		return err
	}
	member, err := c.limit(ctx, "zset-max-listpack-value")
	if err != nil {
		return err
	}
	if member >= 0 && member < maxMember {
		c.opt.Logger.Warn("redis keeps short members only in its compact encoding: long ids will cost several times the memory",
			"setting", "zset-max-listpack-value", "value", member, "needed", maxMember)
	}
	needed := c.opt.Bound + c.opt.MaxNew
	if entries >= needed {
		return nil
	}
	if c.chosen {
		c.opt.Logger.Warn("redis may leave its compact encoding for lists of the chosen bound: they would cost several times the memory",
			"setting", "zset-max-listpack-entries", "value", entries, "needed", needed, "edges", c.opt.Bound)
		return nil
	}
	c.opt.Bound, c.opt.MaxNew = tightBound, tightMaxNew
	c.opt.Logger.Warn("a node keeps fewer edges because redis would leave its compact encoding",
		"setting", "zset-max-listpack-entries", "value", entries, "needed", needed, "edges", tightBound)
	return nil
}

// settings reads the settings that a pattern names of every server, of a Cluster's masters each, in any order; an empty map:
// that server does not tell.
func (c *Cache) settings(ctx context.Context, pattern string) (all []map[string]string, err error) {
	var mu sync.Mutex
	err = c.masters(ctx, func(ctx context.Context, rdb redis.UniversalClient) error {
		m, err := rdb.ConfigGet(ctx, pattern).Result()
		var reply redis.Error
		if errors.As(err, &reply) && !retriableReply(reply.Error()) {
			err = nil
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, m)
		return err
	})
	return all, wrap("read redis setting "+pattern, err)
}

// setting reads one setting of every server; empty: that server does not tell.
func (c *Cache) setting(ctx context.Context, name string) (values []string, err error) {
	all, err := c.settings(ctx, name)
	for _, m := range all {
		values = append(values, m[name])
	}
	return values, err
}

// limit reads an integer setting, the lowest of all servers; -1: one does not tell.
func (c *Cache) limit(ctx context.Context, name string) (int, error) {
	values, err := c.setting(ctx, name)
	if err != nil {
		return 0, err
	}
	lowest := math.MaxInt
	for _, s := range values {
		n, err := strconv.Atoi(s)
		if err != nil {
			return -1, nil
		}
		lowest = min(lowest, n)
	}
	return lowest, nil
}

// masters calls f with each server that holds a part of the graph, on a Cluster side by side.
func (c *Cache) masters(ctx context.Context, f func(ctx context.Context, rdb redis.UniversalClient) error) error {
	return EachMaster(ctx, c.rdb, f)
}

// Generation is the number of this generation of the graph.
func (c *Cache) Generation() int { return c.opt.Generation }

// Bound is how many edges a node keeps.
func (c *Cache) Bound() int { return c.opt.Bound }

// Ping tells whether Redis answers, of a Cluster every master.
func (c *Cache) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return wrap("ping redis", c.masters(ctx, func(ctx context.Context, rdb redis.UniversalClient) error { return rdb.Ping(ctx).Err() }))
}
