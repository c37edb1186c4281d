package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/redis/go-redis/v9"
)

const clientName = "r2rec"

// client is a client of the one server that the URL names or, where that server says that it is a node of a Redis Cluster
// or the URL has more addresses, of the whole cluster. The server is asked once, here.
func (f redisFlags) client(ctx context.Context) (redis.UniversalClient, error) {
	u, err := url.Parse(f.Redis)
	switch {
	case err == nil && u.User == nil && strings.Contains(f.Redis, "@"):
		return nil, wrongURL(&url.Error{}) // a password was taken for something else, which would be told
	case err == nil && u.Host == "" && u.Scheme != "unix":
		return nil, wrongURL(errors.New("it names no host"))
	case err == nil && u.Query().Has("addr"):
		return f.cluster()
	}
	opt, err := redis.ParseURL(f.Redis)
	if err != nil {
		return nil, wrongURL(err)
	}
	opt.ClientName = clientName
	opt.ContextTimeoutEnabled = true // a deadline holds for a server that accepts and never answers, too
	isNode, err := inCluster(ctx, *opt)
	switch {
	case err != nil:
		return nil, fmt.Errorf("--redis: redis at %s: %w", opt.Addr, err)
	case !isNode:
		return redis.NewClient(opt), nil
	case opt.DB != 0:
		return nil, fmt.Errorf("--redis: %s is a node of a Redis Cluster, which has no database %d: leave the number out, and keep others' keys apart by --prefix", opt.Addr, opt.DB)
	}
	return f.cluster()
}

// cluster is a client of the Redis Cluster whose nodes the URL names.
func (f redisFlags) cluster() (redis.UniversalClient, error) {
	opt, err := redis.ParseClusterURL(f.Redis)
	if err != nil {
		return nil, wrongURL(err)
	}
	if strings.ContainsAny(f.Prefix, "{}") {
		return nil, fmt.Errorf("--prefix %q: on a Redis Cluster braces say which node has a key; want a prefix without", f.Prefix)
	}
	opt.ClientName = clientName
	opt.ContextTimeoutEnabled = true
	return redis.NewClusterClient(opt), nil
}

// wrongURL never shows the URL: a password may be in it.
func wrongURL(err error) error {
	var wrong *url.Error // says parts of the URL
	if errors.As(err, &wrong) {
		err = errors.New("not a URL (a password needs its special characters percent-encoded)")
	}
	return fmt.Errorf("--redis: %w: want redis://user:password@host:port/db, of a Redis Cluster redis://user:password@host:port?addr=host:port", err)
}

// inCluster tells whether a server is a node of a Redis Cluster. One that does not know the question is none.
func inCluster(ctx context.Context, opt redis.Options) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	opt.DB = 0 // another one cannot be asked for in a cluster
	rdb := redis.NewClient(&opt)
	defer rdb.Close()
	reply, err := rdb.Do(ctx, "hello", rdb.Options().Protocol).Result()
	var refused redis.Error
	if err != nil && !errors.As(err, &refused) {
		return false, err
	}
	switch said := reply.(type) {
	case map[any]any: // protocol 3
		return said["mode"] == "cluster", nil
	case []any: // protocol 2
		for i := 0; i+1 < len(said); i += 2 {
			if said[i] == "mode" {
				return said[i+1] == "cluster", nil
			}
		}
	}
	return false, nil
}

// addressOf is where a client's servers are, without a password.
func addressOf(rdb redis.UniversalClient) string {
	switch c := rdb.(type) {
	case *redis.Client:
		return c.Options().Addr
	case *redis.ClusterClient:
		return strings.Join(c.Options().Addrs, ", ")
	}
	return "an unknown address"
}

// deleteKeys removes every key that begins with the prefix, from all nodes of a cluster.
func deleteKeys(ctx context.Context, rdb redis.UniversalClient, prefix string) error {
	return graphcache.ScanKeys(ctx, rdb, graphcache.EscapeGlob(prefix)+"*", func(node redis.UniversalClient, keys []string) error {
		// One key a command: those of a node are of different slots.
		_, err := node.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, key := range keys {
				p.Unlink(ctx, key)
			}
			return nil
		})
		return err
	})
}

// redisCPU is the processor time that the servers have used so far; 0: they do not tell.
func redisCPU(ctx context.Context, rdb redis.UniversalClient) (time.Duration, error) {
	var sum atomic.Int64
	err := graphcache.EachMaster(ctx, rdb, func(ctx context.Context, node redis.UniversalClient) error {
		info, err := node.InfoMap(ctx, "cpu").Result()
		var refused redis.Error
		switch {
		case errors.As(err, &refused): // an embedded one knows no such section
			return nil
		case err != nil:
			return fmt.Errorf("ask redis for its processor time: %w", err)
		}
		for _, name := range []string{"used_cpu_user", "used_cpu_sys"} {
			if seconds, err := strconv.ParseFloat(info["CPU"][name], 64); err == nil {
				sum.Add(int64(seconds * float64(time.Second)))
			}
		}
		return nil
	})
	return time.Duration(sum.Load()), err
}
