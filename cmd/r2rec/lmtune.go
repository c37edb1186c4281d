package main

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/r2rec/r2rec/internal/dataset"
	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/eval/live"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/rltrainer"
)

type lmTuneCommand struct {
	Events     string `help:"CSV of interactions: user_id,item_id,rating,timestamp in Unix seconds; an empty rating is a click. May be gzipped." type:"existingfile" placeholder:"FILE" group:"Data"`
	Items      string `help:"CSV of the catalogue: item_id,title,categories joined by |. May be gzipped." type:"existingfile" placeholder:"FILE" group:"Data"`
	FitBefore  string `help:"Learn from what happened before this time, Unix seconds or RFC 3339." placeholder:"TIME" group:"Data"`
	Texts      string `help:"Learn how texts go on instead: a file of JSON objects, one a line, with the fields prompt and completion; of others only learned_events is looked at, which r2rec lm traces writes." type:"existingfile" placeholder:"FILE" group:"Data"`
	Cases      int    `help:"About how many cases to draw and learn from." default:"10000" group:"Data"`
	AdapterOut string `help:"Write the adapter to this GGUF file." required:"" type:"path" placeholder:"FILE" group:"Data"`
	evalGraph  `embed:""`

	engineFlags `embed:""`
	Rank        int      `help:"Rank of the adapter: how much it can learn, and how large it is." default:"8" group:"Learning"`
	Alpha       float64  `help:"Alpha of the adapter, by which its change is scaled: alpha over rank. Default: twice the rank." placeholder:"ALPHA" group:"Learning"`
	Targets     []string `help:"Layers to change: some of attn_q, attn_k, attn_v, attn_output, ffn_gate, ffn_up, ffn_down. Default: all." placeholder:"LAYER" group:"Learning"`
	Steps       int      `help:"Steps of learning." default:"500" group:"Learning"`
	Batch       int      `help:"Cases a step." default:"64" group:"Learning"`
	Rate        float64  `help:"Rate of learning: warmed up over 20 steps or a fifth of all, full up to 30 % of all, then falling to 3 % of itself." default:"1.5e-3" group:"Learning"`
	Threads     int      `help:"Cases worked on at once. The weights depend on it, as on the seed." default:"2" group:"Learning"`
	Seed        uint64   `help:"Seed of what is drawn: cases, order, the adapter's start." default:"1" group:"Learning"`

	checkpointFlags `embed:"" set:"checkpoint_every=100"`
}

// Help is shown by `r2rec lm tune --help`.
func (lmTuneCommand) Help() string {
	return `Streams the events through a graph as a server would, draws cases from what happened before --fit-before by the rule
of the evaluation, and fits a LoRA adapter on what their users chose (supervised fine-tuning). The model stays as it
is; the adapter says which model it belongs to, and is refused by any other.

Keep the newest events out of it to measure how well it ranks them; then fit on all of them, with a time after the last.

  r2rec lm tune --events events.csv --items items.csv --fit-before 1436920119 --adapter-out films.gguf
  r2rec eval --events events.csv --items items.csv --cases test.jsonl --ranker lm --adapter films.gguf
  r2rec serve --adapter films.gguf

With --texts it learns completions of prompts instead, whatever they are about: the loss is the mean over a completion's
tokens, and the one that ends it. The adapter is one for --adapter, and for Ollama.

  r2rec lm tune --texts traces.jsonl --model SmolLM2-135M-Instruct.Q4_1.gguf --readout letters --prompt 3 --adapter-out thinks.gguf

--checkpoint FILE makes a long run one that can be ended at any time: the same command goes on where it stood.`
}

