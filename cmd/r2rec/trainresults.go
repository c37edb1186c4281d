package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/lm"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/internal/ope"
	"github.com/r2rec/r2rec/rltrainer"
)

// replayResults say what is written of a run.
type replayResults struct {
	Test     []string `help:"Cases with known answers, at or after --fit-before, to measure by before and after learning from clicks, as r2rec eval reads them." type:"existingfile" sep:"none" placeholder:"FILE" group:"Results"`
	Outcomes string   `help:"Write what became of each of these cases to this file, one JSON object a line, for r2rec train compare." type:"path" placeholder:"FILE" group:"Results"`
	Name     string   `help:"What the data set is called there. Default: the name of its folder." placeholder:"NAME" group:"Results"`
	Report   string   `help:"Write the round's report, each step included, to this JSON file." type:"path" placeholder:"FILE" group:"Results"`
	JSON     bool     `help:"Figures for machines, one JSON object a line." group:"Results"`
}

// testCases are those of one file, and what the graph knew of them.
type testCases struct {
	list     string
	cases    []eval.Case
	examples []rltrainer.Example
}

func (f replayResults) readTests(before event.Time) (tests []testCases, err error) {
	for _, path := range f.Test {
		cases, err := eval.ReadCases(path)
		if err != nil {
			return nil, fmt.Errorf("--test: %w", err)
		}
		for _, k := range cases {
			if k.At < before {
				return nil, fmt.Errorf("--test %s: case %.80q is at %s, before --fit-before: it would be measured by what learned from it", path, k.ID, k.At)
			}
		}
		tests = append(tests, testCases{list: strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)), cases: cases})
	}
	return tests, nil
}

// toldOf passes on how far a fit is.
func toldOf(steps int, told func(done, total int)) func(lm.Progress) error {
	return func(at lm.Progress) error {
		told(at.Step, steps)
		return nil
	}
}

// write puts the adapters where they are wanted.
func (r *replay) write(sft, clicked string) error {
	for _, out := range []struct{ flag, to, from string }{{"--sft-out", r.SFTOut, sft}, {"--adapter-out", r.AdapterOut, clicked}} {
		switch {
		case out.to == "":
			continue
		case out.from == "":
			return fmt.Errorf("%s: there was no fine-tuning (--sft-steps, --sft-share)", out.flag)
		case out.to == r.AdapterOut && r.OnlyIfPassed && r.report.Gate.Verdict != ope.Passed:
			r.p.log.Warn("adapter not written: it did not pass the gate", "verdict", r.report.Gate.Verdict)
			continue
		}
		data, err := os.ReadFile(out.from)
		if err != nil {
			return err
		}
		if err := gguf.WriteFile(out.to, func(w io.Writer) error { _, err := w.Write(data); return err }); err != nil {
			return fmt.Errorf("%s: %w", out.flag, err)
		}
		r.p.log.Info("adapter written", "file", out.to)
	}
	return nil
}

// results measures both policies and writes whatever was asked for.
func (r *replay) results(before, after *engine.Model) error {
	outcomes, err := r.outcomes(before, after)
	if err != nil {
		return err
	}
	if err := writeJSON("--outcomes", r.Outcomes, outcomes...); err != nil {
		return err
	}
	if err := writeJSON("--report", r.replayResults.Report, r.report); err != nil {
		return err
	}
	var differences []rltrainer.Difference
	if len(outcomes) > 0 {
		if differences, err = rltrainer.Compare(outcomes, r.Seed); err != nil {
			return err
		}
	}
	if r.JSON {
		return writeTrainFigures(r.p.stdout, "train replay", append(r.figures(), differenceFigures(differences)...))
	}
	if err := r.print(); err != nil {
		return err
	}
	return printDifferences(r.p.stdout, differences)
}

func (r *replay) outcomes(before, after *engine.Model) (outcomes []rltrainer.CaseOutcome, err error) {
	name := r.Name
	if name == "" {
		path, err := filepath.Abs(r.Events)
		if err != nil {
			return nil, err
		}
		name = filepath.Base(filepath.Dir(path))
	}
	for _, t := range r.tests {
		var answers [2][]rltrainer.Answer
		for i, m := range []*engine.Model{before, after} {
			if answers[i], err = rltrainer.Answers(r.p.ctx, m, t.examples, r.who.PromptVersion); err != nil {
				return nil, err
			}
		}
		for i, k := range t.cases {
			outcomes = append(outcomes, rltrainer.CaseOutcome{Set: name, List: t.list, Seed: r.Seed, Case: k.ID, User: k.User, Before: answers[0][i], After: answers[1][i]})
		}
	}
	return outcomes, nil
}

