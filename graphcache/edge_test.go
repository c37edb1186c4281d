package graphcache

import (
	"math"
	"slices"
	"testing"

	"github.com/r2rec/r2rec/internal/event"
)

// Each rating makes one edge, by the bounds, which belong to what they bound.
func TestRatingsMakeEdgesByTheBounds(t *testing.T) {
	just := math.Nextafter
	for policy, want := range map[Policy]map[float64]Kind{
		DefaultPolicy: {
			5: Rating, 4: Rating, just(4, 0): Seen, 3.5: Seen, 3: Seen, 2.5: Seen, just(2, 9): Seen, 2: Dislike, just(2, 0): Dislike, .5: Dislike,
			0: Dislike, -3: Dislike, 1e300: Rating,
		},
		{PositiveRating: .1, NegativeRating: -.1}:       {.1: Rating, 0: Seen, -.1: Dislike},
		{PositiveRating: just(3, 9), NegativeRating: 3}: {just(3, 9): Rating, 3: Dislike}, // nothing lies between
	} {
		for value, kind := range want {
			if got, ok := policy.Kind(event.Interaction{Type: event.Rating, Value: &value}); got != kind || !ok {
				t.Errorf("%+v: a rating of %v makes an edge of kind %v, %v; want %v", policy, value, got, ok, kind)
			}
		}
		bare := policy
		bare.NoSeen = true
		for value, kind := range want {
			if got, ok := bare.Kind(event.Interaction{Type: event.Rating, Value: &value}); ok != (kind != Seen) || ok && got != kind {
				t.Errorf("%+v: a rating of %v makes an edge of kind %v, %v; want %v unless that is seen", bare, value, got, ok, kind)
			}
		}
		if got, ok := policy.Kind(event.Interaction{Type: event.Rating}); ok {
			t.Errorf("%+v: a rating without a value makes an edge of kind %v", policy, got)
		}
	}
}

// What stands in Redis is never renumbered: of two events in the same millisecond the later of this list counts.
func TestKinds(t *testing.T) {
	order := []string{"click", "rating", "like", "cart", "seen", "purchase", "dislike", "hide"}
	for i, name := range order {
		k := Kind(i)
		positive := !slices.Contains([]string{"seen", "dislike", "hide"}, name)
		if k.String() != name || k.Positive() != positive || k.settled() != (name == "purchase" || name == "hide") {
			t.Errorf("kind %d is %q, positive %v, settled %v; want %q, %v", i, k, k.Positive(), k.settled(), name, positive)
		}
	}
}

// A policy has a bound of good ratings above that of bad ones; what is not a number is neither.
func TestPolicyThatFitsNoRating(t *testing.T) {
	for _, p := range []Policy{{PositiveRating: 2, NegativeRating: 2}, {PositiveRating: 2, NegativeRating: 4}, {PositiveRating: math.NaN(), NegativeRating: 2},
		{PositiveRating: 4, NegativeRating: math.NaN()}} {
		if _, err := New(nil, Options{Policy: p}); err == nil {
			t.Errorf("%+v is accepted", p)
		}
	}
}
