package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"

	"github.com/r2rec/r2rec/internal/dataset"
	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/eval/live"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/rltrainer"
)

type lmExportCommand struct {
	Out         string `arg:"" help:"Folder to write into; it is made where there is none." type:"path" placeholder:"DIR"`
	Events      string `help:"CSV of interactions: user_id,item_id,rating,timestamp in Unix seconds; an empty rating is a click. May be gzipped." type:"existingfile" required:"" placeholder:"FILE" group:"Data"`
	Items       string `help:"CSV of the catalogue: item_id,title,categories joined by |. May be gzipped." type:"existingfile" placeholder:"FILE" group:"Data"`
	FitBefore   string `help:"Draw cases from what happened before this time, Unix seconds or RFC 3339." placeholder:"TIME" group:"Data"`
	Draw        int    `help:"About how many cases to draw." default:"10000" group:"Data"`
	Cases       string `help:"Write these cases instead, as r2rec eval asks them: what the trainer is to be measured by. Their names go along." type:"existingfile" placeholder:"FILE" group:"Data"`
	Seed        uint64 `help:"Seed of what is drawn: cases, and how the candidates of each are shuffled." default:"1" group:"Data"`
	JSON        bool   `help:"One JSON object that says what was written." group:"Export"`
	evalGraph   `embed:""`
	engineFlags `embed:""`
}

// Help is shown by `r2rec lm export --help`.
func (lmExportCommand) Help() string {
	return `What r2rec lm tune would learn from, for a trainer elsewhere, such as the job in deploy/trainer on a machine with a GPU:
DIR/` + rolloutsFile + ` has a line a case, as that of r2rec train export has a line a decision. What was chosen is worth 1, all
else 0. DIR/` + manifestFile + ` says which model, readout, prompt and tokenizer that is.

  r2rec lm export out --events events.csv --items items.csv --fit-before 1436920119 --model SmolLM2-135M-Instruct.gguf --prompt 3
  r2rec lm export held --events events.csv --items items.csv --cases valid.jsonl --model SmolLM2-135M-Instruct.gguf --prompt 3
  python deploy/trainer/train.py sft --export out --held held --model SmolLM2-135M-Instruct.gguf --out adapter
  r2rec adapters convert adapter --model SmolLM2-135M-Instruct.gguf --adapter-out films.gguf
  r2rec eval --events events.csv --items items.csv --cases test.jsonl --ranker lm --model SmolLM2-135M-Instruct.gguf --adapter films.gguf`
}

// lmExported is what the command says for machines.
type lmExported struct {
	Command string `json:"command"`
	Out     string `json:"out"`
	Cases   int    `json:"cases"`
	Tokens  int    `json:"tokens"` // of all prompts together
}

func (c lmExportCommand) Run(p *process) (err error) {
	if err := errors.Join(c.evalGraph.check(), checkCounts(count{"--draw", c.Draw, 1})); err != nil {
		return wrong(err)
	}
	if (c.FitBefore == "") == (c.Cases == "") {
		return misuse("name what to write: --fit-before to draw cases, or --cases for these")
	}
	switch {
	case c.Model == "":
		return misuse("--model: name the GGUF file that the trainer is to learn for; the model that travels with the program is taught within r2rec only, by train and lm tune")
	case c.Readout == string(engine.Pointwise):
		return misuse("--readout %s: it reads a text for each candidate, and a trainer elsewhere one for all; choose %s, %s or %s", c.Readout, engine.Lines, engine.Verdicts, engine.Letters)
	}
	data, err := dataset.OpenFiles(c.Events, c.Items)
	if err != nil {
		return err
	}
	model, err := c.engineFlags.open(engine.Options{Concurrency: 1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	who, err := model.Identity(p.ctx)
	if err != nil {
		return err
	}
	manifest := model.Manifest()
	manifest.Seed = c.Seed
	cases, err := c.cases(data, &manifest.LearnedBefore)
	if err != nil {
		return err
	}
	if c.Cases == "" {
		manifest.LearnedEvents = event.PastOf(data.Interactions(), event.Time(manifest.LearnedBefore))
	}
	shown := &stages{p: p}
	shown.held = c.JSON
	defer shown.close()
	examples, err := c.evalGraph.ask(p, shown, data, cases, event.Time(manifest.LearnedBefore), who)
	if err != nil {
		return err
	}
	rep := lmExported{Command: "lm export", Out: c.Out, Cases: len(cases)}
	err = writeExport(c.Out, &manifest, func(line func(any) error) error {
		for i, e := range examples {
			x, err := rltrainer.ExportCase(cases[i].ID, e, who.PromptVersion, c.seed(i, cases[i]), model.Reading)
			if err = errors.Join(err, p.ctx.Err()); err != nil {
				return err
			}
			rep.Tokens += len(x.Tokens)
			shown.set("writing cases", i+1, len(examples))
			if err := line(x); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	shown.close()
	if c.JSON {
		return json.NewEncoder(p.stdout).Encode(rep)
	}
	_, err = fmt.Fprintf(p.stdout, "%d cases, prompts of %d tokens in the mean, are in %s.\n", rep.Cases, rep.Tokens/max(1, rep.Cases), filepath.Join(c.Out, rolloutsFile))
	return err
}

// seed shuffles the candidates of a case: one of the file as r2rec eval does, so that it is the same question.
func (c lmExportCommand) seed(i int, k eval.Case) uint64 {
	if c.Cases != "" {
		return live.Seed(k)
	}
	return rand.NewPCG(c.Seed, uint64(i)).Uint64()
}

// cases are those of the file, or drawn; of drawn ones, all happened before a moment in Unix ms.
func (c lmExportCommand) cases(data *dataset.Dataset, before *int64) ([]eval.Case, error) {
	if c.Cases != "" {
		return eval.ReadCases(c.Cases)
	}
	at, err := parseMoment(c.FitBefore)
	if err != nil {
		return nil, misuse("--fit-before: %w", err)
	}
	*before = int64(event.Time(at))
	return drawCases(data, c.FitBefore, at, c.Draw, c.Seed)
}
