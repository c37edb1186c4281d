package main

import (
	"errors"
	"fmt"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/rltrainer"
)

// thinkFlag says how servers have the model answer.
type thinkFlag struct {
	Think int `help:"Tokens of the thought that servers have the model write before it answers (their --think), at most; 0: it answers at once. Servers refuse an adapter that was judged otherwise." env:"R2REC_THINK" placeholder:"TOKENS" group:"Model"`
}

func (f thinkFlag) check(of servedFlags) error {
	switch {
	case f.Think < 0:
		return misuse("--think %d: want tokens, or 0 for no thought", f.Think)
	case f.Think > 0 && of.Model == "":
		return misuse("--think needs a --model that knows words: the one that travels with the program knows figures only")
	case f.Think > 0 && (of.Readout != "" && of.Readout != string(engine.Letters) || of.Prompt != 0 && of.Prompt != iot.Thoughts):
		return misuse("--think goes with --readout letters and --prompt %d, which it stands for: leave these out", iot.Thoughts)
	}
	return nil
}

// thinks is how an adapter that the log knows is to be answered with: as it was judged, or is being rolled out.
func (d *adapterDesk) thinks(f thinkFlag, adapter string) (int, error) {
	var of *event.Promotion
	for _, e := range d.state.Entries {
		if e.Record.Adapter == adapter && e.Void == "" && (e.Record.Gate != nil || adapter == d.state.Candidate) {
			of = &e.Record
		}
	}
	switch {
	case of == nil || f.Think == of.Think:
		return f.Think, nil
	case f.Think == 0:
		return of.Think, nil
	case of.Gate == nil:
		return 0, fmt.Errorf("--think %d: %s is being rolled out with think %d; take that back first (r2rec adapters rollback)", f.Think, cleanName(adapter), of.Think)
	}
	return 0, fmt.Errorf("--think %d: %s was judged by a gate with think %d; leave --think out", f.Think, cleanName(adapter), of.Think)
}

// thoughtFlags say how a model learns that thinks.
type thoughtFlags struct {
	ThinkSteps int     `help:"Steps of learning." default:"50" group:"Learning thoughts (with --think)"`
	ThinkBatch int     `help:"Decisions a step." default:"4" group:"Learning thoughts (with --think)"`
	ThinkGroup int     `help:"Replies that are written to each." default:"8" group:"Learning thoughts (with --think)"`
	ThinkRate  float64 `help:"Rate of learning." default:"2e-4" group:"Learning thoughts (with --think)"`
	ThinkBeta  float64 `help:"Weight of the KL divergence from the model before the round, a token." default:"0.02" group:"Learning thoughts (with --think)"`
}

func (f thoughtFlags) check() error {
	return errors.Join(checkCounts(count{"--think-steps", f.ThinkSteps, 1}, count{"--think-batch", f.ThinkBatch, 1}, count{"--think-group", f.ThinkGroup, 2}),
		checkAmounts(amount{"--think-rate", f.ThinkRate}, amount{"--think-beta", f.ThinkBeta}))
}

func (f thoughtFlags) options() rltrainer.ThoughtOptions {
	return rltrainer.ThoughtOptions{Steps: f.ThinkSteps, Batch: f.ThinkBatch, Group: f.ThinkGroup, Rate: f.ThinkRate, Beta: f.ThinkBeta}
}
