package consumer

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
)

func newSeed(t testing.TB) int {
	s := rand.IntN(1 << 30)
	t.Logf("seed %d", s)
	return s
}

// Through a real broker's protocol and Redis, the logs earn what the oracle says; once more after Redis was flushed; and
// nothing is left in the store.
func TestJoinerPublishesWhatTheLogsEarn(t *testing.T) {
	eachJoin(t, func(t *testing.T, c *joinCluster) {
		all := exampleLogs(newSeed(t))
		want := testRules().earns(t, all)
		c.publish(all)
		opt := c.joinOptions(c.graph())
		opt.MaxBatch = 7
		r := startJoiner(t, opt)
		settled := c.settled(t, all)
		c.eventually("everything is final", settled)
		got := c.rewards()
		sortRewards(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("rewards (-oracle +topic):\n%s", diff)
		}
		var counted float64
		for _, by := range []string{event.ByDecision, event.ByWindow, event.ByNothing} {
			counted += testutil.ToFloat64(r.joins.rewards.WithLabelValues(by))
		}
		if counted != float64(len(want)) {
			t.Errorf("%v rewards are counted, %d were published", counted, len(want))
		}
		if keys, err := c.rdb.Keys(t.Context(), "*").Result(); err != nil || slices.ContainsFunc(keys, func(k string) bool { return !strings.HasSuffix(k, ":head") }) {
			t.Errorf("left in the store: %v %v", keys, err)
		}
		if err := embeddedtest.Flush(t.Context(), c.rdb); err != nil {
			t.Fatal(err)
		}
		c.eventually("everything is final again", settled)
		r.stop()
		again := c.rewards()
		if len(again) != 2*len(want) {
			t.Errorf("after the flush there are %d rewards, want each of the %d twice", len(again), len(want))
		}
		if diff := cmp.Diff(want, once(t, again)); diff != "" {
			t.Errorf("after the flush (-oracle +topic):\n%s", diff)
		}
	})
}

// A fault at the first call of the store, at the second, and so on, until a run gets through: what is published is what
// was earned, and at most published again. A passing fault does not end Run; a permanent one does, and the next goes on.
func TestJoinerFaultAtEveryStoreCall(t *testing.T) {
	all := exampleLogs(newSeed(t))
	want := testRules().earns(t, all)
	for name, fault := range map[string]func(do func() error) error{
		"passing, before":   func(func() error) error { return passing{} },
		"passing, after":    func(do func() error) error { return errors.Join(do(), errLost) },
		"permanent, before": func(func() error) error { return errBroken },
		"permanent, after":  func(do func() error) error { return errors.Join(do(), errBroken) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := fakeJoin(t)
			c.publish(all)
			settled := c.settled(t, all)
			for at := 0; ; at++ {
				if err := embeddedtest.Flush(t.Context(), c.rdb); err != nil {
					t.Fatal(err)
				}
				f, fired := &faulty{JoinStore: c.graph()}, false
				f.hook = func(call int, do func() error) error {
					if call == at {
						fired = true
						return fault(do)
					}
					return do()
				}
				opt := c.rewardsTo(c.joinOptions(f), at)
				opt.Group, opt.MaxBatch = fmt.Sprintf("group-%d", at), 10
				r := startJoiner(t, opt)
				c.eventually("everything is final, or it gave up", func() bool { return settled() || len(r.done) > 0 })
				if len(r.done) > 0 {
					if err := r.wait(); !errors.Is(err, errBroken) {
						t.Fatalf("call %d: Run: %v", at, err)
					}
					r = startJoiner(t, opt)
					c.eventually("the next run finishes it", settled)
				}
				f.mu.Lock()
				calls := f.calls
				f.mu.Unlock()
				r.cancel()
				if err := r.wait(); err != nil && !errors.Is(err, errBroken) {
					t.Fatalf("call %d: Run: %v", at, err)
				}
				if diff := cmp.Diff(want, once(t, c.rewardsIn(opt.Topics.Rewards))); diff != "" {
					t.Fatalf("fault at call %d (-oracle +topic):\n%s", at, diff)
				}
				if calls <= at || !fired || at > 40 { // what comes later are the checks of an idle partition
					if at < 9 {
						t.Errorf("a run got through with %d calls", at)
					}
					return
				}
			}
		})
	}
}

