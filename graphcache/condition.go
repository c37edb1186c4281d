package graphcache

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Writable tells what keeps Redis from taking events although it answers: that it is loading, full, a read-only replica, or
// one of a Cluster that does not serve all slots. It is nil where nothing does, or where Redis does not tell (INFO).
func (c *Cache) Writable(ctx context.Context) error {
	_, cluster := c.rdb.(*redis.ClusterClient)
	return wrap("ask redis whether it takes events", c.masters(ctx, func(ctx context.Context, rdb redis.UniversalClient) error {
		info, err := rdb.Info(ctx).Result()
		if err == nil {
			err = condition(fields(info))
		}
		if err == nil && cluster {
			if info, err = rdb.ClusterInfo(ctx).Result(); err == nil && fields(info)["cluster_state"] == "fail" {
				err = errors.New(meaningOf("CLUSTERDOWN"))
			}
		}
		var reply redis.Error
		if errors.As(err, &reply) && !retriableReply(reply.Error()) {
			return nil
		}
		if node, ok := rdb.(*redis.Client); ok && err != nil && cluster {
			return fmt.Errorf("%s: %w", node.Options().Addr, err)
		}
		return err
	}))
}

// condition is what INFO says that keeps a server from taking writes.
func condition(info map[string]string) error {
	number := func(name string) int64 {
		n, _ := strconv.ParseInt(info[name], 10, 64) // absent: 0, nothing is known
		return n
	}
	used, limit := number("used_memory")-number("mem_not_counted_for_evict"), number("maxmemory")
	switch {
	case info["loading"] == "1":
		return errors.New(meaningOf("LOADING"))
	case info["role"] == "slave":
		return fmt.Errorf("%s (%s:%s)", meaningOf("READONLY"), info["master_host"], info["master_port"])
	case limit > 0 && used >= limit && !strings.HasPrefix(info["maxmemory_policy"], "allkeys-"):
		return fmt.Errorf("%s: it uses %s of %s", meaningOf("OOM"), info["used_memory_human"], info["maxmemory_human"])
	}
	return nil
}

// fields are the lines of an INFO.
func fields(info string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(info) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			m[name] = value
		}
	}
	return m
}

// checkEviction refuses a server that may drop lists by itself: no watermark would tell that they are gone. One that may
// only drop what has a time to live is warned about.
func (c *Cache) checkEviction(ctx context.Context) error {
	settings, err := c.settings(ctx, "maxmemory*")
	if err != nil {
		return err
	}
	for _, m := range settings {
		policy, limit := m["maxmemory-policy"], m["maxmemory"]
		switch {
		case limit == "" || limit == "0":
		case strings.HasPrefix(policy, "allkeys-"):
			return fmt.Errorf("graphcache: redis has maxmemory-policy %s and maxmemory %s bytes: once full it drops lists of the graph, and nothing tells that they are gone. "+
				"CONFIG SET maxmemory-policy noeviction, and in its configuration file: a full redis then refuses events, which wait in Kafka", policy, limit)
		case strings.HasPrefix(policy, "volatile-"):
			c.opt.Logger.Warn("once full, redis drops recommendations, and decisions that wait for their rewards, before their time",
				"setting", "maxmemory-policy", "value", policy, "needed", "noeviction")
		}
	}
	return nil
}
