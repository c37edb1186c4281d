package consumer

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/r2rec/r2rec/internal/event"
)

func TestEverythingIsAppliedInOrder(t *testing.T) {
	eachCluster(t, func(t *testing.T, c *cluster) {
		const n = 5000
		c.produce(c.clicks(0, n)...)
		item := func(id, title string) *kgo.Record {
			raw, err := event.Encode(event.Item{ItemID: id, Title: title})
			if err != nil {
				t.Fatal(err)
			}
			return &kgo.Record{Topic: c.topics.Items, Key: []byte(id), Value: raw}
		}
		c.produce(item("i1", "old"), item("i2", "gone"), item("i1", "new"), &kgo.Record{Topic: c.topics.Items, Key: []byte("i2")})
		c.produce(&kgo.Record{Topic: c.topics.Users, Key: []byte("u1"), Value: []byte(`{"user_id":"u1","forget_before":1700000000000}`)})

		g := newMemory()
		opt := c.options(g)
		observed := make(chan event.Span, n)
		opt.OnApplied = func(s event.Span, batch []event.Interaction) { observed <- s }
		r := start(t, opt)
		g.awaitClicks(t, n)
		g.await(t, "items and users", func() bool {
			return g.marks[partitionKey{c.topics.Items, 0}] == 4 && g.marks[partitionKey{c.topics.Users, 0}] == 1
		})
		c.eventually("no lag", func() bool {
			h := r.Health()
			return len(h.Partitions) == 3*partitions && !slices.ContainsFunc(h.Partitions, func(p PartitionHealth) bool { return p.Lag != 0 || p.End != p.Position })
		})
		client := &kafka.Client{Addr: kafka.TCP(c.brokers...)}
		c.eventually("positions committed", func() bool {
			res, err := client.OffsetFetch(t.Context(), &kafka.OffsetFetchRequest{GroupID: c.group, Topics: map[string][]int{c.topics.Interactions: {0, 1, 2}}})
			if err != nil {
				t.Fatal(err)
			}
			return !slices.ContainsFunc(res.Topics[c.topics.Interactions], func(p kafka.OffsetFetchPartition) bool {
				return p.CommittedOffset != g.marks[partitionKey{c.topics.Interactions, p.Partition}]
			})
		})
		r.stop()

		for p := range partitions {
			var want []string
			for i := p; i < n; i += partitions {
				want = append(want, eventID(i))
			}
			if diff := cmp.Diff(want, g.events[partitionKey{c.topics.Interactions, p}]); diff != "" {
				t.Errorf("partition %d (-sent +applied):\n%s", p, diff)
			}
		}
		if diff := cmp.Diff(map[string]event.Item{"i1": {ItemID: "i1", Title: "new"}}, g.items); diff != "" {
			t.Errorf("items (-want +got):\n%s", diff)
		}
		if g.users["u1"] != 1700000000000 {
			t.Errorf("users: %v", g.users)
		}
		if got := testutil.ToFloat64(r.metrics.events.WithLabelValues(c.topics.Interactions)); got != n {
			t.Errorf("events_total is %v, want %d", got, n)
		}
		next := map[int]int64{}
		for len(observed) > 0 {
			s := <-observed
			if s.Start != next[s.Partition] {
				t.Errorf("span %v does not join on to %d", s, next[s.Partition])
			}
			next[s.Partition] = s.End
		}
		if h := r.Health(); len(h.Partitions) != 0 {
			t.Errorf("owns partitions after Run: %v", h)
		}
	})
}

