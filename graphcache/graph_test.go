package graphcache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/redis/go-redis/v9"
)

const day = event.Time(24 * 60 * 60 * 1000)

// open gives each server an empty graph: the embedded one is read by range, the real one by DUMP.
func open(t *testing.T, f func(t *testing.T, c *Cache)) {
	embeddedtest.EachRedis(t, func(t *testing.T, opt *redis.UniversalOptions) {
		rdb := redis.NewUniversalClient(opt)
		t.Cleanup(func() { rdb.Close() })
		c, err := New(rdb, Options{ForgetKey: []byte("test")})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.configureLists(t.Context()); err != nil {
			t.Fatal(err)
		}
		f(t, c)
	})
}

// feed applies interactions behind what is already in.
type feed struct {
	*testing.T
	c   *Cache
	end map[string]int64
}

func (f *feed) span(topic string, n int) event.Span {
	if f.end == nil {
		f.end = map[string]int64{}
	}
	s := event.Span{Topic: topic, Start: f.end[topic], End: f.end[topic] + int64(n)}
	f.end[topic] = s.End
	return s
}

func (f *feed) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (f *feed) interactions(batch ...event.Interaction) {
	f.Helper()
	f.must(f.c.ApplyInteractions(f.Context(), f.span("interactions", len(batch)), batch))
}

func (f *feed) items(batch ...event.Item) {
	f.Helper()
	f.must(f.c.ApplyItems(f.Context(), f.span("items", len(batch)), batch))
}

func likes(user string, items ...string) (batch []event.Interaction) {
	for i, item := range items {
		batch = append(batch, event.Interaction{UserID: user, ItemID: item, Type: event.Like, Timestamp: 20_000*day + event.Time(i)})
	}
	return batch
}

func catalogue(ids ...string) (batch []event.Item) {
	for _, id := range ids {
		batch = append(batch, event.Item{ItemID: id, Title: "Title of " + id, Categories: []string{"c" + id}})
	}
	return batch
}

func snapshotOf(t *testing.T, c *Cache, user string) Snapshot {
	t.Helper()
	s, err := c.Snapshot(t.Context(), Query{User: user, Candidates: 20, Trending: 2, Explore: 1, Chains: 10, History: 10, Rand: rand.New(rand.NewPCG(1, 2))})
	if err != nil {
		t.Fatal(err)
	}
	if s.RoundTrips > 4 {
		t.Errorf("the snapshot took %d round trips, at most 4 are allowed", s.RoundTrips)
	}
	return s
}

func candidateIDs(s Snapshot) (ids []string) {
	for _, c := range s.Context.Candidates {
		ids = append(ids, c.ItemID)
	}
	slices.Sort(ids)
	return ids
}

func TestSnapshotFindsChains(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		f := &feed{T: t, c: c}
		f.items(catalogue("a", "b", "x", "y", "z", "off", "hidden", "bought")...)
		no := false
		f.items(event.Item{ItemID: "off", Title: "Off", Available: &no})
		f.interactions(likes("u", "a", "b")...)
		f.interactions(likes("twin", "a", "b", "x", "off", "hidden", "bought", "nameless")...)
		f.interactions(likes("half", "a", "y")...) // shares one item only: not like-minded
		f.interactions(event.Interaction{UserID: "twin", ItemID: "z", Type: event.Dislike, Timestamp: 20_000 * day})
		f.interactions(
			event.Interaction{UserID: "u", ItemID: "hidden", Type: event.Hide, Timestamp: 10_000 * day},
			event.Interaction{UserID: "u", ItemID: "bought", Type: event.Purchase, Timestamp: 10_000 * day})

		s := snapshotOf(t, c, "u")
		if got := candidateIDs(s); !slices.Equal(got, []string{"x"}) {
			t.Errorf("candidates are %v, want only x", got)
		}
		if s.NoEntry != 1 {
			t.Errorf("%d candidates had no catalogue entry, want 1: nameless", s.NoEntry)
		}
		var chains []string
		for _, ch := range s.Context.Chains {
			chains = append(chains, fmt.Sprintf("%s>%s>%s shared %d", ch.Via, ch.Neighbour, ch.ItemID, ch.Shared))
		}
		slices.Sort(chains)
		if want := []string{"a>twin>x shared 3", "b>twin>x shared 3", "bought>twin>x shared 3"}; !slices.Equal(chains, want) {
			t.Errorf("chains are %v, want %v", chains, want)
		}
		if h := s.Context.History; len(h) < 2 || h[0].ItemID != "b" || h[0].Title != "Title of b" {
			t.Errorf("history is %+v, want b first, with its title", h)
		}
		if e := s.Context.Candidates[0].Evidence; e.Support != 1 || e.Chains <= 0 || e.Popularity != 1 || e.Recent[1] != 1 {
			t.Errorf("evidence of x is %+v, want support 1, popularity 1, recent 1, and some weight", e)
		}
	})
}

