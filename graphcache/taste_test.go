package graphcache

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
)

const (
	noon   = 20_000 * day // the newest edge of a candidate
	minute = day / 1440
)

// smallWorld is a graph whose evidence can be computed by hand. The user u chose b and then a, and dislikes d; v chose
// both, w only a, y dislikes d too, and z has nothing in common with u.
//
//	a: u v w    b: u v    d: u- y-    x: v w z y-    q: v z
func smallWorld() []event.Interaction {
	edge := func(user, item string, typ event.Type, at event.Time) event.Interaction {
		return event.Interaction{UserID: user, ItemID: item, Type: typ, Timestamp: at}
	}
	return []event.Interaction{
		edge("u", "a", event.Like, noon+10*day),
		edge("u", "d", event.Dislike, noon+9*day),
		edge("u", "b", event.Like, noon+8*day),
		edge("v", "b", event.Like, noon+minute),
		edge("v", "x", event.Like, noon),
		edge("v", "a", event.Like, noon-20*minute),
		edge("v", "q", event.Like, noon-180*day),
		edge("w", "x", event.Like, noon-180*day),
		edge("w", "a", event.Like, noon-180*day),
		edge("y", "x", event.Dislike, noon-day),
		edge("y", "d", event.Dislike, noon-2*day),
		edge("z", "x", event.Like, noon-360*day),
		edge("z", "q", event.Like, noon-360*day),
	}
}

func smallCatalogue() []event.Item {
	return []event.Item{
		{ItemID: "a", Title: "A", Categories: []string{"Drama", "War"}},
		{ItemID: "b", Title: "B", Categories: []string{"War"}},
		{ItemID: "d", Title: "D", Categories: []string{"Comedy"}},
		{ItemID: "x", Title: "X", Categories: []string{"War", "Comedy"}},
		{ItemID: "q", Title: "Q"},
	}
}

// handmade is the evidence of x for u, asked 11 days after noon, by the definitions of event.Evidence.
func handmade() event.Evidence {
	two := math.Exp2
	return event.Evidence{
		// v alone shares two: idf(a) + idf(b) two days older; 2 shared of v's 4 edges: 2/√4 = 1; x a minute older than b.
		Chains:  (1/math.Log2(5) + two(-2./730)/math.Log2(4)) * two(-1./(1440*730)),
		Support: 1, // v
		// v: 2² / (2 likes · 4 edges) = 1/2; w: 1² / (2 · 2) = 1/4, half a year old.
		LikeMinded:       1./2 + 1./4,
		LikeMindedRecent: [3]float64{1./2 + two(-180./14)/4, 1./2 + 1./8, 1./2 + two(-180./1460)/4},
		// v: 2² / (3 · 4); w and y: 1² / (3 · 2).
		Interest: 1./3 + 1./6 + 1./6,
		// a is chosen by 3 and x by 3, both by v and w: 2/3; b by 2, both by v: 1/√6.
		Similar:       2./3 + two(-.1)/math.Sqrt(6),
		SimilarLast:   2./3 + two(-1./3)/math.Sqrt(6),
		SimilarRecent: (1+1./2)/3 + two(-.1)/math.Sqrt(6),
		// Of 4 who dealt with x: 2 of a's 3; 1 of d's 2; 1 of b's 2.
		SimilarAny: 2/math.Sqrt(12) + two(-.1)/math.Sqrt(8) + two(-.2)/math.Sqrt(8),
		Best:       2. / 3,
		Lift:       2./9 + two(-.1)/6,
		// a to x: v after 20 minutes, w at once; d to x: y after a day; x to b: v after a minute.
		After: [3]float64{
			(1./21+1)/math.Sqrt(12) + two(-.25)/math.Sqrt(8)/1441,
			(1./2+1)/math.Sqrt(12) + two(-.25)/math.Sqrt(8)/73,
			(72./73+1)/math.Sqrt(12) + two(-.25)/math.Sqrt(8)/2,
		},
		Before:   [3]float64{1. / 4 / 2, 1. / 4 * 20 / 21, 1. / 4 * 1440 / 1441}, // 2^(-2/4)/√8 = 1/4
		Together: 1/math.Sqrt(12) + 1./4,
		// The same gaps either way: v 20 minutes and w none from a, y a day from d, v a minute from b.
		Near: [3]float64{
			(1./241+1)/math.Sqrt(12) + 1./2/17281/math.Sqrt(8) + 1./4/13/math.Sqrt(8),
			(1./21+1)/math.Sqrt(12) + 1./2/1441/math.Sqrt(8) + 1./4/2/math.Sqrt(8),
			(1./21+1)/math.Sqrt(12) + two(-1./32)/1441/math.Sqrt(8) + two(-2./32)/2/math.Sqrt(8),
		},
		Transition: [2]float64{
			(1./21+1)/3 + two(-1./4)/1441/2 + two(-2./4)/2/2,
			(1./21+1)/12 + two(-1./4)/1441/8 + two(-2./4)/2/8,
		},
		Session:    [2]float64{1/math.Sqrt(12) + two(-.2)/math.Sqrt(8), 2/math.Sqrt(12) + two(-2./32)/math.Sqrt(8)},
		Recent:     [3]float64{1 + two(-180./14) + two(-360./14), 1 + 1./2 + 1./4, 1 + two(-180./1460) + two(-360./1460)},
		RecentAny:  [3]float64{1 + two(-180./14) + two(-360./14) + two(-1./14), 1 + 1./2 + 1./4 + two(-1./180), 1 + two(-180./1460) + two(-360./1460) + two(-1./1460)},
		Popularity: 4,
		Liked:      3,
		Ages:       [4]float64{11 * 86400, 371 * 86400, 0, 371 * 86400},
		Category:   (1 + two(-.1)) / (2 + two(-.1)), // War of Drama, War, War
	}
}

