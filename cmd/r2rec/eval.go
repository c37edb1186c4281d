package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/r2rec/r2rec/internal/dataset"
	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/eval/baseline"
	"github.com/r2rec/r2rec/internal/event"
)

type evalCommand struct {
	Events   string `help:"CSV of interactions: user_id,item_id,rating,timestamp in Unix seconds; an empty rating is a click. May be gzipped. Empty: the bundled MovieLens." type:"existingfile" placeholder:"FILE" group:"Data"`
	Items    string `help:"CSV of the catalogue: item_id,title,categories joined by |. May be gzipped. Without it nothing is known of categories, and nothing can be found for --catalogue." type:"existingfile" placeholder:"FILE" group:"Data"`
	Cases    string `help:"Questions, one JSON object a line: case (its name), user, at in Unix seconds, candidates, positive (the one that was chosen). Empty: they are drawn." type:"existingfile" placeholder:"FILE" group:"Data"`
	evalDraw `embed:""`
	Ranker   []string `help:"Who ranks: some of ${rankers}. The first is measured, the others are compared with it." default:"fusion" group:"Rankers"`

	Against   []string `help:"Compare with the ranks that somebody gave to the same cases: a file as --ranks writes it, and the name in it." placeholder:"FILE:NAME" group:"Rankers"`
	Seed      uint64   `help:"Seed of everything that is drawn: resamples, cases to fit with, weights to begin with." default:"1" group:"Rankers"`
	evalFit   `embed:""`
	evalModel `embed:""`
	evalPool  `embed:""`
	evalGraph `embed:""`
	evalLeak  `embed:""`

	JSON      bool   `help:"Figures for machines, one JSON object a line." group:"Results"`
	Ranks     string `help:"Write the rank of every case's answer to this JSON file, by ranker; other rankers in it are kept. One that was taught answers (--leaky) is called so, as fusion (leaky)." type:"path" placeholder:"FILE" group:"Results"`
	Plot      string `help:"Draw HR@1 with its intervals into this SVG file." type:"path" placeholder:"FILE" group:"Results"`
	Cold      bool   `help:"Also report cold users and cold items apart." group:"Results"`
	Catalogue bool   `help:"Also search the whole catalogue at every case: recall of the candidates, HR@10, NDCG@10, coverage, share of the most popular. Only the fusion does." group:"Results"`
	Verify    int    `help:"Ask this many of the cases again, each with everything later deleted, and fail if any score differs." placeholder:"N" group:"Results"`
}

// Help is shown by `r2rec eval --help`.
func (evalCommand) Help() string {
	return `Streams the events through rankers in the order of time and asks every case when exactly the events strictly
before it have happened. The fusion reads its evidence from the real graph: in a Redis within this process, or in
the one that --redis names. With --fit-before its weights are fitted on what happened before that time; without,
those that travel with the program rank. --save keeps fitted weights, for --weights here and in r2rec serve. Latent
factors are learned on the way, again and again as the graph grows, as r2rec factors does for servers.

Without --cases they are drawn from the newest tenth of the events, or what happened --since a time: what a user
liked, who had liked five items before, among 19 that the user never touched.

  r2rec eval --ranker fusion,popularity,itemknn
  r2rec eval --events events.csv --items items.csv --since 2015-07-15T00:28:39Z --fit-before 2015-07-15T00:28:39Z --save weights.json
  r2rec eval --events events.csv --items items.csv --cases test.jsonl --ranker fusion,popularity
  r2rec eval --events events.csv --items items.csv --cases test.jsonl --fit-before 2015-07-15T00:28:39Z --save weights.json
  r2rec eval ... --ranker fusion,itemknn --against ranks.json:als --plot accuracy.svg

The ranker pool joins fusion and lm as a server does. Its weight is learned from what both said of earlier cases:

  r2rec eval ... --cases valid.jsonl --fit-before BEFORE-VALID --ranker fusion,lm --scores valid-scores.jsonl
  r2rec eval ... --cases test.jsonl --fit-before BEFORE-TEST --ranker pool,fusion,lm --pool-from valid-scores.jsonl

Weights and adapters say until when they know the events that they were learned from. Cases before that are refused where
the events before it are the same here, whatever has come since; of other data, and where they do not say, nothing is known.

HR@k is the share of cases whose answer stands among the first k; intervals are 95 %, by resampling users.`
}

