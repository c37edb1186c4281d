package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/synth"
	"github.com/redis/go-redis/v9"
)

type benchMemoryCommand struct {
	Users int    `help:"Users of the graph." default:"50000" group:"Graph"`
	Items int    `help:"Items of the graph." default:"5000" group:"Graph"`
	Edges int    `help:"Interactions, each of another pair of a user and an item; power laws on both sides." default:"1000000" group:"Graph"`
	Seed  uint64 `help:"Seed of the graph." default:"1" group:"Graph"`

	Redis string `help:"A Redis without any key, in all of its databases, that nobody else uses meanwhile. Given here alone, not in the environment or --config." explicit:"" default:"redis://127.0.0.1:6379/0" group:"Redis"`

	JSON bool `help:"Figures for machines, one JSON object a line." group:"Results"`
}

// Help is shown by r2rec bench memory --help.
func (benchMemoryCommand) Help() string {
	return `Measures what the graph takes in Redis beside what cannot be saved: sorted sets with the same members and scores, as
many of them and as long, whose keys are the bare ids. Everything that the graph keeps counts: the lists, the registers
of purchases and hides, what was chosen lately, watermarks. The catalogue is stated apart. What is counted is
used_memory, so the Redis has to be empty; it is empty again afterwards.

  redis-server --port 6400 --save '' --zset-max-listpack-entries 256 &
  r2rec bench memory --redis redis://127.0.0.1:6400

Three graphs are measured that differ in their ids: numbers, 12 characters, and 36 as a UUID has.`
}

// Run measures.
func (c benchMemoryCommand) Run(p *process) (err error) {
	if _, err := (synthFlags{Users: c.Users, Items: c.Items, Edges: c.Edges, Seed: c.Seed, IDs: synth.Numbers}).open(); err != nil { // before anything is reached
		return err
	}
	shown := &stages{p: p}
	defer shown.close()
	rf := redisFlags{Redis: c.Redis, Prefix: "r2:", HalfLife: graphcache.DefaultRead.HalfLife, Positive: 4, Negative: 2}
	client, graph, err := connectGraph(p, rf)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	cache, err := graph.Current(p.ctx)
	if err != nil {
		return err
	}
	rdb, single := client.(*redis.Client)
	if !single {
		return errors.New("--redis: it is a Redis Cluster, whose nodes have no other databases for the sorted sets to compare with: start a single server")
	}
	space, err := rdb.Info(p.ctx, "keyspace").Result()
	if err != nil {
		return fmt.Errorf("--redis: ask for its keys: %w", err)
	}
	if strings.Contains(space, "db") {
		return fmt.Errorf("--redis: it holds keys (%s), so its memory is not the graph's alone: start an empty one, such as redis-server --port 6400 --save '' --zset-max-listpack-entries 256",
			strings.Join(strings.Fields(space)[2:], " "))
	}
	out := &benchReport{command: "bench memory", machine: thisMachine()}
	for _, k := range []struct {
		ids    synth.IDs
		suffix string
	}{{synth.Numbers, ""}, {synth.Short, "_short"}, {synth.UUIDs, "_uuid"}} {
		m := memory{rdb: rdb, Cache: cache, shown: shown, what: "ids " + string(k.ids)}
		f, err := m.measure(p.ctx, synth.Options{Seed: c.Seed, Users: c.Users, Items: c.Items, Edges: c.Edges, IDs: k.ids})
		err = errors.Join(err, flushAll(rdb)) // it was empty
		if err != nil {
			return err
		}
		f.report(out, k.suffix, fmt.Sprintf("%d users, %d items, %d edges, ids %s", c.Users, c.Items, c.Edges, k.ids))
	}
	shown.close()
	return out.write(p.stdout, c.JSON)
}

// flushAll empties a server that was empty, also after a Ctrl-C.
func flushAll(rdb *redis.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return rdb.FlushAll(ctx).Err()
}

// footprint is what a graph takes, in bytes.
type footprint struct {
	graph, catalogue, bare int64
	stats                  graphcache.Stats
}

func (f footprint) report(out *benchReport, suffix, of string) {
	add := func(metric string, v float64, unit, what string) {
		out.add(figure{Metric: metric + suffix, Value: v, Unit: unit, Of: what + "; " + of, Threads: 1})
	}
	edges, nodes := float64(f.stats.UserEdges), float64(f.stats.Users+f.stats.Items)
	add("bytes_per_edge", float64(f.graph)/edges, "bytes", "all but the catalogue, over the edges in users' lists, each of which stands in an item's list, too, as far as that reaches")
	add("bytes_per_node", float64(f.graph)/nodes, "bytes", "the same over users and items")
	add("ratio_to_bare", float64(f.graph)/float64(f.bare), "ratio", "the same to sorted sets of the same members and scores, with bare ids as keys")
	add("bare_bytes_per_edge", float64(f.bare)/edges, "bytes", "those sorted sets alone")
	add("catalogue_bytes_per_item", float64(f.catalogue)/float64(f.stats.Catalogue), "bytes", "the catalogue, titles of some 25 bytes and two categories")
}

// memory measures in an empty server.
type memory struct {
	*graphcache.Cache
	rdb   *redis.Client
	shown *stages
	what  string
}