func TestEvidenceByHand(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		f := &feed{T: t, c: c}
		f.items(smallCatalogue()...)
		f.interactions(smallWorld()...)
		q := Query{User: "u", Items: []string{"q", "x", "unknown"}, Chains: 5, History: 9, At: noon + 11*day}
		s, err := c.Snapshot(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		got := s.Context.Candidates
		if len(got) != 3 || got[0].ItemID != "q" || got[1].ItemID != "x" || got[2].ItemID != "unknown" {
			t.Fatalf("candidates are %+v, want q, x and unknown", got)
		}
		if d := cmp.Diff(handmade(), got[1].Evidence, cmpopts.EquateApprox(1e-12, 0)); d != "" {
			t.Errorf("evidence of x (-by hand +got):\n%s", d)
		}
		if d := cmp.Diff(event.Candidate{ItemID: "unknown", Title: "unknown"}, got[2]); d != "" {
			t.Errorf("an unknown item (-want +got):\n%s", d)
		}
		if s.Context.Idle != 86400 || s.Context.Likes != 2 || len(s.Context.History) != 2 {
			t.Errorf("idle is %v, likes %d, history %+v; want a day and two", s.Context.Idle, s.Context.Likes, s.Context.History)
		}

		// Without chains all the rest is the same.
		q.Chains = 0
		without, err := c.Snapshot(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		want := s.Context
		want.Chains = nil
		if d := cmp.Diff(want, without.Context, cmpopts.IgnoreFields(event.Evidence{}, "Chains")); d != "" {
			t.Errorf("without chains (-want +got):\n%s", d)
		}
		for _, candidate := range without.Context.Candidates {
			if candidate.Evidence.Chains != 0 {
				t.Errorf("chains were not asked for, %s has %v of them", candidate.ItemID, candidate.Evidence.Chains)
			}
		}
	})
}

// TestEvidenceForAStranger: what depends on the user is nothing, what does not is there.
func TestEvidenceForAStranger(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		f := &feed{T: t, c: c}
		f.interactions(smallWorld()...)
		s, err := c.Snapshot(t.Context(), Query{User: "nobody", Items: []string{"x"}, Chains: 5, History: 9, At: noon + 11*day})
		if err != nil {
			t.Fatal(err)
		}
		whole := handmade()
		want := event.Context{Candidates: []event.Candidate{{ItemID: "x", Title: "x",
			Evidence: event.Evidence{Recent: whole.Recent, RecentAny: whole.RecentAny, Popularity: whole.Popularity, Liked: whole.Liked, Ages: whole.Ages}}}}
		if d := cmp.Diff(want, s.Context, cmpopts.EquateApprox(1e-12, 0)); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	})
}

// TestDislikesAreInterestAndNoChoices: who chose what the user chose and dislikes the candidate says that it is of their
// world, and not that it is good.
func TestDislikesAreInterestAndNoChoices(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		f := &feed{T: t, c: c}
		f.interactions(likes("u", "a")...)
		f.interactions(append(likes("v", "a"), event.Interaction{UserID: "v", ItemID: "x", Type: event.Dislike, Timestamp: 20_000*day + 60_000})...)
		s, err := c.Snapshot(t.Context(), Query{User: "u", Items: []string{"x"}, Chains: 5, At: 20_001 * day})
		if err != nil {
			t.Fatal(err)
		}
		w := 1 / math.Sqrt(2) // a has two edges, x one
		want := event.Evidence{Interest: 1. / 2, SimilarAny: w, Together: w, Popularity: 1, After: [3]float64{w / 2, w * 20 / 21, w * 1440 / 1441},
			Near: [3]float64{w / 13, w / 2, w / 2}, Transition: [2]float64{1. / 4, 1. / 4}, Session: [2]float64{w, w}, RecentAny: [3]float64{1, 1, 1}}
		if d := cmp.Diff(want, s.Context.Candidates[0].Evidence, cmpopts.EquateApprox(1e-12, 0)); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	})
}