// A record whose time has not come holds its partition up, which is told until it has.
func TestJoinerTellsOfARecordOfTheFuture(t *testing.T) {
	eachJoin(t, func(t *testing.T, c *joinCluster) {
		var mu sync.Mutex
		now := time.Now()
		opt := c.joinOptions(c.graph())
		opt.Lateness, opt.Window, opt.Showable = time.Minute, 2*time.Minute, 3*time.Minute
		opt.Now = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			now = now.Add(time.Millisecond) // so that Kafka is asked again
			return now
		}
		in := event.Interaction{EventID: "e", UserID: "u", ItemID: "x", Type: event.Click, Timestamp: event.At(now)}
		c.produce(c.record(c.join.Interactions, 1, "u", now.Add(50*time.Minute).UnixMilli(), must(event.Encode(in))))
		r := startJoiner(t, opt)
		trouble := func() (told Trouble) {
			for _, p := range r.Health().Partitions {
				if p.Topic == c.join.Interactions && p.Partition == 1 {
					told = p.Trouble
				}
			}
			return told
		}
		c.eventually("health tells what is waited for", func() bool {
			told := trouble()
			return told.Doing == waitingForTime && strings.Contains(told.Error, "at offset 0 ") && strings.Contains(told.Error, "message.timestamp.after.max.ms")
		})
		mu.Lock()
		now = now.Add(time.Hour)
		mu.Unlock()
		c.eventually("it goes on", func() bool { return trouble() == Trouble{} })
	})
}

// Every kind of request that the joiner makes fails, the first time, the second and so on.
func TestJoinerFaultAtEveryKafkaRequest(t *testing.T) {
	all := exampleLogs(newSeed(t))
	want := testRules().earns(t, all)
	for _, tc := range []struct {
		key  kmsg.Key
		errs []*kerr.Error
	}{
		{kmsg.Metadata, []*kerr.Error{kerr.LeaderNotAvailable}},
		{kmsg.ListOffsets, []*kerr.Error{kerr.NotLeaderForPartition}},
		{kmsg.Fetch, []*kerr.Error{kerr.NotLeaderForPartition, kerr.UnknownServerError, kerr.OffsetOutOfRange}},
		{kmsg.Produce, []*kerr.Error{kerr.NotLeaderForPartition, kerr.NotEnoughReplicasAfterAppend, kerr.RequestTimedOut}},
		{kmsg.JoinGroup, []*kerr.Error{kerr.NotCoordinator}},
		{kmsg.Heartbeat, []*kerr.Error{kerr.RebalanceInProgress}},
	} {
		for _, fault := range tc.errs {
			t.Run(fmt.Sprintf("%s/%s", tc.key.Name(), fault.Message), func(t *testing.T) {
				t.Parallel()
				c := fakeJoin(t)
				c.publish(all)
				for nth := range 3 {
					if err := embeddedtest.Flush(t.Context(), c.rdb); err != nil {
						t.Fatal(err)
					}
					opt := c.rewardsTo(c.joinOptions(c.graph()), nth)
					opt.Group, opt.MaxBatch = fmt.Sprintf("group-%d", nth), 10
					skip := nth
					c.fake.Fault(kfake.Fault{Keys: []kmsg.Key{tc.key}, Err: fault, Count: 2, When: func(kmsg.Request) bool { skip--; return skip < 0 }})
					r := startJoiner(t, opt)
					c.eventually("everything is final", c.settled(t, all))
					r.stop()
					if diff := cmp.Diff(want, once(t, c.rewardsIn(opt.Topics.Rewards))); diff != "" {
						t.Fatalf("request %d (-oracle +topic):\n%s", nth, diff)
					}
				}
			})
		}
	}
}

// Joiners come, go and are killed at random calls of the store, two at a time, while the logs are still being written.
func TestJoinersKilledAndStartedAgain(t *testing.T) {
	seed := newSeed(t)
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	c := fakeJoin(t)
	all := exampleLogs(seed)
	want := testRules().earns(t, all)
	c.publish(all)
	settled := c.settled(t, all)
	for runs := 0; !settled(); runs++ {
		if runs == 200 {
			t.Fatal("200 runs did not finish it")
		}
		var rs []*runningJoiner
		for range 1 + random.IntN(2) {
			f, kill := &faulty{JoinStore: c.graph()}, random.IntN(25)
			opt := c.joinOptions(f)
			opt.MaxBatch = 5
			died := make(chan struct{})
			f.hook = func(call int, do func() error) error {
				if call != kill {
					return do()
				}
				defer close(died)
				if kill%2 == 0 {
					return errBroken
				}
				return errors.Join(do(), errBroken)
			}
			rs = append(rs, startJoiner(t, opt))
		}
		c.eventually("one of them dies", func() bool {
			return settled() || slices.ContainsFunc(rs, func(r *runningJoiner) bool { return len(r.done) > 0 })
		})
		for _, r := range rs {
			r.cancel()
			if err := r.wait(); err != nil && !errors.Is(err, errBroken) {
				t.Fatal(err)
			}
		}
	}
	if diff := cmp.Diff(want, once(t, c.rewards())); diff != "" {
		t.Fatalf("rewards (-oracle +topic):\n%s", diff)
	}
}

