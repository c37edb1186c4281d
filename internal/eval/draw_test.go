package eval

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/r2rec/r2rec/internal/event"
)

// history is a made-up stream of ratings with what real ones have: items of very different popularity, ratings that are
// no likes, items rated twice, several ratings by one user in one second, and the first sight of an item at any time.
func history(seed uint64, n int) []event.Interaction {
	rng := rand.New(rand.NewPCG(seed, 0))
	var events []event.Interaction
	second, user := 0, ""
	for range n {
		if step := rng.IntN(3); step > 0 {
			second += step
			user = fmt.Sprintf("user %d", rng.IntN(100))
		}
		item := fmt.Sprintf("item %d", int(1000*rng.Float64()*rng.Float64()*rng.Float64()))
		events = append(events, rated(click(second, user, item), float64(1+rng.IntN(5))))
	}
	return events
}

func draw(t *testing.T, events Stream, before event.Time, n int, seed uint64) []Case {
	t.Helper()
	cases, err := Draw(events, before, n, seed)
	if err != nil {
		t.Fatal(err)
	}
	return cases
}

// The protocol, counted by hand from the stream for every case.
func TestDrawnCasesObeyTheProtocol(t *testing.T) {
	events := history(1, 6000)
	before := at(4000)
	cases := draw(t, stream(events...), before, 200, 7)
	if len(cases) < 120 || len(cases) > 280 {
		t.Errorf("%d cases, want about 200", len(cases))
	}
	for _, c := range cases {
		if err := checkCandidates(c); err != nil {
			t.Errorf("case %q: %v", c.ID, err)
		}
		if len(c.Candidates) != 20 {
			t.Errorf("case %q has %d candidates, want 20", c.ID, len(c.Candidates))
		}
		likes, isLike := 0, false // likes before this one, also those of its second
		seen, touched, touchedEver := map[string]bool{}, map[string]bool{}, map[string]bool{}
		for _, e := range events {
			if e.Timestamp >= before {
				break
			}
			own := e.UserID == c.User
			if own {
				touchedEver[e.ItemID] = true
			}
			if own && e.Timestamp == c.At && e.ItemID == c.Positive && IsPositive(e) {
				isLike = true
			}
			if own && !isLike && IsPositive(e) {
				likes++
			}
			if own && !isLike {
				touched[e.ItemID] = true
			}
			if e.Timestamp < c.At {
				seen[e.ItemID] = true
			}
		}
		if !isLike || c.At >= before {
			t.Errorf("case %q: no like of %q by %q at %s, before %s", c.ID, c.Positive, c.User, c.At, before)
		}
		if likes < 5 {
			t.Errorf("case %q: the user has %d earlier likes, want 5", c.ID, likes)
		}
		if touched[c.Positive] {
			t.Errorf("case %q: the user had touched the answer", c.ID)
		}
		for _, id := range c.Candidates {
			if !seen[id] {
				t.Errorf("case %q: nobody had touched candidate %q", c.ID, id)
			}
			if id != c.Positive && touchedEver[id] {
				t.Errorf("case %q: the user touches the negative %q", c.ID, id)
			}
		}
	}
	if !slices.IsSortedFunc(cases, func(a, b Case) int { return int(a.At - b.At) }) {
		t.Error("the cases are not in the order of time")
	}
	names := map[string]bool{}
	for _, c := range cases {
		names[c.ID] = true
	}
	if len(names) != len(cases) {
		t.Errorf("%d cases have %d names", len(cases), len(names))
	}
}

// Late cases are drawn more often than early ones, and the answer may stand anywhere.
func TestDrawnCasesAreSpread(t *testing.T) {
	events := history(2, 6000)
	end := events[len(events)-1].Timestamp + 1
	cases := draw(t, stream(events...), end, 600, 1)
	late := 0
	place := make([]int, 20)
	for _, c := range cases {
		if c.At > at(0)+(end-at(0))/2 {
			late++
		}
		place[slices.Index(c.Candidates, c.Positive)]++
	}
	if share := float64(late) / float64(len(cases)); share < .65 || share > .9 { // three quarters, but for chance
		t.Errorf("%.2f of the cases are of the second half of the time", share)
	}
	if most := slices.Max(place); most > 2*len(cases)/20 {
		t.Errorf("the answer stands at one place in %d of %d cases", most, len(cases))
	}
}

// Half of the lists are drawn by popularity: a negative is then liked more often than an item is in the mean.
func TestNegativesAreDrawnBothWays(t *testing.T) {
	events := history(3, 6000)
	likes, items := map[string]float64{}, map[string]bool{}
	total := 0.0
	for _, e := range events {
		items[e.ItemID] = true
		if IsPositive(e) {
			likes[e.ItemID]++
			total++
		}
	}
	byLikes := 0.0 // likes of an item that is drawn in proportion to them
	for _, n := range likes {
		byLikes += n * n / total
	}
	border := (byLikes + total/float64(len(items))) / 2
	popular := 0
	cases := draw(t, stream(events...), events[len(events)-1].Timestamp+1, 800, 1)
	for _, c := range cases {
		mean := 0.0
		for _, id := range c.Candidates {
			if id != c.Positive {
				mean += likes[id] / 19
			}
		}
		if mean > border {
			popular++
		}
	}
	if share := float64(popular) / float64(len(cases)); share < .25 || share > .75 {
		t.Errorf("%.2f of the lists are of popular items, want half", share)
	}
}

