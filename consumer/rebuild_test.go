package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"

	"github.com/r2rec/r2rec/consumer"
	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/graphtest"
)

// site is a Kafka and a Redis with a graph of generations.
type site struct {
	testing.TB
	kafka *broker.Client
	rdb   redis.UniversalClient
	graph *graphcache.Generations
	group string
	w     map[string]*kafka.Writer
}

func newSite(t testing.TB, k broker.Settings, r *redis.UniversalOptions) *site {
	t.Helper()
	s := &site{TB: t, rdb: redis.NewUniversalClient(r), group: k.TopicPrefix + "group", w: map[string]*kafka.Writer{}}
	t.Cleanup(func() { s.rdb.Close() })
	var err error
	s.kafka, err = broker.New(k)
	s.must(err)
	t.Cleanup(s.kafka.Close)
	s.must(s.kafka.EnsureTopics(t.Context(), broker.Topics{Partitions: 3, ReplicationFactor: 1}))
	s.graph = s.generations(s.rdb)
	return s
}

func (s *site) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *site) generations(rdb redis.UniversalClient) *graphcache.Generations {
	s.Helper()
	g, err := graphcache.NewGenerations(rdb, graphcache.Options{ForgetKey: []byte("test")})
	s.must(err)
	return g
}

func (s *site) publish(topic string, ms ...kafka.Message) {
	s.Helper()
	if s.w[topic] == nil {
		s.w[topic] = s.kafka.NewWriter(topic)
		s.Cleanup(func() { s.w[topic].Close() })
	}
	s.must(s.w[topic].WriteMessages(s.Context(), ms...))
}

func (s *site) interactions(events ...event.Interaction) {
	s.Helper()
	var ms []kafka.Message
	for _, in := range events {
		raw, err := event.Encode(in)
		s.must(err)
		ms = append(ms, kafka.Message{Key: []byte(in.UserID), Value: raw})
	}
	s.publish(broker.Interactions, ms...)
}

func (s *site) forget(user string, before event.Time) {
	s.Helper()
	raw, err := event.Encode(event.User{UserID: user, ForgetBefore: before})
	s.must(err)
	s.publish(broker.Users, kafka.Message{Key: []byte(user), Value: raw})
}

func (s *site) topics() consumer.Topics {
	return consumer.Topics{Interactions: s.kafka.Topic(broker.Interactions), Items: s.kafka.Topic(broker.Items),
		Users: s.kafka.Topic(broker.Users), DeadLetters: s.kafka.Topic(broker.DeadLetters)}
}

func (s *site) member() consumer.Member {
	return consumer.Member{Brokers: s.kafka.Brokers(), Dialer: s.kafka.Dialer, Transport: s.kafka.Transport, Group: s.group,
		MaxBatch: 100, CheckInterval: 20 * time.Millisecond, Backoff: func() backoff.BackOff { return backoff.NewConstantBackOff(2 * time.Millisecond) }}
}

// consume runs a consumer until the returned function stops it.
func (s *site) consume() (stop func()) {
	s.Helper()
	c, err := consumer.New(consumer.Options{Member: s.member(), Graph: s.graph, Topics: s.topics()})
	s.must(err)
	ctx, cancel := context.WithCancel(s.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			s.Errorf("Run: %v", err)
		}
	}
}

// target is the generation that is being built.
type target struct {
	*graphcache.Cache
	graph  *graphcache.Generations
	before func() // the switch; nil: nothing
}

func (t target) Switch(ctx context.Context) error {
	if t.before != nil {
		t.before()
	}
	_, err := t.graph.Switch(ctx, t.Generation(), "test", false)
	return err
}