func (m memory) measure(ctx context.Context, o synth.Options) (f footprint, err error) {
	stream, err := synth.New(o)
	if err != nil {
		return f, err
	}
	start, err := usedMemory(ctx, m.rdb)
	if err != nil {
		return f, err
	}
	if err := m.fill(ctx, stream, o.Edges); err != nil {
		return f, err
	}
	graph, err := usedMemory(ctx, m.rdb)
	if err != nil {
		return f, err
	}
	if err := m.stock(ctx, stream); err != nil {
		return f, err
	}
	stocked, err := usedMemory(ctx, m.rdb)
	if err != nil {
		return f, err
	}
	if f.stats, err = m.Stats(ctx); err != nil {
		return f, err
	}
	if err := m.copyBare(ctx, f.stats); err != nil {
		return f, err
	}
	bare, err := usedMemory(ctx, m.rdb)
	f.graph, f.catalogue, f.bare = graph-start, stocked-graph, bare-stocked
	return f, err
}

// fillPartitions stand in for those that the events would come from: each has its watermarks.
const fillPartitions = 8

// fill applies the events, as a consumer would.
func (m memory) fill(ctx context.Context, stream *synth.Graph, edges int) error {
	batch := make([]event.Interaction, 0, 2000)
	var ends [fillPartitions]int64
	done, n := 0, 0
	apply := func() error {
		if len(batch) == 0 {
			return nil
		}
		span := event.Span{Topic: "interactions", Partition: n % fillPartitions, Start: ends[n%fillPartitions], End: ends[n%fillPartitions] + int64(len(batch))}
		ends[span.Partition] = span.End
		n++
		done += len(batch)
		m.shown.set("filling, "+m.what, done, edges)
		err := m.ApplyInteractions(ctx, span, batch)
		batch = batch[:0]
		return err
	}
	for in := range stream.Events() {
		if batch = append(batch, in); len(batch) == cap(batch) {
			if err := apply(); err != nil {
				return err
			}
		}
	}
	return apply()
}

func (m memory) stock(ctx context.Context, stream *synth.Graph) error {
	var at int64
	batch := make([]event.Item, 0, 1000)
	apply := func() error {
		span := event.Span{Topic: "items", Start: at, End: at + int64(len(batch))}
		at = span.End
		err := m.ApplyItems(ctx, span, batch)
		batch = batch[:0]
		return err
	}
	for it := range stream.Items() {
		if batch = append(batch, it); len(batch) == cap(batch) {
			if err := apply(); err != nil {
				return err
			}
		}
	}
	return apply()
}

// copyBare writes every list once more, with nothing but its id as the key: users' into one database, items' into another,
// for an id can be that of a user and of an item.
func (m memory) copyBare(ctx context.Context, s graphcache.Stats) error {
	conns := map[graphcache.Side]*redis.Conn{}
	for db, side := range []graphcache.Side{graphcache.UserSide, graphcache.ItemSide} {
		conn := m.rdb.Conn()
		defer conn.Close()
		if err := conn.Select(ctx, m.rdb.Options().DB+1+db).Err(); err != nil {
			return fmt.Errorf("choose another database of redis for the bare sorted sets: %w", err)
		}
		conns[side] = conn
	}
	defer func() { // the connections go back to the pool as they were
		for _, conn := range conns {
			_ = conn.Select(context.WithoutCancel(ctx), m.rdb.Options().DB).Err()
		}
	}()
	done := 0
	return m.Lists(ctx, func(side graphcache.Side, lists []graphcache.List) error {
		done += len(lists)
		m.shown.set("copying without keys, "+m.what, done, int(s.Users+s.Items))
		_, err := conns[side].Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, l := range lists {
				zs := make([]redis.Z, len(l.Edges))
				for i, e := range l.Edges {
					zs[len(zs)-1-i] = redis.Z{Member: e.ID, Score: float64(e.Score())}
				}
				p.ZAdd(ctx, l.ID, zs...)
			}
			return nil
		})
		return err
	})
}

// usedMemory is what Redis has allocated for other things than clients, once that stands still: tables that grow are
// moved bit by bit, and what was deleted may be freed behind the scenes.
func usedMemory(ctx context.Context, rdb *redis.Client) (int64, error) {
	const pause, still, tries, noise = 50 * time.Millisecond, 6, 400, 4096 // bytes, of Redis' own
	var last int64
	same := 0
	for range tries {
		used, err := allocated(ctx, rdb)
		if err != nil {
			return 0, err
		}
		if same++; max(used-last, last-used) > noise {
			same = 0
		}
		if last = used; same == still {
			return used, nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(pause):
		}
	}
	return 0, errors.New("the memory of redis does not stand still: somebody else uses it, too")
}

// allocated is what all of the servers have allocated.
func allocated(ctx context.Context, rdb redis.UniversalClient) (int64, error) {
	var sum atomic.Int64
	err := graphcache.EachMaster(ctx, rdb, func(ctx context.Context, node redis.UniversalClient) error {
		info, err := node.Info(ctx, "memory").Result()
		if err != nil {
			return fmt.Errorf("ask redis for its memory: %w", err)
		}
		values := map[string]int64{}
		for line := range strings.Lines(info) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
				if n, err := strconv.ParseInt(value, 10, 64); err == nil {
					values[name] = n
				}
			}
		}
		if values["used_memory"] == 0 {
			return errors.New("redis does not tell how much memory it has allocated (INFO memory)")
		}
		sum.Add(values["used_memory"] - values["mem_clients_normal"])
		return nil
	})
	return sum.Load(), err
}
