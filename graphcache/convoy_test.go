package graphcache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/graphtest"
	"github.com/redis/go-redis/v9"
)

// road is a queue whose convoys are under way until they are told to arrive.
type road struct {
	convoys
	departed chan []*part
	arrive   chan struct{}
	done     sync.WaitGroup
}

func newRoad() *road { return &road{departed: make(chan []*part), arrive: make(chan struct{})} }

// send brings a batch of n events of a partition on its way; the result comes later.
func (r *road) send(ctx context.Context, partition, n int) <-chan error {
	result := make(chan error, 1)
	r.done.Go(func() {
		result <- r.do(ctx, event.Span{Topic: "t", Partition: partition, End: int64(n)}, make([]event.Interaction, n), func(ctx context.Context, parts []*part) {
			r.departed <- parts
			select {
			case <-r.arrive:
			case <-ctx.Done():
				for _, p := range parts {
					p.err = ctx.Err()
				}
			}
		})
	})
	return result
}

func (r *road) waits() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.waiting)
}

// queue sends a batch and waits until it stands in the queue, where it cannot depart.
func (r *road) queue(ctx context.Context, partition, n int) <-chan error {
	before := r.waits()
	result := r.send(ctx, partition, n)
	for r.waits() == before {
		select {
		case <-ctx.Done():
			return result
		default:
		}
	}
	return result
}

func partitions(parts []*part) (ps []int) {
	for _, p := range parts {
		ps = append(ps, p.span.Partition)
	}
	slices.Sort(ps)
	return ps
}

func TestConvoysTakeAllWhoWait(t *testing.T) {
	r, ctx := newRoad(), t.Context()
	departs := func(want ...int) {
		t.Helper()
		if got := partitions(<-r.departed); !slices.Equal(got, want) {
			t.Errorf("partitions %v travel together, want %v", got, want)
		}
	}
	r.send(ctx, 0, 1)
	departs(0)
	for p := 1; p <= 3; p++ {
		r.queue(ctx, p, 1)
	}
	r.queue(ctx, 3, 1) // the same partition again: not in the same convoy
	r.arrive <- struct{}{}
	departs(1, 2, 3)
	r.send(ctx, 4, convoyEvents) // too large for company, and worth a second convoy
	departs(3)
	r.arrive <- struct{}{}
	departs(4)
	r.arrive <- struct{}{}
	r.arrive <- struct{}{}
	r.done.Wait()
	if r.underway != 0 || len(r.waiting) != 0 {
		t.Errorf("%d convoys are under way and %d batches wait, after all have arrived", r.underway, len(r.waiting))
	}
}

// Whoever is cancelled in the queue leaves it; a convoy goes on until all who travel in it are cancelled.
func TestConvoysHeedContexts(t *testing.T) {
	r := newRoad()
	var cancels []func()
	cancellable := func() context.Context {
		ctx, cancel := context.WithCancel(t.Context())
		cancels = append(cancels, cancel)
		return ctx
	}
	r.send(t.Context(), 0, 1)
	<-r.departed
	gone := r.queue(cancellable(), 1, 1)
	one, two := r.queue(cancellable(), 2, 1), r.queue(cancellable(), 3, 1)
	cancels[0]()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled while it waits, a batch gives %v", err)
	}
	r.arrive <- struct{}{}
	if got := partitions(<-r.departed); !slices.Equal(got, []int{2, 3}) {
		t.Errorf("partitions %v travel, want 2 and 3", got)
	}
	cancels[1]()
	select {
	case err := <-one:
		t.Errorf("a batch that is under way was let go of, with %v", err)
	default:
	}
	cancels[2]()
	for _, result := range []<-chan error{one, two} {
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Errorf("all who travel are cancelled, and the result is %v", err)
		}
	}
	r.done.Wait()
	if r.underway != 0 {
		t.Errorf("%d convoys are under way after the last", r.underway)
	}
}

// Many partitions at once give the graph that their events give one by one, and each moves its own watermark; one that
// assumes more than the store holds is told so, and the others are not.
func TestConcurrentPartitions(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		ctx, f := t.Context(), &feed{T: t, c: c}
		const partitions, batches, size = 40, 5, 20
		var all []event.Interaction
		logs := make([][]event.Interaction, partitions)
		for p := range logs {
			for i := range batches * size {
				logs[p] = append(logs[p], event.Interaction{UserID: fmt.Sprint("u", (p*7+i)%50), ItemID: fmt.Sprint("i", i%9), Type: event.Types[(i+p)%len(event.Types)],
					Timestamp: 20_000*day + event.Time(i*partitions+p)})
				if logs[p][i].Type == event.Rating {
					five := 5.
					logs[p][i].Value = &five
				}
			}
			all = append(all, logs[p]...)
		}
		var group sync.WaitGroup
		for p := range logs {
			group.Go(func() {
				for b := range int64(batches) {
					span := event.Span{Topic: "interactions", Partition: p, Start: b * size, End: (b + 1) * size}
					if err := c.ApplyInteractions(ctx, span, logs[p][span.Start:span.End]); err != nil {
						t.Error(err)
					}
				}
			})
		}
		ahead := event.Span{Topic: "interactions", Partition: partitions, Start: 5, End: 6}
		group.Go(func() {
			var behind *event.BehindError
			if err := c.ApplyInteractions(ctx, ahead, likes("u1", "i1")); !errors.As(err, &behind) || behind.Partition != partitions || behind.Assumed != 5 {
				t.Errorf("a batch that assumes what the store has not gives %v, want a BehindError", err)
			}
		})
		group.Wait()
		for p := range logs {
			if low, ok, err := c.Watermark(ctx, "interactions", p); low != batches*size || !ok || err != nil {
				t.Errorf("the watermark of partition %d is %d, %v, %v, want %d", p, low, ok, err, batches*size)
			}
		}
		if low, _, err := c.Watermark(ctx, "interactions", partitions); low != 0 || err != nil {
			t.Errorf("the watermark of the batch that was refused is %d, %v, want 0", low, err)
		}
		got, err := c.Export(ctx)
		f.must(err)
		all = append(all, likes("u1", "i1")...) // refused, but its data may be in
		if diff := cmp.Diff(oracleOf(c).Entries(all), graphtest.Of(got)); diff != "" {
			t.Errorf("the graph is not what the logs say (-want +got):\n%s", diff)
		}
	})
}

