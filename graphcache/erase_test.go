package graphcache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/graphtest"
)

// buyers is a history of users 0 to n-1, of whom each chose some of many items, at times around at.
func buyers(random *rand.Rand, n, items int, at event.Time) (batch []event.Interaction) {
	for i := range n {
		for range 1 + random.IntN(8) {
			batch = append(batch, event.Interaction{UserID: fmt.Sprintf("user-%d-", i), ItemID: fmt.Sprintf("i%d", random.IntN(items)),
				Type: event.Purchase, Timestamp: at + event.Time(random.IntN(20)-10)})
		}
	}
	return batch
}

// Few users and many, each with a time of their own: what is older than that is gone from every list, and nothing else is.
func TestForgettingTakesExactlyWhatIsOlder(t *testing.T) {
	const at = 20_000 * day
	for _, forgets := range []int{1, 8, 9, 300} {
		t.Run(fmt.Sprint(forgets), func(t *testing.T) {
			open(t, func(t *testing.T, c *Cache) {
				random := rand.New(rand.NewPCG(uint64(forgets), 7))
				f := &feed{T: t, c: c}
				log := buyers(random, 320, 1500, at) // more items than a page of a scan
				f.interactions(log...)
				var users []event.User
				before := map[string]event.Time{}
				for i := range forgets {
					u := event.User{UserID: fmt.Sprintf("user-%d-", i), ForgetBefore: at + event.Time(random.IntN(20)-10)}
					users = append(users, u, event.User{UserID: u.UserID, ForgetBefore: u.ForgetBefore - 5}) // the later one counts
					before[u.UserID] = u.ForgetBefore
				}
				f.must(c.ApplyUsers(t.Context(), f.span("users", len(users)), users))
				var kept []event.Interaction
				for _, in := range log {
					if in.Timestamp >= before[in.UserID] {
						kept = append(kept, in)
					}
				}
				got, err := c.Export(t.Context())
				f.must(err)
				notRecent := cmpopts.IgnoreSliceElements(func(e graphtest.Entry) bool { return strings.HasSuffix(e.Key, "recent") }) // names no user
				if diff := cmp.Diff(graphtest.Default.Entries(kept), graphtest.Of(got), notRecent); diff != "" {
					t.Errorf("the graph differs from that of what is not forgotten (-want +got):\n%.2000s", diff)
				}
				if left := c.rdb.HKeys(t.Context(), c.erasingKey(1)).Val(); !slices.Equal(left, []string{epochField}) {
					t.Errorf("of the forgets is left %q", left)
				}
			})
		})
	}
}

// faulty breaks the connection at one call to Redis: before the call is sent, or when it was done and the answer is on
// its way. After that nothing comes through, as if the process were killed.
type faulty struct {
	mu    sync.Mutex // a Cluster is called side by side
	at    int
	after bool
	calls int
	dead  bool
	do    func() // instead of dying
}

var errKilled = &net.OpError{Op: "read", Err: errors.New("killed by the test")}

func (f *faulty) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f *faulty) around(call func() error) error {
	f.mu.Lock()
	if f.dead {
		f.mu.Unlock()
		return errKilled
	}
	f.calls++
	here := f.calls == f.at
	f.dead = here && f.do == nil && !f.after
	f.mu.Unlock()
	if !here {
		return call()
	}
	if f.after {
		var reply redis.Error
		if err := call(); err != nil && !errors.As(err, &reply) {
			return err
		}
	}
	if f.do != nil {
		f.do()
		if !f.after {
			return call()
		}
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = true
	return errKilled
}

func (f *faulty) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := f.around(func() error { return next(ctx, cmd) })
		if errors.Is(err, errKilled) {
			cmd.SetErr(err)
		}
		return err
	}
}

func (f *faulty) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := f.around(func() error { return next(ctx, cmds) })
		if errors.Is(err, errKilled) {
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
		}
		return err
	}
}

