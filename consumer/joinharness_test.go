package consumer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
)

// joinCluster is a Kafka with the topics of a join, and a Redis.
type joinCluster struct {
	*cluster
	join JoinTopics
	rdb  redis.UniversalClient
}

func newJoinCluster(t testing.TB, s broker.Settings, r *redis.UniversalOptions) *joinCluster {
	t.Helper()
	c := &joinCluster{cluster: newCluster(t, s), rdb: redis.NewUniversalClient(r)}
	t.Cleanup(func() { c.rdb.Close() })
	c.join = JoinTopics{Interactions: c.topics.Interactions, Decisions: s.TopicPrefix + "decisions", Rewards: s.TopicPrefix + "rewards", DeadLetters: c.topics.DeadLetters}
	c.create(c.join.Decisions, partitions)
	c.create(c.join.Rewards, 2)
	return c
}

// eachJoin runs f on embedded servers and, where the environment names them, on real ones.
func eachJoin(t *testing.T, f func(t *testing.T, c *joinCluster)) {
	embeddedtest.Each(t, func(t *testing.T, k broker.Settings, r *redis.UniversalOptions) { f(t, newJoinCluster(t, k, r)) })
}

// fakeJoin is embedded servers whose faults the test controls.
func fakeJoin(t testing.TB) *joinCluster {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	c := newJoinCluster(t, broker.Settings{Brokers: fake.ListenAddrs()}, &redis.UniversalOptions{Addrs: []string{embeddedtest.Redis(t)}})
	c.fake = fake
	return c
}

func (c *joinCluster) graph() *graphcache.Cache {
	c.t.Helper()
	g, err := graphcache.New(c.rdb, graphcache.Options{})
	if err != nil {
		c.t.Fatal(err)
	}
	return g
}

// joinOptions are those of the small times that the logs of the tests have.
func (c *joinCluster) joinOptions(store JoinStore) JoinerOptions {
	return JoinerOptions{Member: c.member(), Topics: c.join, Store: store, MaxPending: 1000,
		Window: testWindow * time.Millisecond, Lateness: testLateness * time.Millisecond, Showable: testShowable * time.Millisecond}
}

// runningJoiner is a joiner in its goroutine.
type runningJoiner struct {
	*Joiner
	t      testing.TB
	cancel context.CancelFunc
	done   chan error
}

func startJoiner(t testing.TB, opt JoinerOptions) *runningJoiner {
	t.Helper()
	opt.Registerer = prometheus.NewRegistry()
	j, err := NewJoiner(opt)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &runningJoiner{Joiner: j, t: t, cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- j.Run(ctx) }()
	t.Cleanup(func() { cancel(); r.wait() })
	return r
}

func (r *runningJoiner) stop() {
	r.t.Helper()
	r.cancel()
	if err := r.wait(); err != nil {
		r.t.Fatalf("Run: %v", err)
	}
}

func (r *runningJoiner) wait() error {
	r.t.Helper()
	select {
	case err := <-r.done:
		r.done <- err
		return err
	case <-time.After(patience):
		r.t.Error("Run did not return")
		return nil
	}
}

// exampleLogs are logs in which anything happens, one a partition, an hour before now; valid for publication, and worth
// something.
func exampleLogs(seed int) []logs {
	shift := time.Now().Add(-time.Hour).UnixMilli() - epoch
	out := make([]logs, partitions)
	for p := range out {
		l := rapid.Custom(drawLogs).Example(seed + p)
		for n := 1; len(testRules().oracle(l)) < 5; n++ {
			l = rapid.Custom(drawLogs).Example(seed + p + n*partitions)
		}
		for i := range l.decisions {
			d := &l.decisions[i]
			d.at += shift
			d.v.Timestamp += event.Time(shift)
			d.v.UserID += strconv.Itoa(p)
			d.v = complete(d.v)
		}
		for i := range l.interactions {
			in := &l.interactions[i]
			in.at += shift
			in.v.Timestamp += event.Time(shift)
			in.v.UserID += strconv.Itoa(p)
		}
		out[p] = l
	}
	return out
}

// complete gives a decision all that its contract asks for.
func complete(d event.Decision) event.Decision {
	for _, s := range d.Slate {
		d.Context.Candidates = append(d.Context.Candidates, event.Candidate{ItemID: s.ItemID, Title: s.ItemID, Origin: event.FromChains})
		d.Scores = append(d.Scores, event.Score{Graph: 1, Final: 0})
	}
	d.Thought.By, d.Temperature = event.Graph, 1
	if d.Model != nil {
		d.Model = &event.Model{Name: "m", Digest: "base", Adapter: d.Model.Adapter, Readout: "lines", PromptDigest: strings.Repeat("0", 64)}
	}
	return d
}

