// Package graphtest says what the graph must be after a history of interactions: an oracle of the design's words, with
// nothing but maps, that shares no code with what keeps the graph in Redis. Tests compare it with an export, entry by
// entry; so it promises the same order. What happens to a user who is forgotten is left to others.
package graphtest

import (
	"cmp"
	"hash/fnv"
	"slices"
	"strconv"

	"github.com/r2rec/r2rec/internal/event"
)

// Entry is one member of one sorted set; it converts from and to the exported one.
type Entry struct {
	Key, Member string
	Score       int64
}

// Graph is what a graph is set up to keep.
type Graph struct {
	Prefix                 string
	Bound, Settled, Recent int     // newest edges of a node, purchases and hides of a user, chosen items of a group
	Positive, Negative     float64 // ratings of at least this speak for the item, of at most this against it
}

// Default is the graph of graphcache's defaults on a server that is set up for long lists.
var Default = Graph{Prefix: "r2:", Bound: 128, Settled: 1000, Recent: 32, Positive: 4, Negative: 2}

// kinds are the last three bits of a score: of two events in the same millisecond the larger counts.
var kinds = map[event.Type]int64{event.Click: 0, event.Rating: 1, event.Like: 2, event.Cart: 3, event.Purchase: 5, event.Dislike: 6, event.Hide: 7}

// seen is the kind of a rating between the bounds: it speaks neither for the item nor against it.
const seen = 4

// Entries is the graph that any log of these interactions gives, sorted by key, then by score, then by member.
func (g Graph) Entries(log []event.Interaction) []Entry {
	sets, bounds := map[string]map[string]int64{}, map[string]int{}
	raise := func(key, member string, score int64, bound int) {
		if sets[key] == nil {
			sets[key], bounds[key] = map[string]int64{}, bound
		}
		sets[key][member] = max(sets[key][member], score)
	}
	for _, in := range log {
		kind, edge := kinds[in.Type]
		if in.Type == event.Rating {
			switch {
			case in.Value == nil:
				edge = false
			case *in.Value <= g.Negative:
				kind = kinds[event.Dislike]
			case *in.Value < g.Positive:
				kind = seen
			}
		}
		if !edge {
			continue
		}
		score := int64(in.Timestamp)*8 + kind
		raise(g.key(in.UserID, "u:"+in.UserID), in.ItemID, score, g.Bound)
		raise(g.key(in.ItemID, "i:"+in.ItemID), in.UserID, score, g.Bound)
		if in.Type == event.Purchase || in.Type == event.Hide {
			raise(g.key(in.UserID, "x:"+in.UserID), in.ItemID, score, g.Settled)
		}
		if kind != seen && kind < kinds[event.Dislike] {
			raise(g.key(in.ItemID, "recent"), in.ItemID, score, g.Recent)
		}
	}
	var out []Entry
	for key, set := range sets {
		var entries []Entry
		for member, score := range set {
			entries = append(entries, Entry{key, member, score})
		}
		slices.SortFunc(entries, order)
		out = append(out, entries[max(0, len(entries)-bounds[key]):]...)
	}
	slices.SortFunc(out, order)
	return out
}

func order(a, b Entry) int {
	return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Score, b.Score), cmp.Compare(a.Member, b.Member))
}

// key of what belongs to a node: its group is the id's FNV-1a hash modulo 64.
func (g Graph) key(id, rest string) string {
	h := fnv.New64a()
	h.Write([]byte(id))
	return g.Prefix + "{" + strconv.FormatUint(h.Sum64()%64, 10) + "}:" + rest
}

// Of converts an export.
func Of[E interface {
	~struct {
		Key, Member string
		Score       int64
	}
}](export []E) []Entry {
	var out []Entry
	for _, e := range export {
		out = append(out, Entry(e))
	}
	return out
}
