package consumer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
)

// patience bounds every wait for a condition; a test that needs it all is broken.
const patience = 40 * time.Second

// cluster is a Kafka with topics of its own, spoken to by another client than the consumer's.
type cluster struct {
	t       testing.TB
	brokers []string
	topics  Topics
	group   string
	client  *kgo.Client
	// transport learns of new topics quickly.
	transport *kafka.Transport
	fake      *kfake.Cluster // nil where the test did not ask for one of its own
}

const partitions = 3

func newCluster(t testing.TB, s broker.Settings) *cluster {
	t.Helper()
	prefix := s.TopicPrefix
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytes(2<<20), kgo.MaxBufferedRecords(100_000), kgo.MetadataMinAge(10*time.Millisecond), kgo.UnknownTopicRetries(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	transport := &kafka.Transport{MetadataTTL: 100 * time.Millisecond}
	t.Cleanup(transport.CloseIdleConnections)
	c := &cluster{
		transport: transport,
		t:         t, brokers: s.Brokers, group: prefix + "group", client: client,
		topics: Topics{Interactions: prefix + "interactions", Items: prefix + "items", Users: prefix + "users", DeadLetters: prefix + "deadletters"},
	}
	c.create(c.topics.Interactions, partitions)
	c.create(c.topics.Items, partitions, "cleanup.policy", "compact")
	c.create(c.topics.Users, partitions, "cleanup.policy", "compact")
	c.create(c.topics.DeadLetters, 1, "max.message.bytes", "2200000")
	return c
}

// fakeCluster is an embedded broker whose faults the test controls.
func fakeCluster(t testing.TB) *cluster {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	c := newCluster(t, broker.Settings{Brokers: fake.ListenAddrs()})
	c.fake = fake
	return c
}

// eachCluster runs f on the embedded broker and, where the environment names one, on a real one.
func eachCluster(t *testing.T, f func(t *testing.T, c *cluster)) {
	embeddedtest.EachKafka(t, func(t *testing.T, s broker.Settings) { f(t, newCluster(t, s)) })
}

func (c *cluster) create(topic string, partitions int32, config ...string) {
	c.t.Helper()
	c.eventually("create "+topic, func() bool { return c.tryCreate(topic, partitions, config...) })
}

// createAgain creates a topic that was deleted while somebody reads it: a broker that creates what it is asked about may be
// faster, with partitions of its own number, and then that is deleted, too.
func (c *cluster) createAgain(topic string, partitions int32) {
	c.t.Helper()
	c.eventually("create "+topic, func() bool {
		created := c.tryCreate(topic, partitions)
		if !created {
			_ = c.tryDelete(topic) // it may be on its way already
		}
		return created
	})
}

// tryCreate tells whether it created the topic. A topic is deleted for a while before its name is free.
func (c *cluster) tryCreate(topic string, partitions int32, config ...string) bool {
	c.t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = topic, partitions, 1
	for kv := range slices.Chunk(config, 2) {
		rc := kmsg.NewCreateTopicsRequestTopicConfig()
		rc.Name, rc.Value = kv[0], &kv[1]
		rt.Configs = append(rt.Configs, rc)
	}
	req.Topics = append(req.Topics, rt)
	res, err := req.RequestWith(c.t.Context(), c.client)
	if err == nil {
		err = kerr.ErrorForCode(res.Topics[0].ErrorCode)
	}
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		c.t.Fatalf("create %s: %v", topic, err)
	}
	return err == nil
}

func (c *cluster) delete(topic string) {
	c.t.Helper()
	if err := c.tryDelete(topic); err != nil {
		c.t.Fatalf("delete %s: %v", topic, err)
	}
}

func (c *cluster) tryDelete(topic string) error {
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TopicNames = []string{topic}
	rt := kmsg.NewDeleteTopicsRequestTopic()
	rt.Topic = &topic
	req.Topics = append(req.Topics, rt)
	res, err := req.RequestWith(c.t.Context(), c.client)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(res.Topics[0].ErrorCode)
}

// retain deletes the records of partition 0 below offset, as retention does.
func (c *cluster) retain(topic string, offset int64) {
	c.t.Helper()
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis = 10_000
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewDeleteRecordsRequestTopicPartition()
	rp.Offset = offset
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	var err error
	for _, shard := range c.client.RequestSharded(c.t.Context(), req) {
		if err = shard.Err; err == nil {
			err = kerr.ErrorForCode(shard.Resp.(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0].ErrorCode)
		}
	}
	if err != nil {
		c.t.Fatalf("delete the records of %s below %d: %v", topic, offset, err)
	}
}

