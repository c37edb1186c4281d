package world

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/r2rec/r2rec/internal/event"
)

var rewrite = flag.Bool("rewrite", false, "write the digests of testdata anew")

func create(t *testing.T, seed uint64, o Options) *World {
	t.Helper()
	w, err := New(seed, o)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func events(w *World) []event.Interaction { return slices.Collect(w.Interactions()) }

// digest is of all bytes that a world publishes, and of what it says about utilities to the last bit.
func digest(t *testing.T, w *World) string {
	t.Helper()
	h := sha256.New()
	to := json.NewEncoder(h)
	if err := to.Encode(w.Items()); err != nil {
		t.Fatal(err)
	}
	for n, in := range events(w) {
		u, err := w.Utility(in.UserID, in.ItemID, in.Timestamp)
		if err != nil {
			t.Fatal(err)
		}
		if math.IsNaN(u) || math.IsInf(u, 0) {
			t.Fatalf("event %d: the utility of what was chosen is %v", n, u)
		}
		if err := to.Encode(in); err != nil {
			t.Fatal(err)
		}
		if err := to.Encode(math.Float64bits(u)); err != nil {
			t.Fatal(err)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// The digests are of testdata/digests.txt, made on one machine and expected on all.
func TestOneSeedOneWorld(t *testing.T) {
	const file = "testdata/digests.txt"
	digests := []string{digest(t, create(t, 1, Plain()))}
	for seed := range uint64(4) {
		digests = append(digests, digest(t, create(t, seed, Random(seed))))
	}
	got := strings.Join(digests, "\n") + "\n"
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the worlds are others; where that is meant, run go test -rewrite\ngot:\n%swant:\n%s", got, want)
	}
	if digest(t, create(t, 2, Plain())) == digests[0] {
		t.Error("another seed makes the same world")
	}
}

// Everything that a world holds keeps the contracts, and its own promises.
func TestWorldsAreValid(t *testing.T) {
	for seed := range uint64(6) {
		o := Random(seed)
		w := create(t, seed, o)
		items, users := map[string]bool{}, map[string]bool{}
		for _, it := range w.Items() {
			if err := it.Validate(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if len(it.Categories) > 0 && o.Categories == 0 {
				t.Fatalf("seed %d: item %+v has categories", seed, it)
			}
			items[it.ItemID] = true
		}
		for _, id := range w.Users() {
			users[id] = true
		}
		if len(items) != o.Items || len(users) != o.Users {
			t.Errorf("seed %d: %d items and %d users, want %d and %d", seed, len(items), len(users), o.Items, o.Users)
		}
		all := events(w)
		if n := len(all); n > o.Events || n < o.Events*9/10 {
			t.Errorf("seed %d: %d events, want hardly fewer than %d", seed, n, o.Events)
		}
		had, ids := map[[2]string]bool{}, map[string]bool{}
		for n, in := range all {
			if err := in.Validate(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if n > 0 && in.Timestamp < all[n-1].Timestamp {
				t.Fatalf("seed %d: event %d is before the one before", seed, n)
			}
			if in.Timestamp < o.Start/1000*1000 || in.Timestamp > o.end() {
				t.Fatalf("seed %d: an event at %s, outside the span", seed, in.Timestamp)
			}
			if !items[in.ItemID] || !users[in.UserID] {
				t.Fatalf("seed %d: %+v is of an unknown user or item", seed, in)
			}
			pair := [2]string{in.UserID, in.ItemID}
			if had[pair] || ids[in.EventID] {
				t.Fatalf("seed %d: %+v happens twice", seed, in)
			}
			had[pair], ids[in.EventID] = true, true
		}
	}
}

// Who ranks by utility is right more often than who ranks by how often an item is chosen: the optimum is known.
func TestUtilityIsTheBestRanking(t *testing.T) {
	w := create(t, 5, Plain())
	count := map[string]float64{}
	for in := range w.Interactions() {
		count[in.ItemID]++
	}
	utility := func(in event.Interaction, item string) float64 {
		u, err := w.Utility(in.UserID, item, in.Timestamp)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	popularity := func(_ event.Interaction, item string) float64 { return count[item] }
	best, popular := firstAmong(w, 20, utility), firstAmong(w, 20, popularity)
	if best < popular+.2 || best < .4 {
		t.Errorf("the choice stands first among 20 in %.3f by utility and in %.3f by popularity", best, popular)
	}
}

// firstAmong is the share of choices that a ranking puts before others that the user never chooses.
func firstAmong(w *World, candidates int, score func(event.Interaction, string) float64) float64 {
	had := map[[2]string]bool{}
	for in := range w.Interactions() {
		had[[2]string{in.UserID, in.ItemID}] = true
	}
	items := w.Items()
	hits, cases, next := 0, 0, 0
	for n, in := range events(w) {
		if n%10 != 0 {
			continue
		}
		cases++
		own, hit := score(in, in.ItemID), true
		for asked := 1; asked < candidates; next++ {
			if other := items[next%len(items)].ItemID; !had[[2]string{in.UserID, other}] {
				asked++
				hit = hit && score(in, other) < own
			}
		}
		if hit {
			hits++
		}
	}
	return float64(hits) / float64(cases)
}

// Odds of choices are exp of differences of utilities: of two items that a user in a world at rest has both not had, the
// one is taken before the other as often as they say.
func TestChoicesFollowTheSoftmax(t *testing.T) {
	o := Plain()
	o.Users, o.Items, o.Events, o.Session = 3000, 40, 3000, 1
	w := create(t, 3, o)
	items := w.Items()
	expected, chosen := map[string]float64{}, map[string]float64{}
	seen := map[string]bool{}
	for in := range w.Interactions() {
		if seen[in.UserID] { // only the first choice is free of what was had
			continue
		}
		seen[in.UserID] = true
		chosen[in.ItemID]++
		sum := 0.0
		share := map[string]float64{}
		for _, it := range items {
			u, err := w.Utility(in.UserID, it.ItemID, in.Timestamp)
			if err != nil {
				t.Fatal(err)
			}
			share[it.ItemID] = math.Exp(u)
			sum += share[it.ItemID]
		}
		for id, s := range share {
			expected[id] += s / sum
		}
	}
	chi := 0.0 // with 39 degrees of freedom: 72.1 is passed in one of a thousand worlds
	for id, e := range expected {
		chi += (chosen[id] - e) * (chosen[id] - e) / e
	}
	if chi > 72.1 {
		t.Errorf("choices differ from the softmax by a chi-square of %.1f, want at most 72.1", chi)
	}
}

func TestUtilityRefusesStrangers(t *testing.T) {
	w := create(t, 1, Plain())
	user, item := w.Users()[0], w.Items()[0].ItemID
	if _, err := w.Utility("nobody", item, w.opt.Start); err == nil || !strings.Contains(err.Error(), `user "nobody"`) {
		t.Errorf("a strange user: %v", err)
	}
	if _, err := w.Utility(user, "nothing", w.opt.Start); err == nil || !strings.Contains(err.Error(), `item "nothing"`) {
		t.Errorf("a strange item: %v", err)
	}
	for _, at := range []event.Time{-1 << 60, 1 << 60} { // a time outside the world
		if u, err := w.Utility(user, item, at); err != nil || math.IsNaN(u) || math.IsInf(u, 0) {
			t.Errorf("at %d: %v, %v", at, u, err)
		}
	}
}

// What has not appeared is not chosen, and its utility says so.
func TestNothingIsChosenBeforeItAppears(t *testing.T) {
	o := Plain()
	o.Newcomers, o.Follow, o.Browse, o.Shelf = 1, .3, .3, 10
	w := create(t, 1, o)
	for in := range w.Interactions() {
		i := w.itemIndex[in.ItemID]
		if in.Timestamp < w.items[i].born {
			t.Fatalf("%+v appears only at %s", in, w.items[i].born)
		}
	}
	user := w.Users()[0]
	for i, it := range w.items {
		if u, err := w.Utility(user, w.catalogue[i].ItemID, it.born-1); err != nil || !math.IsInf(u, -1) {
			t.Fatalf("before it appears: %v, %v", u, err)
		}
		if u, err := w.Utility(user, w.catalogue[i].ItemID, it.born); err != nil || math.IsInf(u, -1) {
			t.Fatalf("when it appears: %v, %v", u, err)
		}
	}
}

func TestEvents(t *testing.T) {
	o := Plain()
	o.Start, o.Span, o.Pause = event.Earliest, time.Hour, 0
	if n := len(events(create(t, 1, o))); n != o.Events {
		t.Errorf("%d events, want %d", n, o.Events)
	}
	o.Items, o.Users, o.Events = 3, 2, 100 // everybody has had everything
	if n := len(events(create(t, 1, o))); n != 6 {
		t.Errorf("%d events, want 6", n)
	}
}
