//go:build unix

package embeddedtest

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Cluster is a Redis Cluster of a test's own: three masters, and a replica of each.
type Cluster struct {
	Servers []*Server

	t testing.TB
}

const (
	masters = 3
	slots   = 16384
	// noticedAfter is how long a server is silent before the others take it for failed, in milliseconds: longer than a machine
	// that has other work keeps it so.
	noticedAfter = "60000"
)

// OwnCluster starts a Redis Cluster that ends with the test. No replica takes over by itself. It skips the test where there is
// no redis-server, or fails it where R2REC_REQUIRE_REAL=1.
func OwnCluster(t testing.TB) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	for range 2 * masters {
		c.Servers = append(c.Servers, ownRedis(t, func() []string {
			_, bus, _ := net.SplitHostPort(freeAddr(t))
			return []string{"--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-config-file", "nodes.conf",
				"--cluster-node-timeout", noticedAfter, "--cluster-replica-no-failover", "yes", "--repl-diskless-sync-delay", "0"}
		}))
	}
	first := c.Servers[0]
	host, port, _ := net.SplitHostPort(first.Addr)
	for i, s := range c.Servers {
		c.must(s, "cluster", "set-config-epoch", i+1)
		if i < masters {
			c.must(s, "cluster", "addslotsrange", i*slots/masters, (i+1)*slots/masters-1)
		}
		if i > 0 {
			c.must(s, "cluster", "meet", host, port, first.settings[3])
		}
	}
	c.await("all to know each other", func(s *Server, _ int) bool {
		return strings.Count(c.must(s, "cluster", "nodes"), "connected") == 2*masters
	})
	for i := range masters {
		c.must(c.Servers[masters+i], "cluster", "replicate", c.must(c.Servers[i], "cluster", "myid"))
	}
	c.await("all slots to be served, and replicas to be in step", func(s *Server, i int) bool {
		return strings.Contains(c.must(s, "cluster", "info"), "cluster_state:ok") && strings.Count(c.must(s, "cluster", "nodes"), "slave") == masters &&
			(i < masters || strings.Contains(c.must(s, "info", "replication"), "master_link_status:up"))
	})
	return c
}

// Options are those of a client of the cluster.
func (c *Cluster) Options() *redis.UniversalOptions {
	o := &redis.UniversalOptions{IsClusterMode: true}
	for _, s := range c.Servers {
		o.Addrs = append(o.Addrs, s.Addr)
	}
	return o
}

// Replica is the replica that the i-th master had at the start.
func (c *Cluster) Replica(i int) *Server { return c.Servers[masters+i] }

// Promote has the replica of the i-th master take over, however old its data are and whatever became of the master.
func (c *Cluster) Promote(i int) {
	c.t.Helper()
	c.must(c.Replica(i), "cluster", "failover", "takeover")
}

// must asks a server.
func (c *Cluster) must(s *Server, args ...any) string {
	c.t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: s.Addr})
	defer rdb.Close()
	reply, err := rdb.Do(c.t.Context(), args...).Result()
	if err != nil {
		c.t.Fatalf("%v to the server on %s: %v", args, s.Addr, err)
	}
	return fmt.Sprint(reply)
}

func (c *Cluster) await(what string, is func(s *Server, i int) bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), startLimit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := 0; i < len(c.Servers); {
		if is(c.Servers[i], i) {
			i++
			continue
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			c.t.Fatalf("waited in vain for %s; the server on %s says:\n%s", what, c.Servers[i].Addr, c.must(c.Servers[i], "cluster", "nodes"))
		}
	}
}
