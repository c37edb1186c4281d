package synth

import (
	"maps"
	"slices"
	"testing"

	"github.com/r2rec/r2rec/internal/event"
)

func small(t *testing.T, o Options) *Graph {
	t.Helper()
	o.Users, o.Items, o.Edges = 3000, 700, 40_000
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestAGraphIsWhatWasAskedFor(t *testing.T) {
	for _, ids := range []IDs{Numbers, Short, UUIDs} {
		g := small(t, Options{Seed: 1, IDs: ids, Window: 7000})
		users, items, pairs, ids := map[string]int{}, map[string]int{}, map[[2]string]bool{}, map[string]bool{}
		last := event.Time(0)
		for in := range g.Events() {
			if err := in.Validate(); err != nil {
				t.Fatal(err)
			}
			if in.Timestamp < last {
				t.Fatalf("%v comes after %v", in.Timestamp, last)
			}
			last = in.Timestamp
			users[in.UserID]++
			items[in.ItemID]++
			pairs[[2]string{in.UserID, in.ItemID}] = true
			ids[in.EventID] = true
		}
		if len(pairs) != 40_000 || len(ids) != 40_000 || len(users) != 3000 {
			t.Errorf("%d pairs by %d events of %d users, want 40000, 40000 and 3000", len(pairs), len(ids), len(users))
		}
		for user := range g.opt.Users {
			if got := users[g.UserID(user)]; got != g.Degree(user) {
				t.Fatalf("user %d has %d edges, want %d", user, got, g.Degree(user))
			}
		}
		for it := range g.Items() {
			if err := it.Validate(); err != nil {
				t.Fatal(err)
			}
			delete(items, it.ItemID)
		}
		if len(items) != 0 {
			t.Errorf("%d items are not in the catalogue", len(items))
		}
	}
}

// What is drawn must not depend on how much of it is held at once: else the size of a window would be part of the seed.
func TestTheWindowChangesNothing(t *testing.T) {
	whole := slices.Collect(small(t, Options{Seed: 5, Window: 1 << 20}).Events())
	parts := slices.Collect(small(t, Options{Seed: 5, Window: 999}).Events())
	other := slices.Collect(small(t, Options{Seed: 6}).Events())
	if !slices.Equal(whole, parts) {
		t.Error("windows of another size give another graph")
	}
	if slices.Equal(whole, other) {
		t.Error("another seed gives the same graph")
	}
}

// Without like-minded users a recommendation would have nothing to read, and its speed would say nothing.
func TestUsersOfAShelfAreLikeMinded(t *testing.T) {
	g := small(t, Options{Seed: 1})
	chose := map[string]map[string]bool{}
	for in := range g.Events() {
		if chose[in.UserID] == nil {
			chose[in.UserID] = map[string]bool{}
		}
		chose[in.UserID][in.ItemID] = true
	}
	users := slices.Sorted(maps.Keys(chose))
	with := 0
	for _, u := range users[:40] {
		alike := 0
		for _, o := range users {
			shared := 0
			for item := range chose[u] {
				if chose[o][item] {
					shared++
				}
			}
			if o != u && shared >= 2 {
				alike++
			}
		}
		if alike >= 48 {
			with++
		}
	}
	if with < 36 {
		t.Errorf("%d of 40 users have 48 like-minded ones, want 36 or more", with)
	}
}

func TestPopularityIsUneven(t *testing.T) {
	items := map[string]int{}
	for in := range small(t, Options{Seed: 1}).Events() {
		items[in.ItemID]++
	}
	counts := slices.Sorted(maps.Values(items))
	top := 0
	for _, n := range counts[len(counts)-70:] {
		top += n
	}
	if share := float64(top) / 40_000; share < .25 || share > .6 {
		t.Errorf("the tenth of the items with the most edges has %.2f of them, want .25 to .6", share)
	}
}

func TestOptionsThatMakeNoGraph(t *testing.T) {
	for name, o := range map[string]Options{
		"no users":        {Items: 5, Edges: 5},
		"too few edges":   {Users: 10, Items: 10, Edges: 9},
		"too many edges":  {Users: 10, Items: 10, Edges: 51},
		"unknown ids":     {Users: 10, Items: 10, Edges: 20, IDs: "roman"},
		"a share of none": {Users: 10, Items: 10, Edges: 20, Mix: Mix{{event.Click, 0}}},
		"a wrong law":     {Users: 10, Items: 10, Edges: 20, ByUser: Law{Exponent: -1, Head: 1}},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := New(Options{Users: 10, Items: 10, Edges: 50}); err != nil {
		t.Error(err)
	}
}
