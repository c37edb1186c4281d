package graphcache

import (
	gocmp "cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
)

// wire is what goes to the server: commands, by trip.
type wire struct {
	mu    sync.Mutex
	trips [][]redis.Cmder
}

func (*wire) DialHook(next redis.DialHook) redis.DialHook { return next }

func (w *wire) note(cmds []redis.Cmder) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trips = append(w.trips, slices.Clone(cmds))
}

func (w *wire) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		w.note([]redis.Cmder{cmd})
		return next(ctx, cmd)
	}
}

func (w *wire) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		w.note(cmds)
		return next(ctx, cmds)
	}
}

// inTurn is how many trips wait for one another: counting goes beside the others, and so does greeting a server.
func (w *wire) inTurn() (n int) {
	for _, trip := range w.trips {
		if !slices.ContainsFunc(trip, func(cmd redis.Cmder) bool {
			return !slices.Contains([]string{"zcard", "hello", "client", "select"}, cmd.Name())
		}) {
			continue
		}
		n++
	}
	return n
}

// counted are the users whose lists are counted and not read, sorted.
func (w *wire) counted() (users []string) {
	for _, trip := range w.trips {
		read := map[any]bool{}
		for _, cmd := range trip {
			if cmd.Name() == "zrevrange" {
				read[cmd.Args()[1]] = true
			}
		}
		for _, cmd := range trip {
			if key := cmd.Args()[1]; cmd.Name() == "zcard" && !read[key] {
				users = append(users, key.(string)[strings.Index(key.(string), ":u:")+3:])
			}
		}
	}
	slices.Sort(users)
	return users
}

// crowd likes a and b, some of them also one of the items.
func crowd(n int, items ...string) (batch []event.Interaction) {
	for i := range n {
		batch = append(batch, likes(fmt.Sprintf("n%02d", i), "a", "b", items[i%len(items)])...)
	}
	return batch
}

func TestSnapshotTakesFourRoundTrips(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		f := &feed{T: t, c: c}
		f.items(catalogue("a", "b", "x", "y", "z")...)
		f.interactions(append(likes("u", "a", "b"), crowd(9, "x", "y", "z")...)...)
		f.must(c.RefreshTrends(t.Context()))
		var w wire
		c.rdb.AddHook(&w)
		for name, ask := range map[string]struct {
			q    Query
			want int
		}{
			"given":            {Query{User: "u", Items: []string{"x", "y"}}, 3},
			"given, chains":    {Query{User: "u", Items: []string{"x", "y"}, Chains: 3}, 4},
			"found":            {Query{User: "u", Candidates: 3, Chains: 3, History: 2}, 4},
			"cold":             {Query{User: "nobody", Candidates: 3}, 2}, // the edges, and the trends' entries
			"cold, given":      {Query{User: "nobody", Items: []string{"x"}}, 2},
			"nothing asked":    {Query{User: "nobody"}, 2},
			"many of the same": {Query{User: "u", Items: slices.Repeat([]string{"x"}, 1000)}, 3},
		} {
			w.trips = nil
			s, err := c.Snapshot(t.Context(), ask.q)
			if err != nil {
				t.Fatal(err)
			}
			if trips := w.inTurn(); trips > ask.want || s.RoundTrips != trips {
				t.Errorf("%s: %d round trips, of which it tells %d, want at most %d", name, trips, s.RoundTrips, ask.want)
			}
		}
	})
}

// TestCandidatesAreFoundWithoutChains: they lead to candidates also where none is to be shown.
func TestCandidatesAreFoundWithoutChains(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		f := &feed{T: t, c: c}
		f.items(catalogue("a", "b", "x")...)
		f.interactions(append(likes("u", "a", "b"), crowd(2, "x")...)...)
		s, err := c.Snapshot(t.Context(), Query{User: "u", Candidates: 3})
		if err != nil {
			t.Fatal(err)
		}
		got := s.Context.Candidates
		if len(got) != 1 || got[0].Origin != event.FromChains || got[0].Evidence.Chains <= 0 || len(s.Context.Chains) != 0 {
			t.Errorf("candidates are %+v and chains %v, want x from chains and none of them", got, s.Context.Chains)
		}
	})
}

