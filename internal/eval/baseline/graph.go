package baseline

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/event"
)

// graph holds every like of the stream, by user and by item: one edge a pair, at its latest like.
type graph struct {
	clock int32      // likes so far; a like repeated later is one more, a duplicate is none
	last  event.Time // of the latest interaction

	users, items   ids
	likes          map[pair]like
	byUser, byItem [][]edge // by node; the earliest like first
}

type pair struct{ user, item int32 }

type like struct {
	at    event.Time
	clock int32
}

// edge is one like as one of its two nodes sees it.
type edge struct {
	node  int32 // the node at the other end
	clock int32 // of the graph, the like included
}

// ids gives each id a number, from 0, in the order of their coming.
type ids map[string]int32

// intern gives the number of an id, a new one where it is not known.
func (known ids) intern(id string) int32 {
	n, ok := known[id]
	if !ok {
		n = int32(len(known))
		known[id] = n
	}
	return n
}

// listOf gives the edges of a node, the earliest first; none where the id is not known.
func listOf(id string, known ids, lists [][]edge) []edge {
	if n, ok := known[id]; ok {
		return lists[n]
	}
	return nil
}

func newGraph() *graph {
	return &graph{last: math.MinInt64, users: ids{}, items: ids{}, likes: map[pair]like{}}
}

// Observe adds the likes among the interactions. An interaction earlier than the last is an error: those before it in
// the batch have been observed, those after it have not.
func (g *graph) Observe(ctx context.Context, batch []event.Interaction) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, in := range batch {
		if in.Timestamp < g.last {
			return fmt.Errorf("event %q at %s comes after one at %s: feed the stream in the order of time",
				in.EventID, in.Timestamp, g.last)
		}
		g.last = in.Timestamp
		if eval.IsPositive(in) {
			g.add(in.UserID, in.ItemID, in.Timestamp)
		}
	}
	return nil
}

func (g *graph) add(userID, itemID string, at event.Time) {
	user, item := g.users.intern(userID), g.items.intern(itemID)
	g.byUser, g.byItem = grow(g.byUser, user), grow(g.byItem, item)
	key := pair{user, item}
	old, known := g.likes[key]
	if known {
		if at <= old.at {
			return
		}
		g.byUser[user] = without(g.byUser[user], old.clock)
		g.byItem[item] = without(g.byItem[item], old.clock)
	}
	g.clock++
	g.likes[key] = like{at, g.clock}
	g.byUser[user] = append(g.byUser[user], edge{item, g.clock})
	g.byItem[item] = append(g.byItem[item], edge{user, g.clock})
}

// grow makes room for the list of a node that may be new.
func grow(lists [][]edge, node int32) [][]edge {
	if int(node) == len(lists) {
		lists = append(lists, nil)
	}
	return lists
}

// without takes out the one edge of that clock.
func without(edges []edge, clock int32) []edge {
	i, _ := slices.BinarySearchFunc(edges, clock, func(e edge, clock int32) int { return cmp.Compare(e.clock, clock) })
	return slices.Delete(edges, i, i+1)
}

// age is how many likes have come after the one of an edge.
func (g *graph) age(e edge) float64 { return float64(g.clock - e.clock) }

// halved is the weight of something after an age, where it loses half of it with every half-life. An infinite half-life
// keeps it at 1.
func halved(age, halfLife float64) float64 { return math.Exp2(-age / halfLife) }
