package graphcache

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// scanPage is how many keys the server looks at in one step of a scan, a third of a millisecond.
const scanPage = 1000

// errMoved says that another server answers than at the beginning of a scan, whose cursor means nothing to it.
var errMoved = errors.New("the server was started again or replaced during a scan")

// scan calls f with the key and the id of every node whose key, after its tag, begins with kind. Keys that come or go
// meanwhile may be missed or seen twice.
func (c *Cache) scan(ctx context.Context, kind string, f func(key, id string) error) error {
	return c.scanPages(ctx, kind, func(page []nodeKey) error {
		for _, n := range page {
			if err := f(n.key, n.id); err != nil {
				return err
			}
		}
		return nil
	})
}

// nodeKey is the key of a node's list.
type nodeKey struct{ key, id string }

// scanPages is scan, for a page of keys at a time; a page may be empty.
func (c *Cache) scanPages(ctx context.Context, kind string, f func(page []nodeKey) error) error {
	return c.scanKeys(ctx, globEscaper.Replace(c.graph)+"{*}:"+kind+"*", func(_ redis.UniversalClient, keys []string) error {
		page := make([]nodeKey, 0, len(keys))
		for _, key := range keys {
			_, id, ok := strings.Cut(key[len(c.graph):], "}:"+kind)
			if ok && key == c.tag(group(id))+kind+id { // else an app's key that looks like ours
				page = append(page, nodeKey{key, id})
			}
		}
		return f(page)
	})
}

// scanKeys calls f with the keys that match the pattern, a page at a time, never two at once, and the server they are on. Keys
// that are there all the time are seen: a server that is replaced meanwhile is an error that may go away. Others may be missed
// or seen twice.
func (c *Cache) scanKeys(ctx context.Context, pattern string, f func(rdb redis.UniversalClient, keys []string) error) error {
	var mu sync.Mutex // a Cluster's masters are scanned side by side
	var failed error
	err := c.masters(ctx, func(ctx context.Context, rdb redis.UniversalClient) error {
		begun, err := runID(ctx, rdb)
		if err != nil {
			return err
		}
		for cursor := uint64(0); ; {
			keys, next, err := rdb.Scan(ctx, cursor, pattern, scanPage).Result()
			if err != nil {
				return err
			}
			if len(keys) > 0 {
				mu.Lock()
				if failed == nil {
					failed = f(rdb, keys)
				}
				err := failed
				mu.Unlock()
				if err != nil {
					return err
				}
			}
			if cursor = next; cursor == 0 {
				break
			}
		}
		ended, err := runID(ctx, rdb)
		if err == nil && ended != begun {
			err = errMoved
		}
		return err
	})
	if failed != nil {
		return failed
	}
	return wrap("scan "+pattern, err)
}

// runID tells one run of one server from all others; empty: the server does not tell.
func runID(ctx context.Context, rdb redis.UniversalClient) (string, error) {
	info, err := rdb.Info(ctx, "server").Result()
	switch {
	case refused(err):
		return "", nil
	case err != nil:
		return "", err
	}
	return infoField(info, "run_id"), nil
}

// infoField is a field of what INFO answers; empty: it is not there.
func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

var globEscaper = strings.NewReplacer("*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`, `\`, `\\`)
