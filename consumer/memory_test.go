package consumer

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/r2rec/r2rec/internal/event"
)

// memory is a Graph that keeps what it is given: the port's oracle. It refuses a stretch that does not join on.
type memory struct {
	mu      sync.Mutex
	changed chan struct{}
	marks   map[partitionKey]int64
	events  map[partitionKey][]string // ids in the order applied, repetitions included
	has     map[string]bool           // ids since the last wipe
	items   map[string]event.Item
	users   map[string]event.Time
	calls   int
	// hook, if not nil, is called for each call in place of do, which does the call's work under the lock.
	hook func(call int, op string, do func() error) error
}

func newMemory() *memory {
	g := &memory{changed: make(chan struct{})}
	g.reset()
	return g
}

func (g *memory) reset() {
	g.marks, g.has = map[partitionKey]int64{}, map[string]bool{}
	g.events, g.items, g.users = map[partitionKey][]string{}, map[string]event.Item{}, map[string]event.Time{}
}

// wipe is FLUSHALL.
func (g *memory) wipe() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reset()
}

func (g *memory) call(op string, do func() error) error {
	g.mu.Lock()
	call, hook := g.calls, g.hook
	g.calls++
	g.mu.Unlock()
	locked := func() error {
		g.mu.Lock()
		defer g.mu.Unlock()
		defer func() { close(g.changed); g.changed = make(chan struct{}) }()
		return do()
	}
	if hook != nil {
		return hook(call, op, locked)
	}
	return locked()
}

func (g *memory) Watermark(_ context.Context, topic string, id int) (lowest int64, ok bool, err error) {
	err = g.call("watermark", func() error { lowest, ok = g.marks[partitionKey{topic, id}]; return nil })
	return
}

func (g *memory) SetWatermark(_ context.Context, topic string, id int, offset int64) error {
	return g.call("set", func() error { g.marks[partitionKey{topic, id}] = offset; return nil })
}

func (g *memory) join(op string, s event.Span, do func()) error {
	return g.call(op, func() error {
		k := partitionKey{s.Topic, s.Partition}
		at, ok := g.marks[k]
		if !ok && s.First < s.Start {
			return fmt.Errorf("wrapped: %w", &event.BehindError{Topic: s.Topic, Partition: s.Partition, Lowest: 0, Assumed: s.Start})
		}
		if ok && at < s.Start {
			return fmt.Errorf("wrapped: %w", &event.BehindError{Topic: s.Topic, Partition: s.Partition, Lowest: at, Assumed: s.Start})
		}
		if s.End > s.Start {
			do()
			g.marks[k] = max(at, s.End)
		}
		return nil
	})
}

func (g *memory) ApplyInteractions(_ context.Context, s event.Span, batch []event.Interaction) error {
	return g.join("interactions", s, func() {
		k := partitionKey{s.Topic, s.Partition}
		for _, in := range batch {
			g.events[k] = append(g.events[k], in.EventID)
			g.has[in.EventID] = true
		}
	})
}

func (g *memory) ApplyItems(_ context.Context, s event.Span, batch []event.Item) error {
	return g.join("items", s, func() {
		for _, it := range batch {
			if g.items[it.ItemID] = it; it.Deleted {
				delete(g.items, it.ItemID)
			}
		}
	})
}

func (g *memory) ApplyUsers(_ context.Context, s event.Span, batch []event.User) error {
	return g.join("users", s, func() {
		for _, u := range batch {
			g.users[u.UserID] = max(g.users[u.UserID], u.ForgetBefore)
		}
	})
}

// await waits until cond, called under the lock, holds.
func (g *memory) await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	limit := time.After(patience)
	for {
		g.mu.Lock()
		ok, changed := cond(), g.changed
		have := len(g.has)
		marks := maps.Clone(g.marks)
		g.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("waited in vain: %s (%d events, watermarks %v)", what, have, marks)
		}
	}
}

// awaitClicks waits until the graph has the events 0 to n-1.
func (g *memory) awaitClicks(t testing.TB, n int) {
	t.Helper()
	g.await(t, fmt.Sprintf("%d clicks", n), func() bool {
		for i := range n {
			if !g.has[eventID(i)] {
				return false
			}
		}
		return true
	})
}
