package consumer_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"

	"github.com/r2rec/r2rec/consumer"
	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
)

// The real graph, flushed while it is filled and once more when all is quiet, ends in the state that the events give
// when they are applied in one go.
func TestGraphSurvivesFlush(t *testing.T) {
	embeddedtest.Each(t, func(t *testing.T, k broker.Settings, r *redis.UniversalOptions) {
		ctx := t.Context()
		kc, err := broker.New(k)
		if err != nil {
			t.Fatal(err)
		}
		defer kc.Close()
		if err := kc.EnsureTopics(ctx, broker.Topics{Partitions: 4, ReplicationFactor: 1}); err != nil {
			t.Fatal(err)
		}
		rdb := redis.NewUniversalClient(r)
		defer rdb.Close()

		events := history(3000)
		want := export(t, rdb, func(g *graphcache.Cache) {
			span := event.Span{Topic: "reference", End: int64(len(events))}
			if err := g.ApplyInteractions(ctx, span, events); err != nil {
				t.Fatal(err)
			}
		})
		if err := embeddedtest.Flush(ctx, rdb); err != nil {
			t.Fatal(err)
		}

		graph, err := graphcache.New(rdb, graphcache.Options{})
		if err != nil {
			t.Fatal(err)
		}
		applied := make(chan struct{}, len(events))
		c, err := consumer.New(consumer.Options{
			Member: consumer.Member{Brokers: kc.Brokers(), Dialer: kc.Dialer, Transport: kc.Transport, Group: k.TopicPrefix + "group",
				MaxBatch: 100, CheckInterval: 50 * time.Millisecond},
			Graph: graph,
			Topics: consumer.Topics{Interactions: kc.Topic(broker.Interactions), Items: kc.Topic(broker.Items),
				Users: kc.Topic(broker.Users), DeadLetters: kc.Topic(broker.DeadLetters)},
			OnApplied: func(event.Span, []event.Interaction) {
				select {
				case applied <- struct{}{}:
				default:
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		run, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- c.Run(run) }()
		defer func() {
			stop()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		}()

		w := kc.NewWriter(broker.Interactions)
		defer w.Close()
		publish := func(events []event.Interaction) {
			var ms []kafka.Message
			for _, in := range events {
				raw, err := event.Encode(in)
				if err != nil {
					t.Fatal(err)
				}
				ms = append(ms, kafka.Message{Key: []byte(in.UserID), Value: raw})
			}
			if err := w.WriteMessages(ctx, ms...); err != nil {
				t.Fatal(err)
			}
		}
		publish(events[:1500])
		for range 5 {
			<-applied
		}
		flush := func() {
			if err := embeddedtest.Flush(ctx, rdb); err != nil {
				t.Fatal(err)
			}
		}
		flush()
		publish(events[1500:])
		same := func() string { return cmp.Diff(want, export(t, rdb, nil)) }
		await(t, same)
		flush()
		await(t, same)
	})
}

func export(t *testing.T, rdb redis.UniversalClient, fill func(*graphcache.Cache)) []graphcache.Entry {
	t.Helper()
	g, err := graphcache.New(rdb, graphcache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if fill != nil {
		fill(g)
	}
	entries, err := g.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// await waits until differs says nothing.
func await(t *testing.T, differs func() string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(40 * time.Second)
	for {
		diff := differs()
		if diff == "" {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("the graph differs (-want +got):\n%.2000s", diff)
		}
	}
}

func history(n int) []event.Interaction {
	random := rand.New(rand.NewPCG(1, 2))
	kinds := []event.Type{event.Click, event.Like, event.Purchase, event.Dislike, event.Hide, event.View}
	out := make([]event.Interaction, n)
	for i := range out {
		out[i] = event.Interaction{
			EventID: fmt.Sprint("e", i), UserID: fmt.Sprint("u", random.IntN(40)), ItemID: fmt.Sprint("i", random.IntN(300)),
			Type: kinds[random.IntN(len(kinds))], Timestamp: event.Time(1_700_000_000_000 + random.IntN(1_000_000)),
		}
	}
	return out
}