// Killed at any call, a forget is done by whoever applies the batch again; and at no time does the watermark say that it
// was done while something is left.
func TestForgettingSurvivesAKillAtAnyCall(t *testing.T) {
	embeddedtest.EachRedis(t, func(t *testing.T, opt *redis.UniversalOptions) {
		ctx := t.Context()
		rdb := client(t, opt)
		history := buyers(rand.New(rand.NewPCG(1, 1)), 20, 40, 20_000*day)
		span, users := event.Span{Topic: "users", End: 1}, []event.User{{UserID: "user-3-", ForgetBefore: 20_001 * day}}
		for n, through := 1, false; !through; n++ {
			for _, after := range []bool{false, true} {
				if err := embeddedtest.Flush(ctx, rdb); err != nil {
					t.Fatal(err)
				}
				c, err := New(rdb, Options{ForgetKey: []byte("test")})
				if err != nil {
					t.Fatal(err)
				}
				f := &feed{T: t, c: c}
				f.interactions(history...)
				f.must(rdb.Set(ctx, event.RecommendationKey("r2:", "user-3-"), "user-3-", 0).Err())

				fault := &faulty{at: n, after: after}
				broken := redis.NewUniversalClient(opt)
				broken.AddHook(fault)
				killed, err := New(broken, c.opt)
				if err != nil {
					t.Fatal(err)
				}
				err = killed.ApplyUsers(ctx, span, users)
				broken.Close()
				through = err == nil && !fault.dead
				if at, _, _ := c.Watermark(ctx, "users", 0); at == span.End {
					embeddedtest.Nowhere(t, rdb, "user-3-", fmt.Sprintf("killed at call %d, the watermark says it is done, and", n))
				} else if through {
					t.Fatalf("done, and the watermark stands at %d", at)
				}
				f.must(c.ApplyUsers(ctx, span, users))
				embeddedtest.Nowhere(t, rdb, "user-3-", fmt.Sprintf("after a kill at call %d and another attempt", n))
			}
		}
	})
}

// Redis is restored, at any call of a forget, to what it was before: then the watermark does not advance, or nothing is
// left.
func TestForgettingSeesThatRedisWasRestored(t *testing.T) {
	embeddedtest.EachRedis(t, func(t *testing.T, opt *redis.UniversalOptions) {
		ctx, rdb := t.Context(), client(t, opt)
		c, err := New(rdb, Options{ForgetKey: []byte("test")})
		if err != nil {
			t.Fatal(err)
		}
		f := &feed{T: t, c: c}
		f.interactions(buyers(rand.New(rand.NewPCG(1, 1)), 20, 40, 20_000*day)...)
		f.must(c.ApplyUsers(ctx, f.span("users", 1), nil))
		old, err := take(ctx, rdb, "")
		f.must(err)
		span, users := event.Span{Topic: "users", Start: 1, End: 2}, []event.User{{UserID: "user-3-", ForgetBefore: 20_001 * day}}
		seen, step := 0, 1
		if strings.HasSuffix(t.Name(), "/cluster") { // it takes its time to restore one
			step = 5
		}
		for n, through := 1, false; !through; n += step {
			f.must(restore(ctx, rdb, "", old))
			fault := &faulty{at: n, do: func() { f.must(restore(ctx, rdb, "", old)) }}
			broken := redis.NewUniversalClient(opt)
			broken.AddHook(fault)
			restored, err := New(broken, c.opt)
			f.must(err)
			err = restored.ApplyUsers(ctx, span, users)
			broken.Close()
			through = fault.calls < n
			if at, _, _ := c.Watermark(ctx, "users", 0); at == span.End {
				embeddedtest.Nowhere(t, rdb, "user-3-", fmt.Sprintf("restored at call %d", n))
				continue
			}
			var own interface{ Retriable() bool }
			if !errors.As(err, &own) || !own.Retriable() {
				t.Errorf("restored at call %d, the error is %v, want one that is tried again", n, err)
			}
			seen++
		}
		if seen == 0 {
			t.Error("no restoration fell between the first and the last call: the test tests nothing")
		}
	})
}

// A rebuild that reads a request to forget, and a consumer that forgets the same users in all graphs, are in one graph at the
// same time: whatever the one does between two calls of the other, both get through.
func TestForgettingBesideHoldsUpNobody(t *testing.T) {
	embeddedtest.EachRedis(t, func(t *testing.T, opt *redis.UniversalOptions) {
		ctx, rdb := t.Context(), client(t, opt)
		c, err := New(rdb, Options{})
		if err != nil {
			t.Fatal(err)
		}
		f := &feed{T: t, c: c}
		f.interactions(buyers(rand.New(rand.NewPCG(1, 1)), 20, 40, 20_000*day)...)
		users := []event.User{{UserID: "user-3-", ForgetBefore: 20_001 * day}}
		span := event.Span{Topic: "users"}
		owner := func(c *Cache) error {
			span.Start, span.End = span.End, span.End+1
			return c.ApplyUsers(ctx, span, users)
		}
		beside := func(c *Cache) error { return c.ForgetBeside(ctx, span, users) }
		for name, pair := range map[string][2]func(*Cache) error{"owner": {owner, beside}, "beside": {beside, owner}} {
			for n, through := 1, false; !through; n++ {
				fault := &faulty{at: n, do: func() { f.must(pair[1](c)) }}
				met := redis.NewUniversalClient(opt)
				met.AddHook(fault)
				other, err := New(met, Options{})
				f.must(err)
				if err := pair[0](other); err != nil {
					t.Errorf("%s, the other at call %d: %v", name, n, err)
				}
				met.Close()
				through = fault.calls < n
			}
		}
	})
}

