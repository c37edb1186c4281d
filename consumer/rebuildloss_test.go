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
// old interactions are to be left out anyway.
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
	losses(time.Time{}, Loss{Topic: c.topics.Interactions, First: 4, Watermark: 9})
	losses(time.UnixMilli(1))
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
