package graphcache

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
)

// TestMaskedIsAGraphWithoutTheEdges compares with what a graph answers that never had the edges, to the last bit, for
// candidates that are named and such that were found.
func TestMaskedIsAGraphWithoutTheEdges(t *testing.T) {
	rdb, ctx := client(t, &redis.UniversalOptions{Addrs: []string{embeddedtest.Redis(t)}}), t.Context()
	graphs, masked, latent := 0, 0, someFactors(t, 1)
	rapid.Check(t, func(rt *rapid.T) {
		read := DefaultRead
		read.Neighbours, read.Met = rapid.IntRange(1, 8).Draw(rt, "neighbours"), rapid.IntRange(1, 8).Draw(rt, "met")
		graph := func(log []event.Interaction) *Cache {
			graphs++
			c, err := New(rdb, Options{Prefix: fmt.Sprintf("mask%d:", graphs), Read: read, Lists: ListsRange})
			if err == nil {
				err = c.Join(ctx, log)
			}
			if err == nil {
				err = c.ApplyItems(ctx, event.Span{Topic: "items", End: 6}, catalogue("a", "b", "c", "d", "e", "f"))
			}
			if err != nil {
				rt.Fatal(err)
			}
			c.UseFactors(latent)
			return c
		}
		ask := func(c *Cache, q Query) Snapshot {
			s, err := c.Snapshot(ctx, q)
			if err != nil {
				rt.Fatal(err)
			}
			return s
		}

		items := []string{"a", "b", "c", "d", "e", "f"}
		var log []event.Interaction
		between := 3.
		for i, in := range rapid.SliceOfNDistinct(rapid.Custom(func(rt *rapid.T) choice {
			return choice{fmt.Sprint("u", rapid.IntRange(0, 5).Draw(rt, "user")), rapid.SampledFrom(items).Draw(rt, "item")}
		}), 14, 36, rapid.ID[choice]).Draw(rt, "edges") {
			typ := rapid.SampledFrom([]event.Type{event.Like, event.Like, event.Like, event.Dislike, event.Rating}).Draw(rt, "type")
			at := noon + event.Time(rapid.IntRange(0, 3).Draw(rt, "days"))*day + event.Time(i)
			log = append(log, event.Interaction{UserID: in.user, ItemID: in.item, Type: typ, Value: &between, Timestamp: at})
		}
		whole := graph(log)
		q := Query{User: "u0", Items: append([]string{"unknown"}, items...), Chains: rapid.IntRange(1, 30).Draw(rt, "chains"), History: 6, At: noon + 9*day}
		found := rapid.Bool().Draw(rt, "found")
		if found {
			q.Items, q.Candidates = nil, 9
		}
		s := ask(whole, q)
		if same, err := s.Without(); err != nil || cmp.Diff(s.Context, same) != "" {
			rt.Fatalf("nothing masked: %v\n%s", err, cmp.Diff(s.Context, same))
		}
		var all []event.Chain
		for _, item := range items {
			all = append(all, s.ChainsTo(item)...)
		}
		for _, ch := range s.Context.Chains {
			if !slices.Contains(all, ch) {
				rt.Fatalf("chain %+v leads to none of the items by ChainsTo: %+v", ch, all)
			}
		}
		if len(all) == 0 {
			return
		}
		mask := rapid.SliceOfN(rapid.SampledFrom(all), 1, 3).Draw(rt, "mask")
		got, err := s.Without(mask...)
		if err != nil {
			rt.Fatal(err)
		}
		if again, err := s.Without(mask...); err != nil || cmp.Diff(got, again) != "" {
			rt.Fatalf("masked a second time: %v\n%s", err, cmp.Diff(got, again))
		}
		masked++

		q.Items = nil
		for _, c := range got.Candidates {
			q.Items = append(q.Items, c.ItemID)
		}
		want := ask(graph(slices.DeleteFunc(slices.Clone(log), func(in event.Interaction) bool {
			return slices.ContainsFunc(mask, func(ch event.Chain) bool { return ch.Neighbour == in.UserID && ch.ItemID == in.ItemID })
		})), q).Context
		for i := range want.Candidates {
			want.Candidates[i].Origin = got.Candidates[i].Origin // which a query that names them does not say
		}
		if d := cmp.Diff(want, got); d != "" {
			rt.Fatalf("without %+v (-a graph without them +masked):\n%s", mask, d)
		}

		if !found {
			return
		}
		q.Items, q.Candidates = nil, 1 // what is not chosen has its say all the same: ages are counted from the pool's newest
		one := ask(whole, q)
		alone, err := one.Without(one.Context.Chains[0])
		if err != nil {
			rt.Fatal(err)
		}
		if got, err = s.Without(one.Context.Chains[0]); err != nil {
			rt.Fatal(err)
		}
		if d := cmp.Diff(got.Candidates[0], alone.Candidates[0]); d != "" {
			rt.Fatalf("as one of several and alone:\n%s", d)
		}
	})
	if masked < 20 {
		t.Errorf("only %d worlds had a chain to mask", masked)
	}
}