// A server that was restarted knows no scripts.
func TestScriptsAreLoadedAgain(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		f := &feed{T: t, c: c}
		for _, item := range []string{"a", "b"} {
			f.must(c.rdb.ScriptFlush(t.Context()).Err())
			f.interactions(likes("u", item)...)
		}
		if low, _, err := c.Watermark(t.Context(), "interactions", 0); low != 2 || err != nil {
			t.Errorf("the watermark is %d, %v, want 2", low, err)
		}
		if n := c.rdb.ZCard(t.Context(), c.userKey("u")).Val(); n != 2 {
			t.Errorf("the user has %d edges, want 2", n)
		}
	})
}

// beforeWriting is a hook that does something once, before the pipeline that writes is sent.
type beforeWriting struct {
	once sync.Once
	do   func()
}

func (*beforeWriting) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*beforeWriting) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (h *beforeWriting) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if slices.ContainsFunc(cmds, func(c redis.Cmder) bool { return c.Name() == "zadd" }) {
			h.once.Do(h.do)
		}
		return next(ctx, cmds)
	}
}

// A user is forgotten before a batch is written by a process that knows of nobody who was ever forgotten, and so asks
// nobody: it is told as it writes, and what it wrote is removed.
func TestForgetBeforeABatchIsWritten(t *testing.T) {
	embeddedtest.EachRedis(t, func(t *testing.T, opt *redis.UniversalOptions) {
		ctx := t.Context()
		rdb, apart := redis.NewUniversalClient(opt), redis.NewUniversalClient(opt)
		defer rdb.Close()
		defer apart.Close()
		c, err := New(rdb, Options{})
		if err != nil {
			t.Fatal(err)
		}
		other, err := New(apart, Options{})
		if err != nil {
			t.Fatal(err)
		}
		f := &feed{T: t, c: c}
		f.interactions(likes("other", "a")...) // the scripts are known
		forgotten := false
		rdb.AddHook(&beforeWriting{do: func() {
			forgotten = true
			f.must(other.ApplyUsers(ctx, f.span("users", 1), []event.User{{UserID: "gone", ForgetBefore: 20_001 * day}}))
		}})
		f.interactions(append(likes("gone", "a", "b"), likes("stays", "b")...)...)
		got, err := c.Export(ctx)
		f.must(err)
		for _, e := range got {
			if e.Member == "gone" || strings.HasSuffix(e.Key, ":gone") {
				t.Errorf("the graph still holds %+v", e)
			}
		}
		if n := rdb.ZCard(ctx, c.itemKey("b")).Val(); !forgotten || n != 1 {
			t.Errorf("forgotten %v, and item b has %d edges: want 1, of who stays", forgotten, n)
		}
	})
}

// takenBack counts the pipelines that take watermarks back.
type takenBack struct{ pipelines int }

func (*takenBack) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*takenBack) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (h *takenBack) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if slices.ContainsFunc(cmds, func(c redis.Cmder) bool { return len(c.Args()) > 1 && c.Args()[1] == takeBack }) {
			h.pipelines++
		}
		return next(ctx, cmds)
	}
}

// Batches that fail together for good have their watermarks taken back in one go: each on its own would hold up a process
// that ends for takeBackWithin, where Redis hangs.
func TestBatchesThatFailTogetherAreTakenBackTogether(t *testing.T) {
	embeddedtest.EachRedis(t, func(t *testing.T, opt *redis.UniversalOptions) {
		ctx := t.Context()
		rdb := redis.NewUniversalClient(opt)
		defer rdb.Close()
		c, err := New(rdb, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := rdb.Set(ctx, c.userKey("u"), "not a list", 0).Err(); err != nil {
			t.Fatal(err)
		}
		var taken takenBack
		rdb.AddHook(&taken)
		parts := make([]*part, 3)
		for i := range parts {
			parts[i] = &part{ctx: ctx, span: event.Span{Topic: "t", Partition: i, End: 1}, batch: likes([]string{"u", "v", "w"}[i], "a")}
		}
		c.travel(ctx, parts)
		for _, p := range parts {
			if p.err == nil || !strings.Contains(p.err.Error(), "WRONGTYPE") {
				t.Errorf("%s: %v, want WRONGTYPE", p.span, p.err)
			}
			if low, _, err := c.Watermark(ctx, "t", p.span.Partition); low != 0 || err != nil {
				t.Errorf("%s: the watermark is %d, %v, want 0", p.span, low, err)
			}
			for g := range groups {
				if at := rdb.HGet(ctx, c.watermarkKey(g), watermarkField("t", p.span.Partition)).Val(); at != "0" && at != "" {
					t.Errorf("%s: group %d stands at %s", p.span, g, at)
				}
			}
		}
		if taken.pipelines != 1 {
			t.Errorf("the watermarks of 3 batches were taken back in %d pipelines, want 1", taken.pipelines)
		}
	})
}
