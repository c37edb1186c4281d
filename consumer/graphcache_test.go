package consumer

import (
	"math/rand/v2"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
)

// Any history gives its graph: in any order and batches, spread over partitions at random, late, twice, contradicting itself
// in the same moment, longer than the lists; read by two members, one of which leaves, by a graph that is flushed while it is
// filled and once more when all is quiet.
func TestAnyHistoryGivesItsGraph(t *testing.T) {
	embeddedtest.Each(t, func(t *testing.T, k broker.Settings, r *redis.UniversalOptions) {
		c := newCluster(t, k)
		rdb := redis.NewUniversalClient(r)
		defer rdb.Close()
		g := openGraph(t, rdb)
		flush := func() {
			if err := embeddedtest.Flush(t.Context(), rdb); err != nil {
				t.Fatal(err)
			}
		}
		random := rand.New(rand.NewChaCha8(seed(t)))
		log := history(random, 1200)
		applied := make(chan struct{}, len(log))
		var members [2]*running
		for i := range members {
			opt := c.options(g)
			opt.MaxBatch = 20 + random.IntN(100)
			opt.OnApplied = func(event.Span, []event.Interaction) {
				select {
				case applied <- struct{}{}:
				default:
				}
			}
			members[i] = start(t, opt)
		}
		c.tell(random, log[:500])
		for range 5 {
			<-applied
		}
		flush()
		c.tell(random, log[500:1000])
		members[0].stop()
		c.tell(random, log[1000:])
		c.awaitGraph(g, log)
		flush()
		c.awaitGraph(g, log)
		members[1].stop()
	})
}
