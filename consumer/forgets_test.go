package consumer

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/r2rec/r2rec/internal/event"
)

// forgets are known when f says so, wherever users ends.
func forgets(f func() bool) func(context.Context) (func(context.Context) (bool, error), error) {
	return func(context.Context) (func(context.Context) (bool, error), error) {
		return func(context.Context) (bool, error) { return f(), nil }, nil
	}
}

// Interactions wait until it is known who is forgotten, at the beginning and after the store lost what it had; items and users,
// by which it becomes known, do not.
func TestInteractionsWaitForWhoIsForgotten(t *testing.T) {
	eachCluster(t, func(t *testing.T, c *cluster) {
		g := newMemory()
		var known atomic.Bool
		opt := c.options(g)
		opt.Forgets = forgets(known.Load)
		c.produce(c.clicks(0, 30)...)
		r := start(t, opt)
		waiting := func() bool {
			n := 0
			for _, p := range r.Health().Partitions {
				if p.Topic == c.topics.Interactions && p.Trouble.Doing == "wait until it is known who is forgotten" {
					n++
				}
			}
			return n == partitions
		}
		for _, when := range []string{"at first", "after a flush"} {
			c.eventually(when+" all wait", waiting)
			raw, err := event.Encode(event.User{UserID: when, ForgetBefore: 1_700_000_000_000})
			if err != nil {
				t.Fatal(err)
			}
			c.produce(&kgo.Record{Topic: c.topics.Users, Key: []byte(when), Value: raw})
			applied := 0
			g.await(t, "users "+when, func() bool { applied = len(g.has); return g.users[when] != 0 })
			if applied != 0 {
				t.Errorf("%s %d interactions are applied", when, applied)
			}
			known.Store(true)
			g.awaitClicks(t, 30)
			known.Store(false)
			g.wipe()
		}
	})
}

// A topic users that is never read to its end, or of which nobody tells where it ends or how far it is read, holds nobody up
// for ever.
func TestNobodyWaitsForeverForWhoIsForgotten(t *testing.T) {
	unread := func(context.Context) (bool, error) { return false, nil }
	for name, f := range map[string]func(context.Context) (func(context.Context) (bool, error), error){
		"nobody reads it": forgets(func() bool { return false }),
		"a partition has no leader": func(context.Context) (func(context.Context) (bool, error), error) {
			return unread, kafka.LeaderNotAvailable
		},
		"the store does not tell": func(context.Context) (func(context.Context) (bool, error), error) {
			return func(context.Context) (bool, error) { return false, io.ErrUnexpectedEOF }, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := fakeCluster(t)
			g := newMemory()
			opt := c.options(g)
			opt.Forgets = f
			var ahead atomic.Int64
			opt.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
			c.produce(c.clicks(0, 30)...)
			r := start(t, opt)
			c.eventually("it waits", func() bool {
				waiting := 0
				for _, p := range r.Health().Partitions {
					if p.Topic == c.topics.Interactions && p.Trouble.Doing == "wait until it is known who is forgotten" {
						waiting++
					}
				}
				return waiting == partitions
			})
			ahead.Store(int64(forgetsWithin))
			g.awaitClicks(t, 30)
		})
	}
}

// What does not pass by itself is no reason to wait.
func TestWhoIsForgottenCannotBeKnown(t *testing.T) {
	c := fakeCluster(t)
	opt := c.options(newMemory())
	opt.Forgets = func(context.Context) (func(context.Context) (bool, error), error) {
		return nil, kafka.TopicAuthorizationFailed
	}
	c.produce(c.clicks(0, 1)...)
	r := start(t, opt)
	if err := r.wait(); !errors.Is(err, kafka.TopicAuthorizationFailed) {
		t.Errorf("it ended with %v", err)
	}
}

// The join waits, too: it commits nothing before.
func TestJoinWaitsForWhoIsForgotten(t *testing.T) {
	eachJoin(t, func(t *testing.T, c *joinCluster) {
		all := exampleLogs(newSeed(t))
		c.publish(all)
		var asked, early atomic.Int64
		opt := c.joinOptions(commitsSeen{c.graph(), func() {
			if asked.Load() < 3*partitions {
				early.Add(1)
			}
		}})
		opt.Forgets = forgets(func() bool { return asked.Add(1) >= 3*partitions })
		startJoiner(t, opt)
		c.eventually("everything is final", c.settled(t, all))
		if n := early.Load(); n != 0 {
			t.Errorf("%d batches are committed before", n)
		}
	})
}

// commitsSeen tells of each commit.
type commitsSeen struct {
	JoinStore
	seen func()
}

func (s commitsSeen) CommitJoin(ctx context.Context, topic string, partition int, version int64, head []byte, users []event.JoinUser) (bool, error) {
	s.seen()
	return s.JoinStore.CommitJoin(ctx, topic, partition, version, head, users)
}
