package graphcache

import (
	"cmp"
	"context"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"
)

func exclusive(score int64) string { return "(" + strconv.FormatInt(score, 10) }

// Entry is one member of one sorted set of the graph.
type Entry struct {
	Key, Member string
	Score       int64
}

// Export returns the whole graph, edges, registers of purchases and hides and recent items, sorted by key, newest
// member last: two graphs are equal if their exports are. It reads everything; it is for tests and small graphs.
func (c *Cache) Export(ctx context.Context) ([]Entry, error) {
	keys := make([]string, 0, 2*groups)
	for g := range groups {
		keys = append(keys, c.recentKey(g))
	}
	for _, kind := range []string{"u:", "i:", "x:"} {
		err := c.scan(ctx, kind, func(key, _ string) error {
			keys = append(keys, key)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(keys)
	var out []Entry
	for chunk := range slices.Chunk(slices.Compact(keys), 500) {
		cmds := make([]*redis.ZSliceCmd, len(chunk))
		_, err := c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, key := range chunk {
				cmds[i] = p.ZRangeWithScores(ctx, key, 0, -1)
			}
			return nil
		})
		if err != nil {
			return nil, wrap("export the graph", err)
		}
		for i, cmd := range cmds {
			for _, z := range cmd.Val() {
				out = append(out, Entry{Key: chunk[i], Member: z.Member.(string), Score: int64(z.Score)})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Entry) int { return cmp.Compare(a.Key, b.Key) })
	return out, nil
}

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

// Stats scans all keys and counts; it takes about a second for a million nodes.
func (c *Cache) Stats(ctx context.Context) (Stats, error) {
	s := Stats{EdgesPerNode: c.opt.Bound}
	count := func(kind string, nodes, edges, trimmed *int64) error {
		seen := map[string]bool{}
		if err := c.scan(ctx, kind, func(key, _ string) error {
			seen[key] = true
			return nil
		}); err != nil {
			return err
		}
		keys := make([]string, 0, len(seen))
		for key := range seen {
			keys = append(keys, key)
		}
		for chunk := range slices.Chunk(keys, 1000) {
			cmds := make([]*redis.IntCmd, len(chunk))
			if _, err := c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
				for i, key := range chunk {
					cmds[i] = p.ZCard(ctx, key)
				}
				return nil
			}); err != nil {
				return wrap("count edges", err)
			}
			for _, cmd := range cmds {
				n := cmd.Val()
				if n == 0 {
					continue
				}
				*nodes++
				*edges += n
				if n >= int64(c.opt.Bound) {
					*trimmed++
				}
			}
		}
		return nil
	}
	if err := count("u:", &s.Users, &s.UserEdges, &s.TrimmedUsers); err != nil {
		return Stats{}, err
	}
	if err := count("i:", &s.Items, &s.ItemEdges, &s.TrimmedItems); err != nil {
		return Stats{}, err
	}
	cmds, err := c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for g := range groups {
			p.HLen(ctx, c.catalogueKey(g))
		}
		return nil
	})
	if err != nil {
		return Stats{}, wrap("count the catalogue", err)
	}
	for _, cmd := range cmds {
		s.Catalogue += cmd.(*redis.IntCmd).Val()
	}
	return s, nil
}