func TestNamedCandidatesAreTakenAsTheyAre(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		f := &feed{T: t, c: c}
		no := false
		f.items(append(catalogue("a", "b", "x"), event.Item{ItemID: "off", Title: "Off", Available: &no})...)
		f.interactions(append(likes("u", "a", "b"), crowd(4, "x", "off")...)...)
		ids := []string{"x", "a", "off", "nameless", "x", "strange\x00\r\n\"{}*"}
		s, err := c.Snapshot(t.Context(), Query{User: "u", Items: ids, Chains: 2, Candidates: 1, Rank: func(event.Context) []float64 {
			t.Error("named candidates are ranked")
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, candidate := range s.Context.Candidates {
			got = append(got, candidate.ItemID)
		}
		if !slices.Equal(got, ids) {
			t.Fatalf("candidates are %q, want %q", got, ids)
		}
		x, a, off, nameless := s.Context.Candidates[0], s.Context.Candidates[1], s.Context.Candidates[2], s.Context.Candidates[3]
		if x.Evidence.Support != 2 || x.Evidence.Chains <= 0 || x.Title != "Title of x" || off.Evidence.Support != 2 {
			t.Errorf("x is %+v and off %+v, want two of the crowd behind each", x, off)
		}
		if a.Evidence.Chains != 0 || a.Evidence.Support != 4 {
			t.Errorf("a is the user's own: %+v, want all of the crowd, but no chains", a)
		}
		if nameless.Title != "nameless" || nameless.Evidence != (event.Evidence{}) {
			t.Errorf("nameless is %+v, want no evidence", nameless)
		}
		if d := cmp.Diff(x, s.Context.Candidates[4]); d != "" {
			t.Errorf("asked twice, x differs: %s", d)
		}
	})
}

// TestRankChoosesFromThePool: the best of each origin fill its slots, the best of the others what is left.
func TestRankChoosesFromThePool(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		f := &feed{T: t, c: c}
		var linked []string
		for i := range 70 { // more than the pool takes
			linked = append(linked, fmt.Sprintf("linked%02d", i))
		}
		apart := []string{"apart0", "apart1", "apart2", "apart3", "apart4", "apart5"}
		f.items(catalogue(slices.Concat([]string{"a", "b"}, linked, apart)...)...)
		f.interactions(append(likes("u", "a", "b"), likes("n", append([]string{"a", "b"}, linked...)...)...)...)
		for i, id := range apart { // later, so that they are the trends
			f.interactions(event.Interaction{UserID: "stranger", ItemID: id, Type: event.Like, Timestamp: 20_001*day + event.Time(i)})
		}
		c.opt.Read.Pool = 60
		f.must(c.RefreshTrends(t.Context()))

		var seen event.Context
		worth := func(id string) float64 { return -float64(id[len(id)-1]) } // the smaller the last digit, the better
		s, err := c.Snapshot(t.Context(), Query{
			User: "u", Candidates: 10, Trending: 2, Explore: 1, Chains: 4, History: 1, Rand: rand.New(rand.NewPCG(1, 2)),
			Rank: func(c event.Context) (scores []float64) {
				seen = c
				for _, candidate := range c.Candidates {
					scores = append(scores, worth(candidate.ItemID))
				}
				return scores
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		pool := map[event.Origin][]event.Candidate{}
		for _, candidate := range seen.Candidates {
			pool[candidate.Origin] = append(pool[candidate.Origin], candidate)
		}
		if len(pool[event.FromChains]) != 60 || len(pool[event.FromTrends]) != 4 || len(seen.History) != 1 || seen.Likes != 2 || seen.Idle == 0 {
			t.Fatalf("the rank sees %d candidates from chains and %d trends, of %+v; want 60 and 4, and the user",
				len(pool[event.FromChains]), len(pool[event.FromTrends]), seen.History)
		}
		if e := pool[event.FromChains][0].Evidence; e.LikeMinded == 0 || e.Popularity != 1 {
			t.Errorf("the rank sees the evidence %+v", e)
		}
		chosen := map[event.Origin][]event.Candidate{}
		for _, candidate := range s.Context.Candidates {
			chosen[candidate.Origin] = append(chosen[candidate.Origin], candidate)
		}
		for origin, want := range map[event.Origin]int{event.FromChains: 7, event.FromTrends: 2, event.FromExplore: 1} {
			best := pool[origin]
			slices.SortStableFunc(best, func(a, b event.Candidate) int { return gocmp.Compare(worth(b.ItemID), worth(a.ItemID)) })
			if d := cmp.Diff(best[:min(want, len(best))], chosen[origin]); d != "" {
				t.Errorf("of %s (-best +chosen):\n%s", origin, d)
			}
		}
		led := map[string]bool{}
		for _, ch := range s.Context.Chains {
			led[ch.ItemID] = true
		}
		for _, candidate := range chosen[event.FromChains] {
			if !led[candidate.ItemID] {
				t.Errorf("no chain leads to %s", candidate.ItemID)
			}
		}
	})
}

// TestChoose: slots that nobody is there for go to the best of the others, and there are never more than asked for.
func TestChoose(t *testing.T) {
	pool := func(ids ...string) (c event.Context) {
		for _, id := range ids {
			c.Candidates = append(c.Candidates, event.Candidate{ItemID: id, Origin: map[byte]event.Origin{
				'c': event.FromChains, 't': event.FromTrends, 'e': event.FromExplore}[id[0]]})
		}
		return c
	}
	for _, k := range []struct {
		q    Query
		pool []string
		want string
	}{
		{Query{Candidates: 4, Trending: 1, Explore: 1}, []string{"c1", "c2", "c3", "t1", "t2", "e1", "e2"}, "c1 c2 t1 e1"},
		{Query{Candidates: 4, Trending: 2, Explore: 1}, []string{"c1", "c2", "c3"}, "c1 c2 c3"},
		{Query{Candidates: 4, Trending: 2}, []string{"c1", "t1", "t2", "t3", "t4"}, "c1 t1 t2 t3"},
		{Query{Candidates: 2, Trending: 2, Explore: 2}, []string{"c1", "t1", "t2", "e1", "e2"}, "t1 t2"},
		{Query{Candidates: 1, Explore: 3}, []string{"c1", "e1", "e2"}, "e1"},
		{Query{Trending: 2}, []string{"c1", "t1"}, ""},
		{Query{Candidates: -1}, []string{"c1", "t1"}, ""},
	} {
		var got []string
		for _, candidate := range k.q.choose(pool(k.pool...)) {
			got = append(got, candidate.ItemID)
		}
		if strings.Join(got, " ") != k.want {
			t.Errorf("%+v of %v gives %v, want %s", k.q, k.pool, got, k.want)
		}
	}
}

func TestHeaviest(t *testing.T) {
	weights := map[string]float64{"b": 1, "a": 1, "c": 3, "d": .5, "e": 2}
	want := []weighted{{"c", 3}, {"e", 2}, {"a", 1}, {"b", 1}, {"d", .5}}
	for _, n := range []int{0, 1, 3, 5, 9} {
		if got := heaviest(weights, n); !slices.Equal(got, want[:min(n, 5)]) {
			t.Errorf("the %d heaviest are %v, want %v", n, got, want[:min(n, 5)])
		}
	}
}

// TestMetIsBounded: those in most of the history's lists are compared with the user, ties by likes and then by id.
func TestMetIsBounded(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		f := &feed{T: t, c: c}
		f.interactions(likes("u", "a", "b", "c")...)
		f.interactions(likes("three", "a", "b", "c", "x")...)
		f.interactions(likes("two-z", "b", "c", "x")...)
		f.interactions(likes("two-a", "a", "c", "x")...)
		f.interactions(likes("one", "a", "x")...)
		for _, item := range []string{"a", "b"} {
			f.interactions(event.Interaction{UserID: "dislikes", ItemID: item, Type: event.Dislike, Timestamp: 20_000 * day})
		}
		var w wire
		c.rdb.AddHook(&w)
		for met, want := range map[int][]string{
			1:  {"three"},
			2:  {"three", "two-a"},
			3:  {"three", "two-a", "two-z"},
			4:  {"dislikes", "three", "two-a", "two-z"},
			5:  {"dislikes", "one", "three", "two-a", "two-z"},
			50: {"dislikes", "one", "three", "two-a", "two-z"},
		} {
			c.opt.Read.Met, w.trips = met, nil
			s, err := c.Snapshot(t.Context(), Query{User: "u", Items: []string{"x"}})
			if err != nil {
				t.Fatal(err)
			}
			if got := w.counted(); !slices.Equal(got, want) {
				t.Errorf("Met is %d: the lists of %v are counted, want %v", met, got, want)
			}
			likeMinded := []float64{9. / 12, 4. / 9, 4. / 9, 0, 1. / 6} // each one's share, in the order above
			var sum float64
			for _, v := range likeMinded[:min(met, 5)] {
				sum += v
			}
			if d := cmp.Diff(sum, s.Context.Candidates[0].Evidence.LikeMinded, cmpopts.EquateApprox(1e-12, 0)); d != "" {
				t.Errorf("Met is %d: like-minded (-want +got):\n%s", met, d)
			}
		}
	})
}

