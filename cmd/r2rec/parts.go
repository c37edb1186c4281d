package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/r2rec/r2rec/consumer"
	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/fusion"
	"github.com/r2rec/r2rec/reasoner"
	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"
)

// readyWithin is how long a command waits for a server that is starting.
const readyWithin = 30 * time.Second

// toldEvery is how often it says that it still waits.
const toldEvery = 5 * time.Second

// stores are the two servers that every command but import stands on.
type stores struct {
	kafka *broker.Client
	rdb   redis.UniversalClient
	graph *graphcache.Generations
}

// connect reaches both, and makes the topics that are missing.
func connect(p *process, kf kafkaFlags, rf redisFlags) (stores, error) {
	return reach(p, rf, func() (*broker.Client, error) { return connectKafka(p, kf) })
}

// look is connect for what reads these topics, and makes none.
func look(p *process, kf kafkaFlags, rf redisFlags, topics ...string) (stores, error) {
	return reach(p, rf, func() (*broker.Client, error) { return readKafka(p, kf, topics...) })
}

func reach(p *process, rf redisFlags, kafka func() (*broker.Client, error)) (s stores, err error) {
	if err := rf.check(); err != nil {
		return s, err
	}
	if s.kafka, err = kafka(); err != nil {
		return s, err
	}
	if s.rdb, s.graph, err = connectGraph(p, rf); err != nil {
		s.kafka.Close()
	}
	return s, err
}

func (s stores) close() {
	s.rdb.Close()
	s.kafka.Close()
}

// connectKafka waits for the brokers and makes the topics that are missing.
func connectKafka(p *process, f kafkaFlags) (*broker.Client, error) {
	if f.Partitions < 1 {
		return nil, misuse("--partitions %d: want 1 or more", f.Partitions)
	}
	return awaitKafka(p, f, func(c *broker.Client) error { return c.EnsureTopics(p.ctx, broker.Topics{Partitions: f.Partitions}) })
}

// readKafka waits for the brokers for what reads these topics, and makes none: of topics that were made just now it would tell that
// nothing ever happened.
func readKafka(p *process, f kafkaFlags, topics ...string) (*broker.Client, error) {
	return awaitKafka(p, f, func(c *broker.Client) error {
		missing, err := c.Missing(p.ctx, topics...)
		if err == nil && len(missing) > 0 {
			err = fmt.Errorf("there is no topic %s in the Kafka at %s: is --topic-prefix (R2REC_TOPIC_PREFIX) that of the others? r2rec consume, serve and import make what is missing",
				strings.Join(missing, ", nor "), strings.Join(c.Brokers(), ", "))
		}
		return err
	})
}

