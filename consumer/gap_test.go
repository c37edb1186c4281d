package consumer

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/r2rec/r2rec/internal/event"
)

// filled is a graph that holds the first n clicks of partition 0, and a group that has committed that.
func filled(t *testing.T, c *cluster, n int) *memory {
	t.Helper()
	g := newMemory()
	for i := range n {
		c.produce(c.click(0, i))
	}
	r := start(t, c.options(g))
	g.awaitClicks(t, n)
	r.stop() // commits
	return g
}

func TestGaps(t *testing.T) {
	key := func(c *cluster) partitionKey { return partitionKey{c.topics.Interactions, 0} }
	cases := map[string]struct {
		prepare func(t *testing.T, c *cluster, g *memory) // after ten clicks were applied
		group   string                                    // of the reader; default the one that applied them
		want    GapError
		says    string
		kept    int // clicks 10 to 19 come at the end; those from kept on are still in Kafka
	}{
		"retention was faster": {
			prepare: func(t *testing.T, c *cluster, g *memory) { c.retain(c.topics.Interactions, 15) },
			want:    GapError{Watermark: 10, HasWatermark: true, First: 15, End: 20},
			says:    "up to 5 records were deleted", kept: 15,
		},
		"store emptied and retention": {
			prepare: func(t *testing.T, c *cluster, g *memory) { g.wipe(); c.retain(c.topics.Interactions, 12) },
			want:    GapError{First: 12, End: 20},
			says:    "the graph holds nothing", kept: 12,
		},
		"an older snapshot and retention": {
			prepare: func(t *testing.T, c *cluster, g *memory) { g.marks[key(c)] = 5; c.retain(c.topics.Interactions, 10) },
			want:    GapError{Watermark: 5, HasWatermark: true, First: 10, End: 20},
			says:    "holds only what is below 5", kept: 10,
		},
		"retention was faster than a new group": {
			prepare: func(t *testing.T, c *cluster, g *memory) { c.retain(c.topics.Interactions, 15) },
			group:   "-new",
			want:    GapError{Watermark: 10, HasWatermark: true, First: 15, End: 20},
			says:    "up to 5 records were deleted", kept: 15,
		},
		"another cluster's graph": {
			prepare: func(t *testing.T, c *cluster, g *memory) { g.marks[key(c)] = 100 },
			want:    GapError{Watermark: 100, HasWatermark: true, First: 0, End: 20},
			says:    "deleted and made again", kept: 0,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			eachCluster(t, func(t *testing.T, c *cluster) {
				g := filled(t, c, 10)
				for i := range 10 {
					c.produce(c.click(0, 10+i))
				}
				tc.prepare(t, c, g)
				opt := c.options(g)
				opt.Group += tc.group

				stopped := start(t, opt)
				var gap *GapError
				if err := stopped.wait(); !errors.As(err, &gap) {
					t.Fatalf("Run: %v, want a gap", err)
				}
				tc.want.Topic = c.topics.Interactions
				if diff := cmp.Diff(tc.want, *gap); diff != "" {
					t.Errorf("gap (-want +got):\n%s", diff)
				}
				if s := gap.Error(); !strings.Contains(s, tc.says) || !strings.Contains(s, c.topics.Interactions+"/0") || !strings.Contains(s, string(EarliestOnGap)) {
					t.Errorf("the error does not say %q: %s", tc.says, s)
				}
				if testutil.ToFloat64(stopped.metrics.gaps.WithLabelValues(c.topics.Interactions)) != 1 {
					t.Error("the gap was not counted")
				}

				opt = withRegistry(opt)
				opt.OnGap = EarliestOnGap
				r := start(t, opt)
				g.await(t, "what Kafka still has", func() bool {
					for i := tc.kept; i < 20; i++ {
						if !g.has[eventID(i)] {
							return false
						}
					}
					return g.marks[key(c)] == 20
				})
				if got := testutil.ToFloat64(r.metrics.gaps.WithLabelValues(c.topics.Interactions)); got != 1 {
					t.Errorf("gaps_total is %v, want 1", got)
				}
				r.stop()
			})
		})
	}
}

