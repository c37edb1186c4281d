package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/rltrainer"
)

type adaptersImportCommand struct {
	Folder  string  `arg:"" help:"PEFT's folder: adapter_model.safetensors, adapter_config.json, and r2rec.json of the export it was learned from." type:"existingdir" placeholder:"DIR"`
	Since   string  `help:"Judge by decisions from then on, RFC 3339; for an adapter that does not say from when on nothing taught it." placeholder:"TIME" group:"Gate"`
	Margin  float64 `help:"Reward a decision by which it has to be better." default:"0" group:"Gate"`
	Detect  float64 `help:"Difference in reward that is worth detecting: with too few decisions to see it the gate gives no answer." default:"0.02" group:"Gate"`
	Share   float64 `help:"Share of the users who get it first; 1: all at once." default:"0.1" group:"Promotion"`
	Seed    uint64  `help:"Seed of the gate's resampling." default:"1" group:"Gate"`
	Work    string  `help:"Where the round stands, so that a killed one goes on. Default: r2rec/import in $XDG_STATE_HOME, or in ~/.local/state." type:"path" placeholder:"DIR" group:"Gate"`
	Threads int     `help:"Decisions worked on at once." default:"2" group:"Gate"`

	servedFlags   `embed:""`
	thinkFlag     `embed:""`
	adapterPlaces `embed:""`
	redisFlags    `embed:""`
}

// Help is shown by `r2rec adapters import --help`.
func (adaptersImportCommand) Help() string {
	return `Takes a LoRA adapter that another trainer made (deploy/trainer, or anything that saves as PEFT does), turns it into GGUF, and
treats it as one that was learned here: the gate judges it by decisions that it was not learned from, what changes most is
measured so that servers can prove that they serve it, and what passes goes to the store and to the log of adapters.

  r2rec adapters import adapter --model SmolLM2-135M-Instruct.gguf

Exit codes are those of r2rec train --once: 0 promoted, 10 refused by the gate, 11 too few decisions to tell, 12 none at
all, 13 waiting for a roll-out or for another trainer, 130 stopped before its end. Without a gate, on your own word:
r2rec adapters promote FILE.`
}

func (c adaptersImportCommand) Run(p *process) (err error) {
	if err := errors.Join(checkCounts(count{"--threads", c.Threads, 1}), checkShare(c.Share), checkAmounts(amount{"--detect", c.Detect}), c.thinkFlag.check(c.servedFlags)); err != nil {
		return wrong(err)
	}
	var since event.Time
	if c.Since != "" {
		at, err := time.Parse(time.RFC3339, c.Since)
		if err != nil {
			return misuse("--since %q: want an instant as RFC 3339, such as 2026-11-23T10:15:30Z", c.Since)
		}
		since = event.At(at)
	}
	dir := c.Work
	if dir == "" {
		if dir, err = stateFolder("import" + c.TopicPrefix); err != nil {
			return fmt.Errorf("--work is not given, and %w", err)
		}
	}
	files, err := os.MkdirTemp("", "r2rec-import-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(files)
	path := filepath.Join(files, "adapter.gguf")
	says, err := peftAdapter{c.Folder, engineFlags(c.servedFlags)}.convert(p, path)
	if err != nil {
		return err
	}
	since = max(since, event.Time(says.LearnedBefore)) // what taught it cannot judge it, whatever --since says
	if since == 0 {
		return errors.New("the adapter does not say from when on no decision taught it: r2rec.json has no learned_before (r2rec train export writes it); give --since")
	}
	t, err := newTeacher(p.ctx, engine.Options{Path: c.Model, Readout: engine.Readout(says.Readout), PromptVersion: says.PromptVersion, Think: c.Think}, engine.AdapterOptions{}, c.Threads)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	d, err := c.connect(p)
	if err != nil {
		return err
	}
	defer d.close()
	rdb, err := c.redisFlags.client(p.ctx)
	if err != nil {
		return err
	}
	defer rdb.Close()
	c.warnUnnamed(p)
	shown := &stages{p: p}
	shown.held = c.JSON
	defer shown.close()
	report, err := leasedRound(p.ctx, adapters.LeaseOptions{Client: rdb, Key: c.Prefix + "train", TTL: leaseTime, Logger: p.log}, rltrainer.RoundOptions{
		Dir: dir, History: history{d.kafka}, Log: d.log, Store: d.store, Teacher: t, Import: rltrainer.Import{Path: path, Before: since},
		Gate: rltrainer.GateOptions{Margin: c.Margin, Detect: c.Detect}, Share: c.Share, Seed: c.Seed, Now: time.Now, Logger: p.log, Told: shown.set,
	})
	shown.close()
	if err != nil {
		return err
	}
	if err := (trainRoundCommand{JSON: c.JSON}).print(p, dir, report); err != nil {
		return err
	}
	return exitWith(exitCodes[report.Verdict])
}