// writeJSON writes values as JSON, one a line; nothing where no file is named.
func writeJSON[T any](flag, path string, values ...T) error {
	if path == "" {
		return nil
	}
	err := gguf.WriteFile(path, func(w io.Writer) error {
		e := json.NewEncoder(w)
		for _, v := range values {
			if err := e.Encode(v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	return nil
}

// trainFigure is one number for machines; its metric's name is part of a contract.
type trainFigure struct {
	Command string  `json:"command"`
	Metric  string  `json:"metric"`
	Value   float64 `json:"value"`
	Unit    string  `json:"unit"`
	Of      string  `json:"of,omitempty"` // set and list
}

func writeTrainFigures(w io.Writer, command string, figures []trainFigure) error {
	e := json.NewEncoder(w)
	for _, f := range figures {
		if math.IsNaN(f.Value) || math.IsInf(f.Value, 0) {
			continue // what cannot be known is left out, such as the interval of a single user
		}
		f.Command = command
		if err := e.Encode(f); err != nil {
			return err
		}
	}
	return nil
}

func (r *replay) figures() []trainFigure {
	o, g := r.report, r.report.Gate
	passed := 0.
	if g.Verdict == ope.Passed {
		passed = 1
	}
	figures := []trainFigure{
		{Metric: "decisions", Value: float64(o.Rollouts), Unit: "decisions"},
		{Metric: "clicked", Value: float64(o.Choices), Unit: "decisions"},
		{Metric: "click_model_error", Value: o.Clicks.Error, Unit: "reward²"},
		{Metric: "click_model_constant_error", Value: o.Clicks.Constant, Unit: "reward²"},
		{Metric: "gate_passed", Value: passed, Unit: "share"},
		{Metric: "gate_decisions", Value: float64(g.Found.Decisions), Unit: "decisions"},
		{Metric: "gate_needed", Value: float64(g.Found.Needed), Unit: "decisions"},
		{Metric: "gate_snips", Value: g.Found.SNIPS.Estimate, Unit: "reward"},
		{Metric: "gate_snips_low", Value: g.Found.SNIPS.Low, Unit: "reward"},
		{Metric: "gate_dr", Value: g.Found.DR.Estimate, Unit: "reward"},
		{Metric: "gate_dr_low", Value: g.Found.DR.Low, Unit: "reward"},
	}
	if len(o.Thoughts) == 0 {
		figures = append(figures, trainFigure{Metric: "reward_before", Value: o.Before.Reward, Unit: "reward"}, trainFigure{Metric: "reward_after", Value: o.After.Reward, Unit: "reward"},
			trainFigure{Metric: "kl", Value: o.After.KL, Unit: "nats"}, trainFigure{Metric: "entropy_before", Value: o.Before.Entropy, Unit: "nats"},
			trainFigure{Metric: "entropy_after", Value: o.After.Entropy, Unit: "nats"})
	}
	if o.Seconds > 0 {
		figures = append(figures, trainFigure{Metric: "tokens_per_second", Value: float64(o.Tokens) / o.Seconds, Unit: "tokens/s"})
	}
	return figures
}

// print shows the round for people.
func (r *replay) print() error {
	o, g := r.report, r.report.Gate
	if len(o.Thoughts) > 0 {
		return r.printThoughts()
	}
	_, err := fmt.Fprintf(r.p.stdout, `%d decisions to learn from, %d of them clicked; %d later ones to judge by
click model: squared error %.4f, of the mean alone %.4f
slot 1 earns %.4f before and %.4f after, doubly robust, on what was learned from; %.3f nats apart, entropy %.3f and %.3f
gate: %s: %s
`, o.Rollouts, o.Choices, o.Held, o.Clicks.Error, o.Clicks.Constant, o.Before.Reward, o.After.Reward, o.After.KL, o.Before.Entropy, o.After.Entropy, g.Verdict, g.Reason)
	return err
}

type trainCompareCommand struct {
	File []string `arg:"" help:"Files that r2rec train replay --outcomes wrote, of other data sets, seeds or both." type:"existingfile"`
	Seed uint64   `help:"Seed of the resamples." default:"1"`
	JSON bool     `help:"Figures for machines, one JSON object a line."`
}

// Help is shown by `r2rec train compare --help`.
func (trainCompareCommand) Help() string {
	return `Puts the outcomes of several runs together and says what learning from clicks changed, after less before, in HR@1 and in the
cross-entropy of the answers. Intervals are 95 %, by resampling users with all of their cases in all runs, so that five
seeds on the same cases do not count as five times as many users.

  for seed in 1 2 3 4 5; do
    r2rec train replay ... --seed $seed --test test.jsonl --outcomes films-$seed.jsonl
  done
  r2rec train compare films-*.jsonl`
}

func (c trainCompareCommand) Run(p *process) error {
	var outcomes []rltrainer.CaseOutcome
	for _, path := range c.File {
		some, err := readOutcomes(path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		outcomes = append(outcomes, some...)
	}
	differences, err := rltrainer.Compare(outcomes, c.Seed)
	if err != nil {
		return err
	}
	if c.JSON {
		return writeTrainFigures(p.stdout, "train compare", differenceFigures(differences))
	}
	return printDifferences(p.stdout, differences)
}

func readOutcomes(path string) (outcomes []rltrainer.CaseOutcome, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	d := json.NewDecoder(f)
	for {
		var o rltrainer.CaseOutcome
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			return outcomes, nil
		} else if err != nil {
			return nil, fmt.Errorf("outcome %d: %w: want the lines that r2rec train replay --outcomes wrote", len(outcomes)+1, err)
		}
		outcomes = append(outcomes, o)
	}
}

// differenceFigures name those of all outcomes together plainly; those of a set's list say so in "of".
func differenceFigures(differences []rltrainer.Difference) (figures []trainFigure) {
	for _, d := range differences {
		for _, f := range []trainFigure{
			{Metric: "outcomes", Value: float64(d.Outcomes), Unit: "cases"},
			{Metric: "users", Value: float64(d.Users), Unit: "users"},
			{Metric: "hr1_before", Value: d.Before.HR1, Unit: "share"},
			{Metric: "diff_hr1", Value: d.HR1.Mean, Unit: "share"},
			{Metric: "diff_hr1_low", Value: d.HR1.Low, Unit: "share"},
			{Metric: "diff_hr1_high", Value: d.HR1.High, Unit: "share"},
			{Metric: "cross_entropy_before", Value: d.Before.CrossEntropy, Unit: "nats"},
			{Metric: "diff_cross_entropy", Value: d.CrossEntropy.Mean, Unit: "nats"},
			{Metric: "diff_cross_entropy_low", Value: d.CrossEntropy.Low, Unit: "nats"},
			{Metric: "diff_cross_entropy_high", Value: d.CrossEntropy.High, Unit: "nats"},
			{Metric: "diff_drawn", Value: d.Drawn.Mean, Unit: "reward"},
			{Metric: "diff_drawn_low", Value: d.Drawn.Low, Unit: "reward"},
			{Metric: "diff_drawn_high", Value: d.Drawn.High, Unit: "reward"},
			{Metric: "needed_users", Value: math.Ceil(d.Needed * float64(d.Users)), Unit: "users"},
		} {
			if d.Of != "all" {
				f.Metric, f.Of = f.Metric+"_"+strings.NewReplacer(" ", "_", "-", "_").Replace(d.Of), d.Of
			}
			figures = append(figures, f)
		}
	}
	return figures
}

func printDifferences(w io.Writer, differences []rltrainer.Difference) error {
	for i, d := range differences {
		if i == 0 {
			if _, err := fmt.Fprintf(w, "\nafter learning from clicks, less before:\n"); err != nil {
				return err
			}
		}
		_, err := fmt.Fprintf(w, "%-32s HR@1 %.3f %+.4f (%+.4f to %+.4f)  slot 1 drawn %+.4f (%+.4f to %+.4f)  cross-entropy %.3f %+.4f (%+.4f to %+.4f)  %d cases of %d users; a difference of .01 in HR@1 takes %.0f\n",
			d.Of, d.Before.HR1, d.HR1.Mean, d.HR1.Low, d.HR1.High, d.Drawn.Mean, d.Drawn.Low, d.Drawn.High,
			d.Before.CrossEntropy, d.CrossEntropy.Mean, d.CrossEntropy.Low, d.CrossEntropy.High, d.Outcomes, d.Users, math.Ceil(d.Needed*float64(d.Users)))
		if err != nil {
			return err
		}
	}
	return nil
}
