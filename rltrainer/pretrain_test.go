package rltrainer

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/r2rec/r2rec/internal/event"
)

// opened are the graphs of a test's worlds.
type opened struct {
	mu     sync.Mutex
	graphs []*graph
	items  int
	change func(*graph)
	fail   error
}

func (o *opened) open(ctx context.Context, _ uint64, items []event.Item) (WorldGraph, error) {
	if o.fail != nil {
		return nil, o.fail
	}
	g, err := newGraph(ctx)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.graphs = append(o.graphs, g)
	o.items += len(items)
	if o.change != nil {
		o.change(g)
	}
	return g, nil
}

func (o *opened) wantClosed(t *testing.T) {
	t.Helper()
	for i, g := range o.graphs {
		if n := g.closed.Load(); n != 1 {
			t.Errorf("graph %d of %d was closed %d times", i, len(o.graphs), n)
		}
	}
}

// The examples are those of the seeds, world by world, however many processors make them.
func TestFromWorldsIsReproducible(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	made := func(processors, worlds int, seed uint64) []Example {
		runtime.GOMAXPROCS(processors)
		var o opened
		var told []int
		examples, err := FromWorlds(t.Context(), WorldOptions{Worlds: worlds, Cases: 15, Seed: seed, Open: o.open, Told: func(done, total, examples int) {
			told = append(told, done)
			if total != worlds {
				t.Errorf("told of %d worlds, want %d", total, worlds)
			}
		}})
		must(t, err)
		o.wantClosed(t)
		if len(o.graphs) != worlds || len(told) != worlds || told[worlds-1] != worlds || o.items == 0 || len(examples) < 5*worlds {
			t.Errorf("%d graphs of %d items, told %v, %d examples", len(o.graphs), o.items, told, len(examples))
		}
		return examples
	}
	one := made(1, 3, 8)
	if !cmp.Equal(one, made(4, 3, 8)) {
		t.Error("with more processors come other examples")
	}
	second := made(2, 1, 9)
	at := -1
	for i := range one {
		if cmp.Equal(one[i], second[0]) {
			at = i
		}
	}
	if at <= 0 || at+len(second) > len(one) || !cmp.Equal(one[at:at+len(second)], second) {
		t.Errorf("the second world's %d examples do not stand together after the first's: from %d", len(second), at)
	}
	for i, e := range one {
		if len(e.Context.Candidates) != 20 || e.Chosen < 0 || e.Chosen >= 20 {
			t.Errorf("example %d has %d candidates, and %d was chosen", i, len(e.Context.Candidates), e.Chosen)
		}
	}
}

func TestFromWorldsFails(t *testing.T) {
	broken := errors.New("it broke")
	for what, tc := range map[string]struct {
		worlds, cases int
		o             *opened
		want          string
	}{
		"no worlds":       {0, 5, &opened{}, "0 synthetic worlds"},
		"fewer than none": {-1, 5, &opened{}, "-1 synthetic worlds"},
		"too many":        {1 << 40, 5, &opened{}, "must be 1 to"},
		"no cases":        {1, 0, &opened{}, "about 0 cases"},
		"open":            {1, 5, &opened{fail: broken}, "synthetic world of seed 8: it broke"},
		"apply":           {1, 5, &opened{change: func(g *graph) { g.failApply = broken }}, "it broke"},
		"evidence":        {1, 5, &opened{change: func(g *graph) { g.failEvidence = broken }}, "it broke"},
		"close":           {1, 5, &opened{change: func(g *graph) { g.failClose = broken }}, "it broke"},
	} {
		examples, err := FromWorlds(t.Context(), WorldOptions{Worlds: tc.worlds, Cases: tc.cases, Seed: 8, Open: tc.o.open})
		if err == nil || examples != nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %d examples, %v; want %q", what, len(examples), err, tc.want)
		}
		tc.o.wantClosed(t)
	}
}

// Whoever interrupts it gets an error, soon, and nothing stays open.
func TestFromWorldsStopsWhenTold(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var o opened
	examples, err := FromWorlds(ctx, WorldOptions{Worlds: 1000, Cases: 5, Seed: 1, Open: o.open, Told: func(int, int, int) { cancel() }})
	if !errors.Is(err, context.Canceled) || examples != nil {
		t.Errorf("%d examples, %v", len(examples), err)
	}
	if n := len(o.graphs); n == 0 || n > 2*runtime.GOMAXPROCS(0)+1 {
		t.Errorf("%d worlds were begun", n)
	}
	o.wantClosed(t)
}