// TestHistoryIsAskedForApartFromItsUse: categories count without any title being asked for, and titles come for as many as
// are asked for, though fewer lists are read.
func TestHistoryIsAskedForApartFromItsUse(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		f := &feed{T: t, c: c}
		f.items(smallCatalogue()...)
		f.interactions(smallWorld()...)
		for lists, want := range map[int]float64{1: 1. / 2, 3: handmade().Category} { // of a alone: War of Drama, War
			c.opt.Read.History = lists
			for _, titles := range []int{0, 1, 2} {
				s, err := c.Snapshot(t.Context(), Query{User: "u", Items: []string{"x"}, History: titles})
				if err != nil {
					t.Fatal(err)
				}
				var got string
				for _, h := range s.Context.History {
					got += h.Title
				}
				if e := s.Context.Candidates[0].Evidence; math.Abs(e.Category-want) > 1e-12 || got != "AB"[:titles] {
					t.Errorf("with %d lists and %d titles category is %v, want %v, and the history %q", lists, titles, e.Category, want, got)
				}
			}
		}
	})
}

// evidenceOf a list, whose newest edge may be of that moment, asked at that moment.
func evidenceOf(t *taste, list node, categories []string, at event.Time) event.Evidence {
	return t.evidence(t.counting(), t.index.audience(list), categories, at, at)
}

// TestAgesOfTenChoices has dislikes among them, which are no choices.
func TestAgesOfTenChoices(t *testing.T) {
	var list node
	for i := range 24 {
		list.edges = append(list.edges, Edge{ID: fmt.Sprint(i), At: noon - event.Time(i)*1000, Kind: []Kind{Dislike, Like}[i%2]})
	}
	list.degree = 24
	e := evidenceOf(newTaste("u", nil, nil, nil), list, nil, noon)
	if want := [4]float64{1, 5, 19, 23}; e.Ages != want {
		t.Errorf("ages are %v, want %v: the choices are 1, 3, 5, ... 23 seconds old", e.Ages, want)
	}
}

// TestHowCloseIsTogether: what is as far apart as a bound says is beyond it, either way round.
func TestHowCloseIsTogether(t *testing.T) {
	root := Edge{ID: "a", At: noon, Kind: Like}
	for _, gap := range []event.Time{0, 2*minute - 1, 2 * minute, 10*minute - 1, 10 * minute, day - 1, day} {
		want := map[bool]float64{true: 1}
		for _, sign := range []event.Time{1, -1} {
			taste := newTaste("u", []Edge{root}, []Edge{root}, []node{{edges: []Edge{{ID: "v", At: noon, Kind: Like}}, degree: 1}})
			e := evidenceOf(taste, node{edges: []Edge{{ID: "v", At: noon + sign*gap, Kind: Like}}, degree: 1}, nil, noon+day)
			got := [3]float64{e.Together, e.Session[0], e.Session[1]}
			if want := [3]float64{want[gap < 2*minute], want[gap < 10*minute], want[gap < day]}; got != want {
				t.Errorf("with %d ms between them together and session are %v, want %v", sign*gap, got, want)
			}
		}
	}
}

// TestBestIsOfTheNewestTen: the eleventh choice of the history counts for the sum, not for the best.
func TestBestIsOfTheNewestTen(t *testing.T) {
	both := node{edges: []Edge{{ID: "v", At: 1, Kind: Like}}, degree: 1}
	history, lists := make([]Edge, 11), make([]node, 11)
	for i := range history {
		history[i] = Edge{ID: fmt.Sprint(i), At: event.Time(100 - i), Kind: Like}
	}
	lists[10] = both
	if e := evidenceOf(newTaste("u", history, history, lists), both, nil, 1); e.Best != 0 || e.Similar != .5 {
		t.Errorf("best is %v and similar %v, want 0 and 1/2 for the eleventh", e.Best, e.Similar)
	}
	lists[9], lists[10] = lists[10], lists[9]
	if e := evidenceOf(newTaste("u", history, history, lists), both, nil, 1); e.Best != 1 {
		t.Errorf("best is %v, want 1 for the tenth", e.Best)
	}
}

