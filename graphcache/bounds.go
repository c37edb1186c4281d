package graphcache

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// boundsKey names a hash: number of a generation -> "Bound MaxNew" by which it was begun, and by which all trim its lists.
func (c *Cache) boundsKey() string { return c.opt.Prefix + "bounds" }

// bounded is the current generation, of, with the bounds by which it was begun, without a round trip where these are known. Where
// nobody wrote them down, they are those of this process, which it writes down if it begins the graph. A bound that was chosen
// and is another one is an error: who trims shorter takes away what the others keep.
func (g *Generations) bounded(ctx context.Context, of *Cache, begins bool) (*Cache, error) {
	for !of.bounded && !of.opt.Anew {
		c := of.generation(of.opt.Generation)
		c.opt.Bound, c.opt.MaxNew = g.first.opt.Bound, g.first.opt.MaxNew
		var later bool
		var err error
		if c.bounded, err = c.readBounds(ctx); err != nil {
			return nil, err
		}
		known := c.bounded || !begins
		if !known {
			if c.bounded, later, err = c.writeBounds(ctx); later || err != nil {
				return c, err
			}
			known = c.bounded // or somebody else has begun it
		}
		if known && g.current.CompareAndSwap(of, c) {
			return c, nil
		}
		if of, err = g.Current(ctx); err != nil {
			return nil, err
		}
	}
	return of, nil
}

// readBounds takes over the bounds by which a generation was begun; false: nobody wrote them down.
func (c *Cache) readBounds(ctx context.Context) (bool, error) {
	text, err := c.rdb.HGet(ctx, c.boundsKey(), strconv.Itoa(c.opt.Generation)).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return false, nil
	case err != nil:
		return false, wrap("read how many edges a node keeps", err)
	}
	var bound, maxNew int
	if _, err := fmt.Sscanf(text, "%d %d", &bound, &maxNew); err != nil || bound < 1 || maxNew < 1 {
		return false, &lasting{fmt.Errorf("graphcache: %s holds %d = %q, want two numbers: another program wrote it", c.boundsKey(), c.opt.Generation, text)}
	}
	switch {
	case c.chosen && bound != c.opt.Bound:
		return false, &lasting{fmt.Errorf("graphcache: a node of this graph keeps %d edges, and here it is to keep %d (--bound): give all processes the same, or none; "+
			"for another one stop what consumes, run r2rec rebuild with it, and start all with it", bound, c.opt.Bound)}
	case !c.chosen && bound != c.opt.Bound:
		c.opt.Logger.Warn("a node keeps as many edges as this graph was begun with, and not as many as redis is set up for: r2rec rebuild begins it anew",
			"edges", bound, "here", c.opt.Bound, "generation", c.opt.Generation)
		c.opt.Bound, c.opt.MaxNew = bound, maxNew
	}
	return true, nil
}

// writeBounds writes down by which bounds a generation was begun; false: somebody else has, or, later, the server takes no writes
// for the moment.
func (c *Cache) writeBounds(ctx context.Context) (wrote, later bool, err error) {
	wrote, err = c.rdb.HSetNX(ctx, c.boundsKey(), strconv.Itoa(c.opt.Generation), fmt.Sprintf("%d %d", c.opt.Bound, c.opt.MaxNew)).Result()
	var reply redis.Error
	if errors.As(err, &reply) && retriableReply(reply.Error()) {
		return false, true, nil
	}
	return wrote, false, wrap("write how many edges a node keeps", err)
}

// unbounded has the bounds of c looked up again: the store lost what it had, and they may be gone with it.
func (g *Generations) unbounded(c *Cache) {
	if c.bounded {
		again := c.generation(c.opt.Generation)
		g.current.CompareAndSwap(c, again)
	}
}
