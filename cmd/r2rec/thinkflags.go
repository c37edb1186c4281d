package main

import (
	"errors"

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
	}
	return nil
}

// thoughtFlags say how a model learns that thinks.
type thoughtFlags struct {
	ThinkSteps int     `help:"Steps of learning." default:"50" group:"Learning, with --think (in place of the above)"`
	ThinkBatch int     `help:"Decisions a step." default:"4" group:"Learning, with --think (in place of the above)"`
	ThinkGroup int     `help:"Replies that are written to each." default:"8" group:"Learning, with --think (in place of the above)"`
	ThinkRate  float64 `help:"Rate of learning." default:"2e-4" group:"Learning, with --think (in place of the above)"`
	ThinkBeta  float64 `help:"Weight of the KL divergence from the model before the round, a token." default:"0.02" group:"Learning, with --think (in place of the above)"`
}

func (f thoughtFlags) check() error {
	return errors.Join(checkCounts(count{"--think-steps", f.ThinkSteps, 1}, count{"--think-batch", f.ThinkBatch, 1}, count{"--think-group", f.ThinkGroup, 2}),
		checkAmounts(amount{"--think-rate", f.ThinkRate}, amount{"--think-beta", f.ThinkBeta}))
}

func (f thoughtFlags) options() rltrainer.ThoughtOptions {
	return rltrainer.ThoughtOptions{Steps: f.ThinkSteps, Batch: f.ThinkBatch, Group: f.ThinkGroup, Rate: f.ThinkRate, Beta: f.ThinkBeta}
}
