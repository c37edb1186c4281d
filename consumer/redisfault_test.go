package consumer

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
)

// The connection to Redis breaks at the first request, at the second, and so on, until a run gets through: before Redis
// sees the request, in the middle of it, and when Redis has done what it was asked for and the answer is on its way. On the
// real server Run goes on; on the embedded one it ends at that very moment, as a process that is killed does, and another
// one begins. The graph is always what the history says.
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
				through := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{proxy.Addr}, DB: to.DB, MaxRetries: -1})
				defer through.Close()

				g := openGraph(t, direct)
				c := fakeCluster(t)
				random := rand.New(rand.NewChaCha8(seed(t)))
				log := history(random, 45)
				c.tell(random, log)
				for at := 0; ; at++ {
					if err := embeddedtest.Flush(t.Context(), direct); err != nil {
						t.Fatal(err)
					}
					opt := c.options(openGraph(t, through))
					opt.Group = fmt.Sprintf("group-%d", at)
					opt.MaxBatch = 15
					opt.CheckInterval = time.Hour // only the requests that the records cause
					broken := proxy.Break(at, kind)
					if server == "embedded" {
						opt.Backoff = func() backoff.BackOff { return backoff.NewConstantBackOff(patience) } // nothing is done twice
					}
					r := start(t, opt)
					if server == "embedded" {
						c.eventually("the request breaks, or there is none", func() bool { return isClosed(broken) || idle(r) })
						if isClosed(broken) {
							r.stop()
							opt.Backoff = c.member().Backoff
							r = start(t, withRegistry(opt))
						}
					}
					c.eventually("all is read", func() bool { return idle(r) })
					if diff := c.differs(g, log); diff != "" {
						t.Fatalf("request %d: the graph is not what the history says (-want +got):\n%s", at, diff)
					}
					r.stop()
					if proxy.Requests() <= at {
						if at < 9+2*2 { // nine watermarks; each partition has two batches, of which those of all three may travel together: one asks, then applies
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

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
