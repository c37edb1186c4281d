package main

import (
	"maps"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
)

// Of a user's requests to be forgotten the highest counts, whatever came last.
func TestHistoryKnowsWhoIsForgotten(t *testing.T) {
	t.Parallel()
	p := newPlace(t, broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}}, &redis.UniversalOptions{Addrs: []string{embeddedtest.Redis(t)}})
	c, err := broker.New(p.kafka)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.EnsureTopics(t.Context(), broker.Topics{Partitions: 4}); err != nil {
		t.Fatal(err)
	}
	if got, err := (history{c}).Forgotten(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("nobody asked, and forgotten are %v, %v", got, err)
	}
	const early, late = event.Time(1_700_000_000_000), event.Time(1_700_000_000_001)
	p.publish(broker.Users, message(t, "a", event.User{UserID: "a", ForgetBefore: late}), message(t, "a", event.User{UserID: "a", ForgetBefore: early}),
		message(t, "b", event.User{UserID: "b", ForgetBefore: early}), kafka.Message{Key: []byte("c"), Value: []byte("no request")})
	want := map[string]event.Time{"a": late, "b": early}
	if got, err := (history{c}).Forgotten(t.Context()); err != nil || !maps.Equal(got, want) {
		t.Errorf("forgotten are %v, %v; want %v", got, err, want)
	}
}
