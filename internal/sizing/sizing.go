// Package sizing predicts how much memory a graph takes in Redis, before there is one.
//
// Redis keeps a list of a few hundred short members in a listpack, one block of memory, and everything else in tables of
// entries; jemalloc rounds each block up to the next of its size classes. So the size follows from how many keys there
// are, how long their lists are, and how long ids are: what docs/sizing.md derives, and what this package sums up. The
// encodings are those of Redis 7.0 (listpack.c, t_zset.c, dict.c, sds.h); 7.2 differs by less than a hundredth.
//
// What it promises is within a tenth of used_memory, for lists whose lengths follow the laws of package synth: a test
// compares it with a Redis. What is not the data's stays out: buffers of clients and replicas, the buffer of an append-only
// file that is rewritten, fragmentation (used_memory_rss), and pages copied while a child process saves.
package sizing

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/synth"
)

// Shape is what a graph holds, and how it is kept.
type Shape struct {
	Users, Items, Edges int64 // nodes with edges, and all edges that ever were, before lists are trimmed

	UserID, ItemID ID
	// ByUser and ByItem are the laws of how many edges users and items have.
	ByUser, ByItem synth.Law
	// Bound is how many edges a list keeps, SettledBound how many purchases and hides a user's register does.
	Bound, SettledBound int64
	// Settled is the share of the edges that are purchases and hides, 0 to 1.
	Settled float64

	// Catalogue is how many items have an entry; their titles and categories, in bytes.
	Catalogue                             int64
	TitleBytes, Categories, CategoryBytes int

	// Factors is how many numbers an item's vector has; 0: nobody learns latent factors.
	Factors int

	// Recommended is how many users have a stored recommendation at a time, DocumentBytes one's size, and Ranked how
	// many items are ranked in it.
	Recommended   int64
	DocumentBytes int
	Ranked        int

	// Forgotten is how many users are remembered as forgotten.
	Forgotten int64
	// Partitions that are consumed, of all topics together.
	Partitions int64
	// Prefix of the keys.
	Prefix string
}

// Part is what one kind of keys takes.
type Part struct {
	Name  string `json:"name"`
	Keys  int64  `json:"keys"`
	Of    int64  `json:"of"`    // entries in them
	Bytes int64  `json:"bytes"` // the keys' part of Redis' table included
}

// Plan is what a graph will take.
type Plan struct {
	Parts     []Part `json:"parts"`
	Bytes     int64  `json:"bytes"`      // used_memory, all servers of a Cluster together
	Nodes     int64  `json:"nodes"`      // users and items
	UserEdges int64  `json:"user_edges"` // left in the users' lists
	ItemEdges int64  `json:"item_edges"` // left in the items' lists
}

const (
	groups       = 64
	factorParts  = 64
	recentBound  = 32
	scoreElement = 10        // a time of this century x 8 takes 64 bits
	idleServer   = 1_400_000 // 0.9 MB when it starts, up to 1.6 once clients have come and gone and a graph has been read: measured
)

func (s Shape) check(server Server) error {
	for name, v := range map[string]int64{"Users": s.Users, "Items": s.Items, "Edges": s.Edges, "Bound": s.Bound, "SettledBound": s.SettledBound} {
		if v < 1 {
			return fmt.Errorf("sizing: %s is %d, must be at least 1", name, v)
		}
	}
	for name, v := range map[string]int64{"Catalogue": s.Catalogue, "Recommended": s.Recommended, "Forgotten": s.Forgotten, "Partitions": s.Partitions} {
		if v < 0 {
			return fmt.Errorf("sizing: %s is %d, must be at least 0", name, v)
		}
	}
	if !(s.Settled >= 0 && s.Settled <= 1) {
		return fmt.Errorf("sizing: Settled is %v, must be 0 to 1", s.Settled)
	}
	if s.Factors < 0 {
		return fmt.Errorf("sizing: Factors is %d, must be at least 0", s.Factors)
	}
	if most := server.compactEntries() / 2; s.Bound > most {
		return fmt.Errorf("sizing: Bound is %d, must be at most %d: longer lists leave the compact encoding", s.Bound, most)
	}
	if err := s.UserID.check("UserID"); err != nil {
		return err
	}
	return s.ItemID.check("ItemID")
}

