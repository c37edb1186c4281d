package graphcache

import (
	"fmt"
	"strconv"

	"github.com/r2rec/r2rec/internal/event"
)

// Kind is what an edge says about the item; a larger kind wins between events of the same millisecond.
type Kind int

// The kinds of edges.
const (
	Click    Kind = 0
	Rating   Kind = 1
	Like     Kind = 2
	Cart     Kind = 3
	Seen     Kind = 4 // a rating that speaks neither for the item nor against it
	Purchase Kind = 5
	Dislike  Kind = 6
	Hide     Kind = 7
)

var kindNames = map[Kind]string{Click: "click", Rating: "rating", Like: "like", Cart: "cart", Seen: "seen", Purchase: "purchase", Dislike: "dislike", Hide: "hide"}

// String names the interaction that makes such an edge; seen is for people to read, and no type of interaction.
func (k Kind) String() string {
	if name, ok := kindNames[k]; ok {
		return name
	}
	return "kind " + strconv.Itoa(int(k))
}

// Positive tells whether the edge speaks for the item; Seen does not, nor against it.
func (k Kind) Positive() bool { return k < Dislike && k != Seen }

// settled tells whether the item is never to be offered again.
func (k Kind) settled() bool { return k == Purchase || k == Hide }

// score is the max-register of an edge: exact in a float64, as event bounds times below 2^53 / 8.
func score(at event.Time, k Kind) int64 { return int64(at)*8 + int64(k) }

// Edge is one member of a node's list: who or what stands at its other end, when, and what was done.
type Edge struct {
	ID   string
	At   event.Time
	Kind Kind
}

// Score is how the edge stands in Redis.
func (e Edge) Score() int64 { return score(e.At, e.Kind) }

func edge(member string, s float64) Edge { return edgeOf(member, int64(s)) }

func edgeOf(member string, score int64) Edge {
	return Edge{ID: member, At: event.Time(score >> 3), Kind: Kind(score & 7)}
}

// Policy says which ratings speak for an item and which against it; those between make an edge that does neither, Seen,
// or none.
type Policy struct {
	PositiveRating float64 // at least this: a positive edge
	NegativeRating float64 // at most this: a dislike
	NoSeen         bool    // those between make no edge
}

// DefaultPolicy fits ratings from 1 to 5.
var DefaultPolicy = Policy{PositiveRating: 4, NegativeRating: 2}

func (p Policy) validate() error {
	if !(p.NegativeRating < p.PositiveRating) { // what is not a number is not below
		return fmt.Errorf("graphcache: Policy.NegativeRating is %v, must be below PositiveRating, which is %v", p.NegativeRating, p.PositiveRating)
	}
	return nil
}

// Kind of the edge that an interaction makes; ok is false where it makes none.
func (p Policy) Kind(in event.Interaction) (k Kind, ok bool) {
	switch in.Type {
	case event.Click:
		return Click, true
	case event.Like:
		return Like, true
	case event.Cart:
		return Cart, true
	case event.Purchase:
		return Purchase, true
	case event.Dislike:
		return Dislike, true
	case event.Hide:
		return Hide, true
	case event.Rating:
		switch {
		case in.Value == nil:
			return 0, false
		case *in.Value >= p.PositiveRating:
			return Rating, true
		case *in.Value <= p.NegativeRating:
			return Dislike, true
		case !p.NoSeen:
			return Seen, true
		}
	}
	return 0, false
}
