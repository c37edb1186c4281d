// Package synth makes large graphs to measure with: a stream of interactions of any number of users and items, whose
// numbers of edges follow a power law on both sides, in the order of time.
//
// Package world makes small worlds whose best ranking is known; drawing one event there looks at every item. Here an
// event costs the same whatever the size, and what matters is the shape: how long lists are, how much of them is trimmed,
// and how many like-minded users a history leads to. So items lie in shelves of similar ones, a user's interest moves from
// shelf to shelf, users come and go, and the rest of what they choose is drawn by popularity alone.
//
// What it promises: exactly the wanted number of users, items and edges, each pair of a user and an item once at most; the
// same Options give the same stream, on every machine whose floating-point arithmetic is not fused; every record is valid.
// Memory is 12 bytes an item and 4 a user, and 16 bytes for each event of one window (Options.Window), whatever the
// number of edges: users whose stay touches a window are drawn again for it.
package synth

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/r2rec/r2rec/internal/event"
)

// Options of a Graph. The zero value of a field takes the default that its comment states.
type Options struct {
	Seed  uint64
	Users int // each with at least one edge; at least 1
	Items int // at least 1
	Edges int // at least Users, at most half of all pairs

	// IDs says how ids look. Default Numbers.
	IDs IDs
	// ByUser and ByItem are the laws of how many edges a user and an item have. Defaults UserLaw and ItemLaw.
	ByUser, ByItem Law
	// Mix says how often interactions of each type are. Default Shop.
	Mix Mix
	// Start and Span are when things happen. Defaults 1 January 2025 and 180 days.
	Start time.Time
	Span  time.Duration
	// Window is about how many events are drawn and put into order at once. Default 500,000.
	Window int
}

// How users behave; part of what a seed stands for.
const (
	shelf   = 100 // items of one kind
	similar = .8  // of the choices are from the shelf of the moment
	stays   = 16  // choices before the interest moves to another shelf
)

// Graph is a graph to be drawn. It does not change and is safe for concurrent use.
type Graph struct {
	opt     Options
	degrees []uint32  // of users, by rank
	summed  []float64 // weights of the items before each one
	kinds   []float64 // summed shares of opt.Mix
	byRank  permutation
}

// New checks the options and prepares the stream.
func New(o Options) (*Graph, error) {
	if o.IDs == "" {
		o.IDs = Numbers
	}
	if o.ByUser == (Law{}) {
		o.ByUser = UserLaw
	}
	if o.ByItem == (Law{}) {
		o.ByItem = ItemLaw
	}
	if o.Mix == nil {
		o.Mix = Shop
	}
	if o.Start.IsZero() {
		o.Start = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	if o.Span == 0 {
		o.Span = 180 * 24 * time.Hour
	}
	if o.Window == 0 {
		o.Window = 500_000
	}
	switch {
	case o.Users < 1 || o.Items < 1:
		return nil, fmt.Errorf("synth: Users and Items are %d and %d, must be at least 1", o.Users, o.Items)
	case o.Edges < o.Users || float64(o.Edges) > float64(o.Users)*float64(o.most()):
		return nil, fmt.Errorf("synth: Edges is %d, must be %d (one a user) to %.0f (half of all pairs)", o.Edges, o.Users, float64(o.Users)*float64(o.most()))
	case o.Span < time.Second || o.Window < 1:
		return nil, fmt.Errorf("synth: Span and Window are %v and %d, must be at least 1s and 1", o.Span, o.Window)
	}
	if err := o.IDs.validate(); err != nil {
		return nil, err
	}
	kinds, err := o.Mix.summed()
	if err != nil {
		return nil, err
	}
	g := &Graph{opt: o, kinds: kinds, byRank: newPermutation(o.Users)}
	classes, err := o.ByUser.Spread(int64(o.Users), int64(o.Edges), o.most())
	if err != nil {
		return nil, err
	}
	g.degrees = make([]uint32, 0, o.Users)
	for _, c := range classes {
		g.degrees = append(g.degrees, slices.Repeat([]uint32{uint32(c.Degree)}, int(c.Nodes))...)
	}
	ranks := newPermutation(o.Items)
	g.summed = make([]float64, o.Items+1)
	for i := range o.Items {
		g.summed[i+1] = g.summed[i] + o.ByItem.weight(float64(ranks.of(i)), float64(o.Items))
	}
	return g, nil
}

// most edges of one user: with more, drawing without repetition would take long.
func (o Options) most() int64 { return int64(max(1, o.Items/2)) }

// Degree is how many edges a user has, 0 being the first.
func (g *Graph) Degree(user int) int { return int(g.degrees[g.byRank.of(user)]) }

// UserID of a user, and ItemID of an item, 0 being the first.
func (g *Graph) UserID(user int) string { return g.opt.IDs.of(uint64(user)) }

// ItemID of an item.
func (g *Graph) ItemID(item int) string { return g.opt.IDs.of(uint64(item)) }

// Item is the catalogue's record of an item.
func (g *Graph) Item(item int) event.Item {
	kind := item / shelf
	return event.Item{
		ItemID: g.ItemID(item), Title: "Item " + strconv.Itoa(item) + " of shelf " + strconv.Itoa(kind),
		Categories: []string{"Shelf " + strconv.Itoa(kind), "Aisle " + strconv.Itoa(kind/20)},
	}
}

// permutation of the numbers below n.
type permutation struct{ n, factor, add uint64 }

func newPermutation(n int) permutation {
	p := permutation{n: uint64(n), factor: uint64(float64(n)*.618) | 1, add: uint64(n) / 3}
	for gcd(p.factor, p.n) != 1 {
		p.factor += 2
	}
	return p
}

func (p permutation) of(i int) int { return int((uint64(i)*p.factor + p.add) % p.n) }

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// draw gives the randomness of one user.
func (g *Graph) draw(user int) *rand.Rand { return rand.New(rand.NewPCG(g.opt.Seed, uint64(user))) }

// MaxDegree is how many edges the user has who has the most.
func (g *Graph) MaxDegree() int { return int(g.degrees[0]) }

// End is when the last thing has happened.
func (g *Graph) End() event.Time { return event.At(g.opt.Start.Add(g.opt.Span)) }