// The topic is deleted and made again while it is consumed.
func TestTopicMadeAgain(t *testing.T) {
	eachCluster(t, func(t *testing.T, c *cluster) {
		g := filled(t, c, 10)
		r := start(t, c.options(g))
		c.eventually("reading", func() bool {
			h := r.Health()
			return len(h.Partitions) == 3*partitions && h.Partitions[0].Position == 10
		})
		c.delete(c.topics.Interactions)
		c.createAgain(c.topics.Interactions, partitions)
		var gap *GapError
		if err := r.wait(); !errors.As(err, &gap) || gap.Watermark != 10 || gap.End != 0 {
			t.Errorf("Run: %v, want a gap", err)
		}
	})
}

// Retention overtakes a reader that is at work: kafka-go jumps over the hole without a word, the consumer does not.
func TestRetentionOvertakesTheReader(t *testing.T) {
	for _, policy := range []GapPolicy{StopOnGap, EarliestOnGap} {
		t.Run(string(policy), func(t *testing.T) {
			eachCluster(t, func(t *testing.T, c *cluster) {
				const n = 60
				for i := range n { // each in a batch of its own, so that a fetch brings one
					c.produce(c.click(0, i))
				}
				g := newMemory()
				opt := c.options(g)
				opt.OnGap, opt.FetchBytes, opt.QueueCapacity, opt.MaxBatch = policy, 1, 1, 5
				blocked, release := make(chan struct{}), make(chan struct{})
				opt.CheckInterval = time.Hour // an idle check would find it too
				opt.Linger = time.Second      // the hole lies inside a batch
				var once sync.Once
				opt.OnApplied = func(event.Span, []event.Interaction) { once.Do(func() { close(blocked); <-release }) }
				r := start(t, opt)
				<-blocked
				c.retain(c.topics.Interactions, 40)
				close(release)

				if policy == StopOnGap {
					var gap *GapError
					if err := r.wait(); !errors.As(err, &gap) || gap.First != 40 || gap.End != n || gap.Watermark != g.marks[partitionKey{c.topics.Interactions, 0}] {
						t.Fatalf("Run: %v, want a gap from the watermark %v to 40", err, g.marks)
					}
					return
				}
				g.await(t, "the end", func() bool { return g.marks[partitionKey{c.topics.Interactions, 0}] == n })
				for i := 40; i < n; i++ {
					if !g.has[eventID(i)] {
						t.Errorf("%s is missing", eventID(i))
					}
				}
				if got := testutil.ToFloat64(r.metrics.gaps.WithLabelValues(c.topics.Interactions)); got != 1 {
					t.Errorf("gaps_total is %v, want 1", got)
				}
				r.stop()
			})
		})
	}
}

// A group that never read anything begins at what there is, quietly; and once more where it read nothing the first time.
func TestFreshStartAfterRetention(t *testing.T) {
	eachCluster(t, func(t *testing.T, c *cluster) {
		for i := range 10 {
			c.produce(c.click(0, i))
		}
		c.retain(c.topics.Interactions, 10)
		g := newMemory()
		for range 2 {
			r := start(t, c.options(g))
			c.eventually("reading", func() bool {
				h := r.Health()
				return len(h.Partitions) == 3*partitions && h.Partitions[0].Position == 10
			})
			r.stop()
		}
		c.produce(c.click(0, 10))
		r := start(t, c.options(g))
		g.await(t, "the click", func() bool { return g.has[eventID(10)] })
		r.stop()
		if got := testutil.ToFloat64(r.metrics.gaps.WithLabelValues(c.topics.Interactions)); got != 0 {
			t.Errorf("gaps_total is %v", got)
		}
	})
}

// A store that was flushed is noticed where Kafka has nothing left of what was in it, though the next event comes first of all.
func TestFlushedAfterRetention(t *testing.T) {
	eachCluster(t, func(t *testing.T, c *cluster) {
		for i := range 10 {
			c.produce(c.click(0, i))
		}
		g := newMemory()
		opt := c.options(g)
		opt.CheckInterval = time.Hour // an idle check would find it too
		r := start(t, opt)
		g.awaitClicks(t, 10)
		c.retain(c.topics.Interactions, 10)
		g.wipe()
		c.produce(c.click(0, 10))
		var gap *GapError
		if err := r.wait(); !errors.As(err, &gap) || gap.HasWatermark || gap.First != 10 {
			t.Errorf("Run: %v, want a gap: nothing is left of the first ten", err)
		}
	})
}
