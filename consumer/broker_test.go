package consumer

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
)

// A topic gets more partitions while it is read: the consumer finds them by itself, and loses nothing of what came first.
func TestTopicWithMorePartitionsThanYesterday(t *testing.T) {
	eachCluster(t, func(t *testing.T, c *cluster) {
		g := newMemory()
		opt := c.options(g)
		opt.PartitionWatch = 50 * time.Millisecond
		r := start(t, opt)
		c.produce(c.clicks(0, 30)...)
		g.awaitClicks(t, 30)
		req := kmsg.NewPtrCreatePartitionsRequest()
		rt := kmsg.NewCreatePartitionsRequestTopic()
		rt.Topic, rt.Count = c.topics.Interactions, partitions+2
		req.Topics, req.TimeoutMillis = append(req.Topics, rt), 10_000
		res, err := req.RequestWith(t.Context(), c.client)
		if err == nil {
			err = kerr.ErrorForCode(res.Topics[0].ErrorCode)
		}
		if err != nil {
			t.Fatal(err)
		}
		// The test's own client hears of them a little later.
		c.eventually("they can be written to", func() bool {
			c.client.ForceMetadataRefresh()
			return c.client.ProduceSync(t.Context(), c.click(partitions, 30)).FirstErr() == nil && c.client.ProduceSync(t.Context(), c.click(partitions+1, 31)).FirstErr() == nil
		})
		c.produce(c.clicks(32, 30)...)
		g.awaitClicks(t, 62)
		c.eventually("they are owned", func() bool { return len(r.Health().Partitions) == 3*partitions+2 })
		r.stop()
	})
}

// The real broker is stopped and comes back on its port, while events wait: nothing is lost, and Run goes on.
func TestBrokerIsRestarted(t *testing.T) {
	c := newCluster(t, embeddedtest.RealKafka(t))
	rdb := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{embeddedtest.Redis(t)}})
	defer rdb.Close()
	g := openGraph(t, rdb)
	random := rand.New(rand.NewChaCha8(seed(t)))
	log := history(random, 300)
	r := start(t, c.options(g))
	c.tell(random, log[:150])
	c.awaitGraph(g, log[:150])
	for _, script := range []string{"down", "up"} {
		if out, err := exec.CommandContext(t.Context(), filepath.Join(os.Getenv("R2REC_TEST_DEV"), script), "kafka").CombinedOutput(); err != nil {
			t.Fatalf("%s kafka: %v\n%s", script, err, out)
		}
	}
	c.tell(random, log[150:])
	c.awaitGraph(g, log)
	c.eventually("health says that all is well", func() bool { return idle(r) && r.Health().Group == (Trouble{}) })
	r.stop()
}

// Nothing can be written for a while, and Kafka holds far more than a partition may keep in memory: the heap does not grow
// by more than what the queues hold.
func TestMemoryIsBoundedWhileNothingCanBeWritten(t *testing.T) {
	c := fakeCluster(t)
	const n, size = 6000, 4000
	records := c.clicks(0, n)
	noise := rand.NewChaCha8(seed(t))
	for chunk := range slices.Chunk(records, 20) { // as producers send them that do not wait for more
		for _, r := range chunk { // a free field that cannot be compressed
			x := make([]byte, size/2)
			noise.Read(x)
			r.Value = fmt.Appendf(r.Value[:len(r.Value)-1], `,"x":"%x"}`, x)
		}
		c.produce(chunk...)
	}
	records = nil // else they count
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	g := newMemory()
	stuck := make(chan struct{})
	g.hook = func(_ int, op string, do func() error) error {
		if op == "interactions" && !isClosed(stuck) {
			return passing{}
		}
		return do()
	}
	opt := c.options(g)
	opt.QueueCapacity, opt.MaxBatch = 50, 50
	before := heap()
	r := start(t, opt)
	c.eventually("all partitions are stuck", func() bool {
		stuck := 0
		for _, p := range r.Health().Partitions {
			if p.Topic == c.topics.Interactions && p.Trouble.Doing == "apply "+p.Topic && p.Lag == n/partitions {
				stuck++
			}
		}
		return stuck == partitions
	})
	// A batch and a queue of 50 records each, a fetch or two and what else a reader needs. An unbounded queue takes 38 MB.
	if grew := heap() - before; grew > 12<<20 {
		t.Errorf("the heap grew by %d bytes", grew)
	}
	close(stuck)
	g.await(t, "it goes on", func() bool { return len(g.has) > 1000 })
	r.stop()
}