func (c evalCommand) Run(p *process) (err error) {
	if err := c.check(); err != nil {
		return err
	}
	data, err := c.data()
	if err != nil {
		return err
	}
	cases, err := c.questions(p, data)
	if err != nil {
		return err
	}
	if all := len(cases); c.Sample > 0 {
		cases = c.sampled(cases, c.Seed)
		p.log.Info("a sample of the cases is asked", "cases", len(cases), "of", all)
	}
	others, err := c.earlier(cases)
	if err != nil {
		return err
	}
	weight, err := c.poolWeight(p, cases)
	if err != nil {
		return err
	}
	var contestants []contestant
	defer func() {
		for _, k := range contestants {
			closed := k.close()
			if closed != nil && p.ctx.Err() != nil { // a Ctrl-C ends without a word
				p.log.Error("not closed cleanly", "ranker", k.Name, "error", closed)
			}
			err = errors.Join(err, closed)
		}
	}()
	shown := &stages{p: p}
	defer shown.close()
	var rankers []eval.Named
	for _, name := range c.Ranker {
		if name == eval.PoolName { // made of the others' answers
			continue
		}
		k, err := c.contestant(p, shown, name, data, cases)
		if err != nil {
			return err
		}
		contestants = append(contestants, k)
		rankers = append(rankers, k.Named)
	}
	cfg := eval.Config{
		Refused: func(err error) { p.log.Warn("left out", "error", err) },
		Progress: func(at eval.Progress) {
			if at.Answered > 0 {
				shown.set("asking", at.Answered, at.Total)
			}
		},
	}
	if c.Catalogue {
		cfg.Retrieve = eval.RetrieveMost
	}
	begun := time.Now()
	results, err := eval.Run(p.ctx, data.Interactions(), cases, rankers, cfg)
	if err != nil {
		return err
	}
	shown.close()
	p.log.Info("asked", "cases", len(cases), "rankers", len(rankers), "took", time.Since(begun).Round(time.Millisecond))
	for i, k := range contestants {
		results[i].Taught = k.taught
		if err := c.verify(p, shown, data, cases, k, results[i]); err != nil {
			return err
		}
	}
	if err := c.writeScores(cases, results); err != nil {
		return err
	}
	if results, err = c.pooled(cases, results, weight); err != nil {
		return err
	}
	return c.report(p, data, cases, results, others)
}

// check finds what is wrong with the flags before anything takes time.
func (c evalCommand) check() error {
	names := append([]string{"fusion", "lm", eval.PoolName}, baseline.Names...)
	for i, name := range c.Ranker {
		if !slices.Contains(names, name) {
			return misuse("--ranker %q: want some of %s", name, strings.Join(names, ", "))
		}
		if slices.Contains(c.Ranker[:i], name) {
			return misuse("--ranker %s: is given twice", name)
		}
	}
	switch {
	case c.Verify < 0:
		return misuse("--verify %d: want 0 or more cases", c.Verify)
	case c.Sample > 0 && len(c.Against) > 0:
		return misuse("--sample %d: --against compares with the ranks of all cases; leave one of them out", c.Sample)
	case c.Catalogue && c.Ranker[0] != "fusion":
		return misuse("--catalogue: %s only ranks what it is asked about; put fusion first in --ranker", c.Ranker[0])
	}
	if err := c.checkDraw(); err != nil {
		return err
	}
	if err := c.evalFit.check(slices.Contains(c.Ranker, "fusion")); err != nil {
		return err
	}
	if c.LearnBefore != "" && !slices.Contains(c.Ranker, "fusion") && !slices.Contains(c.Ranker, "lm") {
		return misuse("--learn-before is about latent factors, by which nobody ranks here; add fusion or lm to --ranker")
	}
	if err := c.evalPool.check(c.Ranker); err != nil {
		return err
	}
	if err := errors.Join(c.evalModel.check(slices.Contains(c.Ranker, "lm")), c.evalGraph.check()); err != nil {
		return err
	}
	for flag, file := range map[string]string{"--ranks": c.Ranks, "--plot": c.Plot, "--save": c.Save} {
		if file == "" {
			continue
		}
		if err := checkFolder(flag, file); err != nil {
			return err
		}
	}
	if c.Ranks != "" {
		if _, err := eval.ReadRanks(c.Ranks); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("--ranks: %w; other rankers in the file are kept, so it has to be a file of ranks", err)
		}
	}
	return nil
}

// earlier reads the ranks of --against. A key that is also a ranker's name carries the name of its file.
func (c evalCommand) earlier(cases []eval.Case) ([]eval.Ranked, error) {
	var all []eval.Ranked
	for _, ref := range c.Against {
		key, ranks, err := eval.ReadRanksOf(ref, cases)
		if err != nil {
			return nil, fmt.Errorf("--against: %w", err)
		}
		if slices.Contains(c.Ranker, key) {
			key = filepath.Base(ref)
		}
		all = append(all, eval.Ranked{Name: key, Ranks: ranks})
	}
	return all, nil
}

// contestant is a ranker under test, and how to make it again where less data are.
type contestant struct {
	eval.Named
	fresh  eval.Fresh
	taught event.Time // cases before it are of what it was learned from (--leaky); 0: none is
}