// TestAtMovesAgesOnly: the moment of asking changes how long ago all was, and nothing else.
func TestAtMovesAgesOnly(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		f := &feed{T: t, c: c}
		f.items(smallCatalogue()...)
		f.interactions(smallWorld()...)
		ask := func(at event.Time) event.Context {
			s, err := c.Snapshot(t.Context(), Query{User: "u", Items: []string{"x"}, Chains: 5, History: 5, At: at})
			if err != nil {
				t.Fatal(err)
			}
			return s.Context
		}
		first, least := ask(noon+11*day), 1e-3 // an age below a millisecond is one, as 0 stands for never
		for at, want := range map[event.Time]struct {
			idle float64
			ages [4]float64
		}{
			0:                  {least, [4]float64{10 * 86400, 370 * 86400, 0, 370 * 86400}}, // the user's newest edge
			noon + 11*day:      {86400, [4]float64{11 * 86400, 371 * 86400, 0, 371 * 86400}},
			noon + 11*day + 1:  {86400.001, [4]float64{11*86400 + .001, 371*86400 + .001, 0, 371*86400 + .001}},
			noon:               {least, [4]float64{least, 360 * 86400, 0, 360 * 86400}},
			noon - 1000*day:    {least, [4]float64{least, least, 0, least}},
			1:                  {least, [4]float64{least, least, 0, least}},
			noon + 100_000*day: {99_990 * 86400, [4]float64{100_000 * 86400, 100_360 * 86400, 0, 100_360 * 86400}},
		} {
			got := ask(at)
			if got.Idle != want.idle || got.Candidates[0].Evidence.Ages != want.ages {
				t.Errorf("at %d idle is %v and ages %v, want %v", at, got.Idle, got.Candidates[0].Evidence.Ages, want)
			}
			if d := cmp.Diff(first, got, cmpopts.IgnoreFields(event.Context{}, "Idle"), cmpopts.IgnoreFields(event.Evidence{}, "Ages")); d != "" {
				t.Errorf("at %d more than ages changes:\n%s", at, d)
			}
		}
	})
}

