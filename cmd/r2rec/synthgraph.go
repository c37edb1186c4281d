package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/r2rec/r2rec/consumer"
	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/synth"
	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"
)

// synthFlags say which made-up graph is measured.
type synthFlags struct {
	Users int       `help:"Users of the graph." default:"1000000" group:"Graph"`
	Items int       `help:"Items of the graph." default:"100000" group:"Graph"`
	Edges int       `help:"Interactions, each of another pair of a user and an item; power laws on both sides." default:"20000000" group:"Graph"`
	IDs   synth.IDs `name:"ids" help:"Ids: number, short (12 characters) or uuid (36)." enum:"number,short,uuid" default:"number" group:"Graph"`
	Seed  uint64    `help:"Seed of the graph." default:"1" group:"Graph"`
}

func (f synthFlags) open() (*synth.Graph, error) {
	if err := checkCounts(count{"--users", f.Users, 1}, count{"--items", f.Items, 1}, count{"--edges", f.Edges, 1}); err != nil {
		return nil, wrong(err)
	}
	g, err := synth.New(synth.Options{Seed: f.Seed, Users: f.Users, Items: f.Items, Edges: f.Edges, IDs: f.IDs})
	return g, wrong(err)
}

// marker tells whose the keys under a prefix are, and what they hold.
type marker struct {
	Graph    synthFlags `json:"graph"`
	Bound    int        `json:"bound"`
	Version  int        `json:"version"` // of package synth's stream and of the keys
	Complete bool       `json:"complete"`
}

const markerVersion = 1

// synthGraph is a made-up graph in a Redis.
type synthGraph struct {
	*graphcache.Cache
	rdb    redis.UniversalClient
	prefix string
	stream *synth.Graph
	want   marker
	built  time.Duration // that building took; 0: it was there
}

func (g *synthGraph) markerKey() string { return g.prefix + "bench" }

// openSynthGraph opens a made-up graph under a prefix: one that an earlier run has kept, or a new one that comes through
// Kafka. A prefix under which there is anything else is refused.
func openSynthGraph(p *process, f synthFlags, rf redisFlags, shown *stages) (*synthGraph, error) {
	stream, err := f.open()
	if err != nil {
		return nil, err
	}
	rdb, generations, err := connectGraph(p, rf)
	if err != nil {
		return nil, err
	}
	cache, err := generations.Current(p.ctx)
	if err != nil {
		return nil, errors.Join(err, rdb.Close())
	}
	g := &synthGraph{Cache: cache, rdb: rdb, prefix: rf.Prefix, stream: stream, want: marker{Graph: f, Bound: cache.Bound(), Version: markerVersion}}
	if err := g.prepare(p, shown); err != nil {
		return nil, errors.Join(err, rdb.Close())
	}
	return g, nil
}

func (g *synthGraph) prepare(p *process, shown *stages) error {
	found, ok, err := g.marker(p.ctx)
	if err != nil {
		return err
	}
	if ok && found.Complete {
		found.Complete = false
		if found == g.want {
			return nil
		}
		return fmt.Errorf("--prefix %s holds another graph, of %d users, %d items and %d edges (ids %s, seed %d, at most %d edges a node): give its flags, or another --prefix",
			g.prefix, found.Graph.Users, found.Graph.Items, found.Graph.Edges, found.Graph.IDs, found.Graph.Seed, found.Bound)
	}
	if ok { // a run that was stopped while it built
		if err := g.remove(shown); err != nil {
			return err
		}
	} else if key, err := anyKey(p.ctx, g.rdb, g.prefix); err != nil {
		return err
	} else if key != "" {
		return fmt.Errorf("--prefix %s holds keys that no benchmark has written, such as %q: give a --prefix of its own", g.prefix, key)
	}
	begun := time.Now()
	if err := g.mark(p.ctx, false); err != nil {
		return err
	}
	if err := g.build(p, shown); err != nil {
		return errors.Join(err, g.remove(shown))
	}
	g.built = time.Since(begun)
	return g.mark(p.ctx, true)
}

func (g *synthGraph) marker(ctx context.Context) (m marker, ok bool, err error) {
	raw, err := g.rdb.Get(ctx, g.markerKey()).Bytes()
	switch {
	case errors.Is(err, redis.Nil):
		return m, false, nil
	case err != nil:
		return m, false, fmt.Errorf("look for a graph under %s: %w", g.prefix, err)
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, false, fmt.Errorf("--prefix %s: the key %s is no benchmark's (%w): give a --prefix of its own", g.prefix, g.markerKey(), err)
	}
	return m, true, nil
}

func (g *synthGraph) mark(ctx context.Context, complete bool) error {
	m := g.want
	m.Complete = complete
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return g.rdb.Set(ctx, g.markerKey(), raw, 0).Err()
}