func TestOneSeedOneDraw(t *testing.T) {
	events := stream(history(1, 4000)...)
	first := draw(t, events, at(3000), 100, 1)
	if diff := cmp.Diff(first, draw(t, events, at(3000), 100, 1)); diff != "" {
		t.Errorf("the same seed draws other cases (-first +second):\n%s", diff)
	}
	if cmp.Equal(first, draw(t, events, at(3000), 100, 2)) {
		t.Error("another seed draws the same cases")
	}
}

// What happens at or after the time may be anything, or nothing.
func TestADrawLooksAtNothingLater(t *testing.T) {
	events := history(1, 4000)
	before := at(2000)
	cut := slices.IndexFunc(events, func(e event.Interaction) bool { return e.Timestamp >= before })
	want := draw(t, stream(events...), before, 100, 1)
	if diff := cmp.Diff(want, draw(t, stream(events[:cut]...), before, 100, 1)); diff != "" {
		t.Errorf("with everything later deleted (-with +without):\n%s", diff)
	}
	other := slices.Clone(events[:cut])
	for i, e := range history(99, 3000) {
		e.Timestamp = before + event.Time(i)
		other = append(other, e)
	}
	if diff := cmp.Diff(want, draw(t, stream(other...), before, 100, 1)); diff != "" {
		t.Errorf("with another future (-own +other):\n%s", diff)
	}
}

func TestADrawLeavesOutRefusedRecords(t *testing.T) {
	events := history(1, 4000)
	var some Stream = func(yield func(event.Interaction, error) bool) {
		for i, e := range events {
			if i%7 == 0 && !yield(event.Interaction{}, errors.New("broken")) {
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
	if diff := cmp.Diff(draw(t, stream(events...), at(3000), 100, 1), draw(t, some, at(3000), 100, 1)); diff != "" {
		t.Errorf("refused records change the draw (-without +with):\n%s", diff)
	}
}

func TestADrawFromNothingSaysSo(t *testing.T) {
	var few []event.Interaction
	for i := range 5 { // the fifth like has only four before it
		few = append(few, click(i, "u", fmt.Sprint(i)))
	}
	for name, c := range map[string]struct {
		events []event.Interaction
		before event.Time
		want   string
	}{
		"no event":        {nil, at(9), "none of the 0 events before 2001-09-09T01:46:49.000Z"},
		"none so early":   {history(1, 1000), at(0), "none of the 0 events before"},
		"too few likes":   {few, at(9), "none of the 5 events before"},
		"only dislikes":   {[]event.Interaction{rated(click(0, "u", "a"), 1)}, at(9), "choose a later time"},
		"the same item":   {[]event.Interaction{click(0, "u", "a"), click(1, "u", "a"), click(2, "u", "a"), click(3, "u", "a"), click(4, "u", "a"), click(5, "u", "a"), click(6, "u", "a")}, at(9), "none of the 7"},
		"the like itself": {append(slices.Clone(few), click(9, "u", "x")), at(9), "none of the 5"},
	} {
		if _, err := Draw(stream(c.events...), c.before, 10, 1); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// A user who has touched nearly everything leaves no 19 negatives: such a case is left out, and the draw ends.
func TestACaseWithoutNegativesIsLeftOut(t *testing.T) {
	var events []event.Interaction
	for i := range 24 {
		events = append(events, click(i, "all", fmt.Sprint(i)))
	}
	for i := range 24 {
		events = append(events, click(30+i, "half", fmt.Sprint(i)))
	}
	if cases := draw(t, stream(events...), at(99), 1000, 1); len(cases) != 0 {
		t.Errorf("drew %d cases where nobody has 19 items left", len(cases))
	}
}

// Cases to measure with are of what happened since, as many of early as of late likes, and of the kind that is asked for.
func TestDrawSince(t *testing.T) {
	events := history(1, 6000)
	since := at(2500)
	mean := map[bool]float64{}
	for _, popular := range []bool{false, true} {
		cases, err := DrawSince(stream(events...), since, 200, popular, 7)
		if err != nil || len(cases) < 120 || len(cases) > 280 {
			t.Fatalf("%d cases, want about 200: %v", len(cases), err)
		}
		likes := map[string]int{}
		for _, e := range events {
			if IsPositive(e) {
				likes[e.ItemID]++
			}
		}
		for _, c := range cases {
			if err := checkCandidates(c); err != nil || c.At < since || len(c.Candidates) != 20 {
				t.Fatalf("case %q at %s with %d candidates: %v", c.ID, c.At, len(c.Candidates), err)
			}
			for _, item := range c.Candidates {
				if item == c.Positive {
					continue
				}
				mean[popular] += float64(likes[item]) / float64(19*len(cases))
				if slices.ContainsFunc(events, func(e event.Interaction) bool { return e.UserID == c.User && e.ItemID == item }) {
					t.Fatalf("case %q has item %q, which the user touches", c.ID, item)
				}
			}
		}
	}
	if mean[true] < 1.5*mean[false] {
		t.Errorf("negatives have %.1f likes in the mean where they are drawn by them, and %.1f where uniformly", mean[true], mean[false])
	}
	if _, err := DrawSince(stream(events...), at(1_000_000), 10, false, 1); err == nil || !strings.Contains(err.Error(), "choose an earlier time") {
		t.Errorf("since after all events: %v", err)
	}
}