// TestCutListsAreTakenForWhole: of a list of which the newest part was read, the positive share of the part is the share of all.
func TestCutListsAreTakenForWhole(t *testing.T) {
	n := node{edges: []Edge{{ID: "a", Kind: Like}, {ID: "b", Kind: Like}, {ID: "c", Kind: Hide}, {ID: "d", Kind: Cart}}, degree: 100}
	if liked, all := n.lengths(); liked != 75 || all != 100 {
		t.Errorf("lengths are %v and %v, want 75 and 100", liked, all)
	}
}

// TestCategoriesFarBack: a share of mentions that are too many places back to count is nothing, not 0/0.
func TestCategoriesFarBack(t *testing.T) {
	history := make([]Edge, 11_000)
	for i := range history {
		history[i] = Edge{ID: fmt.Sprint(i), At: 1, Kind: Like}
	}
	taste := newTaste("u", history, history, make([]node, len(history)))
	taste.mention(func(item string) []string {
		if item == "10999" {
			return []string{"War"}
		}
		return nil
	})
	if e := evidenceOf(taste, node{}, []string{"War"}, 1); e.Category != 0 {
		t.Errorf("category is %v, want 0", e.Category)
	}
}

// TestCategoryIsAShare, also where the catalogue names one twice.
func TestCategoryIsAShare(t *testing.T) {
	taste := newTaste("u", []Edge{{ID: "a", At: 1, Kind: Like}}, []Edge{{ID: "a", At: 1, Kind: Like}}, make([]node, 1))
	taste.mention(func(string) []string { return []string{"War"} })
	if e := evidenceOf(taste, node{}, []string{"War", "War"}, 1); e.Category != 1 {
		t.Errorf("category is %v, want 1", e.Category)
	}
}

// TestLikeMindedShareTheStrongestFirst: an item weighs less the more chose it and the longer ago the user did.
func TestLikeMindedShareTheStrongestFirst(t *testing.T) {
	r := Read{Neighbours: 1, HalfLife: 24 * time.Hour}
	list := func(degree int64, users ...string) (n node) {
		for _, id := range users {
			n.edges = append(n.edges, Edge{ID: id, At: 1, Kind: Like})
		}
		n.degree = degree
		return n
	}
	history := []Edge{{ID: "common", At: noon, Kind: Like}, {ID: "rare", At: noon, Kind: Like}, {ID: "old", At: noon - 2*day, Kind: Like}}
	got := likeMinded(newTaste("u", history, history, []node{list(14, "v", "w"), list(2, "v", "w"), list(2, "w")}), r)
	want := []neighbour{{id: "w", who: 1, shared: []weighted{{"rare", 1. / 2}, {"common", 1. / 4}, {"old", 1. / 8}}, weight: 7. / 8}}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(neighbour{}, weighted{})); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// numbers are all numbers of a context; one that is not finite has no JSON.
func numbers(t *rapid.T, c event.Context) (all []float64) {
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := json.Unmarshal(raw, &tree); err != nil {
		t.Fatal(err)
	}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case float64:
			all = append(all, v)
		case []any:
			for _, v := range v {
				walk(v)
			}
		case map[string]any:
			for _, v := range v {
				walk(v)
			}
		}
	}
	walk(tree)
	return all
}

