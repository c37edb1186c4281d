package graphcache

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/internal/event"
)

func TestASurveySaysWhatTheGraphHolds(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		var batch []event.Interaction
		for u := range 20 { // user u has u+1 items, of which the first is bought
			for i := range u + 1 {
				typ := event.Click
				if i == 0 {
					typ = event.Purchase
				}
				batch = append(batch, event.Interaction{EventID: fmt.Sprint(u, i), UserID: fmt.Sprintf("u%d", u), ItemID: fmt.Sprintf("i%d", i), Type: typ, Timestamp: noon + event.Time(u)})
			}
		}
		if err := c.ApplyInteractions(t.Context(), event.Span{Topic: "interactions", Start: 0, End: int64(len(batch))}, batch); err != nil {
			t.Fatal(err)
		}
		if err := c.ApplyItems(t.Context(), event.Span{Topic: "items", Start: 0, End: 1}, []event.Item{{ItemID: "i0", Title: "One"}}); err != nil {
			t.Fatal(err)
		}
		c.rdb.ZAdd(t.Context(), "r2:{1}:u:somebody", redis.Z{Member: "x", Score: 1}) // an app's key that looks like ours, of another group
		last := 0
		s, err := c.Survey(t.Context(), SurveyOptions{Memory: true, Progress: func(done, total int) { last = done }})
		if err != nil {
			t.Fatal(err)
		}
		want := Survey{
			Stats:        Stats{Users: 20, Items: 20, UserEdges: 210, ItemEdges: 210, Catalogue: 1, EdgesPerNode: c.Bound()},
			SettledUsers: 20, Settled: 20,
			UserDegrees: Degrees{1, 2, 4, 8, 5}, ItemDegrees: Degrees{1, 2, 4, 8, 5},
		}
		memory := s.Memory
		s.Memory = nil
		if diff := cmp.Diff(want, s); diff != "" {
			t.Error(diff)
		}
		if last == 0 {
			t.Error("no progress was told")
		}
		for _, kind := range []string{"users", "items", "settled", "catalogue", "recent", "watermarks"} {
			if m := memory[kind]; m.Keys == 0 || m.Sampled == 0 || m.Bytes < 20*m.Keys {
				t.Errorf("%s: %+v", kind, m)
			}
		}
		if m := memory["users"]; m.Keys != 20 {
			t.Errorf("%d keys of users, want 20", m.Keys)
		}
		stats, err := c.Stats(t.Context())
		if err != nil || stats != want.Stats {
			t.Errorf("%+v, %v; want %+v", stats, err, want.Stats)
		}
	})
}

func TestMarksTellOfEveryGroup(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		if marks, err := c.Marks(t.Context()); err != nil || len(marks) != 0 {
			t.Fatalf("%v, %v in an empty store", marks, err)
		}
		for p := range 2 {
			if err := c.ApplyInteractions(t.Context(), event.Span{Topic: "a/b", Partition: p, Start: 0, End: 7}, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.ApplyItems(t.Context(), event.Span{Topic: "items", Start: 0, End: 3}, nil); err != nil {
			t.Fatal(err)
		}
		c.rdb.HSet(t.Context(), c.watermarkKey(5), "a/b/1", 9)
		c.rdb.HDel(t.Context(), c.watermarkKey(6), "items/0")
		marks, err := c.Marks(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := []Mark{{"a/b", 0, 7, 7, 0}, {"a/b", 1, 7, 9, 0}, {"items", 0, 0, 3, 1}}
		if !slices.Equal(marks, want) {
			t.Errorf("%+v, want %+v", marks, want)
		}
	})
}

func TestANeighbourhoodShowsWhoElseChoseTheSame(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		var batch []event.Interaction
		did := func(user, item string, typ event.Type, at event.Time) {
			batch = append(batch, event.Interaction{EventID: user + item, UserID: user, ItemID: item, Type: typ, Timestamp: noon + at})
		}
		did("me", "a", event.Like, 1)
		did("me", "b", event.Click, 2)
		did("me", "c", event.Hide, 3)
		did("friend", "a", event.Purchase, 4)
		did("friend", "b", event.Click, 5)
		did("friend", "d", event.Cart, 6)
		did("stranger", "b", event.Click, 7)
		if err := c.Join(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		if err := c.ApplyItems(t.Context(), event.Span{Topic: "items", Start: 0, End: 2}, []event.Item{{ItemID: "b", Title: "Bee"}, {ItemID: "d", Title: "Dee"}}); err != nil {
			t.Fatal(err)
		}
		got, err := c.AroundUser(t.Context(), "me", 2)
		if err != nil {
			t.Fatal(err)
		}
		want := Neighbourhood{ID: "me", Edges: 3, LikeMinded: []LikeMinded{{"friend", 2}}, Shown: []Shown{
			{ID: "c", Kind: "hide", At: noon + 3, Degree: 1},
			{ID: "b", Title: "Bee", Kind: "click", At: noon + 2, Degree: 3, Also: []Also{{ID: "friend", Kind: "click", At: noon + 5}}},
		}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if got, err = c.AroundItem(t.Context(), "b", 2); err != nil {
			t.Fatal(err)
		}
		want = Neighbourhood{ID: "b", Title: "Bee", Edges: 3, Shown: []Shown{
			{ID: "stranger", Kind: "click", At: noon + 7, Degree: 1},
			{ID: "friend", Kind: "click", At: noon + 5, Degree: 3, Also: []Also{{ID: "d", Title: "Dee", Kind: "cart", At: noon + 6}, {ID: "a", Kind: "purchase", At: noon + 4}}},
		}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if got, err := c.AroundUser(t.Context(), "nobody", 2); err != nil || got.Edges != 0 || len(got.Shown) != 0 {
			t.Errorf("nobody: %+v, %v", got, err)
		}
	})
}
