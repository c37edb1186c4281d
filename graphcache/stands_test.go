package graphcache

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
)

// What apps read of a user who hid something is gone when the watermark says that this is in the graph: whoever reads the
// batch is killed at any call, or told to end while a list was stored in the middle of it.
func TestNothingIsReadOfWhoHidSomething(t *testing.T) {
	embeddedtest.EachRedis(t, func(t *testing.T, opt *redis.UniversalOptions) {
		ctx, rdb := t.Context(), client(t, opt)
		span := event.Span{Topic: "interactions", End: 1}
		batch := likes("u", "x")
		batch[0].Type = event.Hide
		store := func() {
			t.Helper()
			if err := rdb.Set(ctx, event.RecommendationKey("r2:", "u"), "{}", time.Hour).Err(); err != nil {
				t.Fatal(err)
			}
		}
		// apply begins with a list and an empty graph, and tells whether the hide is in and whether the list is still read.
		apply := func(ctx context.Context, hook redis.Hook) (in, read bool, err error) {
			t.Helper()
			if err := embeddedtest.Flush(t.Context(), rdb); err != nil {
				t.Fatal(err)
			}
			store()
			other := redis.NewUniversalClient(opt)
			defer other.Close()
			g, err := NewGenerations(other, Options{})
			if err == nil {
				err = advance.Load(t.Context(), rdb).Err()
			}
			if err != nil {
				t.Fatal(err)
			}
			other.AddHook(hook)
			err = g.ApplyInteractions(ctx, span, batch)
			at, _, look := generationsOf(t, rdb).Watermark(t.Context(), span.Topic, span.Partition)
			n, also := rdb.Exists(t.Context(), event.RecommendationKey("r2:", "u")).Result()
			if look != nil || also != nil {
				t.Fatal(look, also)
			}
			return at == span.End, n > 0, err
		}
		for n, through := 1, false; !through; n++ {
			for _, after := range []bool{false, true} {
				fault := &faulty{at: n, after: after}
				in, read, err := apply(ctx, fault)
				if in && read {
					t.Errorf("killed at call %d (after it: %v), the list is still read", n, after)
				}
				through = err == nil && !fault.dead
			}
		}
		ending, end := context.WithCancel(ctx)
		in, read, _ := apply(ending, &atWrite{before: store, after: func(ctx context.Context) error {
			end()
			<-ctx.Done()
			return nil
		}})
		if _, apart := rdb.(*redis.ClusterClient); read || !in && !apart { // a Cluster is told to end between its transactions
			t.Errorf("told to end in the middle: the hide is in the graph: %v, a list that was stored meanwhile is read: %v", in, read)
		}
	})
}
