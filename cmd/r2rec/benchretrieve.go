package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/fusion"
	"github.com/r2rec/r2rec/reasoner"
	"golang.org/x/sync/errgroup"
)

type benchRetrieveCommand struct {
	profileFlags `embed:""`
	synthFlags   `embed:""`
	Requests     int  `help:"Requests to measure for each figure." default:"3000" group:"Work"`
	Clients      int  `help:"Clients that ask at the same time, for the figures that end in their number." default:"32" group:"Work"`
	Keep         bool `help:"Leave the graph in Redis; the next run with the same flags finds it and need not build it." group:"Graph"`

	Redis  string `help:"Redis to build the graph in, as redis://user:password@host:port/db. Given here alone, not in the environment or --config." explicit:"" default:"redis://127.0.0.1:6379/0" group:"Redis"`
	Prefix string `help:"Put before every key: has to be the benchmark's own. Given here alone, too." explicit:"" default:"r2bench:" group:"Redis"`

	JSON bool `help:"Figures for machines, one JSON object a line." group:"Results"`
}

// Help is shown by r2rec bench retrieve --help.
func (benchRetrieveCommand) Help() string {
	return `Measures what a recommendation asks of the graph: 20 candidates of a random user, found by the graph, with their
evidence and the chains that lead to them. The graph is made up, in the size of a shop, and built as every graph is:
events through Kafka (which runs within this process), applied by the consumer.

  r2rec bench retrieve --keep
  r2rec bench retrieve --users 10000 --items 2000 --edges 200000

The default size takes some 0.6 GB in Redis and minutes to build; --keep leaves it there for the next time.`
}

// Run measures.
func (c benchRetrieveCommand) Run(p *process) (err error) {
	if err := checkCounts(count{"--requests", c.Requests, 1}, count{"--clients", c.Clients, 2}); err != nil {
		return wrong(err)
	}
	collectSeldom() // as serve does
	shown := &stages{p: p}
	defer shown.close()
	g, err := openSynthGraph(p, c.synthFlags, redisFlags{Redis: c.Redis, Prefix: c.Prefix, HalfLife: graphcache.DefaultRead.HalfLife, Positive: 4, Negative: 2}, shown)
	if err != nil {
		return err
	}
	defer func() {
		if !c.Keep {
			err = errors.Join(err, g.remove(shown))
		}
		err = errors.Join(err, g.rdb.Close())
	}()
	out := &benchReport{command: "bench retrieve", machine: thisMachine()}
	if err := c.measure(p.ctx, g, out, shown); err != nil {
		return err
	}
	shown.close()
	return out.write(p.stdout, c.JSON)
}