// remove deletes the graph.
func (g *synthGraph) remove(shown *stages) error {
	shown.set("deleting the graph", 0, 1)
	ctx, cancel := context.WithTimeout(context.Background(), deleteWithin) // also after a Ctrl-C
	defer cancel()
	if err := deleteKeys(ctx, g.rdb, g.prefix); err != nil {
		return fmt.Errorf("keys %s* are left in redis: %w", g.prefix, err)
	}
	return nil
}

// deleteWithin is how long millions of keys may take to be deleted.
const deleteWithin = 5 * time.Minute

// anyKey is one key that begins with a prefix; empty: there is none.
func anyKey(ctx context.Context, rdb redis.UniversalClient, prefix string) (string, error) {
	var found string
	enough := errors.New("one is enough")
	err := graphcache.ScanKeys(ctx, rdb, graphcache.EscapeGlob(prefix)+"*", func(_ redis.UniversalClient, keys []string) error {
		if len(keys) == 0 {
			return nil
		}
		found = keys[0]
		return enough
	})
	if err != nil && !errors.Is(err, enough) {
		return "", fmt.Errorf("look for keys under %s: %w", prefix, err)
	}
	return found, nil
}

const (
	buildBatch = 16_000  // records handed to the writer at once
	buildAhead = 400_000 // records published and not yet applied
)

// build brings the graph in as everything comes in: published to a Kafka, which runs within this process, and applied by a
// Consumer. The broker keeps the compressed records, some 30 bytes each, until the graph is built.
func (g *synthGraph) build(p *process, shown *stages) error {
	kafkaServer, err := embedded.StartKafka(p.ctx, embedded.Options{Logger: p.log})
	if err != nil {
		return err
	}
	defer kafkaServer.Close()
	kc, err := connectKafka(p, kafkaFlags{Kafka: []string{kafkaServer.Addr}, Partitions: 8})
	if err != nil {
		return err
	}
	defer kc.Close()
	cons, err := newConsumer(p, kc, g.Cache, prometheus.NewRegistry(), consumer.Options{Member: consumer.Member{Group: "r2rec-bench"}})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(p.ctx)
	defer stop()
	eg, ctx := errgroup.WithContext(ctx)
	eg.Go(func() error { return cons.Run(ctx) })
	eg.Go(func() error {
		defer stop()
		b := &builder{graph: g, kc: kc, shown: shown}
		if err := b.publish(ctx, broker.Items, b.items()); err != nil {
			return err
		}
		return b.publish(ctx, broker.Interactions, b.interactions())
	})
	if err := eg.Wait(); err != nil {
		return fmt.Errorf("build the graph: %w", err)
	}
	return p.ctx.Err()
}

// builder publishes a graph's records and waits until they are applied.
type builder struct {
	graph *synthGraph
	kc    *broker.Client
	shown *stages
}

// record is on its way to Kafka.
type record struct {
	message kafka.Message
	err     error
}

func (b *builder) items() func(yield func(record) bool) {
	return func(yield func(record) bool) {
		for it := range b.graph.stream.Items() {
			raw, err := event.Encode(it)
			if !yield(record{kafka.Message{Key: []byte(it.ItemID), Value: raw}, err}) {
				return
			}
		}
	}
}

func (b *builder) interactions() func(yield func(record) bool) {
	return func(yield func(record) bool) {
		for in := range b.graph.stream.Events() {
			raw, err := event.Encode(in)
			if !yield(record{kafka.Message{Key: []byte(in.UserID), Value: raw}, err}) {
				return
			}
		}
	}
}

// publish puts all records into a topic, never far ahead of what is applied, and returns when all are.
func (b *builder) publish(ctx context.Context, topic string, records func(yield func(record) bool)) error {
	w := b.kc.NewWriter(topic)
	defer w.Close()
	total := b.graph.want.Graph.Edges
	if topic == broker.Items {
		total = b.graph.want.Graph.Items
	}
	what := "building the graph: " + topic
	sent := 0
	send := func(batch []kafka.Message) error {
		if err := w.WriteMessages(ctx, batch...); err != nil {
			return fmt.Errorf("publish to %s: %w", topic, err)
		}
		sent += len(batch)
		return b.wait(ctx, topic, what, total, sent-buildAhead)
	}
	batch := make([]kafka.Message, 0, buildBatch)
	for r := range records {
		if r.err != nil {
			return fmt.Errorf("make a record for %s: %w", topic, r.err)
		}
		if batch = append(batch, r.message); len(batch) < buildBatch {
			continue
		}
		if err := send(batch); err != nil {
			return err
		}
		batch = make([]kafka.Message, 0, buildBatch) // a writer may still hold the old one
	}
	if err := send(batch); err != nil {
		return err
	}
	return b.wait(ctx, topic, what, total, sent)
}

// wait until so many records of a topic are applied.
func (b *builder) wait(ctx context.Context, topic, what string, total, want int) error {
	const pause = 50 * time.Millisecond
	for {
		applied := 0
		for partition := range 8 {
			at, _, err := b.graph.Watermark(ctx, topic, partition)
			if err != nil {
				return err
			}
			applied += int(at)
		}
		b.shown.set(what, applied, total)
		if applied >= want {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
