package reasoner

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
)

// What a user hides or buys leaves what apps read, at whatever moment of a list's making it is applied; what a user likes stays, and
// so do the lists of others.
func TestWhatIsHiddenIsNotReadAnyMore(t *testing.T) {
	embeddedtest.EachRedis(t, func(t *testing.T, opt *redis.UniversalOptions) {
		ctx := t.Context()
		rdb := redis.NewUniversalClient(opt)
		defer rdb.Close()
		open := func(rdb redis.UniversalClient) (*graphcache.Generations, RedisStore) {
			graph, err := graphcache.NewGenerations(rdb, graphcache.Options{ForgetKey: []byte("test")})
			must(t, err)
			return graph, RedisStore{Client: rdb, Prefix: "r2:", TTL: time.Hour, Stands: graph.Stands}
		}
		graph, store := open(rdb)
		var offset int64
		apply := func(kind event.Type, item string) {
			span := event.Span{Topic: "interactions", Start: offset, End: offset + 1}
			offset++
			must(t, graph.ApplyInteractions(ctx, span, []event.Interaction{{EventID: "e", UserID: "u", ItemID: item, Type: kind, Timestamp: 1_700_000_000_000}}))
		}
		begin := func() {
			must(t, embeddedtest.Flush(ctx, rdb))
			offset = 0
			must(t, graph.ApplyItems(ctx, event.Span{Topic: "items", End: 2}, []event.Item{{ItemID: "a", Title: "A"}, {ItemID: "b", Title: "B"}, {ItemID: "c", Title: "C"}}))
		}
		list := func(user string) event.Recommendation {
			return event.Recommendation{Version: 1, UserID: user, GeneratedAt: 1_700_000_000_000, Source: event.Graph, Items: []event.RecommendedItem{
				{Position: 1, ItemID: "a", Title: "A", Reasons: []event.Reason{}}, {Position: 2, ItemID: "b", Title: "B", Reasons: []event.Reason{}}}}
		}
		stored := func(user string) bool {
			n, err := rdb.Exists(ctx, event.RecommendationKey("r2:", user)).Result()
			must(t, err)
			m, err := rdb.Exists(ctx, event.TopKey("r2:", user)).Result()
			must(t, err)
			_, read, err := store.Get(ctx, user, 1)
			must(t, err)
			if n != m || read != (n == 1) {
				t.Errorf("of the two keys of %q there are %d and %d, and a document is read: %v", user, n, m, read)
			}
			return read
		}
		scores := map[string]float64{"a": .5, "b": .4, "c": .1} // what is not in the list is ranked for apps, too
		for kind, stays := range map[event.Type]bool{event.Hide: false, event.Purchase: false, event.Like: true, event.Dislike: true} {
			begin()
			must(t, store.Put(ctx, Made{Recommendation: list("u"), Ranking: scores}))
			must(t, store.Put(ctx, Made{Recommendation: list("another"), Ranking: scores}))
			apply(kind, "b")
			if stored("u") != stays || !stored("another") {
				t.Errorf("after a %s of an item of it, a list is stored: %v, want %v; another's: %v", kind, stored("u"), stays, stored("another"))
			}
		}
		for n, through := 1, false; !through; n++ {
			begin()
			watched := redis.NewUniversalClient(opt)
			m := &meanwhile{at: n, do: func() { apply(event.Hide, "c") }}
			watched.AddHook(m)
			_, making := open(watched)
			if err := making.Put(ctx, Made{Recommendation: list("u"), Ranking: scores}); err != nil && !hasFallen(err) {
				t.Fatal(err)
			}
			if through = m.calls < n; !through && stored("u") {
				t.Errorf("hidden at call %d of storing it, and it is stored", n)
			}
			must(t, watched.Close())
		}
		// An item that is not to be had any more.
		if !stored("u") {
			t.Error("a list that nothing speaks against is not stored")
		}
		must(t, graph.ApplyItems(ctx, event.Span{Topic: "items", Start: 2, End: 3}, []event.Item{{ItemID: "a", Deleted: true}}))
		if _, read, err := store.Get(ctx, "u", 1); read || err != nil {
			t.Errorf("with an item that was deleted, a list is read: %v, %v", read, err)
		}
		// A document that another version wrote.
		must(t, rdb.Set(ctx, event.RecommendationKey("r2:", "another"), `{"version": 2}`, 0).Err())
		if _, read, err := store.Get(ctx, "another", 1); read || err != nil {
			t.Errorf("a document of another version is read: %v, %v", read, err)
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
