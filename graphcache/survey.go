package graphcache

import (
	"context"
	"math/bits"

	"github.com/redis/go-redis/v9"
)

// Stats counts what the graph holds now.
type Stats struct {
	Users        int64 `json:"users"`          // with at least one edge
	Items        int64 `json:"items"`          // with at least one edge
	UserEdges    int64 `json:"user_edges"`     // in the users' lists
	ItemEdges    int64 `json:"item_edges"`     // in the items' lists; the bound may keep fewer than in the users'
	Catalogue    int64 `json:"catalogue"`      // items with a title
	TrimmedUsers int64 `json:"trimmed_users"`  // whose list is at the bound
	TrimmedItems int64 `json:"trimmed_items"`  // whose list is at the bound
	EdgesPerNode int   `json:"edges_per_node"` // the bound
}

// Stats scans all keys and counts; it takes some seconds for a million nodes.
func (c *Cache) Stats(ctx context.Context) (Stats, error) {
	s, err := c.count(ctx, SurveyOptions{})
	return s.Stats, err
}

// Degrees counts nodes by the length of their lists: Degrees[k] are those with 2^k to 2^(k+1)-1 edges.
type Degrees []int64

func (d *Degrees) add(n int64) {
	k := bits.Len64(uint64(n)) - 1
	for len(*d) <= k {
		*d = append(*d, 0)
	}
	(*d)[k]++
}

// Memory is what keys of one kind take.
type Memory struct {
	Keys    int64 `json:"keys"`
	Bytes   int64 `json:"bytes"`   // names and entries of the table of keys included, the table itself not
	Sampled int64 `json:"sampled"` // keys that were asked, from which that of all is estimated
}

func (m *Memory) estimate() {
	if m.Sampled > 0 {
		m.Bytes = int64(float64(m.Bytes) * float64(m.Keys) / float64(m.Sampled))
	}
}

// Survey is what there is to be said of a whole graph.
type Survey struct {
	Stats
	SettledUsers int64   `json:"settled_users"` // with a register of purchases and hides
	Settled      int64   `json:"settled"`       // in the registers
	Forgotten    int64   `json:"forgotten"`     // users who are remembered as forgotten
	UserDegrees  Degrees `json:"user_degrees"`
	ItemDegrees  Degrees `json:"item_degrees"`

	// Memory by kind of keys, by MEMORY USAGE: users, items, settled, catalogue, recent, watermarks, forgotten. Nil where
	// the server does not answer that.
	Memory map[string]Memory `json:"memory,omitempty"`
}

// SurveyOptions say how much a survey looks at.
type SurveyOptions struct {
	// Memory asks for the memory of the first SampleFirst keys of each kind and of one in SampleEvery of the others.
	Memory bool
	// Progress hears how many keys were looked at, of how many. Nil: nobody does.
	Progress func(done, total int)
}

// Of how many keys the memory is asked: the mean of a few thousand is off by some percent, and asking costs no more than
// counting does.
const (
	sampleFirst = 500
	sampleEvery = 64
)

// Survey scans all keys and looks at each, in memory that does not grow with the graph; it takes some seconds for a
// million nodes. Keys that change meanwhile may be missed or counted twice.
func (c *Cache) Survey(ctx context.Context, o SurveyOptions) (Survey, error) {
	s, err := c.count(ctx, o)
	if err != nil || !o.Memory {
		return s, err
	}
	err = c.fixedMemory(ctx, &s)
	if refused(err) {
		s.Memory, err = nil, nil
	}
	return s, err
}

// keyNames are the kinds' names in Survey.Memory.
var keyNames = map[string]string{userKind: "users", itemKind: "items", settledKind: "settled"}

