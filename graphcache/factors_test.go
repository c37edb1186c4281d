package graphcache

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/factors"
)

// someFactors are of items a to f, of users who have them in overlapping runs.
func someFactors(t testing.TB, seed uint64) *factors.Model {
	t.Helper()
	e := &factors.Edges{}
	for u := range 12 {
		for i := range 3 {
			if err := e.Add(fmt.Sprint("user", u), string(rune('a'+(u+i)%6)), 1); err != nil {
				t.Fatal(err)
			}
		}
	}
	return learned(t, e, seed)
}

func learned(t testing.TB, e *factors.Edges, seed uint64) *factors.Model {
	t.Helper()
	m, err := factors.Fit(t.Context(), e, factors.Options{Dimensions: 3, Sweeps: 2, Penalty: 1, Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// latentOf is a user's evidence by latent factors of an item.
func latentOf(t testing.TB, snapshot func(context.Context, Query) (Snapshot, error), user, item string) [2]float64 {
	t.Helper()
	s, err := snapshot(t.Context(), Query{User: user, Items: []string{item}})
	if err != nil {
		t.Fatal(err)
	}
	return s.Context.Candidates[0].Evidence.Latent
}

// A snapshot folds the user in by all edges that say anything, each by its kind.
func TestSnapshotHasLatentEvidence(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		f := &feed{T: t, c: c}
		three := 3.
		f.interactions(likes("u", "a", "b")...)
		f.interactions(
			event.Interaction{UserID: "u", ItemID: "c", Type: event.Rating, Value: &three, Timestamp: 20_001 * day},
			event.Interaction{UserID: "u", ItemID: "d", Type: event.Dislike, Timestamp: 20_001 * day},
			event.Interaction{UserID: "u", ItemID: "e", Type: event.Hide, Timestamp: 20_001 * day})
		if got := latentOf(t, c.Snapshot, "u", "f"); got != [2]float64{} {
			t.Errorf("without factors the evidence is %v", got)
		}
		m := someFactors(t, 1)
		c.UseFactors(m)
		taste := m.Taste([]factors.Edge{{Item: "a", Weight: 1}, {Item: "b", Weight: 1}, {Item: "c", Weight: .5}, {Item: "d", Weight: .25}})
		product, fit := taste.Of("f")
		if product == 0 {
			t.Fatal("the factors say nothing about f: take others")
		}
		if got := latentOf(t, c.Snapshot, "u", "f"); math.Abs(got[0]-product) > 1e-12 || math.Abs(got[1]-fit) > 1e-12 {
			t.Errorf("the evidence is %v, want %v and %v", got, product, fit)
		}
		for _, of := range [][2]string{{"u", "unknown"}, {"nobody", "a"}} {
			if got := latentOf(t, c.Snapshot, of[0], of[1]); got != [2]float64{} {
				t.Errorf("user %s, item %s: %v", of[0], of[1], got)
			}
		}
	})
}

// What the user's list has trimmed the items' lists may still have, and the other way round; edges count once, and those
// that say nothing do not.
func TestFactorEdgesAreOfBothEnds(t *testing.T) {
	embeddedtest.EachRedis(t, func(t *testing.T, opt *redis.UniversalOptions) {
		c, err := New(client(t, opt), Options{Bound: 2})
		if err != nil {
			t.Fatal(err)
		}
		f := &feed{T: t, c: c}
		f.interactions(likes("u", "a", "b", "c", "d")...) // a and b are trimmed from u's list
		f.interactions(likes("v", "a")...)
		f.interactions(likes("w", "a")...) // u's edge is trimmed from a's list, too
		f.interactions(event.Interaction{UserID: "w", ItemID: "b", Type: event.Hide, Timestamp: 20_001 * day})
		progress := 0
		e, err := c.FactorEdges(t.Context(), func(done, total int) {
			if done > total {
				t.Errorf("%d keys of %d", done, total)
			}
			progress = done
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := learned(t, e, 1).Training(); got.Users != 3 || got.Items != 4 || got.Edges != 5 { // u: b c d, v: a, w: a
			t.Errorf("learned from %d users, %d items and %d edges; want 3, 4 and 5", got.Users, got.Items, got.Edges)
		}
		if progress == 0 {
			t.Error("no progress was told")
		}
	})
}

// Readers see all of what was published last, in every generation, and nothing of what was taken away.
func TestPublishedFactorsAreRead(t *testing.T) {
	eachGenerations(t, func(t *testing.T, g *Generations, rdb redis.UniversalClient) {
		ctx := t.Context()
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		c, err := g.Current(ctx)
		must(err)
		(&feed{T: t, c: c}).interactions(likes("u", "a", "b")...)
		must(g.RefreshFactors(ctx)) // there are none
		expect := func(m *factors.Model) {
			t.Helper()
			want := [2]float64{}
			if m != nil {
				want[0], want[1] = m.Taste([]factors.Edge{{Item: "a", Weight: 1}, {Item: "b", Weight: 1}}).Of("c")
			}
			if got := latentOf(t, g.Snapshot, "u", "c"); math.Abs(got[0]-want[0]) > 1e-12 || math.Abs(got[1]-want[1]) > 1e-12 {
				t.Errorf("the evidence is %v, want %v", got, want)
			}
		}
		expect(nil)
		first, second := someFactors(t, 1), someFactors(t, 2)
		must(c.PublishFactors(ctx, first))
		must(g.RefreshFactors(ctx))
		expect(first)
		must(c.PublishFactors(ctx, second))
		expect(first) // until they are refreshed
		must(g.RefreshFactors(ctx))
		expect(second)
		onlyCurrentStay(t, c, 2, replacedFor)

		next, err := g.Begin(ctx, "me")
		must(err)
		(&feed{T: t, c: next}).interactions(likes("u", "a", "b")...)
		_, err = g.Switch(ctx, next.Generation(), "me", false)
		must(err)
		expect(second)
		must(g.RefreshFactors(ctx))
		expect(second)
		_, err = g.Drop(ctx, 0, 0)
		must(err)
		must(generationsOf(t, rdb).RefreshFactors(ctx)) // a process that has none yet

		must(rdb.Del(ctx, c.factorsKey()).Err())
		must(g.RefreshFactors(ctx))
		expect(nil)
	})
}

// onlyCurrentStay checks that the parts of the current factors stay, that all others expire, and that nothing else is on record.
func onlyCurrentStay(t testing.TB, c *Cache, publications int, within time.Duration) {
	t.Helper()
	ctx := t.Context()
	record := c.rdb.HGetAll(ctx, c.factorsKey()).Val()
	if len(record) != 1 {
		t.Errorf("on record are %v", record)
	}
	parts := 0
	err := ScanKeys(ctx, c.rdb, c.opt.Prefix+"{factors:*", func(rdb redis.UniversalClient, keys []string) error {
		for _, key := range keys {
			parts++
			left, current := rdb.TTL(ctx, key).Val(), strings.HasSuffix(key, ":"+record["current"])
			if current && left != -1 || !current && (left <= 0 || left > within) {
				t.Errorf("%s stays for %v; it is current: %v", key, left, current)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if publications > 0 && parts != publications*factorParts {
		t.Errorf("there are %d parts, want %d", parts, publications*factorParts)
	}
}

// Killed at any call, a publication has happened or it has not.
func TestPublishingFactorsSurvivesAKillAtAnyCall(t *testing.T) {
	embeddedtest.EachRedis(t, func(t *testing.T, opt *redis.UniversalOptions) {
		ctx := t.Context()
		rdb := client(t, opt)
		reader := func() *Cache {
			t.Helper()
			c, err := New(rdb, Options{})
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		first, second := someFactors(t, 1), someFactors(t, 2)
		of := func(m *factors.Model) (latent [2]float64) {
			latent[0], latent[1] = m.Taste([]factors.Edge{{Item: "a", Weight: 1}, {Item: "b", Weight: 1}}).Of("c")
			return latent
		}
		var had, has int // readers of the first, and of the second
		for n, through := 1, false; !through; n++ {
			if n == 4 {
				n = factorParts - 1 // one part is like another
			}
			for _, after := range []bool{false, true} {
				err := embeddedtest.Flush(ctx, rdb)
				if err == nil {
					err = reader().Join(ctx, likes("u", "a", "b"))
				}
				if err == nil {
					err = reader().PublishFactors(ctx, first)
				}
				if err != nil {
					t.Fatal(err)
				}
				broken := redis.NewUniversalClient(opt)
				kill := &faulty{at: n, after: after}
				broken.AddHook(kill)
				c, err := New(broken, Options{})
				if err != nil {
					t.Fatal(err)
				}
				err = c.PublishFactors(ctx, second)
				through = kill.calls < n
				broken.Close()
				r := reader()
				if err := r.RefreshFactors(ctx); err != nil {
					t.Errorf("killed at call %d (after: %v): %v", n, after, err)
				}
				got := latentOf(t, r.Snapshot, "u", "c")
				switch near := func(want [2]float64) bool { return math.Abs(got[0]-want[0]) < 1e-12 }; {
				case near(of(second)):
					has++
				case near(of(first)) && err != nil:
					had++
				default:
					t.Errorf("killed at call %d (after: %v): the evidence is %v", n, after, got)
				}
				if err := reader().PublishFactors(ctx, first); err != nil {
					t.Fatal(err)
				}
				onlyCurrentStay(t, reader(), 0, unpublishedFor)
				if t.Failed() {
					t.Fatalf("killed at call %d (after: %v)", n, after)
				}
			}
		}
		if had < 6 || has < 4 {
			t.Errorf("%d times the first factors were read, %d times the second: too few to say anything", had, has)
		}
	})
}

// What cannot be used leaves what is in use, is named, and is not read again.
func TestDamagedFactorsAreLeft(t *testing.T) {
	embeddedtest.EachRedis(t, func(t *testing.T, opt *redis.UniversalOptions) {
		ctx := t.Context()
		rdb := client(t, opt)
		gets := &countingGets{}
		rdb.AddHook(gets)
		c, err := New(rdb, Options{})
		if err != nil {
			t.Fatal(err)
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(c.Join(ctx, likes("u", "a", "b")))
		must(c.PublishFactors(ctx, someFactors(t, 1)))
		must(c.RefreshFactors(ctx))
		want := latentOf(t, c.Snapshot, "u", "c")
		must(c.PublishFactors(ctx, someFactors(t, 2)))
		name := rdb.HGet(ctx, c.factorsKey(), "current").Val()
		must(rdb.Append(ctx, c.factorPartKey(name, 5), "x").Err())
		for range 3 {
			err := c.RefreshFactors(ctx)
			var later interface{ Retriable() bool }
			if err == nil || !strings.Contains(err.Error(), "part 6 of 64: its checksum is wrong: it is damaged or cut off: learn them again with r2rec factors") || !errors.As(err, &later) || later.Retriable() {
				t.Errorf("the error is %v", err)
			}
		}
		if gets.n != 2*factorParts { // once the good ones, once the damaged ones
			t.Errorf("%d GETs were sent", gets.n)
		}
		if got := latentOf(t, c.Snapshot, "u", "c"); got != want {
			t.Errorf("the evidence is %v, want the former %v", got, want)
		}
		must(rdb.Del(ctx, c.factorPartKey(name, 7)).Err())
		fresh, err := New(rdb, Options{})
		must(err)
		if err := fresh.RefreshFactors(ctx); err == nil || !strings.Contains(err.Error(), "part 8 of 64 of \""+name+"\" is missing: learn them again with r2rec factors") {
			t.Errorf("the error is %v", err)
		}
		must(c.PublishFactors(ctx, someFactors(t, 3)))
		must(c.RefreshFactors(ctx))
		if got := latentOf(t, c.Snapshot, "u", "c"); got == want {
			t.Error("factors that were learned again are not in use")
		}
	})
}

// countingGets counts the single GETs.
type countingGets struct{ n int }

func (*countingGets) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h *countingGets) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "get" {
			h.n++
		}
		return next(ctx, cmd)
	}
}
func (*countingGets) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