// rebuild builds a generation and switches to it; change may change how.
func (s *site) rebuild(ctx context.Context, g *graphcache.Generations, change func(*consumer.RebuildOptions, *target)) (consumer.Rebuilt, error) {
	s.Helper()
	next, err := g.Begin(ctx, "test")
	if err != nil {
		return consumer.Rebuilt{}, err
	}
	to := &target{Cache: next, graph: g}
	opt := consumer.RebuildOptions{Member: s.member(), Topics: s.topics()}
	if change != nil {
		change(&opt, to)
	}
	opt.Graph = to
	r, err := consumer.NewRebuilder(opt)
	s.must(err)
	return r.Run(ctx)
}

// awaitLog waits until the graph that serves is that of a log.
func (s *site) awaitLog(log []event.Interaction) {
	s.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(40 * time.Second)
	for {
		diff := s.differs(log)
		if diff == "" {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			s.Fatalf("the graph is not that of the log (-want +got):\n%.2000s", diff)
		}
	}
}

// history of a graph in which lists are as long as they come.
func history(n int) []event.Interaction {
	return graphtest.Shape{Users: 40, Items: 300, Moments: 1_000_000}.History(rand.New(rand.NewPCG(1, 2)), n)
}

// differs says how the graph that serves differs from that of a log.
func (s *site) differs(log []event.Interaction) string {
	s.Helper()
	c, err := s.graph.Current(s.Context())
	s.must(err)
	entries, err := c.Export(s.Context())
	s.must(err)
	want := graphtest.Default
	if n := c.Generation(); n > 0 {
		want.Prefix = fmt.Sprintf("r2:%d:", n)
	}
	return cmp.Diff(want.Entries(log), graphtest.Of(entries))
}

// A rebuild gives the graph of the log, whatever has become of the one that served, tells what cannot be applied
// without publishing it again, and forgets who is to be forgotten, before or after what is forgotten.
func TestRebuildGivesTheGraphOfTheLog(t *testing.T) {
	embeddedtest.Each(t, func(t *testing.T, k broker.Settings, r *redis.UniversalOptions) {
		s := newSite(t, k, r)
		events := history(3000)
		s.forget("u7", 1_790_000_000_000) // before what is forgotten
		s.interactions(events...)
		s.publish(broker.Interactions, kafka.Message{Key: []byte("u1"), Value: []byte("{}")}, kafka.Message{Key: []byte("u1"), Value: []byte("?")})
		s.publish(broker.Items, kafka.Message{Key: []byte("i1"), Value: []byte(`{"item_id":"i1","title":"One"}`)})
		s.forget("u8", 1_790_000_000_000) // after it
		s.must(s.graph.ApplyInteractions(t.Context(), event.Span{Topic: "by hand", End: 1}, []event.Interaction{{UserID: "stray", ItemID: "stray", Type: event.Click, Timestamp: 1_700_000_000_000}}))

		got, err := s.rebuild(t.Context(), s.graph, nil)
		s.must(err)
		in := s.topics()
		want := consumer.Rebuilt{Records: map[string]int64{in.Interactions: 3002, in.Items: 1, in.Users: 2}, DeadLetters: map[string]int{"missing_field": 1, "malformed_json": 1}}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(consumer.Rebuilt{}, "Rounds", "Behind")); diff != "" {
			t.Errorf("what was read (-want +got):\n%s", diff)
		}
		var stay []event.Interaction
		for _, in := range events {
			if in.UserID != "u7" && in.UserID != "u8" {
				stay = append(stay, in)
			}
		}
		if diff := s.differs(stay); diff != "" {
			t.Errorf("the graph (-want +got):\n%.2000s", diff)
		}
		items, err := s.graph.Items(t.Context(), []string{"i1"})
		if s.must(err); items["i1"].Title != "One" {
			t.Errorf("the catalogue has %+v", items)
		}
		ends, err := s.kafka.Offsets(t.Context(), broker.DeadLetters)
		if s.must(err); ends[0].Last != 0 {
			t.Errorf("%d dead letters were published, want none", ends[0].Last)
		}
	})
}

