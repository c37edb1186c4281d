package graphcache

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// node is a list as it was read: its newest edges, newest first, and its length, the edges that were not read included.
// Edges of one millisecond and kind stand in falling order of their ids.
type node struct {
	edges  []Edge
	degree int64
}

// batch is one pipelined round trip that reads lists and whatever else is queued in it.
type batch struct {
	redis.Pipeliner
	c     *Cache
	lists []*listRead
}

// listRead is a list being read in a batch.
type listRead struct {
	key    string
	newest int
	edges  *redis.ZSliceCmd
	degree *redis.IntCmd
	read   node
}

// node is what was read, once the batch is sent. A list that does not exist is an empty one.
func (r *listRead) node() node { return r.read }

func (c *Cache) batch() *batch { return &batch{Pipeliner: c.rdb.Pipeline(), c: c} }

// list queues the reading of the newest edges of a list, of all of them where newest is below 1.
func (b *batch) list(ctx context.Context, key string, newest int) *listRead {
	r := &listRead{key: key, newest: newest}
	r.edges, r.degree = b.ZRevRangeWithScores(ctx, key, 0, int64(max(newest, 0))-1), b.ZCard(ctx, key)
	b.lists = append(b.lists, r)
	return r
}

// send reads everything that is queued and says in how many round trips; an empty batch costs none.
func (b *batch) send(ctx context.Context) (trips int, err error) {
	if b.Len() == 0 {
		return 0, nil
	}
	if _, err := b.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return 1, err
	}
	for _, r := range b.lists {
		zs := r.edges.Val()
		r.read = node{edges: make([]Edge, len(zs)), degree: r.degree.Val()}
		for i, z := range zs {
			r.read.edges[i] = edge(z.Member.(string), z.Score)
		}
	}
	return 1, nil
}
