package rltrainer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/embedded"
	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/event"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// graph is the real one, on a Redis within the process, and a record of what it was fed and asked.
type graph struct {
	*graphcache.Cache
	fed    []event.Interaction
	asked  []question
	closed atomic.Int32

	failApply, failEvidence, failClose error
	close                              func()
}

type question struct {
	user       string
	at         event.Time
	candidates []string
	fed        int // events before it
}

func newGraph(ctx context.Context) (*graph, error) {
	server, err := embedded.StartRedis(ctx, embedded.Options{})
	if err != nil {
		return nil, err
	}
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr})
	g := &graph{close: func() { rdb.Close(); server.Close() }}
	if g.Cache, err = graphcache.New(rdb, graphcache.Options{Prefix: "t:"}); err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

// testGraph is one until the test ends.
func testGraph(t *testing.T) *graph {
	t.Helper()
	g, err := newGraph(t.Context())
	must(t, err)
	t.Cleanup(g.close)
	return g
}

func (g *graph) Apply(ctx context.Context, batch []event.Interaction) error {
	g.fed = append(g.fed, batch...)
	return errors.Join(g.failApply, g.Join(ctx, batch))
}

func (g *graph) Evidence(ctx context.Context, user string, at event.Time, candidates []string) (event.Context, error) {
	g.asked = append(g.asked, question{user, at, slices.Clone(candidates), len(g.fed)})
	s, err := g.Snapshot(ctx, graphcache.Query{User: user, Items: candidates, At: at})
	return s.Context, errors.Join(g.failEvidence, err)
}

func (g *graph) Close() error {
	g.closed.Add(1)
	g.close()
	return g.failClose
}

// likes are clicks of a few users on a few items, several at the same millisecond.
func likes(n int) (events []event.Interaction) {
	for i := range n {
		events = append(events, event.Interaction{EventID: fmt.Sprint("e", i), UserID: fmt.Sprint("u", i%5), ItemID: fmt.Sprint("i", i*7%11), Type: event.Click,
			Timestamp: event.Time(1_600_000_000_000 + i/3*1000)})
	}
	return events
}

func streamOf(events []event.Interaction) eval.Stream {
	return func(yield func(event.Interaction, error) bool) {
		for _, in := range events {
			if !yield(in, nil) {
				return
			}
		}
	}
}