func TestColdUserGetsTrends(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		f := &feed{T: t, c: c}
		f.items(catalogue("hot", "cool")...)
		for i := range 5 {
			f.interactions(likes(fmt.Sprint("u", i), "hot")...)
		}
		f.interactions(likes("u0", "cool")...)
		if s := snapshotOf(t, c, "nobody"); len(s.Context.Candidates) != 0 {
			t.Errorf("before trends were read there are candidates: %v", candidateIDs(s))
		}
		f.must(c.RefreshTrends(t.Context()))
		s := snapshotOf(t, c, "nobody")
		if len(s.Context.Candidates) != 2 || s.Context.Candidates[0].ItemID != "hot" || s.Context.Likes != 0 {
			t.Errorf("candidates of a cold user are %+v, want hot, then cool", s.Context.Candidates)
		}
	})
}

func TestLaterItemRecordWins(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		ctx := t.Context()
		title := func(want string) {
			t.Helper()
			got := c.rdb.HGet(ctx, c.catalogueKey(group("i")), "i").Val()
			if want == "" && got != "" || !strings.Contains(got, want) {
				t.Errorf("the catalogue holds %q, want title %q", got, want)
			}
		}
		f := &feed{T: t, c: c}
		first := event.Item{ItemID: "i", Title: "first"}
		f.items(first, event.Item{ItemID: "i", Title: "second"})
		title("second")
		// A reader that lost its partition applies an old batch again.
		f.must(c.ApplyItems(ctx, event.Span{Topic: "items", Start: 0, End: 1}, []event.Item{first}))
		title("second")
		f.items(event.Item{ItemID: "i", Deleted: true})
		title("")
		f.must(c.ApplyItems(ctx, event.Span{Topic: "items", Start: 0, End: 2}, []event.Item{first, first}))
		title("")
	})
}

func TestLostWritesAreNoticed(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		ctx := t.Context()
		f := &feed{T: t, c: c}
		f.interactions(likes("u", "a", "b")...)
		f.must(embeddedtest.Flush(ctx, c.rdb))
		for name, apply := range map[string]func(event.Span) error{
			"interactions": func(s event.Span) error { return c.ApplyInteractions(ctx, s, likes("u", "c")) },
			"items":        func(s event.Span) error { return c.ApplyItems(ctx, s, catalogue("c")) },
			"users":        func(s event.Span) error { return c.ApplyUsers(ctx, s, []event.User{{UserID: "u", ForgetBefore: 1}}) },
			"idle":         func(s event.Span) error { s.End = s.Start; return c.ApplyInteractions(ctx, s, nil) },
		} {
			var behind *event.BehindError
			err := apply(event.Span{Topic: name, Start: 2, End: 3})
			if !errors.As(err, &behind) || behind.Lowest != 0 || behind.Assumed != 2 {
				t.Errorf("%s: after a flush the error is %v, want a BehindError from 2 back to 0", name, err)
			}
		}
		// A log that no longer begins at 0 is a beginning all the same for whoever knows nothing.
		f.must(c.ApplyInteractions(ctx, event.Span{Topic: "late", First: 7, Start: 7, End: 8}, likes("u", "c")))
		if low, ok, err := c.Watermark(ctx, "late", 0); low != 8 || !ok || err != nil {
			t.Errorf("watermark is %d, %v, %v, want 8", low, ok, err)
		}
	})
}

