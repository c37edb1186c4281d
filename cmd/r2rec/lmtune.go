package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/r2rec/r2rec/internal/dataset"
	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama/learn"
	"github.com/r2rec/r2rec/internal/lm"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/rltrainer"
)

type lmTuneCommand struct {
	Events     string `help:"CSV of interactions: user_id,item_id,rating,timestamp in Unix seconds; an empty rating is a click. May be gzipped." required:"" type:"existingfile" placeholder:"FILE" group:"Data"`
	Items      string `help:"CSV of the catalogue: item_id,title,categories joined by |. May be gzipped." type:"existingfile" placeholder:"FILE" group:"Data"`
	FitBefore  string `help:"Learn from what happened before this time, Unix seconds or RFC 3339." required:"" placeholder:"TIME" group:"Data"`
	Cases      int    `help:"About how many cases to draw and learn from." default:"10000" group:"Data"`
	AdapterOut string `help:"Write the adapter to this GGUF file." required:"" type:"path" placeholder:"FILE" group:"Data"`
	evalGraph  `embed:""`

	engineFlags `embed:""`
	Rank        int      `help:"Rank of the adapter." default:"8" group:"Learning"`
	Alpha       float64  `help:"Alpha of the adapter; 0: twice the rank." default:"0" group:"Learning"`
	Targets     []string `help:"Layers to change: some of attn_q, attn_k, attn_v, attn_output, ffn_gate, ffn_up, ffn_down. Default: all." placeholder:"LAYER" group:"Learning"`
	Steps       int      `help:"Steps of learning." default:"500" group:"Learning"`
	Batch       int      `help:"Cases a step." default:"64" group:"Learning"`
	Rate        float64  `help:"Rate of learning, warmed up over 20 steps, full up to 30 % of all and then falling to 3 %." default:"1.5e-3" group:"Learning"`
	Threads     int      `help:"Cases worked on at once. The weights depend on it, as on the seed." default:"2" group:"Learning"`
	Seed        uint64   `help:"Seed of what is drawn: cases, order, the adapter's start." default:"1" group:"Learning"`
}

// Help is shown by `r2rec lm tune --help`.
func (lmTuneCommand) Help() string {
	return `Streams the events through a graph as a server would, draws cases from what happened before --fit-before by the rule
of the evaluation, and fits a LoRA adapter on what their users chose (supervised fine-tuning). The model stays as it
is; the adapter says which model it belongs to, and is refused by any other.

  r2rec lm tune --events events.csv --items items.csv --fit-before 1436920119 --adapter-out films.gguf
  r2rec eval --events events.csv --items items.csv --cases test.jsonl --ranker lm --adapter films.gguf`
}

func (c lmTuneCommand) Run(p *process) (err error) {
	if err := c.evalGraph.check(); err != nil {
		return err
	}
	before, err := parseMoment(c.FitBefore)
	if err != nil {
		return fmt.Errorf("--fit-before: %w", err)
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
	learner, err := model.NewAdapter(engine.AdapterOptions{Rank: c.Rank, Alpha: c.Alpha, Targets: c.Targets, Seed: c.Seed,
		Note:  fmt.Sprintf("supervised fine-tuning on what happened before %s", before),
		Learn: learn.Options{Optimiser: learn.AdamW{Rate: c.Rate}, Schedule: learn.Trapezoid(c.Steps, 20, .3, .03), Workers: c.Threads}})
	if err != nil {
		return err
	}
	shown := &stages{p: p}
	defer shown.close()
	begun := time.Now()
	cases, err := eval.Draw(data.Interactions(), before, c.Cases, c.Seed)
	if err != nil {
		return fmt.Errorf("--fit-before %s: %w", c.FitBefore, err)
	}
	graph, err := c.evalGraph.open(p.ctx, p, data.Items())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, graph.close()) }()
	graph.words = who.PromptVersion == iot.Words
	examples, err := rltrainer.Ask(p.ctx, graph, data.Interactions(), cases, func(done, total int) { shown.set("asking", done, total) })
	if err != nil {
		return err
	}
	shown.close()
	p.log.Info("cases asked", "cases", len(examples), "before", before.String(), "took", time.Since(begun).Round(time.Second))
	loss := 0.
	err = rltrainer.Fit(p.ctx, learner, examples, rltrainer.FitOptions{
		PromptVersion: who.PromptVersion, Steps: c.Steps, Batch: c.Batch, Seed: c.Seed,
		Told: func(at lm.Progress) error {
			shown.set("learning", at.Step, c.Steps)
			if loss += at.Loss; at.Step%100 == 0 || at.Step == c.Steps {
				shown.close()
				p.log.Info("learning", "step", at.Step, "loss", round(loss/float64((at.Step-1)%100+1)), "gradient", round(at.Gradient), "skipped", at.Skipped)
				loss = 0
			}
			return nil
		},
	})
	if err != nil {
		return err
	}
	shown.close()
	if err := gguf.WriteFile(c.AdapterOut, learner.Write); err != nil {
		return fmt.Errorf("--adapter-out: %w", err)
	}
	p.log.Info("adapter written", "file", c.AdapterOut, "model", who.Name, "took", time.Since(begun).Round(time.Second))
	return nil
}

// engineFlags name the model of the embedded engine.
type engineFlags struct {
	Model   string `help:"GGUF file of a Llama-family model; empty: the base model that travels with the program." type:"existingfile" placeholder:"FILE" group:"Model"`
	Readout string `help:"How a model that does not say is read: lines or letters." enum:",lines,letters" default:"" group:"Model"`
	Prompt  int    `help:"Which version of the prompt a model that does not say reads: 1 (words) or 2 (figures)." default:"0" group:"Model"`
}

// open opens the model for more options.
func (f engineFlags) open(o engine.Options) (*engine.Model, error) {
	o.Path, o.Readout, o.PromptVersion = f.Model, engine.Readout(f.Readout), f.Prompt
	return engine.Open(o)
}
