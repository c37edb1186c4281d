package consumer

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
)

// unswitched is a graph that nobody switches to.
type unswitched struct{ *graphcache.Cache }

func (unswitched) Switch(context.Context) error { return nil }

// What retention deleted is a loss where the serving graph covers it, and none where that has nothing of the partition, or
// old interactions are to be left out anyway. What Kafka never had, as far as it knows, is a loss in any case.
func TestLossesOfARebuild(t *testing.T) {
	c := fakeCluster(t)
	c.produce(c.clicks(0, 30)...)
	c.retain(c.topics.Interactions, 4)
	rdb := redis.NewClient(&redis.Options{Addr: embeddedtest.Redis(t)})
	defer rdb.Close()
	serving := openGraph(t, rdb)
	losses := func(from time.Time, want ...Loss) {
		t.Helper()
		r, err := NewRebuilder(RebuildOptions{Member: c.member(), Topics: c.topics, Graph: unswitched{serving}, From: from})
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.Losses(t.Context(), serving)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("losses since %v: %v (-want +got):\n%s", from, err, diff)
		}
	}
	losses(time.Time{})
	for partition, topic := range []string{c.topics.Interactions, c.topics.Interactions, c.topics.Users} {
		if err := serving.ApplyInteractions(t.Context(), event.Span{Topic: topic, Partition: partition, End: 9}, nil); err != nil {
			t.Fatal(err)
		}
	}
	end := int64(10)                                                 // of 30 records in three partitions
	again := Loss{Topic: c.topics.Users, Partition: 2, Watermark: 9} // there is none so far: the topic was made again
	losses(time.Time{}, Loss{Topic: c.topics.Interactions, First: 4, End: end, Watermark: 9}, again)
	losses(time.UnixMilli(1), again)
	// A server of a Cluster came back empty: the groups on the others hold what Kafka does not have any more.
	keys, err := embeddedtest.Keys(t.Context(), rdb, "r2:{1}:wm")
	if err != nil || len(keys) != 1 {
		t.Fatal(keys, err)
	}
	if err := rdb.Del(t.Context(), keys...).Err(); err != nil {
		t.Fatal(err)
	}
	losses(time.Time{}, Loss{Topic: c.topics.Interactions, First: 4, End: end})
}

func TestRebuildOptionsThatCannotWork(t *testing.T) {
	for name, opt := range map[string]RebuildOptions{
		"no graph":        {Member: Member{Brokers: []string{"b:1"}}},
		"no brokers":      {Graph: unswitched{}},
		"negative near":   {Member: Member{Brokers: []string{"b:1"}}, Graph: unswitched{}, Near: -1},
		"negative rounds": {Member: Member{Brokers: []string{"b:1"}}, Graph: unswitched{}, Rounds: -1},
	} {
		if _, err := NewRebuilder(opt); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Of a partition that retention has emptied the new graph has the watermark that consumers expect: they go on.
func TestConsumersGoOnAfterARebuildWithoutWhatIsLost(t *testing.T) {
	c := fakeCluster(t)
	for i := range 10 {
		c.produce(c.click(0, i))
	}
	former := newMemory()
	r := start(t, c.options(former))
	former.awaitClicks(t, 10)
	r.stop() // commits
	c.retain(c.topics.Interactions, 10)
	rdb := redis.NewClient(&redis.Options{Addr: embeddedtest.Redis(t)})
	defer rdb.Close()
	g := openGraph(t, rdb)
	builder, err := NewRebuilder(RebuildOptions{Member: c.member(), Topics: c.topics, Graph: unswitched{g}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := builder.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if at, ok, err := g.Watermark(t.Context(), c.topics.Interactions, 0); at != 10 || !ok || err != nil {
		t.Errorf("the watermark of the partition without records is %d, %v, %v; want 10", at, ok, err)
	}
	r = start(t, c.options(g))
	c.eventually("reading", func() bool {
		h := r.Health()
		return len(h.Partitions) == 3*partitions && h.Partitions[0].Position == 10
	})
	r.stop()
}