func TestFailedCommandTakesTheWatermarkBack(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		ctx := t.Context()
		f := &feed{T: t, c: c}
		f.interactions(likes("u", "a")...)
		f.must(c.rdb.Set(ctx, c.userKey("spoilt"), "a foreign writer was here", 0).Err())
		err := c.ApplyInteractions(ctx, event.Span{Topic: "interactions", Start: 1, End: 2}, likes("spoilt", "a"))
		var failed *Error
		if !errors.As(err, &failed) || failed.Retriable() {
			t.Fatalf("applying to a key of another type gives %v, want an Error that is not retriable", err)
		}
		if low, _, err := c.Watermark(ctx, "interactions", 0); low != 1 || err != nil {
			t.Errorf("the watermark stands at %d, %v, want 1: the batch is not applied", low, err)
		}
		// A group that lost writes meanwhile must not be taken for one that has them.
		f.must(c.rdb.Del(ctx, c.watermarkKey(0)).Err())
		if err := c.ApplyInteractions(ctx, event.Span{Topic: "interactions", Start: 1, End: 2}, likes("spoilt", "a")); err == nil {
			t.Fatal("applying to a key of another type succeeds")
		}
		if low, _, err := c.Watermark(ctx, "interactions", 0); low != 0 || err != nil {
			t.Errorf("the watermark stands at %d, %v, want 0: one group holds nothing", low, err)
		}
	})
}

func TestForgottenStaysForgotten(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		ctx := t.Context()
		f := &feed{T: t, c: c}
		c.opt.Bound = 2
		history := append(likes("gone", "a", "b", "c"), likes("stays", "a", "c")...) // a's edge back is trimmed from gone's list
		history[0].Type = event.Purchase
		f.interactions(history...)
		f.must(c.rdb.Set(ctx, event.RecommendationKey("r2:", "gone"), "{}", 0).Err())
		forget := event.User{UserID: "gone", ForgetBefore: 20_001 * day}
		f.must(c.ApplyUsers(ctx, f.span("users", 1), []event.User{forget}))
		absent := func(when string) {
			t.Helper()
			keys, err := embeddedtest.Keys(ctx, c.rdb, "*")
			f.must(err)
			for _, key := range keys {
				if strings.Contains(key, "gone") {
					t.Errorf("%s there is key %s", when, key)
				}
				if c.rdb.Type(ctx, key).Val() == "zset" {
					if c.rdb.ZScore(ctx, key, "gone").Err() == nil {
						t.Errorf("%s %s still names the user", when, key)
					}
				}
			}
		}
		absent("after forgetting")
		f.must(c.ApplyInteractions(ctx, event.Span{Topic: "interactions", Start: 0, End: 5}, history))
		absent("after a replay")
		back := event.Interaction{UserID: "gone", ItemID: "a", Type: event.Like, Timestamp: 20_002 * day}
		f.interactions(back)
		if n := c.rdb.ZCard(ctx, c.userKey("gone")).Val(); n != 1 {
			t.Errorf("after coming back the user has %d edges, want 1", n)
		}
	})
}

// TestForgetDuringABatch lets the forget come between any two transactions of a batch of the same user.
func TestForgetDuringABatch(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		ctx := t.Context()
		for n := range groups + 1 {
			user := fmt.Sprint("u", n)
			other, err := New(c.rdb, c.opt)
			if err != nil {
				t.Fatal(err)
			}
			calls := 0
			c.between = func() {
				if calls == n {
					err := other.ApplyUsers(ctx, event.Span{Topic: "users", Start: int64(n), End: int64(n) + 1}, []event.User{{UserID: user, ForgetBefore: 20_001 * day}})
					if err != nil {
						t.Error(err)
					}
				}
				calls++
			}
			if err := c.ApplyInteractions(ctx, event.Span{Topic: "interactions", Start: int64(n), End: int64(n) + 1}, likes(user, "a", "b", "c")); err != nil {
				t.Fatal(err)
			}
			if n == groups { // nothing came between: forget now
				if err := other.ApplyUsers(ctx, event.Span{Topic: "users", Start: int64(n), End: int64(n) + 1}, []event.User{{UserID: user, ForgetBefore: 20_001 * day}}); err != nil {
					t.Fatal(err)
				}
			}
			for _, key := range []string{c.itemKey("a"), c.itemKey("b"), c.itemKey("c")} {
				if c.rdb.ZScore(ctx, key, user).Err() == nil {
					t.Fatalf("forgotten before transaction %d, the user still stands in %s", n, key)
				}
			}
			if c.rdb.Exists(ctx, c.userKey(user)).Val() != 0 {
				t.Fatalf("forgotten before transaction %d, the user still has edges", n)
			}
		}
	})
}

