package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
)

// Stopped before the answer to the switch came, rebuild says what it finds, and not that nothing was switched where it was.
func TestRebuildWhoseSwitchHasNoAnswer(t *testing.T) {
	t.Parallel()
	const nothing = "nothing was switched"
	for _, c := range []struct {
		tried, switched, away bool
		want                  string
	}{
		{false, false, true, nothing},
		{true, false, false, nothing},
		{true, true, false, "the new graph serves, generation 1"},
		{true, true, true, "generation 1, was switched to is not known"},
	} {
		rdb := redis.NewClient(&redis.Options{Addr: embeddedtest.Redis(t)})
		defer rdb.Close()
		graph, err := graphcache.NewGenerations(rdb, graphcache.Options{})
		if err != nil {
			t.Fatal(err)
		}
		target := &rebuildTarget{graph: graph, token: "test", tried: c.tried}
		if target.Cache, err = graph.Begin(t.Context(), target.token); err != nil {
			t.Fatal(err)
		}
		if c.switched {
			if _, err := graph.Switch(t.Context(), target.Generation(), target.token, false); err != nil {
				t.Fatal(err)
			}
		}
		if c.away {
			rdb.Close()
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r := &rebuild{p: &process{ctx: ctx}, graph: graph}
		err = r.undo(target, ctx.Err())
		if said := err.Error(); !errors.Is(err, context.Canceled) || !errors.As(err, new(unfinished)) || !strings.Contains(said, c.want) || c.want != nothing && strings.Contains(said, nothing) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
