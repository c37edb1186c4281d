package graphcache

import (
	"context"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Side says what a node is.
type Side string

// The two sides of the graph.
const (
	UserSide Side = "user"
	ItemSide Side = "item"
)

// kinds of keys that there is one of for each node, as they stand after the group's tag.
const (
	userKind    = 'u'
	itemKind    = 'i'
	settledKind = 'x'
)

// listKey is the key of a node's list or register, taken apart.
type listKey struct {
	key, id string
	kind    byte
}

// atOnce is how many keys a server looks at for one page.
const atOnce = 1000

// scanNodes calls f with the nodes' keys of some kinds, page by page, and the server they are on. In a Cluster the masters
// are scanned side by side, and f is called by one of them at a time. Memory is that of a page for each master. Keys that
// come or go meanwhile may be missed, and keys may be seen twice while Redis changes the size of its table; a graph that
// stands still is seen exactly once. progress, if not nil, hears how many keys were looked at.
func (c *Cache) scanNodes(ctx context.Context, kinds string, progress func(keys int), f func(rdb redis.UniversalClient, page []listKey) error) error {
	pattern := EscapeGlob(c.root()) + "{*}:[" + kinds + "]:*"
	var mu sync.Mutex
	look := func(rdb redis.UniversalClient, keys []string) error {
		page := make([]listKey, 0, len(keys))
		for _, key := range keys {
			if k, ok := c.parse(key); ok {
				page = append(page, k)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if progress != nil {
			progress(atOnce)
		}
		if len(page) == 0 {
			return nil
		}
		return f(rdb, page)
	}
	return wrap("scan "+pattern, c.masters(ctx, func(ctx context.Context, rdb redis.UniversalClient) error {
		for cursor := uint64(0); ; {
			keys, next, err := rdb.Scan(ctx, cursor, pattern, atOnce).Result()
			if err != nil {
				return err
			}
			if err := look(rdb, keys); err != nil {
				return err
			}
			if cursor = next; cursor == 0 {
				return nil
			}
		}
	}))
}

// parse takes a node's key apart; false: it is another key that looks like one.
func (c *Cache) parse(key string) (listKey, bool) {
	_, rest, ok := strings.Cut(key[len(c.root()):], "}:")
	if !ok || len(rest) < 2 || rest[1] != ':' {
		return listKey{}, false
	}
	k := listKey{key: key, id: rest[2:], kind: rest[0]}
	return k, key == c.tag(group(k.id))+rest
}

// root is what the keys of all groups begin with.
func (c *Cache) root() string { return strings.TrimSuffix(c.tag(0), "{0}:") }

// EscapeGlob writes a text so that it stands for itself in a pattern of SCAN.
func EscapeGlob(s string) string { return globEscaper.Replace(s) }

// List is a node's list as it stands in Redis.
type List struct {
	ID    string
	Edges []Edge // newest first
}

// Lists calls f with every list of the graph, page by page, in no order, one call at a time. What scanNodes says of keys
// that change meanwhile holds.
func (c *Cache) Lists(ctx context.Context, f func(side Side, lists []List) error) error {
	return c.scanNodes(ctx, string(userKind)+string(itemKind), nil, func(rdb redis.UniversalClient, page []listKey) error {
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