// TestStrongestChains compares with looking at all of them.
func TestStrongestChains(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weight := rapid.Float64Range(.01, 1)
		items := []string{"x", "y", "z", "other"}
		ns := make([]neighbour, rapid.IntRange(0, 5).Draw(t, "neighbours"))
		var links []link
		var all []event.Chain
		want := map[string]float64{}
		for i := range ns {
			n := &ns[i]
			n.id = fmt.Sprint("n", i)
			for j := range rapid.IntRange(1, 5).Draw(t, "shared") {
				s := weighted{fmt.Sprint("s", j), weight.Draw(t, "weight")}
				n.shared = append(n.shared, s)
				n.weight += s.weight
			}
			slices.SortFunc(n.shared, byWeight)
			for _, item := range rapid.SliceOfDistinct(rapid.SampledFrom(items), rapid.ID[string]).Draw(t, "choices") {
				l := link{neighbour: n, item: item, at: event.Time(i), weight: weight.Draw(t, "link")}
				links = append(links, l)
				for _, s := range n.shared {
					ch := event.Chain{Via: s.id, Neighbour: n.id, ItemID: item, Weight: l.weight * s.weight, Shared: len(n.shared), NeighbourAt: l.at}
					want[item] += ch.Weight
					all = append(all, ch)
				}
			}
		}
		if d := cmp.Diff(want, chainWeights(links), cmpopts.EquateApprox(1e-12, 0)); d != "" {
			t.Fatalf("summed weights (-want +got):\n%s", d)
		}
		slices.SortFunc(all, func(a, b event.Chain) int {
			return gocmp.Or(gocmp.Compare(b.Weight, a.Weight), strings.Compare(a.ItemID, b.ItemID), strings.Compare(a.Neighbour, b.Neighbour), strings.Compare(a.Via, b.Via))
		})
		n := rapid.IntRange(0, 12).Draw(t, "chains")
		var strong []event.Chain
		led := map[string][]string{} // by which neighbours
		for i, ch := range all {
			another := len(led[ch.ItemID]) < 3 && !slices.Contains(led[ch.ItemID], ch.Neighbour)
			if n > 0 && (i < n || another) {
				strong = append(strong, ch)
			}
			if another {
				led[ch.ItemID] = append(led[ch.ItemID], ch.Neighbour)
			}
		}
		if d := cmp.Diff(strong, strongest(links, n)); d != "" {
			t.Fatalf("the %d strongest (-want +got):\n%s", n, d)
		}
	})
}