func TestJoinerRefusesTopicsThatDoNotFit(t *testing.T) {
	c := fakeJoin(t)
	other := c.join.Decisions + "-other"
	c.create(other, partitions+1)
	opt := c.joinOptions(c.graph())
	opt.Topics.Decisions = other
	var wrong *CopartitionError
	if err := startJoiner(t, opt).wait(); !errors.As(err, &wrong) || !strings.Contains(err.Error(), "has 3 partitions and decisions-other has 4") {
		t.Errorf("Run: %v, want a CopartitionError with both numbers", err)
	}
}

// A decision that cannot be decoded is a dead letter, and so is one of the far future; the stream goes on. A bad
// interaction is left to the Consumer, which reports it.
func TestJoinerBuriesBadDecisions(t *testing.T) {
	eachJoin(t, func(t *testing.T, c *joinCluster) {
		now := time.Now().Add(-time.Hour).UnixMilli()
		future := complete(event.Decision{DecisionID: "f", UserID: "u", Timestamp: event.Time(now + 48*time.Hour.Milliseconds()), Source: event.Graph})
		c.produce(
			c.record(c.join.Decisions, 0, "u", now, []byte(`{"decision_id":`)),
			c.record(c.join.Decisions, 0, "u", now, must(event.Encode(future))),
			c.record(c.join.Interactions, 0, "u", now, []byte(`{"event_id":`)),
		)
		r := startJoiner(t, c.joinOptions(c.graph()))
		letters := map[string]*kgo.Record{}
		for _, l := range c.letters(2) {
			letters[headers(l)[HeaderReason]] = l
		}
		if l := letters[string(event.MalformedJSON)]; l == nil || string(l.Value) != `{"decision_id":` || headers(l)[HeaderTopic] != c.join.Decisions {
			t.Errorf("letters: %v", letters)
		}
		if l := letters[string(event.TimestampOutOfRange)]; l == nil || headers(l)[HeaderField] != "timestamp" {
			t.Errorf("letters: %v", letters)
		}
		c.eventually("all is read", func() bool {
			h := r.Health()
			return len(h.Partitions) == 2*partitions && !slices.ContainsFunc(h.Partitions, func(p PartitionHealth) bool { return p.Lag != 0 })
		})
		r.stop()
		if n := len(c.letters(2)); n != 2 {
			t.Errorf("%d letters, want 2", n)
		}
	})
}

// What a forgotten user was shown before earns nothing any more, and leaves the store at once; what is shown later does.
func TestJoinerForgets(t *testing.T) {
	eachJoin(t, func(t *testing.T, c *joinCluster) {
		store := c.graph()
		opt := c.joinOptions(store)
		opt.Window, opt.Lateness = time.Hour, time.Second
		begun := time.Now().UnixMilli()
		show := func(partition int, user, decision string, at int64) {
			d := complete(event.Decision{DecisionID: decision, UserID: user, Timestamp: event.Time(at), Source: event.Graph,
				Slate: []event.Slot{{Position: 1, ItemID: "a", Probability: 1}}})
			in := event.Interaction{EventID: "i" + decision, UserID: user, ItemID: "a", Type: event.Impression, Timestamp: event.Time(at), DecisionID: decision}
			c.produce(c.record(c.join.Decisions, partition, user, at, must(event.Encode(d))), c.record(c.join.Interactions, partition, user, at, must(event.Encode(in))))
		}
		show(1, "gone", "old", begun-20*60_000)
		show(1, "stays", "other", begun-20*60_000)
		show(1, "gone", "new", begun-10*60_000)
		pending := func(user string) (ids []string) {
			state, err := store.LoadJoin(t.Context(), c.join.Interactions, 1, []string{user}, 0, 10)
			if err != nil {
				t.Fatal(err)
			}
			for _, raw := range state.Users {
				u, err := decodeJoinUser(raw)
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range u.Decisions {
					ids = append(ids, d.ID)
				}
			}
			return ids
		}
		r := startJoiner(t, opt)
		c.eventually("all are pending", func() bool { return len(pending("gone")) == 2 && len(pending("stays")) == 1 })

		// Who is made due and is not to be forgotten, as by a process with another key, is looked at once and waits again.
		stranger, err := graphcache.New(c.rdb, graphcache.Options{ForgetKey: []byte("another")})
		if err == nil {
			err = stranger.ApplyUsers(t.Context(), event.Span{Topic: "elsewhere", End: 1}, []event.User{{UserID: "stays", ForgetBefore: event.Time(begun)}})
		}
		if err != nil {
			t.Fatal(err)
		}
		c.eventually("nobody is due", func() bool {
			state, err := store.LoadJoin(t.Context(), c.join.Interactions, 1, nil, 1, 10)
			return err == nil && len(state.Users) == 0 && len(pending("stays")) == 1
		})

		err = store.ApplyUsers(t.Context(), event.Span{Topic: "users", End: 1}, []event.User{{UserID: "gone", ForgetBefore: event.Time(begun - 15*60_000)}})
		if err != nil {
			t.Fatal(err)
		}
		c.eventually("the old one has left the store", func() bool { return slices.Equal(pending("gone"), []string{"new"}) })
		r.stop()

		// A replay from the beginning, an hour and a half later, knows it too.
		opt.Now = func() time.Time { return time.Now().Add(90 * time.Minute) }
		r = startJoiner(t, opt)
		c.eventually("the others are final", func() bool { return len(c.rewards()) == 2 })
		if err := c.rdb.Del(t.Context(), "r2:{join:"+c.join.Interactions+"/1}:head").Err(); err != nil {
			t.Fatal(err)
		}
		c.eventually("they are final again", func() bool { return len(c.rewards()) == 4 })
		r.stop()
		var got []string
		for _, r := range once(t, c.rewards()) {
			got = append(got, r.DecisionID)
		}
		if slices.Sort(got); !slices.Equal(got, []string{"new", "other"}) {
			t.Errorf("rewards of %v, want new and other", got)
		}
	})
}

