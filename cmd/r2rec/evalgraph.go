package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/dataset"
	"github.com/r2rec/r2rec/internal/embedded"
	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/eval/baseline"
	"github.com/r2rec/r2rec/internal/eval/live"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/factors"
	"github.com/r2rec/r2rec/internal/fusion"
)

// evalFit says how the fusion comes by its weights.
type evalFit struct {
	FitBefore string         `help:"Fit the weights on what happened before this time, Unix seconds or RFC 3339: at or before the first case." xor:"weights" placeholder:"TIME" group:"Fusion"`
	FitCases  int            `help:"About how many cases to draw and fit with." default:"10000" group:"Fusion"`
	Without   []fusion.Group `help:"Fit without these kinds of evidence, to see what each is worth: some of ${fusion_groups}." placeholder:"KIND" group:"Fusion"`
	Weights   string         `help:"Rank with the weights of this file, written by --save." type:"existingfile" xor:"weights" placeholder:"FILE" group:"Fusion"`
	Save      string         `help:"Write the fitted weights to this file." type:"path" placeholder:"FILE" group:"Fusion"`

	LearnBefore string `help:"Learn latent factors for the last time from what happened before this time, Unix seconds or RFC 3339, as --fit-before does; without either whenever the graph has grown by an eighth." placeholder:"TIME" group:"Latent factors"`
	factorFlags `embed:""`
}

// check finds what is wrong with the flags; fused tells whether the fusion ranks at all.
func (f evalFit) check(fused bool) error {
	for _, flag := range []struct {
		name       string
		given, fit bool
	}{
		{"--fit-before", f.FitBefore != "", false}, {"--weights", f.Weights != "", false},
		{"--without", len(f.Without) > 0, true}, {"--save", f.Save != "", true},
	} {
		switch {
		case flag.given && !fused:
			return misuse("%s is about the fusion, which does not rank here; add fusion to --ranker", flag.name)
		case flag.given && flag.fit && f.FitBefore == "":
			return misuse("%s needs --fit-before TIME: without it nothing is fitted", flag.name)
		}
	}
	if f.LearnBefore != "" && f.FitBefore != "" {
		return misuse("--learn-before %s: latent factors are learned for the last time at --fit-before %s; leave one of them out", f.LearnBefore, f.FitBefore)
	}
	if err := f.factorFlags.check(); err != nil {
		return wrong(err)
	}
	if f.FitCases < fusion.MinExamples {
		return misuse("--fit-cases %d: want at least %d, fewer cannot settle the weights", f.FitCases, fusion.MinExamples)
	}
	for _, g := range f.Without {
		if !slices.Contains(fusion.Groups, g) {
			return misuse("--without %q: want some of %s", string(g), fusionGroups())
		}
	}
	return nil
}

// grow says when latent factors are learned of a graph that a language model is asked over: as of one that the fusion reads.
func (f evalFit) grow(without bool) (o live.GrowOptions, err error) {
	o.NoFactors = without || slices.Contains(f.Without, fusion.Latent)
	for _, at := range []struct{ flag, given string }{{"--fit-before", f.FitBefore}, {"--learn-before", f.LearnBefore}} {
		if at.given == "" {
			continue
		}
		if o.LearnBefore, err = parseMoment(at.given); err != nil {
			return o, misuse("%s: %w", at.flag, err)
		}
		o.Once = at.flag == "--learn-before"
	}
	return o, nil
}

// evalGraph says what of the graph is kept and read.
type evalGraph struct {
	Redis    string  `help:"Redis to keep the graph in, as redis://user:password@host:port/db, under keys of its own that are deleted afterwards; empty: one within this process. Given here alone, not in --config." explicit:"" placeholder:"URL" group:"Graph"`
	Bound    int     `help:"Edges that a node keeps; 0: as many as a server would, which is 128, or 96 in a --redis that is not set up for more." default:"0" group:"Graph"`
	History  int     `help:"Newest likes of the user, and as many other edges, whose items' lists are read." default:"${graph_history}" group:"Graph"`
	ItemList int     `help:"Newest edges read of the list of each of these items, and of each candidate." default:"${graph_item_list}" group:"Graph"`
	Met      int     `help:"Most users in these lists who are compared with the user." default:"${graph_met}" group:"Graph"`
	Positive float64 `help:"Ratings of at least this count as liked by the graph. What a case may be drawn of is a like of 4 and more, always." default:"4" group:"Graph"`
	Negative float64 `help:"Ratings of at most this count as disliked, those above it and below the other bound as seen and no more." default:"2" group:"Graph"`
	NoSeen   bool    `help:"Ratings between the bounds make no edge at all." group:"Graph"`
}