// Consumers run while events come, a user is forgotten between the last look at the log and the switch, and the graph is
// rebuilt twice: in the end it is that of all events.
func TestConsumersGoOnThroughARebuild(t *testing.T) {
	embeddedtest.Each(t, func(t *testing.T, k broker.Settings, r *redis.UniversalOptions) {
		s := newSite(t, k, r)
		events := history(3000)
		s.interactions(events[:1000]...)
		stop := s.consume()
		defer stop()
		s.awaitLog(events[:1000])

		var progress atomic.Int64
		_, err := s.rebuild(t.Context(), s.graph, func(o *consumer.RebuildOptions, to *target) {
			o.Near = 1
			o.Progress = func(done, total int64) {
				if progress.Add(1) == 3 {
					s.interactions(events[1000:1500]...)
				}
			}
			to.before = func() {
				s.interactions(events[1500:2000]...)
				s.forget("u9", 1_790_000_000_000)
			}
		})
		s.must(err)
		s.interactions(events[2000:]...)
		_, err = s.rebuild(t.Context(), s.graph, nil)
		s.must(err)
		var stay []event.Interaction
		for _, in := range events {
			if in.UserID != "u9" {
				stay = append(stay, in)
			}
		}
		s.awaitLog(stay)
	})
}

// From a time on means: interactions that Kafka recorded then or later, and all users.
func TestRebuildFromATime(t *testing.T) {
	embeddedtest.Each(t, func(t *testing.T, k broker.Settings, r *redis.UniversalOptions) {
		s := newSite(t, k, r)
		events := history(200)
		record := func(at time.Time, events []event.Interaction) {
			var ms []kafka.Message
			for _, in := range events {
				raw, err := event.Encode(in)
				s.must(err)
				ms = append(ms, kafka.Message{Key: []byte(in.UserID), Value: raw, Time: at})
			}
			s.publish(broker.Interactions, ms...)
		}
		record(time.UnixMilli(1_700_000_000_000), events[:100])
		record(time.UnixMilli(1_700_000_100_000), events[100:])
		s.forget("u3", 1_790_000_000_000)
		s.must(s.graph.ApplyInteractions(t.Context(), event.Span{Topic: s.topics().Interactions, End: 5}, events[:100]))
		_, err := s.rebuild(t.Context(), s.graph, func(o *consumer.RebuildOptions, _ *target) { o.From = time.UnixMilli(1_700_000_050_000) })
		s.must(err)
		var stay []event.Interaction
		for _, in := range events[100:] {
			if in.UserID != "u3" {
				stay = append(stay, in)
			}
		}
		if diff := s.differs(stay); diff != "" {
			t.Errorf("the graph (-want +got):\n%.2000s", diff)
		}
	})
}

// dying breaks the connection to Redis at one call, before or after it is done, and for good.
type dying struct {
	at, calls int64
	after     bool
	kill      func()
}

var errKilled = errors.New("killed by the test")

func (d *dying) DialHook(next redis.DialHook) redis.DialHook { return next }

func (d *dying) around(call func() error) error {
	n := atomic.AddInt64(&d.calls, 1)
	switch {
	case n < d.at:
		return call()
	case n == d.at && d.after:
		err := call()
		d.kill()
		return errors.Join(err, errKilled)
	}
	d.kill()
	return errKilled
}

func (d *dying) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := d.around(func() error { return next(ctx, cmd) })
		cmd.SetErr(err)
		return err
	}
}

func (d *dying) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := d.around(func() error { return next(ctx, cmds) })
		if err != nil {
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
		}
		return err
	}
}

