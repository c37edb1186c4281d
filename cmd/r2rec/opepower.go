package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/r2rec/r2rec/internal/dataset"
	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/ope"
	"github.com/r2rec/r2rec/internal/ope/power"
	"github.com/r2rec/r2rec/rltrainer"
)

type opePowerCommand struct {
	Events    string `help:"CSV of interactions: user_id,item_id,rating,timestamp in Unix seconds; empty: the bundled MovieLens. May be gzipped." type:"existingfile" placeholder:"FILE" group:"Data"`
	Cases     int    `help:"About how many cases to draw; half of the users learn, the others judge." default:"6000" group:"Data"`
	evalGraph `embed:""`

	Improvements []float64 `help:"True improvements in reward a decision." default:"0,0.01,0.02" placeholder:"X,..." group:"Gate"`
	Decisions    []int     `help:"Decisions that a gate is given." default:"500,1000,2000,4000,8000,16000,32000" placeholder:"N,..." group:"Gate"`
	Reruns       int       `help:"Gates for each of both." default:"200" group:"Gate"`
	Effective    float64   `help:"How different the judged policies are: effective sample, as a share of the decisions." default:"0.76" group:"Gate"`
	Detect       float64   `help:"Difference that a gate is to find; below the decisions that takes it answers underpowered." default:"0.02" group:"Gate"`
	Round        int       `help:"Number of the look since a promotion last held for all users." default:"1" group:"Gate"`
	Seed         uint64    `help:"Seed of everything that is drawn." default:"1" group:"Gate"`

	JSON bool   `help:"Figures for machines, one JSON object a line." group:"Results"`
	Plot string `help:"Draw the shares into this SVG file." type:"path" placeholder:"FILE" group:"Results"`
}

// Help is shown by r2rec ope power --help.
func (opePowerCommand) Help() string {
	return `The learning loop at its smallest, in a world whose truth is known. Cases are drawn from a data set (the bundled
MovieLens), and the graph says what it knew at each. A linear softmax over that evidence, no language model, draws one
item; the click is replayed: the user clicks what the user did choose next, and nothing else. A policy gradient learns
from these clicks, and policies are made of what it learned that are truly better by 0, .01 and .02, and equally
different from the one that logs. Gates judge them by fresh decisions of other users, again and again: how many
promote, and how many decisions does it take?

  r2rec ope power --plot power.svg

Policies that are not better are to be promoted in at most 3 % of the gates (.05 · 6/π², the first look's part).`
}

func (c opePowerCommand) Run(p *process) error {
	if err := errors.Join(c.evalGraph.check(), checkCounts(count{"--cases", c.Cases, 100}, count{"--reruns", c.Reruns, 1}, count{"--round", c.Round, 1})); err != nil {
		return wrong(err)
	}
	slices.Sort(c.Improvements)
	slices.Sort(c.Decisions)
	if c.Plot != "" {
		if err := checkFolder("--plot", c.Plot); err != nil {
			return err
		}
	}
	shown := &stages{p: p}
	defer shown.close()
	begun := time.Now()
	cases, err := c.cases(p, shown)
	if err != nil {
		return err
	}
	result, err := power.Run(p.ctx, cases, power.Options{
		Improvements: c.Improvements, Decisions: c.Decisions, Reruns: c.Reruns, Effective: c.Effective, Seed: c.Seed,
		Gate:     ope.GateOptions{Detect: c.Detect, Round: c.Round},
		Progress: func(done, total int) { shown.set("judging", done, total) },
	})
	if err != nil {
		return err
	}
	shown.close()
	p.log.Info("judged", "gates", len(c.Improvements)*len(c.Decisions)*c.Reruns, "took", time.Since(begun).Round(time.Second))
	if c.Plot != "" {
		f, err := os.Create(c.Plot)
		if err != nil {
			return fmt.Errorf("--plot: %w", err)
		}
		if err := errors.Join(result.WritePlot(f), f.Close()); err != nil {
			return fmt.Errorf("--plot %s: %w", c.Plot, err)
		}
	}
	if c.JSON {
		return writeOpeFigures(p.stdout, powerFigures(result))
	}
	return powerTable(p.stdout, result, c.Detect)
}

// cases asks the graph what it knew when users chose.
func (c opePowerCommand) cases(p *process, shown *stages) (out []power.Case, err error) {
	open := dataset.Bundled
	if c.Events != "" {
		open = func() (*dataset.Dataset, error) { return dataset.OpenFiles(c.Events, "") }
	}
	data, err := open()
	if err != nil {
		return nil, err
	}
	drawn, err := eval.Draw(data.Interactions(), event.Latest, c.Cases, c.Seed)
	if err == nil && len(drawn) == 0 {
		err = errors.New("no case could be drawn: ask for more --cases")
	}
	if err != nil {
		return nil, err
	}
	graph, err := c.evalGraph.open(p.ctx, p, data.Items())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, graph.close()) }()
	told := func(yield func(event.Interaction, error) bool) {
		for in, err := range data.Interactions() {
			if err != nil {
				p.log.Warn("left out", "error", err)
			}
			if !yield(in, err) {
				return
			}
		}
	}
	examples, err := rltrainer.Ask(p.ctx, graph, told, drawn, func(done, total int) { shown.set("asking", done, total) })
	if err != nil {
		return nil, err
	}
	for i, e := range examples {
		out = append(out, power.Case{User: drawn[i].User, Features: powerFeatures(e.Context), Chosen: e.Chosen})
	}
	return out, nil
}