func (c *cluster) produce(records ...*kgo.Record) {
	c.t.Helper()
	if err := c.client.ProduceSync(c.t.Context(), records...).FirstErr(); err != nil {
		c.t.Fatal(err)
	}
}

// clicks are n interactions, first to first+n-1, spread over the partitions.
func (c *cluster) clicks(first, n int) []*kgo.Record {
	out := make([]*kgo.Record, n)
	for i := range out {
		out[i] = c.click(int32((first+i)%partitions), first+i)
	}
	return out
}

func (c *cluster) click(partition int32, i int) *kgo.Record {
	user := fmt.Sprintf("user-%d", i%50)
	raw, err := event.Encode(event.Interaction{EventID: eventID(i), UserID: user, ItemID: fmt.Sprintf("item-%d", i%20), Type: event.Click, Timestamp: event.Time(1_700_000_000_000 + i)})
	if err != nil {
		c.t.Fatal(err)
	}
	return &kgo.Record{Topic: c.topics.Interactions, Partition: partition, Key: []byte(user), Value: raw}
}

func eventID(i int) string { return fmt.Sprintf("e%05d", i) }

// letters reads n dead letters.
func (c *cluster) letters(n int) []*kgo.Record {
	c.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.brokers...), kgo.ConsumeTopics(c.topics.DeadLetters), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		c.t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	var out []*kgo.Record
	for len(out) < n {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			c.t.Fatalf("read dead letters, have %d of %d: %v", len(out), n, err)
		}
		out = append(out, fetches.Records()...)
	}
	return out
}

func headers(r *kgo.Record) map[string]string {
	out := map[string]string{}
	for _, h := range r.Headers {
		out[h.Key] = string(h.Value)
	}
	return out
}

// options are those of a consumer of this cluster that does not waste a test's time.
func (c *cluster) options(g Graph) Options {
	return Options{Topics: c.topics, Graph: g, Member: c.member()}
}

func (c *cluster) member() Member {
	return Member{
		Brokers: c.brokers, Group: c.group,
		CheckInterval: 20 * time.Millisecond, CommitInterval: 50 * time.Millisecond,
		HeartbeatInterval: 50 * time.Millisecond, SessionTimeout: 6 * time.Second, RejoinBackoff: 20 * time.Millisecond,
		Backoff:    func() backoff.BackOff { return backoff.NewConstantBackOff(2 * time.Millisecond) },
		Logger:     slog.New(slog.NewTextHandler(testWriter{c.t}, &slog.HandlerOptions{Level: slog.LevelInfo})),
		Registerer: prometheus.NewRegistry(),
		Transport:  c.transport,
	}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) { w.t.Logf("%s", b[:len(b)-1]); return len(b), nil }

// running is a consumer in its goroutine.
type running struct {
	*Consumer
	t      testing.TB
	cancel context.CancelFunc
	done   chan error
}

func start(t testing.TB, opt Options) *running {
	t.Helper()
	consumer, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Consumer: consumer, t: t, cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- consumer.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-r.done:
			r.done <- err
		case <-time.After(patience):
			t.Error("Run did not return")
		}
	})
	return r
}

// stop ends the consumer, which must not fail.
func (r *running) stop() {
	r.t.Helper()
	r.cancel()
	if err := r.wait(); err != nil {
		r.t.Fatalf("Run: %v", err)
	}
}

// wait returns what Run returns.
func (r *running) wait() error {
	r.t.Helper()
	select {
	case err := <-r.done:
		r.done <- err
		return err
	case <-time.After(patience):
		r.t.Fatal("Run did not return")
		return nil
	}
}

// eventually waits for a condition that nobody announces.
func (c *cluster) eventually(what string, cond func() bool) {
	c.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for !cond() {
		select {
		case <-tick.C:
		case <-limit:
			c.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// passing is an error that goes away.
type passing struct{}

func (passing) Error() string   { return "not now" }
func (passing) Retriable() bool { return true }

var errBroken = errors.New("broken for good")

// seed gives a test its own random numbers and prints how to get them again.
func seed(t testing.TB) [32]byte {
	var s [32]byte
	rand.Read(s[:])
	t.Logf("seed %x", s)
	return s
}
