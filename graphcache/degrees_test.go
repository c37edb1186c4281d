package graphcache

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/internal/event"
)

// TestNeighboursListsAreNotCounted, as they are read; the evidence is the one of a graph in which they are counted.
func TestNeighboursListsAreNotCounted(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		f := &feed{T: t, c: c}
		f.interactions(likes("u", "a", "b")...)
		f.interactions(crowd(5, "x", "y")...)
		f.interactions(likes("once", "a", "x")...)
		var w wire
		c.rdb.AddHook(&w)
		ask := func(chains int) (counted []string, evidence event.Evidence) {
			w.trips = nil
			s, err := c.Snapshot(t.Context(), Query{User: "u", Items: []string{"x"}, Chains: chains})
			if err != nil {
				t.Fatal(err)
			}
			evidence = s.Context.Candidates[0].Evidence
			evidence.Chains = 0
			return w.counted(), evidence
		}
		all, want := ask(0)
		strangers, got := ask(1)
		if !slices.Equal(all, []string{"n00", "n01", "n02", "n03", "n04", "once"}) || !slices.Equal(strangers, []string{"once"}) {
			t.Errorf("counted are the lists of %v, and %v beside neighbours' that are read; want all, and the one of once", all, strangers)
		}
		if d := cmp.Diff(want, got); d != "" || want.LikeMinded == 0 {
			t.Errorf("evidence with all counted is another than where neighbours' lists are read (-want +got):\n%s", d)
		}
	})
}

// failing answers with errors: what counts lists only after a second or when it is stopped, all else at once.
type failing struct {
	counting, others error
	asked, answered  atomic.Int32 // for lengths only
}

func (*failing) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*failing) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (f *failing) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() != "zcard" {
			return f.others
		}
		f.asked.Add(1)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
		f.answered.Add(1)
		return f.counting
	}
}

func TestCountingThatFails(t *testing.T) {
	down, cut := errors.New("down"), errors.New("cut")
	for name, f := range map[string]*failing{"counting": {counting: down}, "both": {counting: down, others: cut}, "another trip": {others: cut}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
				defer rdb.Close()
				rdb.AddHook(f)
				c, err := New(rdb, Options{})
				if err != nil {
					t.Fatal(err)
				}
				w := &walk{Cache: c, q: Query{User: "u", Items: []string{"x"}, Chains: 1}}
				both := node{edges: []Edge{{ID: "v", At: 1, Kind: Like}, {ID: "w", At: 1, Kind: Like}}, degree: 2}
				w.taste = newTaste("u", []Edge{{ID: "a", At: 1, Kind: Like}}, []Edge{{ID: "a", At: 1, Kind: Like}}, []node{both})
				c.opt.Read.Neighbours = 1
				want := f.counting
				if f.others != nil {
					want = f.others
				}
				begun := time.Now()
				if err := w.steps(t.Context(), w.readNeighbours, w.readCandidates); !errors.Is(err, want) {
					t.Errorf("the error is %v, want %v", err, want)
				}
				if waited := time.Since(begun); waited != 0 != (f.others == nil) {
					t.Errorf("it took %s; want that what nobody needs any more is stopped", waited)
				}
				if f.asked.Load() != 1 || f.answered.Load() != 1 {
					t.Errorf("asked %d times for lengths, of which %d were over at the end; want one", f.asked.Load(), f.answered.Load())
				}
			})
		})
	}
}