func (c *joinCluster) publish(all []logs) {
	c.t.Helper()
	var records []*kgo.Record
	for p, l := range all {
		for _, d := range l.decisions {
			records = append(records, c.record(c.join.Decisions, p, d.v.UserID, d.at, must(event.Encode(d.v))))
		}
		for _, in := range l.interactions {
			records = append(records, c.record(c.join.Interactions, p, in.v.UserID, in.at, must(event.Encode(in.v))))
		}
	}
	c.produce(records...)
}

func (c *joinCluster) record(topic string, partition int, key string, at int64, value []byte) *kgo.Record {
	return &kgo.Record{Topic: topic, Partition: int32(partition), Key: []byte(key), Value: value, Timestamp: time.UnixMilli(at)}
}

func must(raw []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return raw
}

// earns is what the logs earn by the oracle.
func (r *joinRules) earns(t failer, all []logs) (out []event.Reward) {
	for _, l := range all {
		out = append(out, once(t, r.oracle(l))...)
	}
	sortRewards(out)
	return out
}

// rewardsTo gives options a topic of rewards of their own.
func (c *joinCluster) rewardsTo(opt JoinerOptions, nth int) JoinerOptions {
	opt.Topics.Rewards = fmt.Sprint(c.join.Rewards, "-", nth)
	c.create(opt.Topics.Rewards, 2)
	return opt
}

func (c *joinCluster) rewards() []event.Reward { return c.rewardsIn(c.join.Rewards) }

// rewardsIn reads a topic to its end; each record must be valid and keyed by its user.
func (c *joinCluster) rewardsIn(topic string) (out []event.Reward) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	bc, err := broker.New(broker.Settings{Brokers: c.brokers})
	if err != nil {
		c.t.Fatal(err)
	}
	defer bc.Close()
	ends, err := bc.Offsets(ctx, topic)
	if err != nil {
		c.t.Fatal(err)
	}
	var n int64
	for _, e := range ends {
		n += e.Last - e.First
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(c.brokers...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		c.t.Fatal(err)
	}
	defer client.Close()
	for int64(len(out)) < n {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			c.t.Fatalf("read rewards, have %d of %d: %v", len(out), n, err)
		}
		for _, rec := range fetches.Records() {
			r, err := event.DecodeReward(rec.Value)
			if err != nil || string(rec.Key) != r.UserID {
				c.t.Fatalf("reward %s of %s: %v", rec.Value, rec.Key, err)
			}
			out = append(out, r)
		}
	}
	return out
}

// settled tells whether everything is joined: both topics are read to their ends, and nothing is pending.
func (c *joinCluster) settled(t testing.TB, all []logs) func() bool {
	store := c.graph()
	return func() bool {
		for p, l := range all {
			state, err := store.LoadJoin(t.Context(), c.join.Interactions, p, nil, 0, 1)
			if err != nil {
				t.Fatal(err)
			}
			head, err := decodeHead(state.Head)
			if err != nil {
				t.Fatal(err)
			}
			if head.Decisions < int64(len(l.decisions)) || head.Interactions < int64(len(l.interactions)) || head.Pending > 0 {
				return false
			}
		}
		return true
	}
}

// faulty is a store with a fault at one call.
type faulty struct {
	JoinStore
	mu    sync.Mutex
	calls int
	hook  func(call int, do func() error) error
}

func (f *faulty) call(do func() error) error {
	f.mu.Lock()
	call := f.calls
	f.calls++
	f.mu.Unlock()
	return f.hook(call, do)
}

func (f *faulty) LoadJoin(ctx context.Context, topic string, partition int, users []string, due event.Time, most int) (state event.JoinState, err error) {
	err = f.call(func() error {
		var err error
		state, err = f.JoinStore.LoadJoin(ctx, topic, partition, users, due, most)
		return err
	})
	return state, err
}

func (f *faulty) CommitJoin(ctx context.Context, topic string, partition int, version int64, head []byte, users []event.JoinUser) (ok bool, err error) {
	err = f.call(func() error {
		var err error
		ok, err = f.JoinStore.CommitJoin(ctx, topic, partition, version, head, users)
		return err
	})
	return ok && err == nil, err
}

var errLost = errors.Join(passing{}, fmt.Errorf("the answer is lost"))
