package graphcache

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Side says what a node is.
type Side string

// The two sides of the graph.
const (
	UserSide Side = "user"
	ItemSide Side = "item"
)

// List is a node's list as it stands in Redis.
type List struct {
	ID    string
	Edges []Edge // newest first
}

// Lists calls f with every list of the graph, page by page, in no order, one call at a time. What scanNodes says of keys
// that change meanwhile holds.
func (c *Cache) Lists(ctx context.Context, f func(side Side, lists []List) error) error {
	return c.scanNodes(ctx, userKind+itemKind, nil, func(rdb redis.UniversalClient, page []nodeKey) error {
		cmds := make([]*redis.ZSliceCmd, len(page))
		if _, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, k := range page {
				cmds[i] = p.ZRevRangeWithScores(ctx, k.key, 0, -1)
			}
			return nil
		}); err != nil {
			return wrap("read lists", err)
		}
		sides := map[Side][]List{}
		for i, k := range page {
			zs := cmds[i].Val()
			l := List{ID: k.id, Edges: make([]Edge, len(zs))}
			for j, z := range zs {
				l.Edges[j] = edge(z.Member.(string), z.Score)
			}
			side := UserSide
			if k.kind == itemKind {
				side = ItemSide
			}
			sides[side] = append(sides[side], l)
		}
		for side, lists := range sides {
			if err := f(side, lists); err != nil {
				return err
			}
		}
		return nil
	})
}