// Size predicts what the shape takes in servers of a kind.
func (s Shape) Size(server Server) (Plan, error) {
	if err := errors.Join(s.check(server), server.Validate()); err != nil {
		return Plan{}, err
	}
	users, err := s.ByUser.Spread(s.Users, s.Edges, max(1, s.Items))
	if err != nil {
		return Plan{}, err
	}
	items, err := s.ByItem.Spread(s.Items, s.Edges, max(1, s.Users))
	if err != nil {
		return Plan{}, err
	}
	tag := len(s.Prefix) + len("{63}:")
	p := Plan{}
	lists := func(name string, classes []synth.Class, id, of ID) (nodes, edges int64) {
		key := float64(server.key(tag+len("u:")+id.length(), false))
		var bytes float64
		for _, c := range classes {
			n := min(c.Degree, s.Bound)
			nodes += c.Nodes
			edges += c.Nodes * n
			bytes += float64(c.Nodes) * (key + server.compact(n, of.element()+scoreElement))
		}
		p.Parts = append(p.Parts, Part{name, nodes, edges, int64(bytes)})
		return nodes, edges
	}
	var n int64
	n, p.UserEdges = lists("users' lists", users, s.UserID, s.ItemID)
	p.Nodes = n
	n, p.ItemEdges = lists("items' lists", items, s.ItemID, s.UserID)
	p.Nodes += n
	p.Parts = append(p.Parts, s.settled(server, users, tag))
	p.Parts = append(p.Parts, s.catalogue(server, tag))
	p.Parts = append(p.Parts, s.factors(server)...)
	p.Parts = append(p.Parts, s.recommendations(server)...)
	p.Parts = append(p.Parts, s.rest(server, tag)...)

	var keys, expiring int64
	for _, part := range p.Parts {
		keys += part.Keys
		if part.Name == formerFactors || strings.HasPrefix(part.Name, "recommendations") {
			expiring += part.Keys
		}
	}
	p.Parts = append(p.Parts, Part{Name: "tables of keys", Bytes: buckets(keys) + buckets(expiring)}, Part{Name: "the server itself", Bytes: idleServer})
	for _, part := range p.Parts {
		p.Bytes += part.Bytes
	}
	return p, nil
}

// settled is what the registers of purchases and hides take. Of a user with n edges, k are settled with the probability of
// the binomial distribution; a user without any has no register.
func (s Shape) settled(server Server, users []synth.Class, tag int) Part {
	part := Part{Name: "purchases and hides"}
	if s.Settled == 0 {
		return part
	}
	key := float64(server.key(tag+len("x:")+s.UserID.length(), false))
	var sizes []float64 // by number of entries
	size := func(k int64) float64 {
		for int64(len(sizes)) <= k {
			sizes = append(sizes, server.sortedSet(int64(len(sizes)), s.ItemID))
		}
		return sizes[k]
	}
	var keys, entries, bytes float64
	for _, c := range users {
		n, nodes := float64(c.Degree), float64(c.Nodes)
		for k := int64(1); k <= c.Degree; k++ {
			x := float64(k)
			log := lgamma(n+1) - lgamma(x+1) - lgamma(n-x+1) + x*math.Log(s.Settled)
			if n > x {
				log += (n - x) * math.Log1p(-s.Settled)
			}
			share := math.Exp(log)
			if x > n*s.Settled && share < 1e-9 {
				break
			}
			kept := min(k, s.SettledBound)
			keys += nodes * share
			entries += nodes * share * float64(kept)
			bytes += nodes * share * (key + size(kept))
		}
	}
	part.Keys, part.Of, part.Bytes = int64(keys), int64(entries), int64(bytes)
	return part
}

