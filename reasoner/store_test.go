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
			return store.Put(ctx, Made{Recommendation: event.Recommendation{Version: 1, UserID: "gone", GeneratedAt: made, Source: event.Graph}, Ranking: map[string]float64{"i": 1}})
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

// A list that took long does not take the place of one that was made later, whatever becomes of it; and one that a wrong clock
// made does not stay for that.
func TestALaterListStays(t *testing.T) {
	embeddedtest.EachRedis(t, func(t *testing.T, opt *redis.UniversalOptions) {
		ctx := t.Context()
		rdb := redis.NewUniversalClient(opt)
		defer rdb.Close()
		const at = event.Time(1_700_000_000_000)
		list := func(made event.Time, item string) Made {
			return Made{Ranking: map[string]float64{item: 1}, Recommendation: event.Recommendation{Version: 1, UserID: "u", GeneratedAt: made, Source: event.Graph,
				Items: []event.RecommendedItem{{Position: 1, ItemID: item, Title: item, Reasons: []event.Reason{}}}}}
		}
		hidden := map[string]bool{}
		store := RedisStore{Client: rdb, Prefix: "r2:", TTL: time.Hour, Stands: func(_ context.Context, _ string, _ event.Time, items []string) error {
			for _, it := range items {
				if hidden[it] {
					return event.ErrOutdated
				}
			}
			return nil
		}}
		stored := func() string {
			t.Helper()
			rec, ok, err := store.Get(ctx, "u", 1)
			must(t, err)
			top := rdb.ZRange(ctx, event.TopKey("r2:", "u"), 0, -1).Val()
			if !ok {
				return ""
			}
			if len(top) != 1 || top[0] != rec.Items[0].ItemID {
				t.Errorf("the document has %q, and the ranking %q", rec.Items[0].ItemID, top)
			}
			return top[0]
		}
		must(t, store.Put(ctx, list(at, "first")))
		must(t, store.Put(ctx, list(at+2, "later")))
		if err := store.Put(ctx, list(at+1, "slow")); !errors.Is(err, event.ErrOutdated) || stored() != "later" {
			t.Errorf("an older list: %v, and %q is stored, want the later one", err, stored())
		}
		hidden["slow"] = true
		if err := store.Put(ctx, list(at+1, "slow")); !errors.Is(err, event.ErrOutdated) || stored() != "later" {
			t.Errorf("an older list that has fallen: %v, and %q is stored, want the later one", err, stored())
		}
		// Another one's list comes between writing a fallen one and finding that out.
		between := store
		between.Stands = func(context.Context, string, event.Time, []string) error {
			must(t, store.Put(ctx, list(at+4, "another's")))
			return event.ErrOutdated
		}
		if err := between.Put(ctx, list(at+3, "fallen")); !errors.Is(err, event.ErrOutdated) || stored() != "another's" {
			t.Errorf("a list that falls after another's was stored: %v, and %q is stored, want that", err, stored())
		}
		must(t, store.Put(ctx, list(at+event.Time(time.Hour.Milliseconds()), "from the future")))
		must(t, store.Put(ctx, list(at+5, "now")))
		if stored() != "now" {
			t.Errorf("%q is stored, want the list that is not from the future", stored())
		}
	})
}

// A list is enough for who asks for more than there is to recommend, and not for who asks for more than was asked for.
func TestAListThatHasAllThereIsIsEnough(t *testing.T) {
	embeddedtest.EachRedis(t, func(t *testing.T, opt *redis.UniversalOptions) {
		ctx := t.Context()
		rdb := redis.NewUniversalClient(opt)
		defer rdb.Close()
		store := RedisStore{Client: rdb, Prefix: "r2:", TTL: time.Hour}
		for ranked, want := range map[string]bool{"a": true, "another": false} {
			must(t, store.Put(ctx, Made{Ranking: map[string]float64{"a": 1, ranked: 1}, Recommendation: event.Recommendation{Version: 1, UserID: "u", GeneratedAt: event.Earliest, Source: event.Graph,
				Items: []event.RecommendedItem{{Position: 1, ItemID: "a", Title: "A", Reasons: []event.Reason{}}}}}))
			for k, want := range map[int]bool{1: true, 5: want} {
				if _, ok, err := store.Get(ctx, "u", k); ok != want || err != nil {
					t.Errorf("of %q and a, a list of a alone, asked for %d items: %v, %v; want %v", ranked, k, ok, err, want)
				}
			}
		}
	})
}