// A store that lost everything, or the newest part, gets it again: while events arrive, and while none do.
func TestLostWritesAreReadAgain(t *testing.T) {
	eachCluster(t, func(t *testing.T, c *cluster) {
		g := newMemory()
		r := start(t, c.options(g))
		c.produce(c.clicks(0, 300)...)
		g.awaitClicks(t, 300)
		g.wipe()
		g.awaitClicks(t, 300)
		if got := testutil.ToFloat64(r.metrics.rewinds.WithLabelValues(c.topics.Interactions)); got != partitions {
			t.Errorf("rewinds_total is %v after the idle wipe, want %d", got, partitions)
		}
		c.produce(c.clicks(300, 300)...)
		g.await(t, "some of the second half", func() bool { return len(g.has) > 300 })
		g.wipe()
		c.produce(c.clicks(600, 300)...)
		g.awaitClicks(t, 900)

		g.mu.Lock() // an older snapshot is restored
		g.marks[partitionKey{c.topics.Interactions, 1}] = 100
		g.events[partitionKey{c.topics.Interactions, 1}] = nil
		g.mu.Unlock()
		g.await(t, "what lies above the snapshot", func() bool { return g.marks[partitionKey{c.topics.Interactions, 1}] == 300 })
		r.stop()
		if again := g.events[partitionKey{c.topics.Interactions, 1}]; len(again) != 200 || again[0] != eventID(301) {
			t.Errorf("read %d events again from %v, want the 200 from %s", len(again), again[:1], eventID(301))
		}
	})
}

// A fault at the first call of the graph, at the second, and so on, until a run gets through: nothing is lost or skipped.
// A passing fault does not end Run; a permanent one does, and the next Run goes on.
func TestFaultAtEveryGraphCall(t *testing.T) {
	const n = 60
	for name, fault := range map[string]func(do func() error) error{
		"passing, before":   func(func() error) error { return passing{} },
		"passing, after":    func(do func() error) error { return errors.Join(do(), passing{}) },
		"permanent, before": func(func() error) error { return errBroken },
		"permanent, after":  func(do func() error) error { return errors.Join(do(), errBroken) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := fakeCluster(t)
			c.produce(c.clicks(0, n)...)
			for at := 0; ; at++ {
				g, fired := newMemory(), false
				opt := c.options(g)
				opt.Group = fmt.Sprintf("group-%d", at)
				opt.MaxBatch = 10
				opt.CheckInterval = time.Hour // only the calls that the records cause
				g.hook = func(call int, _ string, do func() error) error {
					if call == at {
						fired = true
						return fault(do)
					}
					return do()
				}
				r := start(t, opt)
				if strings.HasPrefix(name, "permanent") {
					select {
					case err := <-r.done:
						r.done <- err
						if !errors.Is(err, errBroken) {
							t.Fatalf("call %d: Run: %v", at, err)
						}
						r = start(t, withRegistry(opt))
					case <-applied(t, g, n):
					}
				}
				g.awaitClicks(t, n)
				r.cancel()
				if err := r.wait(); err != nil && !errors.Is(err, errBroken) {
					t.Fatalf("call %d: Run: %v", at, err)
				}
				for p := range partitions {
					if got := firstSeen(g.events[partitionKey{c.topics.Interactions, p}]); !slices.IsSorted(got) {
						t.Errorf("call %d: partition %d was applied in the order %v", at, p, got)
					}
				}
				if !fired {
					if at < 9+6 { // nine watermarks, two batches in each of three partitions
						t.Errorf("a run got through with %d calls", at)
					}
					t.Logf("a run got through after %d with a fault", at)
					return
				}
			}
		})
	}
}

// firstSeen is the order in which ids appear for the first time: batches are repeated, but never left out.
func firstSeen(ids []string) (out []string) {
	seen := map[string]bool{}
	for _, id := range ids {
		if !seen[id] {
			out = append(out, id)
		}
		seen[id] = true
	}
	return out
}

func withRegistry(opt Options) Options { opt.Registerer = prometheus.NewRegistry(); return opt }

// applied is closed once the graph has n events.
func applied(t testing.TB, g *memory, n int) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		for {
			g.mu.Lock()
			have, changed := len(g.has), g.changed
			g.mu.Unlock()
			if have >= n {
				close(done)
				return
			}
			select {
			case <-changed:
			case <-t.Context().Done():
				return
			}
		}
	}()
	return done
}