// powerEvidence is what the linear policy sees of a candidate, each relative to the largest in its list.
var powerEvidence = []func(event.Evidence) float64{
	func(e event.Evidence) float64 { return e.LikeMindedRecent[1] },
	func(e event.Evidence) float64 { return e.Interest },
	func(e event.Evidence) float64 { return e.SimilarRecent },
	func(e event.Evidence) float64 { return e.Best },
	func(e event.Evidence) float64 { return e.After[1] },
	func(e event.Evidence) float64 { return e.Recent[1] },
	func(e event.Evidence) float64 { return float64(e.Popularity) },
	func(e event.Evidence) float64 { return e.Category },
}

func powerFeatures(c event.Context) [][]float64 {
	rows := make([][]float64, len(c.Candidates))
	for i := range rows {
		rows[i] = make([]float64, len(powerEvidence))
	}
	for j, of := range powerEvidence {
		var top float64
		for _, x := range c.Candidates {
			top = max(top, of(x.Evidence))
		}
		if top == 0 {
			continue
		}
		for i, x := range c.Candidates {
			rows[i][j] = of(x.Evidence) / top
		}
	}
	return rows
}

func powerTable(w io.Writer, r *power.Result, detect float64) error {
	fmt.Fprintf(w, "gates judge by %d cases of %d users; the logging policy earns %.4f a decision there, what was learned from its clicks %.4f, the best of its form %.4f\n\n",
		r.Cases, r.Users, r.Logging, r.Learned, r.Best)
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprint(t, "decisions")
	for _, p := range r.Policies {
		fmt.Fprintf(t, "\tbetter by %.3f", math.Abs(p.Improvement))
	}
	fmt.Fprintln(t, "\t(share promoted; underpowered)")
	for i, at := range r.Policies[0].Points {
		fmt.Fprintf(t, "%d", at.Decisions)
		for _, p := range r.Policies {
			q := p.Points[i]
			fmt.Fprintf(t, "\t%.3f; %.3f", q.Share(), float64(q.Underpowered)/float64(q.Promoted+q.Refused+q.Underpowered))
		}
		fmt.Fprintln(t, "\t")
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\na gate that is to find %g needs %d decisions, at alpha %.4f\n", detect, r.Needed, r.Alpha)
	for _, p := range r.Policies {
		needs := ""
		if p.Needed > 0 {
			needs = fmt.Sprintf(": %d decisions find it with a chance of %g", p.Needed, ope.DefaultPower)
		}
		fmt.Fprintf(w, "better by %.3f: variance %.3f, %.2f times as large by users, effective sample %.3f%s\n", math.Abs(p.Improvement), p.Variance, p.DesignEffect, p.Effective, needs)
	}
	return nil
}

func powerFigures(r *power.Result) (all []opeFigure) {
	add := func(f opeFigure) {
		f.Command = "ope power"
		all = append(all, f)
	}
	add(opeFigure{Metric: "needed", Value: float64(r.Needed), Unit: "decisions"})
	add(opeFigure{Metric: "alpha", Value: r.Alpha, Unit: "share"})
	add(opeFigure{Metric: "logging", Value: r.Logging, Unit: "reward"})
	add(opeFigure{Metric: "learned", Value: r.Learned, Unit: "reward"})
	add(opeFigure{Metric: "best", Value: r.Best, Unit: "reward"})
	for i, p := range r.Policies {
		of := func(metric, unit string, value float64) {
			add(opeFigure{Metric: fmt.Sprintf("%s_%d", metric, i+1), Value: value, Unit: unit, Improvement: &p.Improvement})
		}
		of("variance", "reward squared", p.Variance)
		of("design_effect", "ratio", p.DesignEffect)
		of("effective_share", "share", p.Effective)
		if p.Needed > 0 {
			of("needed", "decisions", float64(p.Needed))
		}
		for _, q := range p.Points {
			n := float64(q.Promoted + q.Refused + q.Underpowered)
			add(opeFigure{Metric: fmt.Sprintf("promoted_%d_of_%d", i+1, q.Decisions), Value: q.Share(), Unit: "share", Improvement: &p.Improvement, Decisions: q.Decisions})
			add(opeFigure{Metric: fmt.Sprintf("underpowered_%d_of_%d", i+1, q.Decisions), Value: float64(q.Underpowered) / n, Unit: "share", Improvement: &p.Improvement, Decisions: q.Decisions})
		}
	}
	return all
}
