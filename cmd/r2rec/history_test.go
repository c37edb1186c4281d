package main

import (
	"encoding/json"
	"errors"
	"maps"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/rltrainer"
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

// A topic that was given partitions since a mark gives what it had then; one that has fewer was made again.
func TestHistoryOfOtherPartitions(t *testing.T) {
	t.Parallel()
	p := lived(t, broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}}, &redis.UniversalOptions{Addrs: []string{embeddedtest.Redis(t)}})
	c, err := broker.New(p.kafka)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	h := history{c}
	whole, err := h.Mark(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ends := func(change func(parts []broker.Offsets) []broker.Offsets) rltrainer.Mark {
		var m mark
		if err := json.Unmarshal(whole, &m); err != nil {
			t.Fatal(err)
		}
		m[broker.Rewards] = change(m[broker.Rewards])
		raw, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	var want int64
	fewer := ends(func(parts []broker.Offsets) []broker.Offsets {
		want = parts[0].Last - parts[0].First
		return parts[:1]
	})
	var n int64
	count := func(event.Reward) error { n++; return nil }
	if _, err := h.Rewards(t.Context(), 0, fewer, count); err != nil || n != want || n == 0 {
		t.Errorf("%d rewards, %v; want the %d of the first partition", n, err, want)
	}
	more := ends(func(parts []broker.Offsets) []broker.Offsets { return append(parts, broker.Offsets{}) })
	if _, err := h.Rewards(t.Context(), 0, more, count); !errors.Is(err, rltrainer.ErrInputGone) {
		t.Errorf("of fewer partitions than there were: %v", err)
	}
}