// Run is killed in the middle, over and over, at random batches.
func TestKilledAndStartedAgain(t *testing.T) {
	c := fakeCluster(t)
	const n = 600
	c.produce(c.clicks(0, n)...)
	random := rand.New(rand.NewChaCha8(seed(t)))
	g := newMemory()
	for runs := 0; ; runs++ {
		opt := c.options(g)
		opt.MaxBatch = 7
		kill := 12 + random.IntN(30)
		r := start(t, opt)
		before := random.IntN(2) == 0
		g.mu.Lock()
		first := g.calls
		g.hook = func(call int, _ string, do func() error) error {
			if call == first+kill && before {
				r.cancel()
			}
			err := do()
			if call == first+kill {
				r.cancel()
			}
			return err
		}
		g.mu.Unlock()
		if err := r.wait(); err != nil {
			t.Fatalf("run %d: %v", runs, err)
		}
		if len(g.has) == n {
			t.Logf("%d runs", runs+1)
			break
		}
	}
	for p := range partitions {
		got := firstSeen(g.events[partitionKey{c.topics.Interactions, p}])
		if !slices.IsSorted(got) {
			t.Errorf("partition %d was applied in the order %v", p, got)
		}
	}
}

func TestTwoMembersAndOneLeaves(t *testing.T) {
	eachCluster(t, func(t *testing.T, c *cluster) {
		g := newMemory()
		a, b := start(t, c.options(g)), start(t, c.options(g))
		c.eventually("both own partitions", func() bool { return len(a.Health().Partitions) > 0 && len(b.Health().Partitions) > 0 })
		c.produce(c.clicks(0, 300)...)
		g.awaitClicks(t, 300)
		b.stop()
		c.produce(c.clicks(300, 300)...)
		g.awaitClicks(t, 600)
		c.eventually("the other owns all", func() bool { return len(a.Health().Partitions) == 3*partitions })
		a.stop()
	})
}

// Run waits for topics, and picks up partitions that are added.
func TestTopicsThatAppearLater(t *testing.T) {
	c := fakeCluster(t)
	if err := c.fake.DeleteTopic(c.topics.Users); err != nil {
		t.Fatal(err)
	}
	g := newMemory()
	r := start(t, c.options(g))
	c.eventually("health names the missing topic", func() bool { return strings.Contains(r.Health().Group.Error, c.topics.Users) })
	c.create(c.topics.Users, 1)
	c.produce(c.clicks(0, 30)...)
	g.awaitClicks(t, 30)
	if got := r.Health().Group; got != (Trouble{}) {
		t.Errorf("health still shows %v", got)
	}
	r.stop()
}

func TestOptions(t *testing.T) {
	good := Options{Member: Member{Brokers: []string{"localhost:9092"}}, Graph: newMemory()}
	if _, err := New(good); err != nil {
		t.Errorf("defaults: %v", err)
	}
	for want, change := range map[string]func(*Options){
		"Brokers":           func(o *Options) { o.Brokers = nil },
		"Graph":             func(o *Options) { o.Graph = nil },
		"MaxBatch is -1":    func(o *Options) { o.MaxBatch = -1 },
		"Linger is 1ns":     func(o *Options) { o.Linger = 1 },
		`OnGap is "ignore"`: func(o *Options) { o.OnGap = "ignore" },
		"named twice":       func(o *Options) { o.Topics.Items = "users" },
		"HeartbeatInterval": func(o *Options) { o.HeartbeatInterval = 5e9 },
	} {
		bad := good
		change(&bad)
		if _, err := New(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error about %q, got %v", want, err)
		}
	}
	reg := prometheus.NewRegistry()
	good.Registerer = reg
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	if _, err := New(good); err == nil {
		t.Error("two consumers on one registry: no error")
	}
}

func TestTransient(t *testing.T) {
	for _, err := range []error{
		passing{}, fmt.Errorf("wrapped: %w", passing{}), kafka.NotLeaderForPartition, kafka.RebalanceInProgress, kafka.Unknown,
		&net.OpError{Op: "dial", Err: errors.New("refused")}, kafka.WriteErrors{nil, kafka.LeaderNotAvailable},
	} {
		if !transient(err) {
			t.Errorf("%v counts as permanent", err)
		}
	}
	for _, err := range []error{
		errBroken, kafka.TopicAuthorizationFailed, kafka.GroupAuthorizationFailed, kafka.MessageSizeTooLarge, &event.BehindError{},
		&GapError{}, kafka.WriteErrors{kafka.LeaderNotAvailable, kafka.TopicAuthorizationFailed},
	} {
		if transient(err) {
			t.Errorf("%v counts as transient", err)
		}
	}
}