func (c lmTuneCommand) Run(p *process) (err error) {
	l := learning{checkpointFlags: c.checkpointFlags, steps: c.Steps, batch: c.Batch, threads: c.Threads, rate: c.Rate, seed: c.Seed, out: c.AdapterOut, outFlag: "--adapter-out"}
	if err := errors.Join(c.evalGraph.check(), l.check()); err != nil {
		return err
	}
	if c.Cases < 1 {
		return misuse("--cases %d: want 1 or more", c.Cases)
	}
	if c.Rank < 1 {
		return misuse("--rank %d: want 1 or more", c.Rank)
	}
	if c.Texts != "" {
		return c.tuneTexts(p, l)
	}
	if c.Events == "" || c.FitBefore == "" {
		return misuse("name what to learn from: --events and --fit-before, or --texts")
	}
	before, err := parseMoment(c.FitBefore)
	if err != nil {
		return misuse("--fit-before: %w", err)
	}
	data, err := dataset.OpenFiles(c.Events, c.Items)
	if err != nil {
		return err
	}
	model, err := c.engineFlags.open(engine.Options{Trainable: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	who, err := model.Identity(p.ctx)
	if err != nil {
		return err
	}
	adapter := engine.AdapterOptions{Rank: c.Rank, Alpha: c.Alpha, Targets: c.Targets, Seed: c.Seed, Learn: l.options(""),
		Note: fmt.Sprintf("supervised fine-tuning on what happened before %s", before), LearnedEvents: event.PastOf(data.Interactions(), before)}
	if _, err := model.NewAdapter(adapter); err != nil { // an adapter that cannot be is told before anything takes time
		return misuse("--rank %d, --alpha %v: %w", c.Rank, c.Alpha, err)
	}
	shown := &stages{p: p}
	defer shown.close()
	begun := time.Now()
	examples, err := c.examples(p, shown, data, before, who)
	if err != nil {
		return err
	}
	shown.close()
	p.log.Info("cases asked", "cases", len(examples), "before", before.String(), "took", time.Since(begun).Round(time.Second))
	digest, err := rltrainer.Digest(examples)
	if err != nil {
		return err
	}
	adapter.Learn = l.options(fmt.Sprintf("lm tune --fit-before %s --cases %d --steps %d --batch %d --alpha %v --seed %d, model %.12s, read by %s of prompt %d, examples %.12s",
		before, c.Cases, c.Steps, c.Batch, c.Alpha, c.Seed, who.Digest, who.Readout, who.PromptVersion, digest))
	learner, err := model.NewAdapter(adapter)
	if err != nil {
		return err
	}
	if err := l.run(p, shown, learner, l.fit(learner, examples, who.PromptVersion), nil); err != nil {
		return err
	}
	p.log.Info("adapter written", "file", c.AdapterOut, "model", who.Name, "took", time.Since(begun).Round(time.Second))
	return nil
}

// examples are cases before the time, and what the graph knew when they were asked.
func (c lmTuneCommand) examples(p *process, shown *stages, data *dataset.Dataset, before event.Time, who event.Model) ([]rltrainer.Example, error) {
	cases, err := drawCases(data, c.FitBefore, before, c.Cases, c.Seed)
	if err != nil {
		return nil, err
	}
	return c.evalGraph.ask(p, shown, data, cases, before, who)
}

// drawCases draws cases to learn from before a time, given as a flag.
func drawCases(data *dataset.Dataset, given string, before event.Time, n int, seed uint64) ([]eval.Case, error) {
	cases, err := eval.Draw(data.Interactions(), before, n, seed)
	if err == nil && len(cases) == 0 {
		err = errors.New("no case could be drawn; choose a later time, or more --cases")
	}
	if err != nil {
		return nil, fmt.Errorf("--fit-before %s: %w", given, err)
	}
	return cases, nil
}

// ask streams the data through a graph and asks it every case, for prompts of the version that a model reads. Of what happens
// from a time on no latent factors are learned any more, as r2rec eval --fit-before does; 0: there is no such time.
func (g evalGraph) ask(p *process, shown *stages, data *dataset.Dataset, cases []eval.Case, last event.Time, who event.Model) (examples []rltrainer.Example, err error) {
	graph, err := g.open(p.ctx, p, data.Items())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, graph.close()) }()
	graph.words = iot.Worded(who.PromptVersion)
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
	growing := live.Grow(graph, live.GrowOptions{LearnBefore: last, NoFactors: !iot.Factored(who.PromptVersion)})
	return rltrainer.Ask(p.ctx, growing, told, cases, func(done, total int) { shown.set("asking", done, total) })
}

// engineFlags name the model of the embedded engine.
type engineFlags struct {
	Model     string `help:"GGUF file of a Llama-family model; empty: the base model that travels with the program." type:"existingfile" placeholder:"FILE" group:"Model"`
	readFlags `embed:""`
}

// servedFlags are engineFlags of a command about what servers serve: what names their model names this one, too.
type servedFlags struct {
	Model     string `help:"GGUF file of the base model that servers run; empty: the one that travels with the program." type:"existingfile" env:"R2REC_MODEL" placeholder:"FILE" group:"Model"`
	readFlags `embed:""`
}

// readFlags say how a model is read.
type readFlags struct {
	Readout string `help:"How a model that does not say is read: lines (each candidate at the end of its line, the default), verdicts (the same, for models that an Ollama is to run), letters (at the end of the prompt) or pointwise (yes or no to a question for each)." enum:",lines,verdicts,letters,pointwise" default:"" placeholder:"lines|verdicts|letters|pointwise" group:"Model"`
	Prompt  int    `help:"Which version of the prompt a model that does not say reads: 1 (words, the default), 2 (figures), 3 (thoughts) or 4 (full figures)." placeholder:"1|2|3|4" group:"Model"`
}

// open opens the model for more options.
func (f engineFlags) open(o engine.Options) (*engine.Model, error) {
	o.Path, o.Readout, o.PromptVersion = f.Model, cmp.Or(engine.Readout(f.Readout), o.Readout), cmp.Or(f.Prompt, o.PromptVersion)
	return engine.Open(o)
}

func (f servedFlags) open(o engine.Options) (*engine.Model, error) { return engineFlags(f).open(o) }
