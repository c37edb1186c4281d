package consumer

import (
	"fmt"
	"math/rand/v2"
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

// history is n interactions of few users with few items, in an order that has nothing to do with their times; many are of
// the same moment and the same pair, and say the contrary of each other.
func history(random *rand.Rand, n int) []event.Interaction {
	out := make([]event.Interaction, n)
	for i := range out {
		in := event.Interaction{EventID: eventID(i), UserID: fmt.Sprint("u", random.IntN(12)), ItemID: fmt.Sprint("i", random.IntN(40)),
			Type: event.Types[random.IntN(len(event.Types))], Timestamp: event.Time(1_700_000_000_000 + random.IntN(n))}
		if in.Type == event.Rating {
			value := float64(1 + random.IntN(5))
			in.Value = &value
		}
		out[i] = in
	}
	return out
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
	want := smallGraph.Entries(log)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for {
		got, err := g.Export(c.t.Context())
		diff := cmp.Diff(want, graphtest.Of(got))
		if err == nil && diff == "" {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			c.t.Fatalf("the graph is not what the history says, %v (-want +got):\n%.4000s", err, diff)
		}
	}
}
