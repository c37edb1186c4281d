package graphcache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
)

// eachGenerations gives each server an empty graph of generations.
func eachGenerations(t *testing.T, f func(t *testing.T, g *Generations, rdb redis.UniversalClient)) {
	embeddedtest.EachRedis(t, func(t *testing.T, opt *redis.UniversalOptions) {
		rdb := client(t, opt)
		f(t, generationsOf(t, rdb), rdb)
	})
}

func generationsOf(t testing.TB, rdb redis.UniversalClient) *Generations {
	t.Helper()
	g, err := NewGenerations(rdb, Options{ForgetKey: []byte("test")})
	if err == nil {
		err = g.Configure(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// states are the generations that are listed, as text.
func states(t testing.TB, g *Generations) string {
	t.Helper()
	all, err := g.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var s []string
	for _, one := range all {
		s = append(s, fmt.Sprintf("%d %s", one.Number, one.State))
	}
	return strings.Join(s, ", ")
}

// Everybody is in the new generation from the switch on; writers find that it lacks what they know, and readers what it has.
func TestEverybodySwitchesAtOnce(t *testing.T) {
	eachGenerations(t, func(t *testing.T, g *Generations, rdb redis.UniversalClient) {
		ctx := t.Context()
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		other := generationsOf(t, rdb) // another process
		must(g.ApplyItems(ctx, event.Span{Topic: "items", End: 2}, catalogue("old", "new")))
		must(g.ApplyInteractions(ctx, event.Span{Topic: "interactions", End: 1}, likes("u", "old")))
		next, err := g.Begin(ctx, "me")
		must(err)
		must(next.ApplyItems(ctx, event.Span{Topic: "items", End: 2}, catalogue("old", "new")))
		must(next.ApplyInteractions(ctx, event.Span{Topic: "interactions", End: 3}, likes("u", "old", "new")))
		history := func(g *Generations, want ...string) {
			t.Helper()
			s, err := g.Snapshot(ctx, Query{User: "u", Candidates: 3, History: 5})
			must(err)
			var got []string
			for _, h := range s.Context.History {
				got = append(got, h.ItemID)
			}
			if !slices.Equal(got, want) {
				t.Errorf("the history is %v, want %v", got, want)
			}
			if again, err := g.Snapshot(ctx, Query{User: "u", Candidates: 3, History: 5}); err != nil || again.RoundTrips > 4 || s.RoundTrips > 5 {
				t.Errorf("a snapshot took %d round trips, and another one %d, %v; want at most 4, and one more after a switch", s.RoundTrips, again.RoundTrips, err)
			}
		}
		history(other, "old")
		if _, err := g.Switch(ctx, next.Generation(), "somebody else", false); !errors.As(err, new(*NotYoursError)) {
			t.Errorf("a switch by another builder gives %v, want a NotYoursError", err)
		}
		history(other, "old")
		for range 2 { // an answer that got lost is asked for again
			if before, err := g.Switch(ctx, next.Generation(), "me", false); err != nil || before != 0 {
				t.Errorf("switched from %d, %v, want from 0", before, err)
			}
		}
		history(g, "new", "old")
		history(other, "new", "old")
		if got, want := states(t, other), "1 current, 0 old"; got != want {
			t.Errorf("generations are %s, want %s", got, want)
		}
		// Who was behind what the new generation has is not; who was ahead of it is told where it stands.
		if at, ok, err := other.Watermark(ctx, "interactions", 0); at != 3 || !ok || err != nil {
			t.Errorf("the watermark is %d %v %v, want 3", at, ok, err)
		}
		var behind *event.BehindError
		err = other.ApplyInteractions(ctx, event.Span{Topic: "interactions", Start: 7, End: 8}, likes("u", "later"))
		if !errors.As(err, &behind) || behind.Lowest != 3 {
			t.Errorf("a batch that joins on to the old generation gives %v, want a BehindError at 3", err)
		}
		history(other, "new", "old", "later") // being a join, its data do no harm
		if n, err := g.Drop(ctx, 0, 0); n == 0 || err != nil {
			t.Errorf("dropped %d keys, %v", n, err)
		}
		for key := range embeddedtest.Dump(t, rdb) {
			if strings.HasPrefix(key, "r2:{") {
				t.Errorf("%s is left of generation 0", key)
			}
		}
		history(other, "new", "old", "later")
		if _, err := g.Drop(ctx, 1, 0); err == nil {
			t.Error("the current generation can be deleted")
		}
		if got, want := states(t, g), "1 current"; got != want {
			t.Errorf("generations are %s, want %s", got, want)
		}
	})
}

// What is kept can be gone back to; what a killed rebuild left is found, listed or not, and nothing else is taken for it.
func TestKeptAndLeftGenerations(t *testing.T) {
	eachGenerations(t, func(t *testing.T, g *Generations, rdb redis.UniversalClient) {
		ctx := t.Context()
		apply := func(c *Cache) {
			t.Helper()
			if err := c.Join(ctx, likes("u", "a")); err != nil {
				t.Fatal(err)
			}
		}
		current, err := g.Current(ctx)
		if err != nil {
			t.Fatal(err)
		}
		apply(current)
		one, err := g.Begin(ctx, "one")
		if err != nil {
			t.Fatal(err)
		}
		apply(one)
		if _, err := g.Switch(ctx, 1, "one", true); err != nil {
			t.Fatal(err)
		}
		two, err := g.Begin(ctx, "two")
		if err != nil {
			t.Fatal(err)
		}
		apply(two)
		apply(current.generation(7)) // nobody lists it
		if _, err := g.first.CommitJoin(ctx, "interactions", 1, 0, []byte("head"), []event.JoinUser{{UserID: "u", State: []byte("S")}}); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"r2:rec:{5}:i:x", "r2:{64}:i:x", "r2:07:{5}:i:x", "r2:7:{05}:i:x", "r2:{x}:1:{5}:i:x"} {
			rdb.Set(ctx, key, "an app's", 0)
		}
		left, err := g.Leftovers(ctx)
		if want := []int{2, 7}; err != nil || !slices.Equal(left, want) {
			t.Errorf("leftovers are %v, %v, want %v", left, err, want)
		}
		for _, n := range left {
			if _, err := g.Drop(ctx, n, 0); err != nil {
				t.Fatal(err)
			}
		}
		if got, want := states(t, g), "1 current, 0 kept"; got != want {
			t.Errorf("generations are %s, want %s", got, want)
		}
		if before, err := g.Back(ctx, 0); before != 1 || err != nil {
			t.Errorf("went back from %d, %v, want from 1", before, err)
		}
		if got, want := states(t, g), "0 current, 1 kept"; got != want {
			t.Errorf("generations are %s, want %s", got, want)
		}
		if three, err := g.Begin(ctx, "three"); err != nil || three.Generation() != 3 {
			t.Errorf("the next generation is %+v, %v, want 3: numbers are not given twice", three, err)
		}
		rdb.Del(ctx, "r2:generation") // Redis was restored to a state before the rebuild began
		if _, err := g.Switch(ctx, 3, "three", false); !errors.As(err, new(*NotYoursError)) {
			t.Errorf("after a restoration the switch gives %v, want a NotYoursError", err)
		}
		var apps int
		for _, value := range embeddedtest.Dump(t, rdb) {
			if value == "an app's" {
				apps++
			}
		}
		if apps != 5 {
			t.Errorf("%d of 5 keys of an app are left", apps)
		}
	})
}

// Whoever is forgotten is so in all generations: in the one that is being built, which may have read the topic before,
// and in those that are kept.
func TestUsersAreForgottenInAllGenerations(t *testing.T) {
	eachGenerations(t, func(t *testing.T, g *Generations, rdb redis.UniversalClient) {
		ctx := t.Context()
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		history := buyers(rand.New(rand.NewPCG(1, 1)), 10, 20, 20_000*day)
		span := event.Span{Topic: "interactions", End: int64(len(history))}
		must(g.ApplyInteractions(ctx, span, history))
		kept, err := g.Begin(ctx, "kept")
		must(err)
		must(kept.ApplyInteractions(ctx, span, history))
		_, err = g.Switch(ctx, 1, "kept", true)
		must(err)
		building, err := g.Begin(ctx, "building")
		must(err)
		must(building.ApplyInteractions(ctx, span, history))

		must(g.ApplyUsers(ctx, event.Span{Topic: "users", End: 1}, []event.User{{UserID: "user-3-", ForgetBefore: 20_001 * day}}))
		embeddedtest.Nowhere(t, rdb, "user-3-", "forgotten,")
		must(building.ApplyInteractions(ctx, span, history))
		embeddedtest.Nowhere(t, rdb, "user-3-", "with the rest of the log in the generation that is being built,")
		if err := g.Stands(ctx, "user-3-", 20_001*day-1, nil); !errors.Is(err, event.ErrForgotten) {
			t.Errorf("what was made before stands: %v", err)
		}
		must(g.Stands(ctx, "user-3-", 20_001*day, nil))
		if at, err := g.ForgetBefore(ctx, "user-3-"); at != 20_001*day || err != nil {
			t.Errorf("forgotten before %v, %v", at, err)
		}
		if at, ok, err := building.Watermark(ctx, "users", 0); ok || err != nil {
			t.Errorf("the generation that is being built has a watermark of users, %d, %v: it has not read them", at, err)
		}
		traces, err := g.Traces(ctx, "user-4-")
		must(err)
		one, err := building.Traces(ctx, "user-4-")
		must(err)
		if diff := cmp.Diff(3*one.Lists, traces.Lists); diff != "" || traces.Lists == 0 {
			t.Errorf("traces in three generations are %+v, in one %+v", traces, one)
		}
	})
}

// Readers who ask while one generation takes the place of the other, over and over, see one of them, whole.
func TestReadersSeeOneGenerationWhole(t *testing.T) {
	eachGenerations(t, func(t *testing.T, g *Generations, rdb redis.UniversalClient) {
		ctx := t.Context()
		fill := func(c *Cache, n int) {
			var ids []string
			for i := range 12 {
				ids = append(ids, fmt.Sprintf("%d-%d", n, i))
			}
			err := errors.Join(c.ApplyItems(ctx, event.Span{Topic: "items", End: 12}, catalogue(ids...)),
				c.ApplyInteractions(ctx, event.Span{Topic: "interactions", End: 16}, append(likes("u", ids[:4]...), likes("twin", ids...)...)))
			if err != nil {
				t.Fatal(err)
			}
		}
		current, err := g.Current(ctx)
		if err != nil {
			t.Fatal(err)
		}
		fill(current, 0)
		var readers sync.WaitGroup
		var grace sync.RWMutex // held for reading by snapshots under way
		done := make(chan struct{})
		reading := make(chan struct{}, 1)
		for range 3 {
			reader := generationsOf(t, rdb)
			readers.Go(func() {
				for {
					grace.RLock()
					s, err := reader.Snapshot(context.WithoutCancel(ctx), Query{User: "u", Candidates: 20, Chains: 10, History: 10})
					grace.RUnlock()
					if err != nil || len(s.Context.History) != 4 || len(s.Context.Candidates) != 8 {
						t.Errorf("a reader sees %d of 4 items chosen and %d of 8 candidates, %v", len(s.Context.History), len(s.Context.Candidates), err)
						return
					}
					of, _, _ := strings.Cut(s.Context.History[0].ItemID, "-")
					for _, c := range s.Context.Candidates {
						if !strings.HasPrefix(c.ItemID, of+"-") {
							t.Errorf("a reader sees %s beside %s", c.ItemID, s.Context.History[0].ItemID)
							return
						}
					}
					select {
					case <-done:
						return
					case reading <- struct{}{}:
					default:
					}
				}
			})
		}
		former := -1
		for n := 1; n <= 12; n++ {
			next, err := g.Begin(ctx, fmt.Sprint(n))
			if err != nil {
				t.Fatal(err)
			}
			fill(next, n)
			<-reading
			before, err := g.Switch(ctx, n, fmt.Sprint(n), false)
			if err != nil {
				t.Fatal(err)
			}
			grace.Lock() // who read the former generation has ended
			drop := former
			former = before
			grace.Unlock()
			if drop < 0 {
				continue
			}
			if _, err := g.Drop(ctx, drop, 0); err != nil {
				t.Fatal(err)
			}
		}
		close(done)
		readers.Wait()
	})
}

// All who write a graph keep as many edges a node as it was begun with, whatever they find Redis set up for when they start, and
// also after a switch to one with another bound; whoever was told another bound is refused.
func TestWritersKeepToTheBoundOfTheGraph(t *testing.T) {
	eachGenerations(t, func(t *testing.T, g *Generations, rdb redis.UniversalClient) {
		ctx := t.Context()
		found := func(bound, maxNew int, anew bool) *Generations { // as Configure finds it
			t.Helper()
			other, err := NewGenerations(rdb, Options{Anew: anew})
			if err != nil {
				t.Fatal(err)
			}
			other.first.opt.Bound, other.first.opt.MaxNew = bound, maxNew
			return other
		}
		keeps := func(when string, g *Generations, want int) {
			t.Helper()
			at, _, err := g.Watermark(ctx, "t", 0)
			if err == nil {
				err = g.ApplyInteractions(ctx, event.Span{Topic: "t", Start: at, End: at + 1}, likes("u", "x"))
			}
			if err != nil || g.Bound() != want {
				t.Errorf("%s: a node keeps %d edges, %v; want %d", when, g.Bound(), err, want)
			}
		}
		tight, wide := found(tightBound, tightMaxNew, false), found(compactBound, compactMaxNew, false)
		if n := rdb.Exists(ctx, g.first.boundsKey()).Val(); n != 0 {
			t.Error("who only looks writes down how many edges a node keeps")
		}
		keeps("who comes first", tight, tightBound)
		keeps("who comes later", wide, tightBound)
		if n := wide.current.Load().opt.MaxNew; n != tightMaxNew {
			t.Errorf("%d come in at once, want %d", n, tightMaxNew)
		}
		chosen, err := NewGenerations(rdb, Options{Bound: 50})
		if err != nil {
			t.Fatal(err)
		}
		err = chosen.Configure(ctx)
		var own interface{ Retriable() bool }
		if !errors.As(err, &own) || own.Retriable() || !strings.Contains(err.Error(), "keeps 96 edges") || !strings.Contains(err.Error(), "keep 50") {
			t.Errorf("who was told another: %v", err)
		}
		same, err := NewGenerations(rdb, Options{Bound: tightBound})
		if err != nil {
			t.Fatal(err)
		}
		keeps("who was told the same", same, tightBound)

		anew := found(compactBound, compactMaxNew, true)
		next, err := anew.Begin(ctx, "me")
		if err == nil {
			_, err = anew.Switch(ctx, next.Generation(), "me", false)
		}
		if err != nil {
			t.Fatal(err)
		}
		if anew.Bound() != compactBound || next.Bound() != compactBound {
			t.Errorf("begun anew with %d and %d edges a node", anew.Bound(), next.Bound())
		}
		keeps("after the switch", wide, compactBound)
		keeps("after the switch", tight, compactBound)
		if _, err := wide.Drop(ctx, 0, 0); err != nil {
			t.Fatal(err)
		}
		if all := rdb.HGetAll(ctx, g.first.boundsKey()).Val(); len(all) != 1 || all["1"] != "128 128" {
			t.Errorf("written down are %v, want those of generation 1", all)
		}

		// What Redis lost is written down again, by who goes back first; also where the generation is the same as before.
		for range 2 {
			if err := embeddedtest.Flush(ctx, rdb); err != nil {
				t.Fatal(err)
			}
			for _, g := range []*Generations{wide, tight} {
				var behind *event.BehindError
				if err := g.ApplyInteractions(ctx, event.Span{Topic: "t", Start: 9, End: 10}, likes("u", "x")); !errors.As(err, &behind) {
					t.Fatalf("a batch that does not follow: %v", err)
				}
				if err := g.ApplyInteractions(ctx, event.Span{Topic: "t", End: 1}, likes("u", "x")); err != nil {
					t.Fatal(err)
				}
			}
			if all := rdb.HGetAll(ctx, g.first.boundsKey()).Val(); len(all) != 1 || all["0"] != "128 128" || tight.Bound() != compactBound {
				t.Errorf("after a flush %v is written down, and a node keeps %d, want 128", all, tight.Bound())
			}
		}
	})
}
