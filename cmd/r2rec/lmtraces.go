package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/internal/lm/ollama"
	"github.com/r2rec/r2rec/rltrainer"
	"golang.org/x/sync/errgroup"
)

type lmTracesCommand struct {
	pastCases `embed:""`
	Out       string `help:"Write the traces that are kept to this file, one JSON object a line, with the fields prompt and completion that r2rec lm tune --texts reads." required:"" type:"path" placeholder:"FILE" group:"Data"`
	Dropped   string `help:"Write the others, and why each was dropped, to this file." type:"path" placeholder:"FILE" group:"Data"`

	Model   string `help:"GGUF file of the model that is to learn: a thought has to help it." required:"" type:"existingfile" placeholder:"FILE" group:"Models"`
	Adapter string `help:"Adapter of that model, read by letters of prompt 3." type:"existingfile" placeholder:"FILE" group:"Models"`
	Teacher string `help:"GGUF file of the model that writes; with --ollama the name of a model there. Default: the one that is to learn, without its adapter." placeholder:"FILE|NAME" group:"Models"`
	Ollama  string `help:"URL of an Ollama server that runs the --teacher, such as http://127.0.0.1:11434." placeholder:"URL" group:"Models"`

	Steps       int     `help:"Reasons of a thought, at most: the last is for what was chosen, those before it for the strongest rivals." default:"2" group:"Thoughts"`
	Tries       int     `help:"Thoughts to write about a case until one is kept." default:"3" group:"Thoughts"`
	Temperature float64 `help:"Of the first try; each further one has .2 more." default:"0.3" group:"Thoughts"`
	MostTokens  int     `help:"Tokens of a reason, at most." default:"40" group:"Thoughts"`
	Seed        uint64  `help:"Seed of what is drawn: cases, prompts, texts." default:"1" group:"Thoughts"`
	JSON        bool    `help:"Figures for machines, one JSON object." name:"json" group:"Results"`
}

// Help is shown by `r2rec lm traces --help`.
func (lmTracesCommand) Help() string {
	return `Has a model write why users chose what they chose, for a model to learn to think from: a thought of a few reasons, each of
which cites chains of the graph by number. The teacher sees one chain more with each reason, and only at the last what was
chosen (progressive masked prompting). A thought is kept if it

  is grounded:    it cites only chains that stand in the prompt and lead to what it speaks of, and names no other item; a
                  reason ends before a category that is known not to be so;
  does not leak:  it neither speaks of the answer as given, nor repeats the examples that the teacher reads;
  helps:          the model that is to learn gives what was chosen a larger share with it than without.

  r2rec lm traces --events events.csv --items items.csv --fit-before 1436920119 --model SmolLM2-135M-Instruct.Q4_1.gguf --out traces.jsonl
  r2rec lm tune --texts traces.jsonl --model SmolLM2-135M-Instruct.Q4_1.gguf --readout letters --prompt 3 --adapter-out thinks.gguf

It can be ended at any time: what is done stands in FILE.partial beside --out, and the same command goes on from there.`
}

func (c lmTracesCommand) options() rltrainer.TraceOptions {
	return rltrainer.TraceOptions{Steps: c.Steps, Tries: c.Tries, Temperature: c.Temperature, MostTokens: c.MostTokens, Seed: c.Seed}
}

func (c lmTracesCommand) check() error {
	if err := c.pastCases.check(); err != nil {
		return err
	}
	if err := checkCounts(count{"--steps", c.Steps, 1}, count{"--tries", c.Tries, 1}, count{"--most-tokens", c.MostTokens, 1}); err != nil {
		return wrong(err)
	}
	if c.Steps > iot.MaxReasons {
		return misuse("--steps %d: want at most %d", c.Steps, iot.MaxReasons)
	}
	if !(c.Temperature > 0 && c.Temperature <= 2) {
		return misuse("--temperature %v: want above 0, and at most 2", c.Temperature)
	}
	if c.Ollama != "" && c.Teacher == "" {
		return misuse("--ollama: name the model that writes there by --teacher")
	}
	if c.Dropped == c.Out || c.Dropped == c.Out+partial {
		return misuse("--dropped %s: --out is to be written there", c.Dropped)
	}
	if c.Dropped != "" {
		if err := checkWritable("--dropped", c.Dropped); err != nil {
			return err
		}
	}
	return checkWritable("--out", c.Out)
}

func (c lmTracesCommand) Run(p *process) (err error) {
	if err := c.check(); err != nil {
		return err
	}
	data, before, cases, err := c.drawn(c.Seed)
	if err != nil {
		return err
	}
	pupil, err := engine.Open(engine.Options{Path: c.Model, Adapter: c.Adapter, Readout: engine.Letters, PromptVersion: iot.Thoughts})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pupil.Close()) }()
	teacher, done, err := c.teacher(p, pupil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	shown := &stages{p: p}
	defer shown.close()
	who, err := pupil.Identity(p.ctx)
	if err != nil {
		return err
	}
	examples, err := c.examples(p, shown, data, before, cases, who)
	if err != nil {
		return err
	}
	begun := time.Now()
	traces, err := c.write(p, shown, teacher, pupil, event.PastOf(data.Interactions(), before), examples)
	if err != nil {
		return err
	}
	shown.close()
	took := time.Since(begun)
	return c.report(p.stdout, traces, took)
}

// tracer is a model that writes.
type tracer interface {
	lm.Writer
	Identity(ctx context.Context) (event.Model, error)
}

