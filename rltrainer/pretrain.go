package rltrainer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/world"
)

// WorldGraph is a graph of its own for one world, which knows the catalogue.
type WorldGraph interface {
	Graph
	Close() error
}

// WorldOptions say which synthetic worlds examples come from.
type WorldOptions struct {
	Worlds int // required
	Cases  int // about so many from each; required
	Seed   uint64
	// Open makes an empty graph for the world of a seed, which knows these items; required. It is called from several goroutines.
	Open func(ctx context.Context, seed uint64, items []event.Item) (WorldGraph, error)
	// Told is told of every world that is done, if set, by one goroutine at a time.
	Told func(done, total, examples int)
}

// MaxWorlds is the most worlds that FromWorlds makes.
const MaxWorlds = 1 << 20

// FromWorlds makes examples from random synthetic worlds: each is streamed into a graph of its own and asked cases drawn
// by the rule of the evaluation. The examples come world by world, whatever the number of processors.
func FromWorlds(ctx context.Context, o WorldOptions) ([]Example, error) {
	if o.Worlds < 1 || o.Worlds > MaxWorlds || o.Cases < 1 {
		return nil, fmt.Errorf("examples from %d synthetic worlds, about %d cases from each: must be 1 to %d worlds, and 1 case or more", o.Worlds, o.Cases, MaxWorlds)
	}
	found := make([][]Example, o.Worlds)
	var mu sync.Mutex
	done, total := 0, 0
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range o.Worlds {
		group.Go(func() error {
			var err error
			if found[i], err = fromWorld(ctx, o, o.Seed+uint64(i)); err != nil {
				return fmt.Errorf("synthetic world of seed %d: %w", o.Seed+uint64(i), err)
			}
			mu.Lock()
			defer mu.Unlock()
			done++
			total += len(found[i])
			if o.Told != nil {
				o.Told(done, o.Worlds, total)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var examples []Example
	for _, f := range found {
		examples = append(examples, f...)
	}
	return examples, nil
}

func fromWorld(ctx context.Context, o WorldOptions, seed uint64) (examples []Example, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w, err := world.New(seed, world.Random(seed))
	if err != nil {
		return nil, err
	}
	var end event.Time
	for in := range w.Interactions() {
		end = in.Timestamp
	}
	events := stream(w)
	cases, err := eval.Draw(events, end, o.Cases, seed)
	if err != nil {
		return nil, err
	}
	g, err := o.Open(ctx, seed, w.Items())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	return Ask(ctx, g, events, cases, nil)
}

// stream is a world's interactions as a data set gives them.
func stream(w *world.World) eval.Stream {
	return iter.Seq2[event.Interaction, error](func(yield func(event.Interaction, error) bool) {
		for in := range w.Interactions() {
			if !yield(in, nil) {
				return
			}
		}
	})
}
