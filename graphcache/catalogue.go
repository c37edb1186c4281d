package graphcache

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/redis/go-redis/v9"
)

// itemReads are catalogue entries being read in a pipeline, one command a group.
type itemReads struct {
	ids  [groups][]string
	docs [groups]*redis.SliceCmd
}

func (c *Cache) queueItems(ctx context.Context, p redis.Pipeliner, ids []string) (r itemReads) {
	for _, id := range ids {
		g := group(id)
		r.ids[g] = append(r.ids[g], id)
	}
	for g, ids := range r.ids {
		if len(ids) > 0 {
			r.docs[g] = p.HMGet(ctx, c.catalogueKey(g), ids...)
		}
	}
	return r
}

// items that have an entry, by id.
func (r itemReads) items() (map[string]event.Item, error) {
	found := map[string]event.Item{}
	for g, cmd := range r.docs {
		if cmd == nil {
			continue
		}
		if err := cmd.Err(); err != nil { // of a Cluster's node: the others have answered
			return nil, wrap("read catalogue entries", err)
		}
		for i, v := range cmd.Val() {
			doc, ok := v.(string)
			if !ok {
				continue
			}
			it, ok := plainItem(doc)
			if !ok {
				it = event.Item{}
				if err := json.Unmarshal([]byte(doc), &it); err != nil {
					return nil, wrapf(err, "read the catalogue entry of %q", r.ids[g][i])
				}
			}
			found[r.ids[g][i]] = it
		}
	}
	return found, nil
}

// Items returns the catalogue entries of those of the ids that have one, in one round trip.
func (c *Cache) Items(ctx context.Context, ids []string) (map[string]event.Item, error) {
	pipe := c.rdb.Pipeline()
	reads := c.queueItems(ctx, pipe, ids)
	if pipe.Len() == 0 {
		return nil, nil
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return nil, wrap("read catalogue entries", err)
	}
	return reads.items()
}