func (k contestant) close() error {
	if c, ok := k.Ranker.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

func (c evalCommand) contestant(p *process, shown *stages, name string, data *dataset.Dataset, cases []eval.Case) (k contestant, err error) {
	switch name {
	case "fusion":
		k, err = c.fusion(p, shown, data, cases)
	case "lm":
		k, err = c.lm(p, data, cases)
	default:
		k.Ranker, err = baseline.New(name, baseline.Options{Seed: c.Seed})
	}
	k.Name = name
	if k.fresh == nil {
		k.fresh = func(context.Context, eval.Stream) (eval.Ranker, error) {
			return baseline.New(name, baseline.Options{Seed: c.Seed})
		}
	}
	return k, err
}

// verify asks cases again of a ranker for which nothing later exists.
func (c evalCommand) verify(p *process, shown *stages, data *dataset.Dataset, cases []eval.Case, k contestant, r eval.Result) error {
	if c.Verify == 0 {
		return nil
	}
	n, done := min(c.Verify, len(cases)), 0
	differ, err := eval.Verify(p.ctx, data.Interactions(), cases, r.Scores, func(ctx context.Context, past eval.Stream) (eval.Ranker, error) {
		shown.set("verifying "+k.Name, done, n)
		done++
		return k.fresh(ctx, past)
	}, n, c.Seed)
	shown.close()
	if err != nil {
		return err
	}
	if len(differ) > 0 {
		d := differ[0]
		return fmt.Errorf("%s looks into the future: %d of %d cases are ranked otherwise where everything later is deleted; case %q scored %v, and then %v",
			k.Name, len(differ), n, d.Case.ID, d.Run, d.Past)
	}
	p.log.Info("verified: the same scores with everything later deleted", "ranker", k.Name, "cases", n)
	return nil
}

// report writes whatever was asked for.
func (c evalCommand) report(p *process, data *dataset.Dataset, cases []eval.Case, results []eval.Result, others []eval.Ranked) error {
	o := eval.Options{Seed: c.Seed}
	refused := eval.Config{Refused: func(error) {}} // they have been told
	if c.Cold {
		var err error
		if o.Background, err = eval.Survey(p.ctx, data.Interactions(), cases, refused); err != nil {
			return err
		}
	}
	ranked := make([]eval.Ranked, len(results))
	written := map[string][]float64{}
	for i, r := range results {
		ranked[i] = eval.Ranked{Name: r.Name, Ranks: r.Ranks, Taught: r.Taught}
		written[r.Key()] = r.Ranks
	}
	report, err := eval.Compare(cases, ranked[0], append(ranked[1:], others...), o)
	if err != nil {
		return err
	}
	if c.Ranks != "" {
		if err := eval.WriteRanks(c.Ranks, written); err != nil {
			return err
		}
	}
	if c.Plot != "" {
		if err := writePlot(c.Plot, report); err != nil {
			return err
		}
	}
	figures := report.Figures()
	if !c.JSON {
		if err := report.WriteTable(p.stdout); err != nil {
			return err
		}
	}
	if c.Catalogue && results[0].Retrieved != nil {
		var stage, final [][]string
		for _, found := range results[0].Retrieved {
			stage, final = append(stage, found.Stage), append(final, found.Ranked)
		}
		all, err := eval.Catalogue(p.ctx, data.Interactions(), cases, results[0].Name, stage, final, refused, o)
		if err != nil {
			return err
		}
		figures = append(figures, all.Figures()...)
		if !c.JSON {
			fmt.Fprintln(p.stdout)
			if err := all.WriteTable(p.stdout); err != nil {
				return err
			}
		}
	}
	if c.JSON {
		return eval.WriteFigures(p.stdout, figures)
	}
	return nil
}

func writePlot(path string, report *eval.Report) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("--plot: %w", err)
	}
	if err := errors.Join(report.WritePlot(f), f.Close()); err != nil {
		return fmt.Errorf("--plot %s: %w", path, err)
	}
	return nil
}

// parseMoment reads Unix seconds or RFC 3339.
func parseMoment(s string) (event.Time, error) {
	const want = "want Unix seconds or RFC 3339, such as 1436920119 or 2015-07-15T00:28:39Z"
	sane := func(seconds int64) bool {
		return seconds >= int64(event.Earliest/1000) && seconds <= int64(event.Latest/1000)
	}
	var at event.Time
	seconds, err := strconv.ParseInt(s, 10, 64)
	if err == nil {
		at = event.Time(seconds * 1000)
	} else {
		t, err := time.Parse(time.RFC3339, s)
		if err != nil {
			return 0, fmt.Errorf("%q is no time: %s", s, want)
		}
		seconds, at = t.Unix(), event.Time(t.UnixMilli())
	}
	switch {
	case sane(seconds):
		return at, nil
	case sane(seconds / 1000):
		return 0, fmt.Errorf("%s looks like milliseconds: divide by 1000", s)
	default:
		return 0, fmt.Errorf("%s is not between %s and %s: %s", s, event.Earliest, event.Latest, want)
	}
}
