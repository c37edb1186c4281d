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
	err := c.scanNodes(ctx, userKind+itemKind+settledKind, nil, func(_ redis.UniversalClient, page []nodeKey) error {
		for _, n := range page {
			keys = append(keys, n.key)
		}
		return nil
	})
	if err != nil {
		return nil, err
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
