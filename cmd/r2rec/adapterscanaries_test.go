package main

import (
	"slices"
	"testing"
	"time"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/redis/go-redis/v9"
)

// What stays beside an adapter for as long as that exists is no decision of a user who is to be forgotten.
func TestCanariesAreOfNobodyForgotten(t *testing.T) {
	t.Parallel()
	p := newTrainer(newPlace(t, broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}}, &redis.UniversalOptions{Addrs: []string{embeddedtest.Redis(t)}}))
	c, err := broker.New(p.kafka)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p.live(p.base, 3, "d")
	seeds := func() (found []uint64) {
		t.Helper()
		asks, err := newestAsks(t.Context(), c, canaryPrompts)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range asks {
			found = append(found, a.Seed)
		}
		slices.Sort(found)
		return found
	}
	if got := seeds(); !slices.Equal(got, []uint64{0, 1, 2}) {
		t.Fatalf("of all users: %v", got)
	}
	p.publish(broker.Users, message(t, "u1", event.User{UserID: "u1", ForgetBefore: event.At(time.Now())}),
		message(t, "u2", event.User{UserID: "u2", ForgetBefore: event.At(time.Now().Add(-2 * time.Hour))}))
	if got := seeds(); !slices.Equal(got, []uint64{0, 2}) {
		t.Errorf("u1's decision is to be forgotten, u2's is newer than what is: %v, want 0 and 2", got)
	}
}
