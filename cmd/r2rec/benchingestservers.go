package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded"
	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"
)

// cleanUpWithin bounds what is done after a benchmark, also after a Ctrl-C.
const cleanUpWithin = 30 * time.Second

// ingestStore is a part of a Redis that belongs to the benchmark: all keys with its prefix.
type ingestStore struct {
	rdb    *redis.Client
	prefix string
}

// openIngestStore refuses a prefix that holds keys: they would be deleted.
func openIngestStore(ctx context.Context, url, prefix string) (*ingestStore, error) {
	client, err := redisFlags{Redis: url, Prefix: prefix}.client(ctx)
	if err != nil {
		return nil, err
	}
	rdb, single := client.(*redis.Client)
	if !single {
		client.Close()
		return nil, errors.New("--redis: it is a Redis Cluster, whose nodes share the work: the limit is that of one server")
	}
	s := &ingestStore{rdb: rdb, prefix: prefix}
	found := rdb.Scan(ctx, 0, graphcache.EscapeGlob(prefix)+"*", 1000).Iterator()
	taken := found.Next(ctx)
	err = found.Err()
	if err == nil && taken {
		err = fmt.Errorf("--prefix %s: there is a key %q: what has the prefix would be deleted, so choose another", prefix, found.Val())
	}
	if err != nil {
		rdb.Close()
		return nil, fmt.Errorf("redis at %s: %w", rdb.Options().Addr, err)
	}
	return s, nil
}

// close deletes what was made.
func (s *ingestStore) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanUpWithin)
	defer cancel()
	return errors.Join(s.wipe(ctx), s.rdb.Close())
}

// graph is the one that is filled, fitted to the server, and as `r2rec consume` fills it.
func (s *ingestStore) graph(ctx context.Context, rdb *redis.Client) (*graphcache.Generations, error) {
	graph, err := graphcache.NewGenerations(rdb, graphcache.Options{Prefix: s.prefix})
	if err != nil {
		return nil, err
	}
	return graph, graph.Configure(ctx)
}

func (s *ingestStore) wipe(ctx context.Context) error {
	if err := deleteKeys(ctx, s.rdb, s.prefix); err != nil {
		return fmt.Errorf("delete the keys with prefix %s: %w", s.prefix, err)
	}
	return nil
}

// ingestKafka is where topics for the benchmark are made.
type ingestKafka struct {
	brokers []string
	own     *embedded.Kafka // nil: it runs elsewhere
	made    []*ingestTopics
}

// openIngestKafka reaches the brokers, or starts one.
func openIngestKafka(p *process, brokers []string) (*ingestKafka, error) {
	k := &ingestKafka{brokers: brokers}
	if len(brokers) > 0 {
		return k, nil
	}
	var err error
	if k.own, err = embedded.StartKafka(p.ctx, embedded.Options{Logger: p.log}); err != nil {
		return nil, err
	}
	k.brokers = []string{k.own.Addr}
	return k, nil
}

func (k *ingestKafka) name() string {
	if k.own != nil {
		return "a broker within this process"
	}
	return "Kafka"
}

// close deletes the topics.
func (k *ingestKafka) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanUpWithin)
	defer cancel()
	var errs []error
	for _, t := range k.made {
		if k.own == nil {
			errs = append(errs, t.delete(ctx))
		}
		t.Close()
	}
	if k.own != nil {
		k.own.Close()
	}
	return errors.Join(errs...)
}

// ingestTopics is a set of r2rec's topics that nobody else has.
type ingestTopics struct {
	*broker.Client
	partitions int
	groups     int
}

func (k *ingestKafka) topics(ctx context.Context, partitions int) (*ingestTopics, error) {
	c, err := broker.New(broker.Settings{Brokers: k.brokers, TopicPrefix: "bench-" + strings.ToLower(rand.Text()) + "-"})
	if err != nil {
		return nil, err
	}
	t := &ingestTopics{Client: c, partitions: partitions}
	k.made = append(k.made, t)
	return t, c.EnsureTopics(ctx, broker.Topics{Partitions: partitions})
}

// newGroup names a consumer group that has read nothing.
func (t *ingestTopics) newGroup() string {
	t.groups++
	return t.Topic("group-" + strconv.Itoa(t.groups))
}

func (t *ingestTopics) delete(ctx context.Context) error {
	var names []string
	for _, name := range broker.AllTopics {
		names = append(names, t.Topic(name))
	}
	client := &kafka.Client{Addr: kafka.TCP(t.Brokers()...), Transport: t.Transport}
	res, err := client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: names})
	if err != nil {
		return fmt.Errorf("delete the benchmark's topics: %w", err)
	}
	var errs []error
	for _, name := range names {
		if err := res.Errors[name]; err != nil && !errors.Is(err, kafka.UnknownTopicOrPartition) {
			errs = append(errs, fmt.Errorf("delete topic %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}
