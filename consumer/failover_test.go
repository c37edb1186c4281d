//go:build unix

package consumer

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
)

// A master of a cluster dies while its replica is away: what the master acknowledged meanwhile is lost for certain when the
// replica comes back and is promoted. (A replica that is only paused still finds the stream in its socket.) The consumer sees it by the watermarks of the groups that lived there, and brings it back.
func TestFailoverThatLosesAcknowledgedWrites(t *testing.T) {
	c := fakeCluster(t)
	cluster := embeddedtest.OwnCluster(t)
	rdb := redis.NewUniversalClient(cluster.Options())
	defer rdb.Close()
	g := openGraph(t, rdb)
	random := rand.New(rand.NewChaCha8(seed(t)))
	log := history(random, 700)
	opt := c.options(g)
	opt.MaxBatch = 20
	r := start(t, opt)
	c.tell(random, log[:200])
	c.awaitGraph(g, log[:200])

	replica := cluster.Replica(1)
	replica.Kill() // its master acknowledges what it never sees
	c.tell(random, log[200:500])
	c.awaitGraph(g, log[:500])
	if got := testutil.ToFloat64(r.metrics.rewinds.WithLabelValues(c.topics.Interactions)); got != 0 {
		t.Fatalf("%v rewinds before anything was lost", got)
	}
	cluster.Servers[1].Kill()
	replica.Start()
	cluster.Promote(1)
	c.tell(random, log[500:]) // under load
	c.awaitGraph(g, log)
	if got := testutil.ToFloat64(r.metrics.rewinds.WithLabelValues(c.topics.Interactions)); got == 0 {
		t.Error("nothing was read again: either nothing was lost, or nobody saw it")
	}
	promoted := redis.NewUniversalClient(replica.Options())
	defer promoted.Close()
	if role := promoted.Do(t.Context(), "role").String(); !strings.Contains(role, "master") {
		t.Errorf("the replica's role is %s", role)
	}
	// The old master comes back as the replica of the new one, with data that count no more.
	cluster.Servers[1].Start()
	c.awaitGraph(g, log)
	r.stop()
}
