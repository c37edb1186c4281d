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

// errMoved says that another server answers than at the beginning of a scan, whose cursor means nothing to it, or that keys went
// from one to another.
var errMoved = errors.New("during a scan a server was started again or replaced, or the Redis Cluster moves slots to another node: it has to be done again")

// kinds of keys that there is one of for each node, as they stand after the group's tag.
const (
	userKind    = "u"
	itemKind    = "i"
	settledKind = "x"
)

// nodeKey is the key of a node's list or register, taken apart.
type nodeKey struct{ kind, key, id string }

// scanNodes calls f with the nodes' keys of some kinds, a page at a time, and the server they are on; a page may be empty.
// Memory is that of a page. What ScanKeys says of keys that come or go holds. progress, if not nil, hears how many keys were
// looked at.
func (c *Cache) scanNodes(ctx context.Context, kinds string, progress func(keys int), f func(rdb redis.UniversalClient, page []nodeKey) error) error {
	return ScanKeys(ctx, c.rdb, EscapeGlob(c.graph)+"{*}:["+kinds+"]:*", func(rdb redis.UniversalClient, keys []string) error {
		page := make([]nodeKey, 0, len(keys))
		for _, key := range keys {
			if n, ok := c.parse(key); ok && strings.Contains(kinds, n.kind) { // an id may look like another kind's key
				page = append(page, n)
			}
		}
		if progress != nil {
			progress(scanPage)
		}
		return f(rdb, page)
	})
}

// parse takes a node's key apart; false: it is an app's key that looks like one.
func (c *Cache) parse(key string) (nodeKey, bool) {
	_, rest, _ := strings.Cut(key[len(c.graph):], "}:")
	kind, id, ok := strings.Cut(rest, ":")
	return nodeKey{kind, key, id}, ok && key == c.tag(group(id))+rest
}

// ScanKeys calls f with the keys that match the pattern, a page at a time, never two at once, and the server they are on. Keys
// that are there all the time are seen, once unless Redis changes the size of its table: a server that is replaced meanwhile, and a
// Cluster that moves slots, is an error that may go away. Others may be missed. A page may be empty.
func ScanKeys(ctx context.Context, rdb redis.UniversalClient, pattern string, f func(rdb redis.UniversalClient, keys []string) error) error {
	var mu sync.Mutex // a Cluster's masters are scanned side by side
	var failed error
	owned, err := owners(ctx, rdb)
	if err != nil {
		return wrap("scan "+pattern, err)
	}
	err = EachMaster(ctx, rdb, func(ctx context.Context, rdb redis.UniversalClient) error {
		begun, err := runID(ctx, rdb)
		if err != nil {
			return err
		}
		for cursor := uint64(0); ; {
			keys, next, err := rdb.Scan(ctx, cursor, pattern, scanPage).Result()
			if err != nil {
				return err
			}
			mu.Lock()
			if failed == nil {
				failed = f(rdb, keys)
			}
			err = failed
			mu.Unlock()
			if err != nil {
				return err
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
	if err == nil {
		var now string
		if now, err = owners(ctx, rdb); err == nil && now != owned {
			err = errMoved
		}
	}
	return wrap("scan "+pattern, err)
}

// EachMaster calls f with each server that holds keys, of a Cluster side by side.
func EachMaster(ctx context.Context, rdb redis.UniversalClient, f func(ctx context.Context, rdb redis.UniversalClient) error) error {
	if cluster, ok := rdb.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error { return f(ctx, master) })
	}
	return f(ctx, rdb)
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
	return fields(info)["run_id"], nil
}

// EscapeGlob writes a text so that it stands for itself in a pattern of SCAN.
func EscapeGlob(s string) string { return globEscaper.Replace(s) }

var globEscaper = strings.NewReplacer("*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`, `\`, `\\`)
