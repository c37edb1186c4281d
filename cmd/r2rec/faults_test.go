//go:build unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/web"
)

func like(event int) kafka.Message {
	return kafka.Message{Key: []byte("u"), Value: fmt.Appendf(nil, `{"event_id":"e%d","user_id":"u","item_id":"i%d","type":"like","timestamp":%d}`, event, event, 1_700_000_000_000+event)}
}

// Whatever is wrong with Redis, the health page says which it is; and when it is right again, nothing was lost.
func TestHealthSaysWhatIsWrongWithRedis(t *testing.T) {
	t.Parallel()
	server := embeddedtest.OwnRedis(t)
	proxy := embeddedtest.NewProxy(t, server.Addr)
	p := newPlace(t, broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}}, &redis.UniversalOptions{Addrs: []string{proxy.Addr}})
	admin := redis.NewUniversalClient(server.Options())
	defer admin.Close()
	s := p.serve("--consume", "--no-model")
	told := 0
	tell := func() {
		p.publish(broker.Interactions, like(told))
		told++
	}
	tell()
	reached := func() (bool, string) {
		keys, err := embeddedtest.Keys(t.Context(), admin, "r2:{*}:u:u")
		if err != nil || len(keys) != 1 {
			return false, fmt.Sprint(keys, err)
		}
		n := admin.ZCard(t.Context(), keys[0]).Val()
		return n == int64(told), fmt.Sprintf("%d of %d events", n, told)
	}
	p.eventually("the event is not in the graph", reached)

	for _, tc := range []struct {
		name          string
		state         web.State
		redis         string // what health says of Redis
		consumer      string // and of the consumer
		spoil, repair func() error
	}{
		{"full", web.Degraded, "Redis is full", "Redis is full",
			func() error { return admin.ConfigSet(t.Context(), "maxmemory", "1").Err() },
			func() error { return admin.ConfigSet(t.Context(), "maxmemory", "0").Err() }},
		{"replica", web.Degraded, "read-only replica", "read-only replica",
			func() error { return admin.SlaveOf(t.Context(), "127.0.0.1", "1").Err() },
			func() error { return admin.SlaveOf(t.Context(), "no", "one").Err() }},
		{"slow", web.Degraded, "is slow: it took ", "", // it goes on
			func() error { proxy.Delay(500 * time.Millisecond); return nil },
			func() error { proxy.Delay(0); return nil }},
		{"gone", web.Down, "Redis cannot be reached", "Redis cannot be reached",
			func() error { server.Kill(); return nil },
			func() error { server.Start(); return nil }},
	} {
		if err := tc.spoil(); err != nil {
			t.Fatal(err)
		}
		tell()
		p.eventually(tc.name+": health does not say so", func() (bool, string) {
			r, c := s.component("redis"), s.component("consumer")
			return r.State == tc.state && strings.Contains(r.Detail, tc.redis) && strings.Contains(c.Detail, tc.consumer), fmt.Sprintf("%+v, %+v", r, c)
		})
		if err := tc.repair(); err != nil {
			t.Fatal(err)
		}
		p.eventually(tc.name+": the event is not in the graph", reached)
		p.eventually(tc.name+": health does not say that it is over", func() (bool, string) {
			r, c := s.component("redis"), s.component("consumer")
			return r.State == web.OK && c.State == web.OK, fmt.Sprintf("%+v, %+v", r, c)
		})
	}
}

// Retention was faster than the reader: the command ends with an error that says what is lost and how to go on, and goes
// on that way.
func TestConsumeEndsAtAGap(t *testing.T) {
	t.Parallel()
	p := newPlace(t, broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}}, &redis.UniversalOptions{Addrs: []string{embeddedtest.Redis(t)}})
	consume := append(append([]string{"consume", "--log-level", "error", "--partitions", "1"}, p.kafkaArgs()[:4]...), p.redisArgs()...)
	c, err := broker.New(p.kafka)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.EnsureTopics(t.Context(), broker.Topics{Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	first, stop := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() { ended <- run(first, consume, io.Discard, io.Discard) }()
	p.publish(broker.Interactions, like(0), like(1))
	edges := func(n int64) func() (bool, string) {
		return func() (bool, string) { s := p.stats(); return s.UserEdges == n, fmt.Sprintf("%+v", s) }
	}
	p.eventually("the first events are not in the graph", edges(2))
	p.eventually("the group does not say that it has read them", func() (bool, string) { // by which it knows later that it has
		admin := &kafka.Client{Addr: kafka.TCP(p.kafka.Brokers...), Transport: c.Transport}
		res, err := admin.OffsetFetch(t.Context(), &kafka.OffsetFetchRequest{GroupID: "r2rec", Topics: map[string][]int{c.Topic(broker.Interactions): {0}}})
		if err != nil {
			return false, err.Error()
		}
		at := res.Topics[c.Topic(broker.Interactions)]
		return len(at) == 1 && at[0].CommittedOffset == 2, fmt.Sprintf("%+v", at)
	})
	stop()
	if code := <-ended; code != 0 {
		t.Fatalf("told to end: exit code %d", code)
	}
	if err := embeddedtest.Flush(t.Context(), p.rdb); err != nil { // what it had is gone, too
		t.Fatal(err)
	}
	p.deleteRecords(broker.Interactions, 0, 2)
	var out, errs bytes.Buffer
	again, enough := context.WithTimeout(t.Context(), time.Minute)
	defer enough()
	if code := run(again, consume, &out, &errs); code != 1 || !strings.Contains(errs.String(), "interactions/0: Kafka has offsets 2 to 2") || !strings.Contains(errs.String(), "--on-gap earliest") {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
	p.start(append(consume, "--on-gap", "earliest")...)
	p.publish(broker.Interactions, like(2))
	p.eventually("it does not go on", edges(1))
}

// deleteRecords deletes what a partition holds below an offset, as retention does.
func (p *place) deleteRecords(of string, partition int32, below int64) {
	p.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(p.kafka.Brokers...))
	if err != nil {
		p.Fatal(err)
	}
	defer c.Close()
	part := kmsg.NewDeleteRecordsRequestTopicPartition()
	part.Partition, part.Offset = partition, below
	topic := kmsg.NewDeleteRecordsRequestTopic()
	topic.Topic, topic.Partitions = p.kafka.TopicPrefix+of, append(topic.Partitions, part)
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis, req.Topics = 10_000, append(req.Topics, topic)
	for _, shard := range c.RequestSharded(p.Context(), req) {
		err := shard.Err
		if err == nil {
			err = kerr.ErrorForCode(shard.Resp.(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0].ErrorCode)
		}
		if err != nil {
			p.Fatal(err)
		}
	}
}