// TestJoinIsApplyingWithoutWatermarks, forgotten users included.
func TestJoinIsApplyingWithoutWatermarks(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		ctx := t.Context()
		var log []event.Interaction
		rnd := rand.New(rand.NewPCG(1, 2))
		for range 300 {
			log = append(log, event.Interaction{
				UserID: fmt.Sprint("u", rnd.IntN(5)), ItemID: fmt.Sprint("i", rnd.IntN(30)),
				Type: []event.Type{event.Click, event.Like, event.View, event.Purchase, event.Dislike, event.Hide}[rnd.IntN(6)], Timestamp: noon + event.Time(rnd.IntN(100)),
			})
		}
		exports := map[string][]Entry{}
		for _, way := range []string{"applied", "joined"} {
			o := c.opt
			o.Prefix, o.Bound, o.MaxNew = way+":", 8, 4
			c, err := New(c.rdb, o)
			if err != nil {
				t.Fatal(err)
			}
			f := &feed{T: t, c: c}
			f.must(c.ApplyUsers(ctx, event.Span{Topic: "users", End: 1}, []event.User{{UserID: "u0", ForgetBefore: noon + 50}}))
			for g := range groups {
				f.must(c.rdb.Del(ctx, c.watermarkKey(g)).Err())
			}
			if way == "applied" {
				f.interactions(log...)
			} else {
				f.must(c.Join(ctx, nil))
				f.must(c.Join(ctx, log[:100]))
				f.must(c.Join(ctx, log[100:]))
				f.must(c.Join(ctx, log[50:150]))
				if keys, err := embeddedtest.Keys(ctx, c.rdb, way+":*:wm"); len(keys) > 0 || err != nil {
					t.Errorf("joining leaves watermarks: %v, %v", keys, err)
				}
			}
			all, err := c.Export(ctx)
			f.must(err)
			for i := range all {
				all[i].Key = strings.TrimPrefix(all[i].Key, way)
			}
			exports[way] = all
		}
		if len(exports["applied"]) == 0 {
			t.Fatal("nothing was applied")
		}
		if d := cmp.Diff(exports["applied"], exports["joined"]); d != "" {
			t.Errorf("(-applied +joined):\n%s", d)
		}

		f := &feed{T: t, c: c} // what an attempt wrote that ended before it could look for the forgotten
		f.must(c.ApplyUsers(ctx, f.span("users", 1), []event.User{{UserID: "gone", ForgetBefore: 20_001 * day}}))
		f.must(c.rdb.ZAdd(ctx, c.itemKey("a"), redis.Z{Score: float64(score(20_000*day, Like)), Member: "gone"}).Err())
		f.must(c.Join(ctx, append(likes("gone", "a"), likes("stays", "a")...)))
		if users := c.rdb.ZRange(ctx, c.itemKey("a"), 0, -1).Val(); !slices.Equal(users, []string{"stays"}) {
			t.Errorf("%v like a, want stays: the other is forgotten", users)
		}

		c.rdb.Set(ctx, c.userKey("spoilt"), "a foreign writer was here", 0)
		if err := c.Join(ctx, likes("spoilt", "a")); err == nil || !strings.Contains(err.Error(), "join 1 interactions") {
			t.Errorf("joining to a key of another type gives %v", err)
		}
	})
}
