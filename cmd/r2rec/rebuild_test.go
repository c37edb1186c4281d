package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/broker"
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

// Where going back fails, the report, which tells what was done, is not printed: nothing was.
func TestRebuildThatCannotGoBack(t *testing.T) {
	t.Parallel()
	p := newPlace(t, broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}}, &redis.UniversalOptions{Addrs: []string{embeddedtest.Redis(t)}})
	p.do(p.everywhere("forget", "nobody", "--no-wait")...) // makes the topics
	// It is listed as kept, and then it is not what a switch goes back to.
	if err := p.rdb.HSet(t.Context(), "r2:generation", "last", 1, "1", "kept otherwise").Err(); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), p.everywhere("rebuild", "--back"), &out, &errs); code != 1 || out.Len() > 0 || !strings.Contains(errs.String(), "cannot be switched to") {
		t.Errorf("exit code %d, %q\n%s", code, out.String(), errs.String())
	}
}