// awaitKafka waits for the brokers, and then for what is to be so before anything else is done.
func awaitKafka(p *process, f kafkaFlags, first func(*broker.Client) error) (*broker.Client, error) {
	c, err := f.client()
	if err != nil {
		return nil, err
	}
	var told time.Time
	err = c.WaitReady(p.ctx, readyWithin, func(err error, _ time.Duration) {
		if time.Since(told) < toldEvery {
			return
		}
		told = time.Now()
		p.log.Warn("kafka is not ready yet, trying again", "error", err, "at_most", readyWithin)
	})
	switch {
	case err == nil:
		err = first(c)
	case p.ctx.Err() == nil:
		err = fmt.Errorf("%w; --kafka or R2REC_KAFKA names the brokers, and r2rec demo needs none", err)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// connectGraph reaches Redis and opens the graph in it.
func connectGraph(p *process, f redisFlags) (redis.UniversalClient, *graphcache.Generations, error) {
	if err := f.check(); err != nil {
		return nil, nil, err
	}
	rdb, err := f.client(p.ctx)
	if err != nil {
		return nil, nil, err
	}
	graph, err := f.graph(rdb, p)
	if err != nil {
		rdb.Close()
		return nil, nil, err
	}
	if err = graph.Ping(p.ctx); err == nil {
		err = graph.Configure(p.ctx)
	}
	if err != nil {
		rdb.Close()
		return nil, nil, fmt.Errorf("redis at %s: %w", addressOf(rdb), err)
	}
	return rdb, graph, nil
}

// newRegistry has what every process tells of itself.
func newRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// warnTopics says what it means that topics that were there before, or made elsewhere, lose what is needed, or that nobody decided
// about it. Who may not ask for their settings is not told: it takes a right that is needed for nothing else.
func warnTopics(p *process, kc *broker.Client, lateness time.Duration) {
	unknown := func(err error) { p.log.Debug("how Kafka keeps topics is not known", "error", err) }
	kept, err := kc.Retention(p.ctx, broker.Interactions)
	switch {
	case err != nil:
		unknown(err)
	case !kept.Decided && kept.For >= 0:
		p.log.Warn("Kafka deletes events after a time that nobody set for their topic: what it has deleted, no lost Redis can be filled with, and no rebuild. "+
			"Set retention.ms of the topic, to -1 for ever", "topic", kc.Topic(broker.Interactions), "kept", kept.For)
	}
	deletions, err := kc.DeletionRetention(p.ctx, broker.Items)
	switch {
	case err != nil:
		unknown(err)
	case !deletions.Decided && deletions.For >= 0:
		p.log.Warn("Kafka forgets which items were deleted after a time that nobody set for their topic: a Redis that is restored from an older snapshot, or was away for longer, keeps them. "+
			"Set delete.retention.ms of the topic, to 3153600000000 for 100 years", "topic", kc.Topic(broker.Items), "kept", deletions.For)
	}
	warnCleanup(p, kc, unknown)
	for _, topic := range []string{broker.Interactions, broker.Decisions} {
		ahead, err := kc.Ahead(p.ctx, topic)
		most := ahead.String()
		if ahead < 0 {
			most = "no limit"
		}
		switch {
		case err != nil:
			unknown(err)
		case ahead < 0 || ahead > lateness:
			p.log.Warn("Kafka takes records whose time lies ahead of its clock: one wrong clock holds up the rewards of a partition until then, and what comes meanwhile is dropped as late. "+
				"Set message.timestamp.type of the topic to CreateTime, and message.timestamp.after.max.ms to --lateness at most",
				"topic", kc.Topic(topic), "ahead", most, "lateness", lateness)
		}
	}
}

// warnCleanup is warnTopics for the topics of which nothing may be lost but what a later record replaces.
func warnCleanup(p *process, kc *broker.Client, unknown func(error)) {
	for _, of := range []struct {
		topic, means string
		compacted    bool
	}{
		{broker.Users, "Kafka deletes requests to forget: a Redis that is lost, and a rebuild, bring forgotten users back. Set cleanup.policy of the topic to compact", true},
		{broker.Items, "Kafka deletes items that nobody sends again: a Redis that is lost, and a rebuild, know them no more and do not recommend them. Set cleanup.policy of the topic to compact", true},
		{broker.Adapters, "Kafka deletes promotions: no server follows a log that lacks its beginning. Set cleanup.policy of the topic to delete, and retention.ms and retention.bytes to -1", false},
	} {
		rules, err := kc.Cleanup(p.ctx, of.topic)
		switch {
		case err != nil:
			unknown(err)
		case rules.Deletes() || rules.Compacts() && !of.compacted:
			p.log.Warn(of.means, "topic", kc.Topic(of.topic), "policy", rules.String())
		}
	}
}

// forgets asks where the topic users ends, and returns what tells whether everything up to there is in the graph.
func forgets(kc *broker.Client, graph consumer.Graph) func(context.Context) (func(context.Context) (bool, error), error) {
	return func(ctx context.Context) (func(context.Context) (bool, error), error) {
		return toTheEnd(ctx, kc, graph, broker.Users)
	}
}

// toTheEnd asks where a topic ends, and returns what tells whether everything up to there is in the graph. A partition that holds
// nothing, any more, has nothing that the graph could lack.
func toTheEnd(ctx context.Context, kc *broker.Client, graph consumer.Graph, topic string) (func(context.Context) (bool, error), error) {
	ends, err := kc.Offsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (bool, error) {
		for _, end := range ends {
			if end.First == end.Last {
				continue
			}
			at, _, err := graph.Watermark(ctx, kc.Topic(topic), end.Partition)
			if err != nil || at < end.Last {
				return false, err
			}
		}
		return true, nil
	}, nil
}

func newConsumer(p *process, kc *broker.Client, graph consumer.Graph, reg prometheus.Registerer, opt consumer.Options) (*consumer.Consumer, error) {
	opt.Brokers, opt.Dialer, opt.Transport = kc.Brokers(), kc.Dialer, kc.Transport
	opt.Topics, opt.Forgets = consumedTopics(kc), forgets(kc, graph)
	opt.Graph, opt.Logger, opt.Registerer, opt.Now = graph, p.log, reg, time.Now
	return consumer.New(opt)
}

// consumedTopics are what the graph is made from.
func consumedTopics(kc *broker.Client) consumer.Topics {
	return consumer.Topics{Interactions: kc.Topic(broker.Interactions), Items: kc.Topic(broker.Items),
		Users: kc.Topic(broker.Users), DeadLetters: kc.Topic(broker.DeadLetters)}
}

func newReasoner(p *process, kc *broker.Client, rdb redis.UniversalClient, graph *graphcache.Generations, models reasoner.Models, rf redisFlags, mf modelFlags, f recommendFlags,
	reg prometheus.Registerer, dry bool) (*reasoner.Reasoner, func() error, error) {
	weights, err := f.weights()
	if err != nil {
		return nil, nil, err
	}
	decisions := kc.NewBoundedWriter(broker.Decisions)
	opt := reasoner.Options{
		Graph: graphSource{graph.Snapshot}, Rank: func(c event.Context) []float64 { return weights.Scores(fusion.FromContext(c)) }, Weights: weights.Digest(), Log: decisionLog{decisions}, Store: reasoner.RedisStore{Client: rdb, Prefix: rf.Prefix, TTL: f.TTL, Stands: graph.Stands},
		ControlShare: f.ControlShare, ExploreShare: f.ExploreShare, Temperature: f.Temperature,
		ModelWeight: mf.weight(), ModelTimeout: mf.ModelTimeout, ModelConcurrency: mf.concurrency(), MaskModel: mf.masks(), MaskTimeout: mf.MaskTimeout,
		Models: models, Now: time.Now, Logger: p.log, Registerer: reg,
	}
	if dry {
		opt.Log, opt.Store = unkept{}, unkept{}
	}
	r, err := reasoner.New(opt)
	if err != nil {
		decisions.Close()
		return nil, nil, err
	}
	return r, decisions.Close, nil
}

// unkept takes decisions and documents, and keeps none.
type unkept struct{}

func (unkept) PublishDecision(context.Context, event.Decision) error { return nil }

func (unkept) Put(context.Context, reasoner.Made) error { return nil }

// graphSource gives the reasoner what graphcache reads.
type graphSource struct {
	snapshot func(context.Context, graphcache.Query) (graphcache.Snapshot, error)
}

func (g graphSource) Snapshot(ctx context.Context, q reasoner.GraphQuery) (reasoner.GraphSnapshot, error) {
	s, err := g.snapshot(ctx, graphQuery(q))
	return reasoner.GraphSnapshot{Context: s.Context, NoEntry: s.NoEntry, Without: s.Without}, err
}

func graphQuery(q reasoner.GraphQuery) graphcache.Query {
	return graphcache.Query{User: q.User, Candidates: q.Candidates, Rank: graphcache.Rank(q.Rank), Trending: q.Trending, Explore: q.Explore,
		Chains: q.Chains, History: q.History, At: q.At, Rand: q.Rand}
}

// decisionLog writes decisions to Kafka.
type decisionLog struct{ *broker.BoundedWriter }

func (w decisionLog) PublishDecision(ctx context.Context, d event.Decision) error {
	raw, err := event.Encode(d)
	if err != nil {
		return err
	}
	return w.WriteMessages(ctx, kafka.Message{Key: []byte(d.UserID), Value: raw})
}

// freshEvery is how often what is kept fresh is asked for.
const freshEvery = 5 * time.Second

// keepFresh refreshes, until ctx ends, what is popular at the moment and the latent factors.
func keepFresh(ctx context.Context, p *process, graph *graphcache.Generations, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	kept := []struct {
		what    string
		refresh func(context.Context) error
		failing bool
	}{{what: "trends", refresh: graph.RefreshTrends}, {what: "latent factors", refresh: graph.RefreshFactors}}
	for {
		for i := range kept {
			k := &kept[i]
			err := k.refresh(ctx)
			if ctx.Err() != nil {
				return
			}
			if err != nil && !k.failing {
				p.log.Warn(k.what+" are not refreshed", "error", err)
			}
			k.failing = err != nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