// TestEvidenceIsAFunctionOfTheEvents delivers the same events twice, in different orders and batches and with
// duplicates, and reads what was delivered by every way there is: whatever is asked, the answer is the same, in order,
// finite, not negative and at most four round trips away.
func TestEvidenceIsAFunctionOfTheEvents(t *testing.T) {
	embeddedtest.EachRedis(t, func(t *testing.T, opt *redis.UniversalOptions) {
		ctx, rdb, real := t.Context(), client(t, opt), !strings.HasSuffix(t.Name(), "/embedded")
		n := 0
		rapid.Check(t, func(rt *rapid.T) {
			n++
			var log []event.Interaction
			for i := range rapid.IntRange(1, 60).Draw(rt, "events") {
				in := drawInteraction(rt, i)
				if rapid.IntRange(0, 9).Draw(rt, "far") == 0 {
					in.Timestamp = rapid.SampledFrom([]event.Time{1, 1e12, 2e12, event.Latest}).Draw(rt, "far time")
				}
				log = append(log, in)
			}
			read := Read{
				History: rapid.IntRange(1, 6).Draw(rt, "history"), ItemList: rapid.IntRange(1, 6).Draw(rt, "item list"),
				Neighbours: rapid.IntRange(1, 3).Draw(rt, "neighbours"), Met: rapid.IntRange(1, 4).Draw(rt, "met"),
				NeighbourList: rapid.IntRange(1, 6).Draw(rt, "neighbour list"), Pool: rapid.IntRange(1, 8).Draw(rt, "pool"), HalfLife: DefaultRead.HalfLife,
			}
			q := Query{
				User:  rapid.SampledFrom([]string{"u1", "u2", "u}4", "nobody", ""}).Draw(rt, "asking"),
				Items: rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d", "h", "unknown", ""}), 0, 8).Draw(rt, "items"),
				At: rapid.OneOf(rapid.SampledFrom([]event.Time{0, 1, event.Latest, -5, math.MinInt64, math.MaxInt64}),
					rapid.Map(rapid.Int64Range(0, 20), func(ms int64) event.Time { return event.Time(1.7e12 + ms) })).Draw(rt, "at"),
				Candidates: rapid.IntRange(0, 6).Draw(rt, "candidates"), Trending: rapid.IntRange(0, 3).Draw(rt, "trending"),
				Explore: rapid.IntRange(0, 3).Draw(rt, "explore"), Chains: rapid.IntRange(0, 5).Draw(rt, "chains"), History: rapid.IntRange(0, 5).Draw(rt, "titles"),
			}
			var first *Snapshot
			for delivery := range 2 {
				o := Options{Prefix: fmt.Sprintf("evidence%d-%d:", n, delivery), Bound: testBound, SettledBound: testSettled, RecentBound: testRecent, Read: read, Lists: ListsRange}
				c, err := New(rdb, o)
				if err != nil {
					rt.Fatal(err)
				}
				defer func() { _ = wipe(ctx, rdb, o.Prefix) }()
				if err := c.ApplyItems(ctx, event.Span{Topic: "items", End: 4}, catalogue("a", "b", "c", "d")); err != nil {
					rt.Fatal(err)
				}
				rest := log
				if delivery == 1 {
					rest = append(rapid.Permutation(log).Draw(rt, "order"), log[:rapid.IntRange(0, len(log)).Draw(rt, "again")]...)
				}
				for len(rest) > 0 {
					size := rapid.IntRange(1, len(rest)).Draw(rt, "batch")
					if err := c.Join(ctx, rest[:size]); err != nil {
						rt.Fatal(err)
					}
					rest = rest[size:]
				}
				ways := []Lists{ListsRange}
				if real {
					ways = append(ways, ListsDump)
				}
				for _, way := range ways {
					o.Lists = way
					c, err := New(rdb, o)
					if err != nil {
						rt.Fatal(err)
					}
					if err := c.RefreshTrends(ctx); err != nil {
						rt.Fatal(err)
					}
					q.Rand = rand.New(rand.NewPCG(1, 2))
					s, err := c.Snapshot(ctx, q)
					if err != nil {
						rt.Fatal(err)
					}
					if s.RoundTrips > 4 {
						rt.Fatalf("%d round trips", s.RoundTrips)
					}
					for _, v := range numbers(rt, s.Context) {
						if v < 0 {
							rt.Fatalf("%v is negative: %+v", v, s.Context)
						}
					}
					if first == nil {
						first = &s
					}
					if d := cmp.Diff(*first, s, cmpopts.IgnoreUnexported(Snapshot{})); d != "" {
						rt.Fatalf("delivery %d by %s differs (-first +this):\n%s", delivery, way, d)
					}
				}
			}
			if len(q.Items) == 0 && len(first.Context.Candidates) > q.Candidates {
				rt.Fatalf("%d candidates, %d were asked for", len(first.Context.Candidates), q.Candidates)
			}
			for i, id := range q.Items {
				if got := first.Context.Candidates[i].ItemID; got != id || len(first.Context.Candidates) != len(q.Items) {
					rt.Fatalf("candidate %d of %d is %q, want %q of %d", i, len(first.Context.Candidates), got, id, len(q.Items))
				}
			}
		})
	})
}

func TestRootsAreLikesEvenAmongManyDislikes(t *testing.T) {
	var history []Edge
	for i := range 40 {
		kind := Dislike
		if i%8 == 7 {
			kind = Like
		}
		history = append(history, Edge{ID: fmt.Sprint(i), At: event.Time(100 - i), Kind: kind})
	}
	var got []string
	for _, e := range rootsOf(history, 3) {
		got = append(got, e.ID)
	}
	if want := []string{"0", "1", "2", "7", "15", "23"}; !slices.Equal(got, want) {
		t.Errorf("roots %q, want the newest three of either sort, newest first: %q", got, want)
	}
}
