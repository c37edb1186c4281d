// Package world makes synthetic worlds: users with tastes, items with titles, and the interactions that come of them.
// The base model learns from many different worlds how to read the graph's evidence, without having seen anything real;
// tests use a world where the best possible ranking has to be known.
//
// # How a world works
//
// Every item i has a vector q(i) of Factors independent standard normal traits, and every user u a taste p(u,t) of the
// same kind, which drifts. At time t, the utility of an item for a user is, in nats,
//
//	U(u,i,t) = m(u)·W(i,t) + s(u)·p(u,t)·q(i)/√Factors
//
// where W is the log of the item's popularity, m(u) how much the user follows the crowd and s(u) how choosy the user is:
// both are lognormal, around 1 and around Sharpness. Popularity has a Zipf law, its rises and its falls:
//
//	W(i,t) = -Zipf·ln(rank(i) + Head·Items) + ln min(1, age/Rise) + ln(Floor + (1-Floor)·2^(-age/Fade)) + Hype·h(i,t) + Fashion·g(t)·q(i)/√Factors
//
// A user joins at some time, stays a while, and acts in sessions. In a session the items that exist and that the user has
// not had are drawn one after another without replacement, with probabilities in proportion to exp(U'), the softmax; U' is
// U with the taste moved by the session's own Mood. Drawing is by the Gumbel trick: a softmax over numbers is the largest
// of them after adding a standard Gumbel variable to each. With probability Browse, the next item is drawn in the same way
// among those on the last one's shelf alone, and with probability Follow it is simply the next one there, as a sequel is.
// Shelves hold items of similar traits and popularity.
//
// A user's opinion of what was chosen is taste, the item's quality, the user's generosity and noise, and the share
// Positive of all opinions are likes.
//
// What wanders in time (p, h and g) goes on a straight line between independent normal vectors at equal distances, scaled
// so that its variance is always 1. Popularity stands still within each 256th of Span.
//
// # What it promises
//
// The same seed and Options give the same world to the last bit, on every machine: only operations that IEEE 754 rounds
// exactly are used, one at a time, and no function of package math that is approximate. Every interaction and every item
// is valid by its Validate.
//
// It leaves drawing cases and asking the graph to others.
package world

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"

	"github.com/r2rec/r2rec/internal/event"
)

// World is one synthetic world. It does not change and is safe for concurrent use.
type World struct {
	opt       Options
	catalogue []event.Item
	items     []item
	users     []user
	itemIndex map[string]int
	userIndex map[string]int
	shelved   []int       // items, shelf after shelf
	weights   [][]float64 // W, a row a step of time
	happened  []event.Interaction
}

// New makes the world of a seed. It fails for Options that make none.
func New(seed uint64, opt Options) (*World, error) {
	if err := opt.validate(); err != nil {
		return nil, fmt.Errorf("make a world: %w", err)
	}
	w := &World{opt: opt}
	// A stream of numbers for each part, so that what one of them draws does not move the others.
	part := func(k uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, k)) }
	w.newItems(part(1))
	w.describe(part(2))
	w.newUsers(part(3))
	w.live(part(4))
	return w, nil
}

// Options are what the world was made from.
func (w *World) Options() Options { return w.opt }

// Items is the catalogue, with titles and categories, also of items that nobody chose. The ids say nothing.
func (w *World) Items() []event.Item { return slices.Clone(w.catalogue) }

// Users are the ids of all users, also of those who did nothing.
func (w *World) Users() []string {
	ids := make([]string, len(w.users))
	for i, u := range w.users {
		ids[i] = u.id
	}
	return ids
}

// Interactions are what happened, in the order of time; what one user did in one moment is in the order in which it was
// done. There are at most Options.Events: a user who has had everything stops.
func (w *World) Interactions() iter.Seq[event.Interaction] { return slices.Values(w.happened) }

// Utility is U(u,i,t) of the package comment, in nats, whether or not the user has had the item: exp of a difference of
// two utilities is the odds by which a user between two sessions will choose one item rather than the other. Ranking by
// it is the best that can be done without knowing the mood and the shelf of a session. It is -Inf before the item
// appears. Times outside the world count as its first or last moment.
func (w *World) Utility(user, item string, at event.Time) (float64, error) {
	u, known := w.userIndex[user]
	if !known {
		return 0, fmt.Errorf("utility: user %q is not of this world: take one of Users", user)
	}
	i, known := w.itemIndex[item]
	if !known {
		return 0, fmt.Errorf("utility: item %q is not of this world: take one of Items", item)
	}
	t := min(max(at, w.opt.Start), w.opt.end())
	return w.utility(&w.users[u], i, t, w.users[u].taste.at(w.fraction(t))), nil
}