// atWrite does something at the first pipeline that adds edges: before it is sent, and when it was done.
type atWrite struct {
	before func()
	after  func(ctx context.Context) error
	once   sync.Once
}

func (*atWrite) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*atWrite) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (h *atWrite) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) (err error) {
		if !slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return cmd.Name() == "zadd" }) {
			return next(ctx, cmds)
		}
		first := false
		h.once.Do(func() {
			first = true
			h.before()
			if err = next(ctx, cmds); err != nil {
				return
			}
			if err = h.after(ctx); err != nil {
				for _, cmd := range cmds {
					cmd.SetErr(err)
				}
			}
		})
		if first {
			return err
		}
		return next(ctx, cmds)
	}
}

// Whoever was held up between asking who is forgotten and writing, while another took its partition over and a user was
// forgotten, brings nothing of the user back, also if it is told to end in that moment: nobody reads the batch again.
func TestFormerReaderBringsNobodyBack(t *testing.T) {
	for name, answer := range map[string]error{"answered": nil, "the answer is lost": errKilled} {
		t.Run(name, func(t *testing.T) {
			embeddedtest.EachRedis(t, func(t *testing.T, opt *redis.UniversalOptions) {
				ctx := t.Context()
				owner, err := New(client(t, opt), Options{})
				f := &feed{T: t, c: owner}
				f.must(err)
				late := redis.NewUniversalClient(opt)
				defer late.Close()
				former, err := New(late, Options{})
				f.must(err)
				f.must(advance.Load(ctx, owner.rdb).Err())
				batch, span := likes("gone", "x", "y"), event.Span{Topic: "interactions", End: 2}
				ending, end := context.WithCancel(ctx)
				late.AddHook(&atWrite{before: func() {
					f.must(owner.ApplyInteractions(ctx, span, batch))
					f.must(owner.ApplyUsers(ctx, event.Span{Topic: "users", End: 1}, []event.User{{UserID: "gone", ForgetBefore: 20_001 * day}}))
				}, after: func(ctx context.Context) error {
					end()
					<-ctx.Done()
					return answer
				}})
				if err := former.ApplyInteractions(ending, span, batch); err == nil {
					t.Error("what was not told of the forget is applied")
				}
				next := func() error {
					return owner.ApplyInteractions(ctx, event.Span{Topic: "interactions", Start: 2, End: 3}, likes("other", "x"))
				}
				err = next()
				if behind := new(event.BehindError); errors.As(err, &behind) { // a Cluster was told to end between its transactions
					f.must(owner.ApplyInteractions(ctx, span, batch))
					err = next()
				}
				f.must(err)
				traces, err := owner.Traces(ctx, "gone")
				f.must(err)
				if !traces.None() {
					t.Errorf("of the forgotten user is back: %+v", traces)
				}
			})
		})
	}
}

func TestTraces(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		ctx := t.Context()
		f := &feed{T: t, c: c}
		traces := func(when string, want Traces) {
			t.Helper()
			got, err := c.Traces(ctx, "u")
			f.must(err)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", when, diff)
			}
		}
		traces("nothing", Traces{})
		at := 20_000 * day
		f.interactions(event.Interaction{UserID: "u", ItemID: "a", Type: event.Purchase, Timestamp: at}, event.Interaction{UserID: "u", ItemID: "b", Type: event.Like, Timestamp: at + 5},
			event.Interaction{UserID: "v", ItemID: "c", Type: event.Like, Timestamp: at + 9})
		f.must(c.rdb.Set(ctx, event.RecommendationKey("r2:", "u"), "{}", 0).Err())
		_, err := c.CommitJoin(ctx, "interactions", 1, 0, nil, []event.JoinUser{{UserID: "u", State: []byte("S")}})
		f.must(err)
		traces("all", Traces{Edges: 2, Settled: 1, Lists: 2, Documents: 1, Joins: 1, Newest: at + 5})
		_, err = c.LoadJoin(ctx, "interactions", 2, []string{"u", "v"}, 0, 1)
		f.must(err)
		traces("asked for", Traces{Edges: 2, Settled: 1, Lists: 2, Documents: 1, Joins: 2, Newest: at + 5})
		f.must(c.ApplyUsers(ctx, f.span("users", 1), []event.User{{UserID: "u", ForgetBefore: at + 5}}))
		traces("forgotten", Traces{Later: 2, Joins: 1, Newest: at + 5, Before: at + 5}) // the joiner has to look at its part
	})
}
