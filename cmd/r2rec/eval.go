package main

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	Events string   `help:"Interactions: user_id,item_id,rating,timestamp in Unix seconds; an empty rating is a click. May be gzipped." required:"" type:"existingfile" group:"Data"`
	Items  string   `help:"Catalogue: item_id,title,categories joined by |. May be gzipped." required:"" type:"existingfile" group:"Data"`
	Cases  string   `help:"Questions, one JSON object a line: case, user, at in Unix seconds, candidates, positive." required:"" type:"existingfile" group:"Data"`
	Ranker []string `help:"Who ranks: fusion, random, popularity, recent, itemknn, chain or usercf. The first is the one that figures are printed of, others are compared with it." default:"fusion" group:"Rankers"`

	Against   []string `help:"Ranks to compare with, made earlier on the same cases: RANKS.json:KEY." placeholder:"FILE:KEY" group:"Rankers"`
	Seed      uint64   `help:"Of everything that is drawn: resamples, cases to fit with, weights to begin with." default:"1" group:"Rankers"`
	evalFit   `embed:""`
	evalGraph `embed:""`

	JSON      bool   `help:"Figures for machines, one JSON object a line." group:"Results"`
	Ranks     string `help:"Write the rank of every case's answer to this file, by ranker; other keys in it are kept." type:"path" placeholder:"FILE" group:"Results"`
	Plot      string `help:"Draw HR@1 with its intervals into this SVG file." type:"path" placeholder:"FILE" group:"Results"`
	Cold      bool   `help:"Also report cold users and cold items apart." group:"Results"`
	Catalogue bool   `help:"Also rank the whole catalogue: recall of the candidates, HR@10, NDCG@10, coverage, share of the most popular." group:"Results"`
	Verify    int    `help:"Ask this many cases again with everything later deleted, and fail if any score differs." placeholder:"N" group:"Results"`
}

// Help is shown by `r2rec eval --help`.
func (evalCommand) Help() string {
	return `Streams the events through rankers in the order of time and asks every case when exactly the events strictly
before it have happened. The fusion reads its evidence from the real graph: in a Redis within this process, or in
the one that --redis names. With --fit-before its weights are fitted on what happened before that time; without,
those that travel with the program rank.

  r2rec eval --events events.csv --items items.csv --cases test.jsonl --fit-before 2015-07-15T00:28:39Z
  r2rec eval ... --ranker fusion,itemknn,popularity --against ranks.json:als --plot accuracy.svg

HR@k is the share of cases whose answer stands among the first k; intervals are 95 %, by resampling users.`
}

func (c evalCommand) Run(p *process) (err error) {
	data, err := dataset.OpenFiles(c.Events, c.Items)
	if err != nil {
		return err
	}
	cases, err := eval.ReadCases(c.Cases)
	if err != nil {
		return err
	}
	others, err := c.earlier(cases)
	if err != nil {
		return err
	}
	var contestants []contestant
	defer func() {
		for _, k := range contestants {
			err = errors.Join(err, k.close())
		}
	}()
	var rankers []eval.Named
	for _, name := range c.Ranker {
		k, err := c.contestant(p, name, data, cases)
		if err != nil {
			return err
		}
		contestants = append(contestants, k)
		rankers = append(rankers, k.Named)
	}
	bar := newBar(p, len(cases)*len(rankers), "asking")
	defer bar.Close()
	cfg := eval.Config{
		Refused:  func(err error) { p.log.Warn("left out", "error", err) },
		Progress: func(at eval.Progress) { _ = bar.Set(at.Answered) },
	}
	if c.Catalogue {
		cfg.Retrieve = eval.RetrieveMost
	}
	begun := time.Now()
	results, err := eval.Run(p.ctx, data.Interactions(), cases, rankers, cfg)
	if err != nil {
		return err
	}
	_ = bar.Finish()
	p.log.Info("asked", "cases", len(cases), "rankers", len(rankers), "took", time.Since(begun).Round(time.Millisecond))
	for i, k := range contestants {
		if err := c.verify(p, data, cases, k, results[i]); err != nil {
			return err
		}
	}
	return c.report(p, data, cases, results, others)
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
	fresh eval.Fresh
}

func (k contestant) close() error {
	if c, ok := k.Ranker.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

func (c evalCommand) contestant(p *process, name string, data *dataset.Dataset, cases []eval.Case) (k contestant, err error) {
	if name == "fusion" {
		k, err = c.fusion(p, data, cases)
	} else if k.Ranker, err = baseline.New(name, baseline.Options{Seed: c.Seed}); err != nil {
		err = fmt.Errorf("--ranker %q: want fusion, %s", name, strings.Join(baseline.Names, ", "))
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
func (c evalCommand) verify(p *process, data *dataset.Dataset, cases []eval.Case, k contestant, r eval.Result) error {
	if c.Verify == 0 {
		return nil
	}
	differ, err := eval.Verify(p.ctx, data.Interactions(), cases, r.Scores, k.fresh, c.Verify, c.Seed)
	if err != nil {
		return err
	}
	if len(differ) > 0 {
		d := differ[0]
		return fmt.Errorf("%s looks into the future: %d of %d cases are ranked otherwise where everything later is deleted; case %q scored %v, and then %v",
			k.Name, len(differ), min(c.Verify, len(cases)), d.Case.ID, d.Run, d.Past)
	}
	p.log.Info("verified: the same scores with everything later deleted", "ranker", k.Name, "cases", min(c.Verify, len(cases)))
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
		ranked[i] = eval.Ranked{Name: r.Name, Ranks: r.Ranks}
		written[r.Name] = r.Ranks
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
		o.Background = nil
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
	if err := report.WritePlot(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// parseMoment reads Unix seconds or RFC 3339.
func parseMoment(s string) (event.Time, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return event.Time(n * 1000), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return 0, fmt.Errorf("%q is no time: want Unix seconds or RFC 3339, such as 1436920119 or 2015-07-15T00:28:39Z", s)
	}
	return event.Time(t.UnixMilli()), nil
}
