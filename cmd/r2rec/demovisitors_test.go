package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/dataset"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/web"
)

func keptBack(t *testing.T) *dataset.Dataset {
	t.Helper()
	all, err := dataset.Bundled()
	if err != nil {
		t.Fatal(err)
	}
	_, kept := all.CutUsers(visitShare)
	return kept
}

// A simulated user clicks nothing but what the real user chose next, each once, and says that he is simulated.
func TestSimulatedUsersClickOnlyWhatTheRealUserChoseNext(t *testing.T) {
	kept := keptBack(t)
	chose := map[string][]string{} // in the order of time
	for in, err := range kept.Interactions() {
		if err != nil {
			t.Fatal(err)
		}
		if *in.Value >= 4 {
			chose[in.UserID] = append(chose[in.UserID], in.ItemID)
		}
	}
	v := newVisitors(visitFlags{Visits: 8, VisitLimit: 9}, kept, 4)
	clicks := 0
	for user, items := range chose {
		far := append(slices.Clone(items), "nobody's")[min(len(items), visitNext):] // later than next, or never
		if _, ok := v.look(list(user, far...)); ok {
			t.Fatalf("user %s clicks one of %v, and chose %v next", user, far, items)
		}
		click, ok := v.look(list(user, append([]string{items[0]}, far...)...))
		if !ok {
			t.Fatalf("user %s does not click %s in slot 1, which the real one chose next", user, items[0])
		}
		clicks++
		position := 1
		if want := (event.Interaction{EventID: "simulated-d-1", UserID: user, ItemID: items[0], Type: event.Click, DecisionID: "d", Surface: web.SimulatedSurface}); click.EventID != want.EventID ||
			click.UserID != want.UserID || click.ItemID != want.ItemID || click.Type != want.Type || click.DecisionID != want.DecisionID || click.Surface != want.Surface || *click.Position != position {
			t.Fatalf("%+v, want %+v in slot 1", click, want)
		}
		if err := click.Validate(); err != nil {
			t.Fatal(err)
		}
		v.clicked(user, items[0])
		if _, ok := v.look(list(user, items[0])); ok {
			t.Fatalf("user %s clicks %s again", user, items[0])
		}
	}
	if v.state.Clicks != clicks || clicks < 600 {
		t.Errorf("%d clicks, counted %d", clicks, v.state.Clicks)
	}
}

// list shows items to a user.
func list(user string, items ...string) event.Recommendation {
	rec := event.Recommendation{UserID: user, DecisionID: "d"}
	for i, item := range items {
		rec.Items = append(rec.Items, event.RecommendedItem{Position: i + 1, ItemID: item})
	}
	return rec
}

// Slots further down are looked at with the stated probability.
func TestSimulatedUsersLookDownTheListAsStated(t *testing.T) {
	v := newVisitors(visitFlags{}, keptBack(t), 4)
	user := v.users[0]
	const n = 5000
	clicks := 0
	for range n {
		if _, ok := v.look(list(user, "nobody's", "nobody's", v.next[user][0])); ok {
			clicks++
		}
	}
	if got, want := float64(clicks)/n, visitStays*visitStays; got < want-.04 || got > want+.04 {
		t.Errorf("slot 3 is clicked with probability %.3f, want %.3f", got, want)
	}
	for _, stated := range []string{"50 %", "probability 0.7", "next 40 items", "kept back"} {
		if !strings.Contains(v.state.Rule, stated) {
			t.Errorf("the rule does not state %q: %s", stated, v.state.Rule)
		}
	}
}

// Somebody without anything left to choose comes no more; without anybody the simulation ends, and says why.
func TestTheSimulationEndsWhenNothingIsLeft(t *testing.T) {
	v := newVisitors(visitFlags{Visits: 1000, VisitLimit: 1000}, keptBack(t), 4)
	v.users = v.users[:1]
	user := v.users[0]
	for _, item := range slices.Clone(v.next[user]) {
		v.clicked(user, item)
	}
	var last web.Simulation
	v.told = func(s web.Simulation) { last = s }
	if err := v.run(t.Context()); err != nil || !strings.Contains(last.Ended, "everything") || last.Visits != 0 {
		t.Errorf("%v, %+v", err, last)
	}
}

func TestTheSimulationEndsAtItsBound(t *testing.T) {
	v := newVisitors(visitFlags{Visits: 1000, VisitLimit: 7}, keptBack(t), 4)
	var made []string
	v.visit = func(_ context.Context, user string) { made = append(made, user) }
	var last web.Simulation
	v.told = func(s web.Simulation) { last = s }
	if err := v.run(t.Context()); err != nil || len(made) != 7 || last.Visits != 7 || !strings.Contains(last.Ended, "after 7 visits") || last.Limit != 7 {
		t.Errorf("%v, %d visits, told %+v", err, len(made), last)
	}
	for _, user := range made {
		if !slices.Contains(v.users, user) {
			t.Errorf("%s visits, who chose nothing", fmt.Sprint(user))
		}
	}
}
