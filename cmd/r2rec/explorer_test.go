package main

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/web"
)

// Counting a large graph takes long, and what else is told to the page must not wait for it.
func TestCountsAreAnsweredWhileTheGraphIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type answer struct {
			users int64
			err   error
		}
		counted := make(chan answer)
		var began atomic.Int64
		e := newExplorer(nil)
		e.counts = func(context.Context) (graphcache.Stats, error) {
			began.Add(1)
			a := <-counted
			return graphcache.Stats{Users: a.users}, a.err
		}
		ctx, end := context.WithCancel(t.Context())
		ended := false
		go func() { e.run(ctx); ended = true }()
		want := func(users, begun int64, reason error) {
			t.Helper()
			synctest.Wait()
			got, err := e.Stats(ctx)
			if synctest.Wait(); got != (web.Stats{Users: users}) || !errors.Is(err, reason) || began.Load() != begun {
				t.Errorf("%+v, %v, counted %d times; want %d users, %v, %d times", got, err, began.Load(), users, reason, begun)
			}
		}
		synctest.Wait()
		if began.Load() != 0 {
			t.Error("it is counted although nobody asked")
		}
		want(0, 1, errNotCounted)
		want(0, 1, errNotCounted) // while it is counted
		time.Sleep(time.Second)
		counted <- answer{users: 7}
		want(7, 1, nil)
		time.Sleep(19 * time.Second)
		want(7, 1, nil) // twenty times what it took
		time.Sleep(time.Second)
		want(7, 2, nil)
		gone := errors.New("redis is gone")
		time.Sleep(time.Minute)
		counted <- answer{err: gone}
		want(0, 2, gone)
		time.Sleep(2 * time.Second) // not twenty times a failure
		want(0, 3, gone)
		counted <- answer{users: 8}
		want(8, 3, nil)
		end()
		if synctest.Wait(); !ended {
			t.Error("it goes on after its service")
		}
	})
}