// Two groups own every partition at once, as two members can for a moment: each batch is applied by one of them.
func TestJoinersThatOwnTheSamePartition(t *testing.T) {
	c := fakeJoin(t)
	all := exampleLogs(newSeed(t))
	c.publish(all)
	opt := c.joinOptions(c.graph())
	opt.MaxBatch = 3
	one := startJoiner(t, opt)
	opt.Group += "-other"
	other := startJoiner(t, opt)
	c.eventually("everything is final", c.settled(t, all))
	one.stop()
	other.stop()
	if diff := cmp.Diff(testRules().earns(t, all), once(t, c.rewards())); diff != "" {
		t.Fatalf("rewards (-oracle +topic):\n%s", diff)
	}
}

// Retention that was faster than the join stops it, in words that name what is missing, or is accepted.
func TestJoinerStopsAtAGap(t *testing.T) {
	c := fakeJoin(t)
	now := time.Now().Add(-time.Hour).UnixMilli()
	view := func(i int) *kgo.Record {
		in := event.Interaction{EventID: eventID(i), UserID: "u", ItemID: "a", Type: event.View, Timestamp: event.Time(now)}
		return c.record(c.join.Interactions, 0, "u", now, must(event.Encode(in)))
	}
	read := func(r *runningJoiner, upTo int64) func() bool {
		return func() bool {
			return slices.ContainsFunc(r.Health().Partitions, func(p PartitionHealth) bool {
				return p.Topic == c.join.Interactions && p.Partition == 0 && p.Position == upTo
			})
		}
	}
	for i := range 5 {
		c.produce(view(i))
	}
	opt := c.joinOptions(c.graph())
	r := startJoiner(t, opt)
	c.eventually("five are read", read(r, 5))
	r.stop()
	for i := range 5 {
		c.produce(view(5 + i))
	}
	c.retain(c.join.Interactions, 8)

	var gap *GapError
	if err := startJoiner(t, opt).wait(); !errors.As(err, &gap) || gap.Watermark != 5 || gap.First != 8 || !strings.Contains(err.Error(), "the state of the join holds only what is below 5") {
		t.Fatalf("Run: %v, want a gap from 5 to 8", err)
	}
	opt.OnGap = EarliestOnGap
	r = startJoiner(t, opt)
	c.eventually("the rest is read", read(r, 10))
	r.stop()
}

// Every outcome that is counted is there from the first scrape on: a rate over a series that begins with its first event
// does not show that event.
func TestJoinOutcomesBeginAtZero(t *testing.T) {
	m, err := newJoinMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		of   *prometheus.CounterVec
		want int
	}{"rewards": {m.rewards, 3}, "interactions": {m.events, 8}, "decisions": {m.decisions, 6}} {
		if n := testutil.CollectAndCount(c.of); n != c.want {
			t.Errorf("%s: %d series, want %d", name, n, c.want)
		}
	}
}
