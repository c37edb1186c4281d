package adapters_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	. "github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
)

func eachRedis(t *testing.T, f func(t *testing.T, c redis.UniversalClient)) {
	embeddedtest.EachRedis(t, func(t *testing.T, o *redis.UniversalOptions) {
		c := redis.NewUniversalClient(o)
		t.Cleanup(func() { c.Close() })
		f(t, c)
	})
}

// TestTheProjectionGoesForwards however many write it, in any order.
func TestTheProjectionGoesForwards(t *testing.T) {
	eachRedis(t, func(t *testing.T, c redis.UniversalClient) {
		ctx, p := bounded(t), Projection{Client: c, Prefix: "r2:"}
		if s, err := p.Read(ctx); err != nil || s.Offset != 0 {
			t.Fatalf("nothing was projected, and read %+v, %v", s, err)
		}
		var states []State
		var s State
		for i := range 30 {
			s = s.Apply(int64(i), promote(fmt.Sprint("a", i+1), s.Current, 1, nil))
			states = append(states, s)
		}
		var wg sync.WaitGroup
		for i := range states {
			wg.Go(func() {
				if _, err := p.Write(ctx, states[len(states)-1-i]); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if written, err := p.Write(ctx, states[3]); err != nil || written {
			t.Errorf("an old state was written: %v, %v", written, err)
		}
		if written, err := p.Write(ctx, s); err != nil || !written {
			t.Errorf("the same state again: %v, %v; want that it is written", written, err)
		}
		got, err := p.Read(ctx)
		want := s
		want.Entries = s.Entries[10:]
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v %s", err, diff)
		}
		var doc map[string]any
		if err := json.Unmarshal([]byte(c.Get(ctx, "r2:adapters").Val()), &doc); err != nil || doc["current"] != "a30" {
			t.Errorf("the document says that %v is current, %v", doc["current"], err)
		}
		for _, spoilt := range []string{"", "no JSON", "[]", `{"offset":"x"}`, "7"} {
			c.Set(ctx, "r2:adapters", spoilt, 0)
			if written, err := p.Write(ctx, states[0]); err != nil || !written {
				t.Errorf("over %q: %v, %v; want that it is replaced", spoilt, written, err)
			}
		}
	})
}

func take(t testing.TB, c redis.UniversalClient, ttl time.Duration) (*Lease, error) {
	t.Helper()
	return TakeLease(bounded(t), LeaseOptions{Client: c, Key: "r2:train", TTL: ttl, Logger: slog.New(slog.DiscardHandler)})
}

func mustTake(t testing.TB, c redis.UniversalClient, ttl time.Duration) *Lease {
	t.Helper()
	l, err := take(t, c, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestOneHoldsTheLease(t *testing.T) {
	eachRedis(t, func(t *testing.T, c redis.UniversalClient) {
		first := mustTake(t, c, time.Hour)
		if _, err := take(t, c, time.Hour); !errors.Is(err, ErrLeased) {
			t.Fatalf("a second one: %v, want ErrLeased", err)
		}
		if err := first.Release(bounded(t)); err != nil {
			t.Fatal(err)
		}
		if err := context.Cause(first.Lost()); !errors.Is(err, context.Canceled) || errors.Is(err, ErrLost) {
			t.Errorf("released, its context ended with %v", err)
		}
		second := mustTake(t, c, time.Hour)
		if err := first.Release(bounded(t)); err != nil { // of what is not held any more
			t.Fatal(err)
		}
		if _, err := take(t, c, time.Hour); !errors.Is(err, ErrLeased) {
			t.Errorf("the first one's second release took away the lease of the second: %v", err)
		}
		if err := second.Release(bounded(t)); err != nil {
			t.Fatal(err)
		}
	})
}

// TestALeaseWhoseAnswerIsLost was taken all the same, and by nobody else.
func TestALeaseWhoseAnswerIsLost(t *testing.T) {
	proxy := embeddedtest.NewProxy(t, embeddedtest.Redis(t))
	c := redis.NewClient(&redis.Options{Addr: proxy.Addr})
	defer c.Close()
	if err := c.Ping(bounded(t)).Err(); err != nil { // so that the connection is greeted
		t.Fatal(err)
	}
	broken := proxy.Break(0, embeddedtest.BreakAfter)
	l := mustTake(t, c, time.Hour)
	<-broken
	if err := l.Release(bounded(t)); err != nil {
		t.Fatal(err)
	}
}

// TestAReleaseGivesUp: who is at his end does not wait for a server that is gone.
func TestAReleaseGivesUp(t *testing.T) {
	c := redis.NewClient(&redis.Options{Addr: embeddedtest.Redis(t)})
	defer c.Close()
	l := mustTake(t, c, time.Hour)
	asked := &timed{}
	c.AddHook(asked)
	if err := l.Release(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	if asked.bounded == 0 || asked.endless > 0 {
		t.Errorf("%d questions have a deadline, and %d have none", asked.bounded, asked.endless)
	}
}

// timed counts the commands that have a deadline, and those that have none.
type timed struct {
	bounded, endless int
}

func (h *timed) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if _, ok := ctx.Deadline(); ok {
			h.bounded++
		} else {
			h.endless++
		}
		return next(ctx, cmd)
	}
}

func (*timed) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*timed) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// TestAHolderThatWasPaused past its lease: it renews every 20 minutes and is asleep while its lease ends by the server's
// clock and another one takes it.
func TestAHolderThatWasPaused(t *testing.T) {
	eachRedis(t, func(t *testing.T, c redis.UniversalClient) {
		paused := mustTake(t, c, time.Hour)
		expire(t, c)
		other := mustTake(t, c, time.Hour)
		if err := paused.Release(bounded(t)); err != nil {
			t.Fatal(err)
		}
		if _, err := take(t, c, time.Hour); !errors.Is(err, ErrLeased) {
			t.Errorf("the release of a lost lease took away that of another: %v", err)
		}
		if err := other.Lost().Err(); err != nil {
			t.Errorf("the other's lease has ended: %v", err)
		}
		if err := other.Release(bounded(t)); err != nil {
			t.Fatal(err)
		}
	})
}

// expire ends the lease as the server does when its time is over.
func expire(t testing.TB, c redis.UniversalClient) {
	t.Helper()
	if err := c.Del(bounded(t), "r2:train").Err(); err != nil {
		t.Fatal(err)
	}
}

func TestALostLeaseEndsItsWork(t *testing.T) {
	eachRedis(t, func(t *testing.T, c redis.UniversalClient) {
		l := mustTake(t, c, 300*time.Millisecond)
		if err := c.Set(bounded(t), "r2:train", "somebody else", 0).Err(); err != nil {
			t.Fatal(err)
		}
		waitLost(t, l)
		if err := l.Release(bounded(t)); err != nil {
			t.Fatal(err)
		}
		if held := c.Get(bounded(t), "r2:train").Val(); held != "somebody else" {
			t.Errorf("after the release it is held by %q", held)
		}
	})
}

func waitLost(t testing.TB, l *Lease) {
	t.Helper()
	select {
	case <-l.Lost().Done():
	case <-bounded(t).Done():
		t.Fatal("the lease is not lost")
	}
	if err := context.Cause(l.Lost()); !errors.Is(err, ErrLost) {
		t.Errorf("it ended with %v, want ErrLost", err)
	}
}

// TestALeaseIsRenewed, and set again where Redis has lost it.
func TestALeaseIsRenewed(t *testing.T) {
	eachRedis(t, func(t *testing.T, c redis.UniversalClient) {
		ctx := bounded(t)
		const ttl = 3 * time.Second
		l := mustTake(t, c, ttl)
		for name, spoil := range map[string]func() error{
			"a longer time": func() error { return c.PExpire(ctx, "r2:train", time.Hour).Err() },
			"no key":        func() error { return embeddedtest.Flush(ctx, c) },
		} {
			if err := spoil(); err != nil {
				t.Fatal(err)
			}
			err := backoff.Retry(func() error {
				if left := c.PTTL(ctx, "r2:train").Val(); left <= 0 || left > ttl {
					return fmt.Errorf("%v is left", left)
				}
				return nil
			}, backoff.WithContext(backoff.NewConstantBackOff(20*time.Millisecond), ctx))
			if err != nil || l.Lost().Err() != nil {
				t.Fatalf("%s: not renewed, %v; %v", name, err, context.Cause(l.Lost()))
			}
		}
		if err := l.Release(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

// TestALeaseWithoutItsServer ends by its own clock.
func TestALeaseWithoutItsServer(t *testing.T) {
	c := redis.NewClient(&redis.Options{Addr: embeddedtest.Redis(t)})
	l := mustTake(t, c, 300*time.Millisecond)
	if err := c.Close(); err != nil { // from here on nothing is answered
		t.Fatal(err)
	}
	waitLost(t, l)
}

func TestALeaseNeedsTime(t *testing.T) {
	c := redis.NewClient(&redis.Options{Addr: embeddedtest.Redis(t)})
	defer c.Close()
	if _, err := take(t, c, time.Millisecond); err == nil {
		t.Error("a lease of 1ms: no error")
	}
}
