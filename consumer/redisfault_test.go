package consumer

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
)

// The connection to Redis breaks at the first request, at the second, and so on, until a run gets through: before Redis
// sees the request, in the middle of it, and when Redis has done what it was asked for and the answer is on its way. The
// graph is always what the history says, and Run goes on.
func TestFaultAtEveryRedisRequest(t *testing.T) {
	for _, server := range []string{"embedded", "real"} {
		for _, kind := range []embeddedtest.Break{embeddedtest.BreakBefore, embeddedtest.BreakWithin, embeddedtest.BreakAfter} {
			t.Run(fmt.Sprintf("%s/%s", server, kind), func(t *testing.T) {
				t.Parallel()
				to := &redis.UniversalOptions{}
				if server == "embedded" {
					to.Addrs = []string{embeddedtest.Redis(t)}
				} else {
					to = embeddedtest.RealRedis(t)
				}
				direct := redis.NewUniversalClient(to)
				defer direct.Close()
				proxy := embeddedtest.NewProxy(t, to.Addrs[0])
				broken := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{proxy.Addr}, DB: to.DB, MaxRetries: -1})
				defer broken.Close()

				c := fakeCluster(t)
				random := rand.New(rand.NewChaCha8(seed(t)))
				log := history(random, 60)
				c.tell(random, log)
				for at := 0; ; at++ {
					if err := embeddedtest.Flush(t.Context(), direct); err != nil {
						t.Fatal(err)
					}
					opt := c.options(openGraph(t, broken))
					opt.Group = fmt.Sprintf("group-%d", at)
					opt.MaxBatch = 15
					opt.CheckInterval = time.Hour // only the requests that the records cause
					proxy.Break(at, kind)
					r := start(t, opt)
					c.awaitGraph(openGraph(t, direct), log)
					r.stop()
					if proxy.Requests() <= at {
						if at < 9+3*2*3 { // nine watermarks; three partitions with two batches, each of which asks, applies and asks again
							t.Errorf("a run got through with %d requests", at)
						}
						t.Logf("a run got through after %d with a fault", at)
						return
					}
				}
			})
		}
	}
}