func (c benchRetrieveCommand) measure(ctx context.Context, g *synthGraph, out *benchReport, shown *stages) (err error) {
	if err := g.RefreshTrends(ctx); err != nil {
		return err
	}
	if err := g.RefreshFactors(ctx); err != nil { // where r2rec factors has learned some of a graph that was kept
		return err
	}
	warm := asked{g: g, rank: defaultRank(), user: c.anyUser(g, 1)}
	if err := warm.run(ctx, 1, min(200, c.Requests), func(int) { shown.set("warming up", 0, 1) }); err != nil {
		return err
	}
	stop, err := startProfile(c.CPUProfile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	graph := fmt.Sprintf("%d users, %d items, %d edges, ids %s, at most %d edges a node", c.Users, c.Items, c.Edges, c.IDs, g.Bound())
	if g.built > 0 {
		out.add(figure{Metric: "built_edges_per_second", Value: float64(c.Edges) / g.built.Seconds(), Unit: "edges/s", Of: "the graph's building, catalogue included: " + graph, Threads: threads(0)})
	}
	one, err := c.at(ctx, g, out, shown, 1, "", c.anyUser(g, 2), "random users; "+graph)
	if err != nil {
		return err
	}
	many, err := c.at(ctx, g, out, shown, c.Clients, fmt.Sprintf("_%d", c.Clients), c.anyUser(g, 3), "random users, as many clients at once")
	if err != nil {
		return err
	}
	active, err := c.at(ctx, g, out, shown, 1, "_active", c.activeUser(g, 4), "users drawn by their number of edges")
	if err != nil {
		return err
	}
	trips := max(one.trips.Load(), many.trips.Load(), active.trips.Load())
	out.add(figure{Metric: "round_trips_max", Value: float64(trips), Unit: "round trips", Of: "to Redis, of any request", Threads: 1})
	out.add(figure{Metric: "candidates_mean", Value: float64(one.candidates.Load()) / float64(c.Requests), Unit: "candidates", Of: "found, with evidence", Threads: 1, counted: true})
	out.add(figure{Metric: "chains_mean", Value: float64(one.chains.Load()) / float64(c.Requests), Unit: "chains", Of: "returned", Threads: 1, counted: true})
	return nil
}

// at measures requests by so many clients at once.
func (c benchRetrieveCommand) at(ctx context.Context, g *synthGraph, out *benchReport, shown *stages, clients int, suffix string, user func() string, of string) (*asked, error) {
	a := &asked{g: g, rank: defaultRank(), user: user}
	store, err := redisCPU(ctx, g.rdb)
	if err != nil {
		return nil, err
	}
	own, told := cpuTime()
	begun := time.Now()
	if err := a.run(ctx, clients, c.Requests, func(n int) { shown.set(fmt.Sprintf("asking, %d at once", clients), n, c.Requests) }); err != nil {
		return nil, err
	}
	took := time.Since(begun)
	f := figure{Unit: "ms", Of: of, Threads: clients, Samples: c.Requests}
	f.Metric, f.Value = "p50"+suffix+"_ms", median(a.ms)
	out.add(f)
	f.Metric, f.Value = "p99"+suffix+"_ms", quantile(a.ms, .99)
	out.add(f)
	f.Metric, f.Value, f.Unit = "requests_per_second"+suffix, float64(c.Requests)/took.Seconds(), "requests/s"
	out.add(f)
	if used, _ := cpuTime(); told { // what a busy machine does not change
		out.add(figure{Metric: "cpu" + suffix + "_ms", Value: (used - own).Seconds() * 1000 / float64(c.Requests), Unit: "ms", Of: "processor time of this process for a request", Threads: clients})
	}
	if used, err := redisCPU(ctx, g.rdb); err != nil {
		return nil, err
	} else if used > store {
		out.add(figure{Metric: "redis_cpu" + suffix + "_ms", Value: (used - store).Seconds() * 1000 / float64(c.Requests), Unit: "ms", Of: "processor time of Redis for a request", Threads: clients})
	}
	return a, nil
}

func (c benchRetrieveCommand) anyUser(g *synthGraph, stream uint64) func() string {
	r := rand.New(rand.NewPCG(c.Seed, stream))
	return func() string { return g.stream.UserID(r.IntN(c.Users)) }
}

// activeUser draws users in proportion to their edges.
func (c benchRetrieveCommand) activeUser(g *synthGraph, stream uint64) func() string {
	r := rand.New(rand.NewPCG(c.Seed, stream))
	most := g.stream.MaxDegree()
	return func() string {
		for {
			if u := r.IntN(c.Users); r.IntN(most) < g.stream.Degree(u) {
				return g.stream.UserID(u)
			}
		}
	}
}

// asked are requests and what they brought.
type asked struct {
	g     *synthGraph
	rank  func(event.Context) []float64
	user  func() string
	ms    []float64
	trips atomic.Int64 // the most of any

	candidates, chains atomic.Int64
}

func defaultRank() func(event.Context) []float64 {
	weights := fusion.Default()
	return func(c event.Context) []float64 { return weights.Scores(fusion.FromContext(c)) }
}

// run asks n times, by so many clients at once.
func (a *asked) run(ctx context.Context, clients, n int, progress func(done int)) error {
	users := make([]string, n)
	for i := range users {
		users[i] = a.user()
	}
	a.ms = make([]float64, n)
	at := a.g.stream.End()
	var next, done atomic.Int64
	eg, ctx := errgroup.WithContext(ctx)
	for range clients {
		eg.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return nil
				}
				q := reasoner.DefaultQuery(users[i], a.rank, at, rand.New(rand.NewPCG(0, uint64(i))))
				begun := time.Now()
				s, err := a.g.Snapshot(ctx, graphQuery(q))
				if err != nil {
					return err
				}
				a.ms[i] = time.Since(begun).Seconds() * 1000
				for most := a.trips.Load(); int64(s.RoundTrips) > most && !a.trips.CompareAndSwap(most, int64(s.RoundTrips)); most = a.trips.Load() {
				}
				a.candidates.Add(int64(len(s.Context.Candidates)))
				a.chains.Add(int64(len(s.Context.Chains)))
				if d := int(done.Add(1)); d%100 == 0 {
					progress(d)
				}
			}
		})
	}
	return eg.Wait()
}