// evalVars are what the help of r2rec eval takes from other packages.
func evalVars() kong.Vars {
	return kong.Vars{
		"explore_share":   "0.1",
		"rankers":         strings.Join(append([]string{"fusion", "lm", "pool"}, baseline.Names...), ", "),
		"fusion_groups":   fusionGroups(),
		"graph_history":   strconv.Itoa(graphcache.DefaultRead.History),
		"graph_item_list": strconv.Itoa(graphcache.DefaultRead.ItemList),
		"graph_met":       strconv.Itoa(graphcache.DefaultRead.Met),
	}
}

func (g evalGraph) check() error {
	if err := checkCounts(count{"--bound", g.Bound, 0}, count{"--history", g.History, 1}, count{"--item-list", g.ItemList, 1}, count{"--met", g.Met, 1}); err != nil {
		return wrong(err)
	}
	if !(g.Negative < g.Positive) {
		return misuse("--positive %v, --negative %v: a liked rating must be above a disliked one", g.Positive, g.Negative)
	}
	return nil
}

// liveRanker is the product's own ranking, over a graph that it closes.
type liveRanker struct {
	*live.Ranker
	graph *measured
}

func (r liveRanker) Close() error { return r.graph.close() }

// fusion is the product's own ranking over an empty graph, and how to make it again in a world with less data.
func (c evalCommand) fusion(p *process, shown *stages, data *dataset.Dataset, cases []eval.Case) (k contestant, err error) {
	o := live.Options{Fit: fusion.FitOptions{Seed: c.Seed, Without: c.Without}, NoFactors: slices.Contains(c.Without, fusion.Latent)}
	switch {
	case c.FitBefore != "":
		if o.FitBefore, err = parseMoment(c.FitBefore); err != nil {
			return k, misuse("--fit-before: %w", err)
		}
		for _, q := range cases {
			if q.At < o.FitBefore {
				return k, fmt.Errorf("--fit-before %s: case %q is at %s, and would be ranked by weights that know what came after it; choose a time at or before the first case",
					c.FitBefore, q.ID, q.At)
			}
		}
		from := data.Name()
		if c.Events != "" {
			from = filepath.Base(c.Events)
		}
		o.Fit.Note = fmt.Sprintf("fitted on %s before %s", from, o.FitBefore)
		o.Fit.LearnedEvents = event.PastOf(data.Interactions(), o.FitBefore)
	case c.Weights != "":
		if o.Model, err = loadWeights(c.Weights); err != nil {
			return k, fmt.Errorf("--weights %s: %w", c.Weights, err)
		}
	default:
		o.Model = fusion.Default()
	}
	if o.Model != nil {
		weights := schooling{"--weights " + c.Weights, o.Model.Learned(), ", or fit others by --fit-before", slog.LevelWarn}
		if c.Weights == "" { // of other data they are asked as a rule
			weights.who, weights.level = "the weights that travel with the program", slog.LevelInfo
		}
		if k.taught, err = c.untaught(p, weights, data, cases); err != nil {
			return k, err
		}
	}
	if c.LearnBefore != "" {
		if o.LearnBefore, err = parseMoment(c.LearnBefore); err != nil {
			return k, misuse("--learn-before: %w", err)
		}
	}
	world := func(ctx context.Context, past eval.Stream, o live.Options) (eval.Ranker, error) {
		if o.FitBefore != 0 {
			var err error
			if o.Cases, err = eval.Draw(past, o.FitBefore, c.FitCases, c.Seed); err != nil {
				return nil, fmt.Errorf("--fit-before %s: %w", c.FitBefore, err)
			}
		}
		g, err := c.open(ctx, p, data.Items())
		if err != nil {
			return nil, err
		}
		g.learn = c.factorFlags.options(c.Seed)
		r, err := live.New(g, o)
		if err != nil {
			return nil, errors.Join(err, g.close())
		}
		return liveRanker{r, g}, nil
	}
	told := o
	c.tell(p, shown, &told)
	if k.Ranker, err = world(p.ctx, data.Interactions(), told); err != nil {
		return k, err
	}
	// The first world without a future fits the weights again, from what it has; the others rank with those.
	k.fresh = func(ctx context.Context, past eval.Stream) (eval.Ranker, error) {
		again := o
		again.Fitted = func(m *fusion.Model) error { o.Model, o.FitBefore, o.LearnBefore = m, 0, o.FitBefore; return nil }
		return world(ctx, past, again)
	}
	return k, nil
}

// tell shows how a fit goes on and keeps its result.
func (c evalCommand) tell(p *process, shown *stages, o *live.Options) {
	o.Asked = func(done, total int) { shown.hold("asking what to fit with", done, total) }
	o.Fit.Progress = func(done, total int) { shown.hold("fitting", done, total) }
	o.Fitted = func(m *fusion.Model) error {
		shown.close()
		p.log.Info("fitted", "cases", m.Training().Examples, "before", o.FitBefore.String())
		if c.Save == "" {
			return nil
		}
		if err := saveWeights(c.Save, m); err != nil {
			return fmt.Errorf("--save: %w", err)
		}
		return nil
	}
}

