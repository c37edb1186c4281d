package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/rltrainer"
)

type trainExportCommand struct {
	Out         string        `arg:"" help:"Folder to write into; it is made where there is none." type:"path" placeholder:"DIR"`
	Staleness   time.Duration `help:"Decisions older than this are left out." default:"720h" group:"Export"`
	Held        float64       `help:"Share of the unused decisions, the newest, that is left to the gate." default:"0.5" group:"Export"`
	JSON        bool          `help:"One JSON object that says what was written, or why nothing was." group:"Export"`
	servedFlags `embed:""`
	thinkFlag   `embed:""`
	kafkaFlags  `embed:""`
}

// Help is shown by `r2rec train export --help`.
func (trainExportCommand) Help() string {
	return `Writes what a round would learn from now, for a trainer elsewhere, such as the job in deploy/trainer on a machine with a
GPU. DIR/` + rolloutsFile + ` has a line a decision that explored and was shown:

    prompt, prompt_tokens, ends             as the model that serves reads it, and the tokens that end candidates' lines
    completion, log_probability, reward     what was acted on, how it was drawn, what it earned
    completions, values, reference          every answer, its doubly robust value, the serving model's log-share
    chosen, weight                          what was chosen of all that was shown (-1: nothing), and what it counts

DIR/` + manifestFile + ` says which model, readout, prompt and tokenizer that is, and when the decisions end: put it beside the adapter,
as the job does, and r2rec adapters import judges it by decisions from then on. The readout has to be letters. Users'
ids are not written; titles of what they liked are, where the prompt has them. Exit codes: 12 there is nothing to learn yet, 13 waiting
for a roll-out, 130 stopped before its end, 1 failed, 2 wrong usage.

Model, readout and prompt have to be those of the decisions: a model that Ollama runs answers by letters and prompt 1 until
an adapter says otherwise, whose readout and prompt --readout and --prompt then name.

  r2rec train export out --model SmolLM2-135M-Instruct.gguf --readout letters
  python deploy/trainer/train.py grpo --export out --model SmolLM2-135M-Instruct.gguf --out adapter
  r2rec adapters import adapter --model SmolLM2-135M-Instruct.gguf`
}

// trainExported is what the command says for machines.
type trainExported struct {
	Command string `json:"command"`
	Out     string `json:"out"`
	// Why nothing is exported, as a round says it; absent: it is.
	Verdict rltrainer.Verdict `json:"verdict,omitempty"`
	Reason  string            `json:"reason,omitempty"`
	rltrainer.ExportReport
}

// nothing says why nothing is exported.
func (c trainExportCommand) nothing(p *process, verdict rltrainer.Verdict, reason string, rep rltrainer.ExportReport) error {
	if c.JSON {
		if err := json.NewEncoder(p.stdout).Encode(trainExported{"train export", c.Out, verdict, reason, rep}); err != nil {
			return err
		}
	} else if p.asJSON {
		p.log.Info("nothing is exported", "why", reason)
	} else {
		fmt.Fprintln(p.stderr, "r2rec: nothing is exported:", reason)
	}
	return exitWith(exitCodes[verdict])
}

func (c trainExportCommand) Run(p *process) (err error) {
	if err := errors.Join(checkMaterial(c.Held, c.Staleness), c.thinkFlag.check(c.servedFlags)); err != nil {
		return wrong(err)
	}
	model, err := c.servedFlags.open(thinking(engine.Options{Concurrency: 1}, c.Think))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	who, err := model.Identity(p.ctx)
	if err != nil {
		return err
	}
	kc, err := readKafka(p, c.kafkaFlags, broker.Decisions, broker.Rewards, broker.Users, broker.Adapters)
	if err != nil {
		return err
	}
	defer kc.Close()
	log, err := adapterLog(p, kc)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	state, err := log.State(p.ctx)
	if err != nil {
		return err
	}
	if state.Candidate != "" {
		return c.nothing(p, rltrainer.Waiting, fmt.Sprintf("%s is being rolled out to %s of the users, and what is learned meanwhile could not be judged before that has ended",
			cleanName(state.Candidate), percent(state.Share)), rltrainer.ExportReport{})
	}
	shown := &stages{p: p}
	shown.held = c.JSON
	defer shown.close()
	shown.set("reading decisions and rewards", 0, 1)
	var rep rltrainer.ExportReport
	nothing := false
	m := model.Manifest()
	m.Parent = state.Current
	err = writeExport(c.Out, &m, func(line func(any) error) (err error) {
		n := 0
		rep, err = rltrainer.Export(p.ctx, rltrainer.ExportOptions{History: history{kc}, State: state, Model: who, Staleness: c.Staleness, Held: c.Held, Now: time.Now, Read: model.Reading},
			func(x rltrainer.Exported) error {
				n++
				shown.set("writing decisions", n, n)
				return line(x)
			})
		if nothing = err == nil && rep.Rollouts == 0; nothing {
			err = errors.New(rep.Why()) // leaves no files
		}
		m.LearnedBefore = int64(rep.Before)
		return err
	})
	shown.close()
	if nothing {
		return c.nothing(p, rltrainer.NothingToLearn, err.Error(), rep)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(p.stdout).Encode(trainExported{Command: "train export", Out: c.Out, ExportReport: rep})
	}
	_, err = fmt.Fprintf(p.stdout, "%d decisions of %d users before %s, in %d of which something was chosen, are in %s.\n%d later ones are left to the gate. Left out: %s.\n",
		rep.Rollouts, rep.Users, rep.Before, rep.Choices, filepath.Join(c.Out, rolloutsFile), rep.Held, rep.Why())
	return err
}
