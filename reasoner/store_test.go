package reasoner

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
)

// meanwhile does something at one call to Redis, before it is sent.
type meanwhile struct {
	at, calls int
	do        func()
}

func (m *meanwhile) call() {
	if m.calls++; m.calls == m.at {
		m.do()
	}
}

func (m *meanwhile) DialHook(next redis.DialHook) redis.DialHook { return next }

func (m *meanwhile) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { m.call(); return next(ctx, cmd) }
}

func (m *meanwhile) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { m.call(); return next(ctx, cmds) }
}

// A user is forgotten at any moment while a recommendation is being stored: nothing of it stays. One that was begun later does,
// for its whole time.
func TestNothingIsStoredOfWhoIsForgottenMeanwhile(t *testing.T) {
	embeddedtest.EachRedis(t, func(t *testing.T, opt *redis.UniversalOptions) {
		ctx := t.Context()
		rdb := redis.NewUniversalClient(opt)
		defer rdb.Close()
		graph, err := graphcache.NewGenerations(rdb, graphcache.Options{ForgetKey: []byte("test")})
		if err != nil {
			t.Fatal(err)
		}
		const at = event.Time(1_700_000_000_000)
		var offset int64
		forget := func() {
			span := event.Span{Topic: "users", Start: offset, End: offset + 1}
			offset++
			if err := graph.ApplyUsers(ctx, span, []event.User{{UserID: "gone", ForgetBefore: at}}); err != nil {
				t.Fatal(err)
			}
		}
		put := func(m *meanwhile, made event.Time) error {
			watched := redis.NewUniversalClient(opt)
			defer watched.Close()
			watched.AddHook(m)
			asked, err := graphcache.NewGenerations(watched, graphcache.Options{ForgetKey: []byte("test")})
			if err != nil {
				t.Fatal(err)
			}
			store := RedisStore{Client: watched, Prefix: "r2:", TTL: time.Hour, Stands: asked.Stands}
			return store.Put(ctx, event.Recommendation{Version: 1, UserID: "gone", GeneratedAt: made, Source: event.Graph}, map[string]float64{"i": 1})
		}
		for n, through := 1, false; !through; n++ {
			if err := embeddedtest.Flush(ctx, rdb); err != nil {
				t.Fatal(err)
			}
			offset = 0
			must(t, graph.ApplyItems(ctx, event.Span{Topic: "items", End: 1}, []event.Item{{ItemID: "i", Title: "I"}}))
			m := &meanwhile{at: n, do: forget}
			err := put(m, at-1)
			if through = m.calls < n; through {
				forget()
			} else if err != nil && !errors.Is(err, event.ErrForgotten) {
				t.Fatal(err)
			}
			embeddedtest.Nowhere(t, rdb, "gone", "forgotten while a recommendation was stored,")
		}
		if err := put(&meanwhile{}, at); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{event.RecommendationKey("r2:", "gone"), event.TopKey("r2:", "gone")} {
			if ttl := rdb.TTL(ctx, key).Val(); ttl <= unconfirmed {
				t.Errorf("%s lives for %v, want an hour", key, ttl)
			}
		}
	})
}
