package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/factors"
)

// factorFlags say how latent factors are learned.
type factorFlags struct {
	Dimensions int     `help:"Numbers in a vector: more tell more items apart, and take more memory and time." default:"16" group:"Latent factors"`
	Penalty    float64 `help:"By how much long vectors are held back; the weight of the squared lengths." default:"20" group:"Latent factors"`
	Confidence float64 `help:"How much more it counts that a user chose an item than that one did not." default:"8" group:"Latent factors"`
	Sweeps     int     `help:"Times that the vectors of all users and of all items are found anew." default:"8" group:"Latent factors"`
}

func (f factorFlags) options(seed uint64) factors.Options {
	return factors.Options{Dimensions: f.Dimensions, Penalty: f.Penalty, Confidence: f.Confidence, Sweeps: f.Sweeps, Seed: seed}
}

func (f factorFlags) check() error {
	if err := f.options(0).Check(); err != nil {
		return fmt.Errorf("latent factors: %w", err)
	}
	return nil
}

type factorsCommand struct {
	Every       time.Duration `help:"Learn again and again, so long after each time, until stopped, such as 1h; 0: once." default:"0" placeholder:"DURATION"`
	Seed        uint64        `help:"Seed of the vectors to begin with." default:"1"`
	JSON        bool          `help:"One JSON object each time, for machines."`
	factorFlags `embed:""`
	redisFlags  `embed:""`
}

// Help is shown by r2rec factors --help.
func (factorsCommand) Help() string {
	return `Reads all edges of the graph, learns a short vector for each item by alternating least squares, and puts the vectors
into Redis. Servers take them within seconds, without a restart, and rank with them beside all other evidence: two items
can be alike by their vectors though no user has both. A user's own vector is made when it is needed, from what the user
did until then, so that each click counts at once. Only items need to be learned again now and then: those that came
since have no vector, and rank by the graph alone.

Run it by cron, as r2rec train, or let it stay:

  r2rec factors
  r2rec factors --every 1h

Ten million edges take a few minutes of one processor, and some 40 bytes each. Without factors all works, and ranks
somewhat worse (docs/accuracy.md).`
}

// learnedFactors is what one run of r2rec factors tells.
type learnedFactors struct {
	factors.Training
	ReadSeconds  float64 `json:"read_seconds"`  // of the graph
	LearnSeconds float64 `json:"learn_seconds"` // of the factors
}

func (c factorsCommand) endless() bool { return c.Every > 0 }

func (c factorsCommand) Run(p *process) error {
	if err := c.factorFlags.check(); err != nil {
		return wrong(err)
	}
	if c.Every < 0 {
		return misuse("--every %v: want a time above 0, or 0 to learn once", c.Every)
	}
	rdb, graph, err := connectGraph(p, c.redisFlags)
	if err != nil {
		return err
	}
	defer rdb.Close()
	for {
		err := c.learn(p, graph)
		if c.Every == 0 || p.ctx.Err() != nil {
			return err
		}
		if err != nil {
			p.log.Warn("learning latent factors failed, and is tried again: those that serve stay", "error", err, "again_in", c.Every)
		}
		select {
		case <-p.ctx.Done():
			return nil
		case <-time.After(c.Every):
		}
	}
}

func (c factorsCommand) learn(p *process, graph *graphcache.Generations) error {
	shown := &stages{p: p}
	r, err := learnFactors(p.ctx, graph, c.options(c.Seed), shown.set)
	shown.close() // before anything is printed
	if errors.Is(err, factors.ErrNothing) {
		err = fmt.Errorf("%w: the graph in redis is empty. Apply events first (r2rec consume), or look at --redis and --prefix", factors.ErrNothing)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(p.stdout).Encode(r)
	}
	return r.print(p.stdout)
}

// learnFactors learns from the current graph and publishes what it learned. tell hears how it goes on.
func learnFactors(ctx context.Context, graph *graphcache.Generations, o factors.Options, tell func(doing string, done, total int)) (r learnedFactors, err error) {
	begun := time.Now()
	c, err := graph.Current(ctx)
	if err != nil {
		return r, err
	}
	edges, err := c.FactorEdges(ctx, func(done, total int) { tell("reading the graph", done, total) })
	if err != nil {
		return r, err
	}
	read := time.Now()
	o.Progress = func(done, total int) { tell("learning vectors", done, total) }
	m, err := factors.Fit(ctx, edges, o)
	if err != nil {
		return r, err
	}
	r = learnedFactors{Training: m.Training(), ReadSeconds: read.Sub(begun).Seconds(), LearnSeconds: time.Since(read).Seconds()}
	return r, c.PublishFactors(ctx, m)
}

func (r learnedFactors) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "learned from\t%d edges of %d users\n", r.Edges, r.Users)
	fmt.Fprintf(t, "vectors\t%d items, %d numbers each\n", r.Items, r.Dimensions)
	fmt.Fprintf(t, "took\t%.1f s to read the graph, %.1f s to learn\n", r.ReadSeconds, r.LearnSeconds)
	fmt.Fprintln(t, "published\tservers take them within seconds")
	return t.Flush()
}
