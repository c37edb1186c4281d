package consumer

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/graphtest"
)

// What tests of the consumer and the real graph share: a history that fills lists beyond their bound, and the graph that
// it must give, whatever happened.

// smallGraph has short lists, so that few events reach every bound.
var smallGraph = graphtest.Graph{Prefix: "r2:", Bound: 6, Settled: 4, Recent: 2, Positive: 4, Negative: 2}

func openGraph(t testing.TB, rdb redis.UniversalClient) *graphcache.Cache {
	t.Helper()
	g, err := graphcache.New(rdb, graphcache.Options{Bound: smallGraph.Bound, MaxNew: 3, SettledBound: smallGraph.Settled, RecentBound: smallGraph.Recent})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// history fills the lists of smallGraph beyond their bounds.
func history(random *rand.Rand, n int) []event.Interaction {
	return graphtest.Shape{Users: 12, Items: 40, Moments: n}.History(random, n)
}

// tell produces a history to random partitions, some of it twice.
func (c *cluster) tell(random *rand.Rand, log []event.Interaction) {
	c.t.Helper()
	var records []*kgo.Record
	for _, in := range log {
		raw, err := event.Encode(in)
		if err != nil {
			c.t.Fatal(err)
		}
		for again := true; again; again = random.IntN(5) == 0 {
			records = append(records, &kgo.Record{Topic: c.topics.Interactions, Partition: random.Int32N(partitions), Key: []byte(in.UserID), Value: raw})
		}
	}
	c.produce(records...)
}

// awaitGraph waits until the graph is what the history says. Whatever keeps it from being read passes.
func (c *cluster) awaitGraph(g *graphcache.Cache, log []event.Interaction) {
	c.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for {
		diff := c.differs(g, log)
		if diff == "" {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			c.t.Fatalf("the graph is not what the history says (-want +got):\n%.4000s", diff)
		}
	}
}

// idle tells whether a consumer has brought everything into the graph that there is, and knows it.
func idle(r *running) bool {
	parts := r.Health().Partitions
	return len(parts) == 3*partitions && !slices.ContainsFunc(parts, func(p PartitionHealth) bool {
		return p.Position < 0 || p.Lag != 0 || p.Trouble != (Trouble{})
	})
}

// differs says how the graph is not what the history says; empty: it is.
func (c *cluster) differs(g *graphcache.Cache, log []event.Interaction) string {
	got, err := g.Export(c.t.Context())
	if err != nil {
		return err.Error()
	}
	return cmp.Diff(smallGraph.Entries(log), graphtest.Of(got))
}