// TestMaskingByHand: v is the like-minded user behind x and q.
func TestMaskingByHand(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		f := &feed{T: t, c: c}
		f.items(smallCatalogue()...)
		f.interactions(smallWorld()...)
		s, err := c.Snapshot(t.Context(), Query{User: "u", Items: []string{"x", "q"}, Chains: 5, At: noon + 11*day})
		if err != nil {
			t.Fatal(err)
		}
		toX := s.ChainsTo("x")
		if len(toX) != 2 || toX[0].Neighbour != "v" || toX[1].Neighbour != "v" || len(s.Context.Chains) != 4 {
			t.Fatalf("the chains to x are %+v, of %+v in all; want v's two of four", toX, s.Context.Chains)
		}
		got, err := s.Without(toX[0])
		if err != nil {
			t.Fatal(err)
		}
		x, q := got.Candidates[0].Evidence, got.Candidates[1].Evidence
		if x.Popularity != 3 || x.Support != 0 || x.Chains != 0 || x.LikeMinded != 1./4 {
			t.Errorf("x is %+v, want 3 users, of whom w alone shares a choice", x)
		}
		if q.Popularity != 2 || q.LikeMinded != 4./(2*3) {
			t.Errorf("q is %+v, want v behind it, of whom 3 choices are left", q)
		}
		if len(got.Chains) != 2 || got.Chains[0].ItemID != "q" || got.Chains[1].ItemID != "q" {
			t.Errorf("the chains are %+v, want those to q", got.Chains)
		}
		if e := s.Context.Candidates[0].Evidence; e.Popularity != 4 {
			t.Error("the snapshot's own context was changed")
		}
	})
}

func TestMaskingWhatIsNotThere(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		f := &feed{T: t, c: c}
		f.items(smallCatalogue()...)
		f.interactions(smallWorld()...)
		s, err := c.Snapshot(t.Context(), Query{User: "u", Items: []string{"x", "a"}, Chains: 5})
		if err != nil {
			t.Fatal(err)
		}
		for _, ch := range []event.Chain{
			{Via: "a", Neighbour: "nobody", ItemID: "x"},
			{Via: "q", Neighbour: "v", ItemID: "x"}, // q is not shared
			{Via: "a", Neighbour: "v", ItemID: "q"}, // no candidate
			{Via: "b", Neighbour: "v", ItemID: "a"}, // the user's own
			{},
		} {
			if _, err := s.Without(s.Context.Chains[0], ch); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", ch.ItemID)) {
				t.Errorf("%+v: %v, want an error that names the chain", ch, err)
			}
		}
		if _, err := (Snapshot{}).Without(event.Chain{}); err == nil {
			t.Error("an empty snapshot has a chain")
		}
	})
}

// TestMaskingWhatWasNotChosen: what a neighbour did last is kept for the ages' sake; where that is no choice, no chain ends in it.
func TestMaskingWhatWasNotChosen(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		f := &feed{T: t, c: c}
		f.interactions(likes("u", "a", "b")...)
		f.interactions(append(likes("v", "a", "b", "y"), event.Interaction{UserID: "v", ItemID: "x", Type: event.Dislike, Timestamp: 20_001 * day})...)
		f.interactions(likes("w", "a", "b", "x")...)
		s, err := c.Snapshot(t.Context(), Query{User: "u", Items: []string{"x", "y"}, Chains: 9})
		f.must(err)
		if got, err := s.Without(event.Chain{Via: "a", Neighbour: "v", ItemID: "x"}); err == nil {
			t.Errorf("without what v dislikes there is %+v, want an error: no chain ends there", got)
		}
		for _, ch := range append(s.ChainsTo("x"), s.ChainsTo("y")...) {
			if _, err := s.Without(ch); err != nil {
				t.Errorf("%+v: %v", ch, err)
			}
		}
	})
}

// TestMaskingAtTheSameTime is for the race detector.
func TestMaskingAtTheSameTime(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		f := &feed{T: t, c: c}
		f.items(smallCatalogue()...)
		f.interactions(smallWorld()...)
		s, err := c.Snapshot(t.Context(), Query{User: "u", Items: []string{"x", "q"}, Chains: 5, At: noon + 11*day})
		if err != nil {
			t.Fatal(err)
		}
		want, err := s.Without(s.Context.Chains[0])
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 20 {
					if got, err := s.Without(s.Context.Chains[0]); err != nil || cmp.Diff(want, got) != "" {
						t.Errorf("masked beside others: %v %s", err, cmp.Diff(want, got))
					}
				}
			})
		}
		wg.Wait()
	})
}

// TestTrendsHaveTheirChains: an item that comes from trends because the pool was full has the weight of its chains all
// the same.
func TestTrendsHaveTheirChains(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		f := &feed{T: t, c: c}
		f.items(catalogue("a", "b", "x", "y")...)
		f.interactions(append(likes("u", "a", "b"), likes("n", "a", "b", "x", "y")...)...)
		f.must(c.RefreshTrends(t.Context()))
		c.opt.Read.Pool = 1
		var seen []event.Candidate
		_, err := c.Snapshot(t.Context(), Query{User: "u", Candidates: 1, Trending: 1, Chains: 1, Rank: func(c event.Context) []float64 {
			seen = c.Candidates
			return make([]float64, len(seen))
		}})
		if err != nil {
			t.Fatal(err)
		}
		if len(seen) != 2 || seen[1].Origin != event.FromTrends || seen[1].Evidence.Chains <= 0 {
			t.Errorf("the pool is %+v, want one from chains and one from trends, with chains", seen)
		}
	})
}