func lgamma(x float64) float64 {
	v, _ := math.Lgamma(x)
	return v
}

func (s Shape) catalogue(server Server, tag int) Part {
	part := Part{Name: "catalogue", Of: s.Catalogue}
	if s.Catalogue == 0 {
		return part
	}
	it := event.Item{ItemID: strings.Repeat("x", s.ItemID.length()), Title: strings.Repeat("x", s.TitleBytes)}
	for range s.Categories {
		it.Categories = append(it.Categories, strings.Repeat("x", s.CategoryBytes))
	}
	doc, err := json.Marshal(it)
	if err != nil { // of plain text
		panic(err)
	}
	part.Keys = min(groups, s.Catalogue)
	part.Bytes = part.Keys * int64(server.key(tag+len("items"), false))
	part.Bytes += hash(server, part.Keys, s.Catalogue, s.ItemID.length(), len(doc))
	return part
}

// formerFactors are there for an hour after factors were learned again: a server may still be fetching them.
const formerFactors = "former latent factors"

// factors are those that serve, and the former ones.
func (s Shape) factors(server Server) []Part {
	if s.Factors == 0 {
		return nil
	}
	const (
		head = 225 // how they were learned, in each part
		name = 26
	)
	part := func(of string, expires bool) Part {
		key := server.key(len(s.Prefix)+len("{factors:63}:")+name, expires)
		value := server.class(objectBytes) + server.text(head+int(s.Items)*(1+s.ItemID.length()+4*s.Factors)/factorParts)
		return Part{of, factorParts, s.Items, factorParts * int64(key+value)}
	}
	return []Part{part("latent factors", false), part(formerFactors, true)}
}

func (s Shape) recommendations(server Server) []Part {
	if s.Recommended == 0 {
		return nil
	}
	key := server.key(len(s.Prefix)+len("rec:{}")+s.UserID.length(), true)
	doc := server.class(objectBytes) + server.text(s.DocumentBytes)
	const share = 21 // a score of 17 digits
	top := server.compact(int64(s.Ranked), s.ItemID.element()+share)
	return []Part{
		{"recommendations, documents", s.Recommended, s.Recommended, s.Recommended * int64(key+doc)},
		{"recommendations, ids", s.Recommended, s.Recommended * int64(s.Ranked), s.Recommended * (int64(key) + int64(top))},
	}
}

// rest are the keys of which there is one a group.
func (s Shape) rest(server Server, tag int) []Part {
	recent := Part{Name: "recently chosen", Keys: groups, Of: min(groups*recentBound, s.Items)}
	recent.Bytes = int64(groups * (float64(server.key(tag+len("recent"), false)) + server.compact(recent.Of/groups, s.ItemID.element()+scoreElement)))
	marks := Part{Name: "watermarks", Keys: groups, Of: groups * s.Partitions}
	marks.Bytes = int64(groups * (float64(server.key(tag+len("wm"), false)) + server.compact(s.Partitions, float64(len("interactions/0"))+2+6)))
	parts := []Part{recent, marks}
	if s.Forgotten > 0 {
		const hashed, ms = 22, 13
		p := Part{Name: "forgotten users", Keys: min(groups, s.Forgotten), Of: s.Forgotten}
		p.Bytes = p.Keys*int64(server.key(tag+len("forget"), false)) + hash(server, p.Keys, s.Forgotten, hashed, ms)
		parts = append(parts, p)
	}
	return parts
}

// hash is what so many hashes take that together have so many fields, as tables.
func hash(server Server, hashes, fields int64, field, value int) int64 {
	each := int64(server.class(entryBytes) + server.text(field) + server.text(value))
	return fields*each + hashes*(int64(server.class(objectBytes)+server.class(tableBytes))+buckets(fields/hashes))
}