// Killed at any call to Redis, a rebuild has changed nothing for readers, or all; what it leaves is found by the next one,
// which then gives the graph of the log, and leaves no key of any other.
func TestRebuildKilledAtAnyCall(t *testing.T) {
	at := &redis.UniversalOptions{Addrs: []string{embeddedtest.Redis(t)}}
	s := newSite(t, broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}}, at)
	events := history(30)
	s.interactions(events...)
	s.forget("u3", 1_790_000_000_000)
	var stay []event.Interaction
	for _, in := range events {
		if in.UserID != "u3" {
			stay = append(stay, in)
		}
	}
	former := []event.Interaction{{UserID: "former", ItemID: "former", Type: event.Click, Timestamp: 1_700_000_000_000}}
	// A kill at each of its calls takes a while: every few of them, others each time; R2REC_TEST_EVERY_CALL=1 takes all.
	step, first := int64(5), 1+rand.Int64N(5)
	if os.Getenv("R2REC_TEST_EVERY_CALL") == "1" {
		step, first = 1, 1
	}
	switched := 0
	for n, through := first, false; !through; n += step {
		s.must(embeddedtest.Flush(t.Context(), s.rdb))
		s.must(s.graph.ApplyInteractions(t.Context(), event.Span{Topic: "former", End: 1}, former))
		broken := redis.NewUniversalClient(at)
		ctx, cancel := context.WithCancel(t.Context())
		d := &dying{at: n, after: n%2 == 0, kill: cancel}
		broken.AddHook(d)
		_, err := s.rebuild(ctx, s.generations(broken), nil)
		through = ctx.Err() == nil
		cancel()
		broken.Close()
		if through {
			s.must(err)
			break
		}
		switch was, is := s.differs(former), s.differs(stay); {
		case was == "":
		case is == "":
			switched++
		default:
			t.Errorf("killed at call %d, readers see neither the former graph nor the new one:\n%.1000s", n, is)
		}
		left, err := s.graph.Leftovers(t.Context())
		s.must(err)
		for _, generation := range left {
			_, err := s.graph.Drop(t.Context(), generation, 0)
			s.must(err)
		}
		_, err = s.rebuild(t.Context(), s.graph, nil)
		s.must(err)
		if diff := s.differs(stay); diff != "" {
			t.Errorf("after a kill at call %d and another rebuild (-want +got):\n%.1000s", n, diff)
		}
	}
	t.Logf("%d kills fell after the switch", switched)
}

// flaky fails the 1st, 3rd, 6th, 10th … call to Redis, before it is sent or after it is done, in turn: ever more calls get
// through in a row, so that at last all that belongs together does.
type flaky struct{ calls, failed atomic.Int64 }

func (f *flaky) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f *flaky) around(call func() error) error {
	k := f.failed.Load() + 1
	if n := f.calls.Add(1); n < k*(k+1)/2 {
		return call()
	}
	if f.failed.Add(1)%2 == 0 {
		_ = call()
	}
	return &net.OpError{Op: "read", Err: errors.New("broken by the test")}
}

func (f *flaky) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := f.around(func() error { return next(ctx, cmd) })
		cmd.SetErr(err)
		return err
	}
}

func (f *flaky) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		var network *net.OpError
		err := f.around(func() error { return next(ctx, cmds) })
		if errors.As(err, &network) {
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
		}
		return err
	}
}

// A Redis that fails again and again, for a moment, delays a rebuild and does nothing else.
func TestRebuildGetsOverFailuresThatPass(t *testing.T) {
	at := &redis.UniversalOptions{Addrs: []string{embeddedtest.Redis(t)}}
	s := newSite(t, broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}}, at)
	events := history(300)
	s.interactions(events...)
	s.forget("u3", 1_790_000_000_000)
	broken := redis.NewUniversalClient(at)
	defer broken.Close()
	var f flaky
	broken.AddHook(&f)
	_, err := s.rebuild(t.Context(), s.graph, func(_ *consumer.RebuildOptions, to *target) {
		to.graph = s.generations(broken)
		var err error
		to.Cache, err = graphcache.New(broken, graphcache.Options{ForgetKey: []byte("test"), Generation: to.Generation()})
		s.must(err)
	})
	s.must(err)
	var stay []event.Interaction
	for _, in := range events {
		if in.UserID != "u3" {
			stay = append(stay, in)
		}
	}
	if diff := s.differs(stay); diff != "" || f.failed.Load() < 6 {
		t.Errorf("after %d failures the graph differs (-want +got):\n%.2000s", f.failed.Load(), diff)
	}
}
