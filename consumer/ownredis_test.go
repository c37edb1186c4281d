//go:build unix

package consumer

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
)

// One Redis lives through a bad day: it is flushed, killed and started again, stopped and restored from files of an hour
// ago, while events flow and while none do. The consumer sees each loss by the watermarks and rewinds by itself.
func TestRedisLosesWhatItHad(t *testing.T) {
	c := fakeCluster(t)
	server := embeddedtest.OwnRedis(t)
	rdb := redis.NewUniversalClient(server.Options())
	defer rdb.Close()
	g := openGraph(t, rdb)
	random := rand.New(rand.NewChaCha8(seed(t)))
	log := history(random, 900)
	told := 0
	tell := func(n int) {
		c.tell(random, log[told:told+n])
		told += n
	}

	opt := c.options(g)
	opt.MaxBatch = 20
	r := start(t, opt)
	rewinds := func() float64 { return testutil.ToFloat64(r.metrics.rewinds.WithLabelValues(c.topics.Interactions)) }
	loses := func(what string, wantRewind bool, lose func()) {
		t.Helper()
		for _, flowing := range []bool{false, true} {
			before := rewinds()
			if flowing {
				tell(100)
			}
			lose()
			if flowing {
				tell(50)
			}
			c.awaitGraph(g, log[:told])
			if wantRewind {
				c.eventually(what+": a rewind", func() bool { return rewinds() > before })
			}
		}
	}
	tell(150)
	c.awaitGraph(g, log[:told])
	server.Stop()
	old := server.Backup()
	server.Start()
	tell(150)
	c.awaitGraph(g, log[:told])

	loses("killed", false, func() { server.Kill(); server.Start() })
	loses("flushed", true, func() {
		if err := embeddedtest.Flush(t.Context(), rdb); err != nil {
			t.Fatal(err)
		}
	})
	loses("restored", true, func() { server.Stop(); server.Restore(old); server.Start() })
	if told != 750 {
		t.Fatalf("%d of the events were told", told)
	}

	// Away for long enough to be noticed, and back.
	server.Stop()
	tell(150)
	c.eventually("health says that Redis cannot be reached", func() bool {
		return slices.ContainsFunc(r.Health().Partitions, func(p PartitionHealth) bool {
			return p.Topic == c.topics.Interactions && strings.Contains(p.Trouble.Error, "Redis cannot be reached")
		})
	})
	server.Start()
	c.awaitGraph(g, log)
	c.eventually("health says that all is well", func() bool { return idle(r) })
	r.stop()
	for p := range partitions {
		if at, ok, err := g.Watermark(t.Context(), c.topics.Interactions, p); !ok || err != nil || at == 0 {
			t.Errorf("partition %d: watermark %d, %v, %v", p, at, ok, err)
		}
	}
}

// A Redis that may not write any more refuses a batch until it may again: nothing is lost, memory does not grow, the
// consumer tries at its own pace, and health says which it is.
func TestRedisThatTakesNoWrites(t *testing.T) {
	maxMemory := func(bytes string) func(redis.UniversalClient) error {
		return func(rdb redis.UniversalClient) error { return rdb.ConfigSet(t.Context(), "maxmemory", bytes).Err() }
	}
	single := func(t *testing.T) (all, one *redis.UniversalOptions) {
		server := embeddedtest.OwnRedis(t)
		return server.Options(), server.Options()
	}
	for name, tc := range map[string]struct {
		servers       func(t *testing.T) (all, one *redis.UniversalOptions) // what holds the graph, and what is spoilt
		says          string
		spoil, repair func(rdb redis.UniversalClient) error
	}{
		"full": {servers: single, says: "Redis is full", spoil: maxMemory("1"), repair: maxMemory("0")},
		"a full master of a cluster": {
			servers: func(t *testing.T) (all, one *redis.UniversalOptions) {
				cluster := embeddedtest.OwnCluster(t)
				return cluster.Options(), cluster.Servers[1].Options()
			},
			says: "Redis is full", spoil: maxMemory("1"), repair: maxMemory("0"),
		},
		"read-only replica": {
			servers: single, says: "read-only replica",
			spoil:  func(rdb redis.UniversalClient) error { return rdb.SlaveOf(t.Context(), "127.0.0.1", "1").Err() },
			repair: func(rdb redis.UniversalClient) error { return rdb.SlaveOf(t.Context(), "no", "one").Err() },
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := fakeCluster(t)
			all, one := tc.servers(t)
			admin, looker, rdb := redis.NewUniversalClient(one), redis.NewUniversalClient(all), redis.NewUniversalClient(all)
			defer admin.Close()
			defer looker.Close()
			defer rdb.Close()
			random := rand.New(rand.NewChaCha8(seed(t)))
			log := history(random, 600)
			c.tell(random, log[:100])
			g := &paced{Graph: openGraph(t, rdb), ended: map[partitionKey]time.Time{}}
			opt := c.options(g)
			opt.MaxBatch, opt.QueueCapacity = 20, 10
			opt.Backoff = nil // its own: 50 ms and more
			r := start(t, opt)
			c.awaitGraph(openGraph(t, looker), log[:100])

			if err := tc.spoil(admin); err != nil {
				t.Fatal(err)
			}
			c.tell(random, log[100:])
			troubled := func() (n int) {
				for _, p := range r.Health().Partitions {
					if p.Topic == c.topics.Interactions && strings.Contains(p.Trouble.Error, tc.says) {
						n++
					}
				}
				return n
			}
			c.eventually("health says which it is", func() bool { return troubled() == partitions })
			g.awaitFailures(t, 4*partitions)
			for _, p := range r.Health().Partitions {
				if p.Topic == c.topics.Interactions && p.Lag < 60 {
					t.Errorf("partition %d goes on although nothing can be written: %+v", p.Partition, p)
				}
			}
			if err := tc.repair(admin); err != nil {
				t.Fatal(err)
			}
			c.awaitGraph(openGraph(t, looker), log)
			c.eventually("health says that all is well", func() bool { return idle(r) })
			r.stop()
			// The first pause is 50 ms, half of it random, and the next ones are longer.
			if g.soonest < 25*time.Millisecond {
				t.Errorf("a partition tried again after %v: a busy loop", g.soonest)
			}
		})
	}
}

// paced is a graph that notes how soon after a failure it is asked again.
type paced struct {
	Graph

	mu       sync.Mutex
	ended    map[partitionKey]time.Time // of the last attempt, where it failed
	failures int
	soonest  time.Duration
}

func (g *paced) ApplyInteractions(ctx context.Context, s event.Span, batch []event.Interaction) error {
	key := partitionKey{s.Topic, s.Partition}
	g.mu.Lock()
	if at := g.ended[key]; !at.IsZero() && (g.soonest == 0 || time.Since(at) < g.soonest) {
		g.soonest = time.Since(at)
	}
	g.mu.Unlock()
	err := g.Graph.ApplyInteractions(ctx, s, batch)
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.ended, key)
	if err != nil {
		g.ended[key] = time.Now()
		g.failures++
	}
	return err
}

func (g *paced) awaitFailures(t testing.TB, n int) {
	t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		g.mu.Lock()
		enough := g.failures >= n
		g.mu.Unlock()
		if enough {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited in vain for %d failures", n)
		}
	}
}
