package consumer

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Every kind of request that the consumer makes fails, the first time, the second and so on; nothing is lost and Run goes
// on.
func TestFaultAtEveryKafkaRequest(t *testing.T) {
	for _, tc := range []struct {
		key  kmsg.Key
		errs []*kerr.Error
	}{
		{kmsg.ListOffsets, []*kerr.Error{kerr.NotLeaderForPartition, kerr.OffsetNotAvailable}},
		{kmsg.Fetch, []*kerr.Error{kerr.NotLeaderForPartition, kerr.UnknownServerError, kerr.UnknownTopicOrPartition, kerr.OffsetOutOfRange}},
		{kmsg.Produce, []*kerr.Error{kerr.NotLeaderForPartition, kerr.NotEnoughReplicasAfterAppend, kerr.RequestTimedOut}},
		{kmsg.FindCoordinator, []*kerr.Error{kerr.CoordinatorNotAvailable}},
		{kmsg.JoinGroup, []*kerr.Error{kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.UnknownMemberID}},
		{kmsg.SyncGroup, []*kerr.Error{kerr.RebalanceInProgress, kerr.IllegalGeneration}},
		{kmsg.OffsetFetch, []*kerr.Error{kerr.CoordinatorLoadInProgress}},
		{kmsg.OffsetCommit, []*kerr.Error{kerr.RebalanceInProgress, kerr.UnknownServerError}},
		{kmsg.Heartbeat, []*kerr.Error{kerr.RebalanceInProgress}},
	} {
		for _, fault := range tc.errs {
			t.Run(fmt.Sprintf("%s/%s", tc.key.Name(), fault.Message), func(t *testing.T) {
				t.Parallel()
				c := fakeCluster(t)
				c.produce(c.clicks(0, 30)...)
				c.produce(&kgo.Record{Topic: c.topics.Interactions, Value: []byte("bad")})
				for nth := range 3 {
					g := newMemory()
					opt := c.options(g)
					opt.Group = fmt.Sprintf("group-%d", nth)
					skip := nth
					handle := c.fake.Fault(kfake.Fault{Keys: []kmsg.Key{tc.key}, Err: fault, Count: 2, When: func(kmsg.Request) bool { skip--; return skip < 0 }})
					r := start(t, opt)
					g.awaitClicks(t, 30)
					g.await(t, "the watermark behind the bad record", func() bool { return g.marks[partitionKey{c.topics.Interactions, 0}] == 11 })
					if nth == 0 {
						if err := handle.Wait(t.Context(), 1); err != nil {
							t.Fatal("the fault never happened")
						}
					}
					r.stop()
					for p := range partitions {
						if got := firstSeen(g.events[partitionKey{c.topics.Interactions, p}]); len(got) != 10 {
							t.Errorf("request %d: partition %d has %d events, want 10", nth, p, len(got))
						}
					}
					c.letters(nth + 1)
				}
			})
		}
	}
}

// The broker is gone for a while: Run waits, and goes on.
func TestBrokerGoesAway(t *testing.T) {
	c := fakeCluster(t)
	g := newMemory()
	r := start(t, c.options(g))
	c.produce(c.clicks(0, 30)...)
	g.awaitClicks(t, 30)
	down := c.fake.Fault(kfake.Fault{Err: kerr.BrokerNotAvailable, Count: -1})
	c.eventually("health shows it", func() bool {
		h := r.Health()
		for _, p := range h.Partitions {
			if p.Trouble != (Trouble{}) {
				return true
			}
		}
		return h.Group != (Trouble{})
	})
	down.Remove()
	c.produce(c.clicks(30, 30)...)
	g.awaitClicks(t, 60)
	r.stop()
}
