package graphtest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/r2rec/r2rec/internal/event"
)

// All by hand: the group of "u" is (0xcbf29ce484222325 ^ 0x75) * 0x100000001b3 mod 2^64 mod 64.
func TestEntriesByHand(t *testing.T) {
	g := Graph{Prefix: "p:", Bound: 2, Settled: 1, Recent: 1, Positive: 4, Negative: 2}
	value := func(v float64) *float64 { return &v }
	log := []event.Interaction{
		{UserID: "u", ItemID: "a", Type: event.Like, Timestamp: 10},
		{UserID: "u", ItemID: "a", Type: event.Hide, Timestamp: 10},                    // the same moment: hide wins
		{UserID: "u", ItemID: "a", Type: event.Click, Timestamp: 9},                    // late
		{UserID: "u", ItemID: "b", Type: event.Rating, Value: value(3), Timestamp: 11}, // seen, and not chosen any more
		{UserID: "u", ItemID: "b", Type: event.Rating, Value: value(5), Timestamp: 10},
		{UserID: "u", ItemID: "b", Type: event.Rating, Timestamp: 99}, // says nothing
		{UserID: "u", ItemID: "b", Type: event.View, Timestamp: 99},
		{UserID: "u", ItemID: "c", Type: event.Rating, Value: value(4), Timestamp: 12}, // trims a
		{UserID: "v", ItemID: "c", Type: event.Rating, Value: value(2), Timestamp: 13},
		{UserID: "v", ItemID: "d", Type: event.Rating, Value: value(2.1), Timestamp: 14},
		{UserID: "v", ItemID: "e", Type: event.Rating, Value: value(3.9), Timestamp: 15}, // trims c
	}
	var got []Entry
	for _, e := range g.Entries(log) {
		switch e.Key {
		case g.key("u", "u:u"), g.key("u", "x:u"), g.key("a", "i:a"), g.key("v", "u:v"), g.key("c", "i:c"), g.key("b", "recent"), g.key("d", "recent"):
			got = append(got, e)
		}
	}
	want := []Entry{
		{g.key("u", "u:u"), "b", 11*8 + 4}, {g.key("u", "u:u"), "c", 12*8 + 1},
		{g.key("v", "u:v"), "d", 14*8 + 4}, {g.key("v", "u:v"), "e", 15*8 + 4},
		{g.key("c", "i:c"), "u", 12*8 + 1}, {g.key("c", "i:c"), "v", 13*8 + 6},
		{g.key("b", "recent"), "b", 10*8 + 1}, // d is not among those of its group: it was seen, not chosen
		{g.key("u", "x:u"), "a", 10*8 + 7},
		{g.key("a", "i:a"), "u", 10*8 + 7},
	}
	byKey := func(es []Entry) map[string][]Entry {
		m := map[string][]Entry{}
		for _, e := range es {
			m[e.Key] = append(m[e.Key], e)
		}
		return m
	}
	if diff := cmp.Diff(byKey(want), byKey(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if k := g.key("u", "u:u"); k != "p:{48}:u:u" {
		t.Errorf("the key of u is %s", k)
	}
}