// TestRetryRemovesWhatAnEarlierAttemptWrote: the first attempt wrote after the forget had looked, and failed before it
// could look itself; the second already knows the tombstone.
func TestRetryRemovesWhatAnEarlierAttemptWrote(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		ctx := t.Context()
		f := &feed{T: t, c: c}
		f.must(c.ApplyUsers(ctx, f.span("users", 1), []event.User{{UserID: "gone", ForgetBefore: 20_001 * day}}))
		batch := likes("gone", "a")
		s := float64(score(batch[0].Timestamp, Like))
		f.must(c.rdb.ZAdd(ctx, c.userKey("gone"), redis.Z{Score: s, Member: "a"}).Err())
		f.must(c.rdb.ZAdd(ctx, c.itemKey("a"), redis.Z{Score: s, Member: "gone"}).Err())
		f.interactions(batch...)
		if n := c.rdb.Exists(ctx, c.userKey("gone"), c.itemKey("a")).Val(); n != 0 {
			t.Errorf("%d lists still hold the forgotten user's edge", n)
		}
	})
}

func TestErrorsAreClassified(t *testing.T) {
	for msg, want := range map[string]bool{
		"LOADING Redis is loading the dataset in memory":                    true,
		"OOM command not allowed when used memory > 'maxmemory'.":           true,
		"READONLY You can't write against a read only replica.":             true,
		"WRONGTYPE Operation against a key holding the wrong kind of value": false,
		"NOAUTH Authentication required.":                                   false,
	} {
		if got := (&Error{Err: replyError(msg)}).Retriable(); got != want {
			t.Errorf("%s: retriable is %v, want %v", msg, got, want)
		}
	}
	if !(&Error{Err: errors.New("connection refused")}).Retriable() || (&Error{Err: context.Canceled}).Retriable() {
		t.Error("a network failure must be retriable, a cancelled call not")
	}
}

// What somebody else wrote in the place of a number does not become one by asking again.
func TestWhatIsNoNumberIsNotAskedForAgain(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		ctx := t.Context()
		f := &feed{T: t, c: c}
		f.interactions(likes("u", "a")...)
		g, err := NewGenerations(c.rdb, c.opt)
		f.must(err)
		for name, stored := range map[string]struct {
			key, field string
			read       func() error
		}{
			"a watermark": {c.watermarkKey(3), watermarkField("interactions", 0), func() error { _, _, err := c.Watermark(ctx, "interactions", 0); return err }},
			"who is forgotten": {c.forgetKey(group("u")), c.tombstone("u"), func() error {
				return c.ApplyInteractions(ctx, event.Span{Topic: "interactions", Start: 1, End: 2}, likes("u", "b"))
			}},
			"the pointer": {c.pointerKey(), "current", func() error { _, err := g.Current(ctx); return err }},
		} {
			before := c.rdb.HGet(ctx, stored.key, stored.field).Val()
			f.must(c.rdb.HSet(ctx, stored.key, stored.field, "many").Err())
			c.calm.Store(false)
			var failed *Error
			if err := stored.read(); !errors.As(err, &failed) || failed.Retriable() || !strings.Contains(err.Error(), "another program wrote it") {
				t.Errorf("%s: %v, want an Error that is not retriable and says whose it is", name, err)
			}
			if before != "" {
				f.must(c.rdb.HSet(ctx, stored.key, stored.field, before).Err())
			} else {
				f.must(c.rdb.HDel(ctx, stored.key, stored.field).Err())
			}
		}
	})
}

type replyError string

func (e replyError) Error() string { return string(e) }
func (replyError) RedisError()     {}

func TestHalving(t *testing.T) {
	if got := halved(2*day, 24*time.Hour); got != 0.25 {
		t.Errorf("after two half-lives %v is left, want 0.25", got)
	}
}