func loadWeights(path string) (*fusion.Model, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return fusion.Load(f)
}

func saveWeights(path string, m *fusion.Model) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(m.Save(f), f.Close())
}

// measured is the graph under test.
type measured struct {
	*graphcache.Cache
	close   func() error
	learn   factors.Options
	words   bool // Evidence also gives what prompts of words show: the history and the chains
	applied int64
	trended int64
}

func (g *measured) Close() error { return g.close() }

// open opens an empty graph that knows the catalogue.
func (c evalGraph) open(ctx context.Context, p *process, items iter.Seq2[event.Item, error]) (*measured, error) {
	g := &measured{learn: factors.Options{Seed: 1}} // as r2rec factors and r2rec eval do where nobody says otherwise
	url, server := c.Redis, (*embedded.Redis)(nil)
	if url == "" {
		var err error
		if server, err = embedded.StartRedis(ctx, embedded.Options{}); err != nil {
			return nil, err
		}
		url = "redis://" + server.Addr
	}
	rdb, err := redisFlags{Redis: url}.client(ctx)
	if err != nil {
		return nil, err
	}
	prefix := "r2eval-" + rand.Text() + ":"
	g.close = func() error {
		var err error
		if server == nil {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // also after a Ctrl-C
			defer cancel()
			if err = deleteKeys(ctx, rdb, prefix); err != nil {
				err = fmt.Errorf("keys %s* are left in redis: %w", prefix, err)
			}
		}
		err = errors.Join(err, rdb.Close())
		if server != nil {
			server.Close()
		}
		return err
	}
	read := graphcache.DefaultRead
	read.History, read.ItemList, read.Met = c.History, c.ItemList, c.Met
	g.Cache, err = graphcache.New(rdb, graphcache.Options{
		Prefix: prefix, Bound: c.Bound, Read: read, Logger: p.log,
		Policy: graphcache.Policy{PositiveRating: c.Positive, NegativeRating: c.Negative, NoSeen: c.NoSeen},
	})
	if err == nil && server == nil {
		if err = g.Ping(ctx); err == nil {
			err = g.Configure(ctx)
		}
		if err != nil { // nothing has been written that would have to be deleted
			return nil, fmt.Errorf("--redis: redis at %s: %w", addressOf(rdb), errors.Join(err, rdb.Close()))
		}
	}
	if err == nil {
		err = g.stock(ctx, items)
	}
	if err != nil {
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

// stock fills the catalogue; records that break the contract were told when the events were read.
func (g *measured) stock(ctx context.Context, items iter.Seq2[event.Item, error]) error {
	const most = 1000
	var batch []event.Item
	var at int64
	put := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := g.ApplyItems(ctx, event.Span{Topic: "items", Start: at, End: at + int64(len(batch))}, batch)
		at += int64(len(batch))
		batch = batch[:0]
		return err
	}
	for it, err := range items {
		if err != nil {
			continue
		}
		if batch = append(batch, it); len(batch) == most {
			if err := put(); err != nil {
				return err
			}
		}
	}
	return put()
}

func (g *measured) Apply(ctx context.Context, batch []event.Interaction) error {
	g.applied += int64(len(batch))
	return g.Join(ctx, batch)
}

func (g *measured) Evidence(ctx context.Context, user string, at event.Time, candidates []string) (event.Context, error) {
	q := graphcache.Query{User: user, Items: candidates, At: at}
	if g.words {
		q.Chains, q.History = 48, 32
	}
	s, err := g.Snapshot(ctx, q)
	return s.Context, err
}

// Learn learns from the graph, as r2rec factors does.
func (g *measured) Learn(ctx context.Context) error {
	edges, err := g.FactorEdges(ctx, nil)
	if err != nil {
		return err
	}
	m, err := factors.Fit(ctx, edges, g.learn)
	if errors.Is(err, factors.ErrNothing) {
		return nil
	}
	if err == nil {
		g.UseFactors(m)
	}
	return err
}

// trendsEvery is after how many events trends are refreshed, where a server does so every few seconds.
const trendsEvery = 1000

func (g *measured) Find(ctx context.Context, user string, at event.Time, k int) (event.Context, error) {
	if g.trended == 0 || g.applied-g.trended >= trendsEvery {
		if err := g.RefreshTrends(ctx); err != nil {
			return event.Context{}, err
		}
		g.trended = g.applied
	}
	s, err := g.Snapshot(ctx, graphcache.Query{User: user, Candidates: k, Trending: k / 10, At: at, Rand: mathrand.New(mathrand.NewPCG(0, 0))})
	return s.Context, err
}

func fusionGroups() string {
	names := make([]string, len(fusion.Groups))
	for i, g := range fusion.Groups {
		names[i] = string(g)
	}
	return strings.Join(names, ", ")
}
