package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
)

// Topics that somebody else made are warned about, each setting once; those that r2rec made are not.
func TestTopicsThatNobodyDecidedAboutAreWarnedAbout(t *testing.T) {
	embeddedtest.EachKafka(t, func(t *testing.T, s broker.Settings) {
		warned := func(prefix string, make ...string) string {
			t.Helper()
			s := s
			s.TopicPrefix += prefix
			c, err := broker.New(s)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			admin := &kafka.Client{Addr: kafka.TCP(s.Brokers...), Transport: c.Transport}
			for _, topic := range make {
				// The embedded broker does not tell of what was not set.
				unlimited := []kafka.ConfigEntry{{ConfigName: "message.timestamp.after.max.ms", ConfigValue: "9223372036854775807"}}
				res, err := admin.CreateTopics(t.Context(), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: c.Topic(topic), NumPartitions: 1, ReplicationFactor: 1, ConfigEntries: unlimited}}})
				if err == nil {
					err = res.Errors[c.Topic(topic)]
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if err := c.EnsureTopics(t.Context(), broker.Topics{Partitions: 1}); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			warnTopics(&process{ctx: t.Context(), log: slog.New(slog.NewTextHandler(&log, nil))}, c, 5*time.Minute)
			return log.String()
		}
		if got := warned("ours-"); got != "" {
			t.Errorf("topics that r2rec made: %s", got)
		}
		got := warned("theirs-", broker.Interactions, broker.Items, broker.Users, broker.Decisions, broker.Adapters)
		for setting, n := range map[string]int{"Set retention.ms": 1, " delete.retention.ms": 1, "message.timestamp.after.max.ms": 2,
			"cleanup.policy of the topic to compact": 2, "cleanup.policy of the topic to delete, and retention.ms and retention.bytes to -1": 1} {
			if strings.Count(got, setting) != n {
				t.Errorf("%q is named %d times, want %d:\n%s", setting, strings.Count(got, setting), n, got)
			}
		}
	})
}

// Who is forgotten is known once all that Kafka has of users is in the graph, of every partition that has something.
func TestForgetsAreKnownOnceUsersIsRead(t *testing.T) {
	embeddedtest.EachSingle(t, func(t *testing.T, k broker.Settings, r *redis.UniversalOptions) {
		p := newPlace(t, k, r)
		c, err := broker.New(k)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.EnsureTopics(t.Context(), broker.Topics{Partitions: 4}); err != nil {
			t.Fatal(err)
		}
		graph, err := graphcache.NewGenerations(p.rdb, graphcache.Options{})
		if err != nil {
			t.Fatal(err)
		}
		known := func(when string, want bool) {
			t.Helper()
			all, err := forgets(c, graph)(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got, err := all(t.Context()); err != nil || got != want {
				t.Errorf("%s: known %v, %v; want %v", when, got, err, want)
			}
		}
		known("nothing was asked for", true)
		p.publish(broker.Users, kafka.Message{Key: []byte("u"), Value: []byte(`{"user_id":"u","forget_before":1700000000000}`)})
		known("asked for", false)
		parts, err := c.Offsets(t.Context(), broker.Users)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range parts {
			if part.Last > 0 {
				err = graph.ApplyUsers(t.Context(), event.Span{Topic: c.Topic(broker.Users), Partition: part.Partition, End: part.Last}, []event.User{{UserID: "u", ForgetBefore: 1_700_000_000_000}})
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		known("applied", true)
		if err := embeddedtest.Flush(t.Context(), p.rdb); err != nil {
			t.Fatal(err)
		}
		known("flushed", false)

		// What Kafka has deleted nobody can read any more. Users is compacted, of which a broker deletes nothing.
		p.publish(broker.Interactions, kafka.Message{Key: []byte("u"), Value: []byte(`{"event_id":"e","user_id":"u","item_id":"i","type":"like","timestamp":"2026-11-01T00:00:00.000Z"}`)})
		all, err := toTheEnd(t.Context(), c, graph, broker.Interactions)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := all(t.Context()); err != nil || got {
			t.Errorf("what was published counts as read: %v", err)
		}
		if parts, err = c.Offsets(t.Context(), broker.Interactions); err != nil {
			t.Fatal(err)
		}
		for _, part := range parts {
			if part.Last > 0 {
				p.deleteRecords(broker.Interactions, int32(part.Partition), part.Last)
			}
		}
		if all, err = toTheEnd(t.Context(), c, graph, broker.Interactions); err != nil {
			t.Fatal(err)
		}
		if got, err := all(t.Context()); err != nil || !got {
			t.Errorf("what Kafka has deleted is waited for: %v", err)
		}
	})
}

// Who only reads makes no topics: under a prefix that nobody uses it would tell that nothing ever happened, and prune would delete
// every adapter.
func TestReadersMakeNoTopics(t *testing.T) {
	embeddedtest.EachSingle(t, func(t *testing.T, k broker.Settings, r *redis.UniversalOptions) {
		p := newPlace(t, k, r)
		c, err := broker.New(k)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		store := []string{"--adapters", t.TempDir()}
		for _, tc := range []struct {
			args   []string
			topics []string
		}{
			{append([]string{"adapters", "list"}, store...), []string{broker.Adapters}},
			{append([]string{"adapters", "show", "aa"}, store...), []string{broker.Adapters}},
			{append([]string{"adapters", "diff", "aa", "bb"}, store...), []string{broker.Adapters}},
			{append([]string{"adapters", "rollback"}, store...), []string{broker.Adapters}},
			{append([]string{"adapters", "prune"}, store...), []string{broker.Adapters}},
			{[]string{"train", "export", t.TempDir()}, []string{broker.Decisions, broker.Rewards, broker.Users, broker.Adapters}},
			{append([]string{"rebuild"}, p.redisArgs()...), []string{broker.Interactions, broker.Items, broker.Users}},
		} {
			for i, topic := range tc.topics {
				tc.topics[i] = k.TopicPrefix + topic
			}
			want := "there is no topic " + strings.Join(tc.topics, ", nor ") + " in the Kafka at"
			if said := p.fails(append(tc.args, p.kafkaArgs()...)...); !strings.Contains(said, want) {
				t.Errorf("r2rec %s: %s, want %q", strings.Join(tc.args, " "), said, want)
			}
		}
		p.do(append(append([]string{"recommend", "u", "--dry-run", "--no-model", "--log-level", "error"}, p.kafkaArgs()...), p.redisArgs()...)...)
		if missing, err := c.Missing(t.Context(), broker.AllTopics...); err != nil || len(missing) != len(broker.AllTopics) {
			t.Errorf("of all topics these are missing: %v, %v; want all", missing, err)
		}
	})
}