// teacher opens the model that writes; done lets go of it.
func (c lmTracesCommand) teacher(p *process, pupil *engine.Model) (t tracer, done func() error, err error) {
	if c.Ollama != "" {
		client, err := ollama.New(ollama.Options{BaseURL: c.Ollama, Model: c.Teacher, Timeout: warmWithin, Logger: p.log})
		if err != nil {
			return nil, nil, err
		}
		return client, func() error { return nil }, nil
	}
	if c.Teacher == "" && c.Adapter == "" {
		return pupil, func() error { return nil }, nil
	}
	m, err := engine.Open(engine.Options{Path: cmp.Or(c.Teacher, c.Model), Readout: engine.Letters, PromptVersion: iot.Thoughts})
	if err != nil {
		return nil, nil, fmt.Errorf("--teacher: %w", err)
	}
	return m, m.Close, nil
}

// partial ends the name of the file that holds what is done so far.
const partial = ".partial"

// write has every example's trace written, those that are not yet, and then the files.
func (c lmTracesCommand) write(p *process, shown *stages, teacher tracer, pupil *engine.Model, of event.Past, examples []rltrainer.Example) ([]rltrainer.Trace, error) {
	run, err := c.run(p.ctx, teacher, pupil, examples)
	if err != nil {
		return nil, err
	}
	log, err := openTraceLog(c.Out+partial, run, len(examples))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	if n := log.done(); n > 0 {
		p.log.Info("writing goes on", "file", log.path, "traces", n)
	}
	group, ctx := errgroup.WithContext(p.ctx)
	next := make(chan int)
	group.Go(func() error {
		defer close(next)
		for i := range examples {
			if log.has(i) {
				continue
			}
			select {
			case next <- i:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range threads(0) {
		group.Go(func() error {
			for i := range next {
				t, err := rltrainer.Teach(ctx, teacher, pupil, i, examples[i], c.options())
				if err != nil {
					return err
				}
				done, err := log.add(t)
				if err != nil {
					return err
				}
				p.log.Debug("trace written", "done", done, "of", len(examples), "case", i, "fate", t.Fate, "tries", t.Tries)
				shown.set("writing thoughts", done, len(examples))
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	traces := log.all()
	if err := writeTraces(c.Out, of, traces, func(t rltrainer.Trace) bool { return t.Fate == rltrainer.Kept }); err != nil {
		return nil, fmt.Errorf("--out: %w", err)
	}
	if c.Dropped != "" {
		if err := writeTraces(c.Dropped, of, traces, func(t rltrainer.Trace) bool { return t.Fate != rltrainer.Kept }); err != nil {
			return nil, fmt.Errorf("--dropped: %w", err)
		}
	}
	return traces, log.remove()
}

// run names what is written, for who goes on.
func (c lmTracesCommand) run(ctx context.Context, teacher tracer, pupil *engine.Model, examples []rltrainer.Example) (string, error) {
	digest, err := rltrainer.Digest(examples)
	if err != nil {
		return "", err
	}
	t, err := teacher.Identity(ctx)
	if err != nil {
		return "", err
	}
	l, err := pupil.Identity(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("lm traces, version %d, %+v, teacher %s, pupil %s with %q, examples %s", rltrainer.TraceVersion, c.options(), t.Digest, l.Digest, l.Adapter, digest), nil
}

func (c lmTracesCommand) report(w io.Writer, traces []rltrainer.Trace, took time.Duration) error {
	counts := make(map[rltrainer.Fate]int)
	tries, gain, reasons, borneOut := 0, 0., 0, 0
	for _, t := range traces {
		counts[t.Fate]++
		tries += t.Tries
		if t.Fate == rltrainer.Kept {
			gain += t.After - t.Before
			reasons, borneOut = reasons+len(t.Steps), borneOut+t.BorneOut
		}
	}
	if kept := counts[rltrainer.Kept]; kept > 0 {
		gain /= float64(kept)
	}
	if c.JSON {
		return json.NewEncoder(w).Encode(map[string]any{"command": "lm traces", "cases": len(traces), "fates": counts, "tries": tries, "gain_nats": gain, "reasons": reasons, "reasons_borne_out": borneOut, "seconds": took.Seconds()})
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "cases\t%d\t\n", len(traces))
	for _, f := range rltrainer.Fates {
		fmt.Fprintf(table, "%s\t%d\t%s\n", f, counts[f], fateMeans[f])
	}
	fmt.Fprintf(table, "tries\t%d\tthoughts written\n", tries)
	fmt.Fprintf(table, "reasons\t%d\tof the kept thoughts; %d name a category that the catalogue bears out, and none one that it is known not to\n", reasons, borneOut)
	fmt.Fprintf(table, "gain\t%.3f\tnats that a kept thought adds to the log-share of what was chosen, mean\n", gain)
	return table.Flush()
}

// fateMeans says in words what became of a trace.
var fateMeans = map[rltrainer.Fate]string{
	rltrainer.NoChain:    "no chain of the prompt leads to what was chosen",
	rltrainer.Failed:     "the teacher or the pupil answered nonsense, or the text is too long",
	rltrainer.Broken:     "a reason has no words, or came to no end",
	rltrainer.Ungrounded: "not of the form, or names an item that its chains do not touch, or says only of what category things are, wrongly",
	rltrainer.Leaking:    "speaks of the answer as given",
	rltrainer.Parroted:   "repeats the examples that the teacher reads",
	rltrainer.Unhelpful:  "makes what was chosen no likelier",
	rltrainer.Kept:       "kept",
}