func (c *Cache) count(ctx context.Context, o SurveyOptions) (Survey, error) {
	s := Survey{Stats: Stats{EdgesPerNode: c.opt.Bound}, UserDegrees: Degrees{}, ItemDegrees: Degrees{}}
	if o.Memory {
		s.Memory = map[string]Memory{}
	}
	progress, err := c.progress(ctx, o.Progress)
	if err != nil {
		return s, err
	}
	kinds := userKind + itemKind
	if o.Memory {
		kinds += settledKind
	}
	if err := c.scanNodes(ctx, kinds, progress, func(rdb redis.UniversalClient, page []nodeKey) error {
		return s.look(ctx, rdb, page)
	}); err != nil {
		return Survey{}, err
	}
	for kind, m := range s.Memory {
		m.estimate()
		s.Memory[kind] = m
	}
	catalogue, forgotten := make([]*redis.IntCmd, groups), make([]*redis.IntCmd, groups)
	if _, err := c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for g := range groups {
			catalogue[g], forgotten[g] = p.HLen(ctx, c.catalogueKey(g)), p.HLen(ctx, c.forgetKey(g))
		}
		return nil
	}); err != nil {
		return Survey{}, wrap("count the catalogue", err)
	}
	for g := range groups {
		s.Catalogue += catalogue[g].Val()
		s.Forgotten += forgotten[g].Val()
	}
	return s, nil
}

// progress tells of keys looked at, of all that the servers hold.
func (c *Cache) progress(ctx context.Context, tell func(done, total int)) (func(keys int), error) {
	if tell == nil {
		return nil, nil
	}
	total, err := c.rdb.DBSize(ctx).Result() // of all masters, in a Cluster
	if err != nil {
		return nil, wrap("count keys", err)
	}
	done := 0
	return func(keys int) {
		done += keys
		tell(min(done, int(total)), int(total))
	}, nil
}

// look counts a page of nodes.
func (s *Survey) look(ctx context.Context, rdb redis.UniversalClient, page []nodeKey) error {
	lengths, sizes := make([]*redis.IntCmd, len(page)), make([]*redis.IntCmd, len(page))
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, k := range page {
			lengths[i] = p.ZCard(ctx, k.key)
			if s.Memory == nil {
				continue
			}
			m := s.Memory[keyNames[k.kind]]
			if m.Keys++; m.Keys <= sampleFirst || m.Keys%sampleEvery == 0 {
				sizes[i] = p.MemoryUsage(ctx, k.key)
			}
			s.Memory[keyNames[k.kind]] = m
		}
		return nil
	})
	for i := range page {
		if e := lengths[i].Err(); e != nil {
			return wrap("count edges", e)
		}
	}
	for i, k := range page {
		n := lengths[i].Val()
		if n == 0 { // gone since it was found
			continue
		}
		switch k.kind {
		case userKind:
			s.Users++
			s.UserEdges += n
			s.UserDegrees.add(n)
			s.TrimmedUsers += atBound(n, s.EdgesPerNode)
		case itemKind:
			s.Items++
			s.ItemEdges += n
			s.ItemDegrees.add(n)
			s.TrimmedItems += atBound(n, s.EdgesPerNode)
		case settledKind:
			s.SettledUsers++
			s.Settled += n
		}
	}
	if s.Memory == nil {
		return nil
	}
	for i, k := range page {
		if sizes[i] == nil || sizes[i].Err() == redis.Nil {
			continue
		}
		if e := sizes[i].Err(); refused(e) {
			s.Memory = nil // this server does not tell
			return nil
		} else if e != nil {
			return wrap("ask for the memory of "+k.key, e)
		}
		m := s.Memory[keyNames[k.kind]]
		m.Bytes += sizes[i].Val()
		m.Sampled++
		s.Memory[keyNames[k.kind]] = m
	}
	if err == redis.Nil { // a key that was sampled is gone
		return nil
	}
	return wrap("look at nodes", err)
}

func atBound(n int64, bound int) int64 {
	if n >= int64(bound) {
		return 1
	}
	return 0
}

// fixedMemory asks for the memory of the keys of which each group has one.
func (c *Cache) fixedMemory(ctx context.Context, s *Survey) error {
	for name, key := range map[string]func(g int) string{"catalogue": c.catalogueKey, "recent": c.recentKey, "watermarks": c.watermarkKey, "forgotten": c.forgetKey} {
		cmds := make([]*redis.IntCmd, groups)
		if _, err := c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for g := range cmds {
				cmds[g] = p.MemoryUsage(ctx, key(g))
			}
			return nil
		}); err != nil && err != redis.Nil {
			return wrap("ask for the memory of the "+name, err)
		}
		m := Memory{}
		for _, cmd := range cmds {
			if cmd.Err() == nil {
				m.Keys++
				m.Sampled++
				m.Bytes += cmd.Val()
			}
		}
		if m.Keys > 0 && s.Memory != nil {
			s.Memory[name] = m
		}
	}
	return nil
}
