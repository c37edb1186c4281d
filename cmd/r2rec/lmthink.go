package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"

	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/rltrainer"
)

type lmThinkCommand struct {
	pastCasesIfWanted `embed:""`
	decisions         `embed:""`
	AdapterOut        string `help:"Write the adapter to this GGUF file." required:"" type:"path" placeholder:"FILE" group:"Data"`

	Model   string `help:"GGUF file of the model." required:"" type:"existingfile" placeholder:"FILE" group:"Model"`
	Adapter string `help:"Adapter to go on from, as r2rec lm tune --texts writes it; without one the model hardly ever writes what can be rewarded." type:"existingfile" placeholder:"FILE" group:"Model"`

	Steps      int     `help:"Steps of learning." default:"50" group:"Learning"`
	Batch      int     `help:"Questions a step." default:"4" group:"Learning"`
	Group      int     `help:"Replies that are written to each question." default:"8" group:"Learning"`
	MostTokens int     `help:"Tokens of a reply, at most." default:"96" group:"Learning"`
	Rate       float64 `help:"Rate of learning: warmed up over 20 steps or a fifth of all, full up to 30 % of all, then falling to 3 % of itself." default:"2e-4" group:"Learning"`
	Beta       float64 `help:"Weight of the KL divergence from the model as it began, a token." default:"0.02" group:"Learning"`
	Rank       int     `help:"Rank of the adapter; one that goes on keeps its own." default:"8" group:"Learning"`
	Threads    int     `help:"Questions worked on at once. The weights depend on it, as on the seed." default:"2" group:"Learning"`
	Seed       uint64  `help:"Seed of what is drawn: cases, order, replies, the adapter's start." default:"1" group:"Learning"`

	checkpointFlags `embed:"" set:"checkpoint_every=5"`
}

// Help is shown by `r2rec lm think --help`.
func (lmThinkCommand) Help() string {
	return `Reinforcement learning of thoughts (GRPO): to each question the model writes a group of replies, a thought and an answer. A
reply earns 1 if its answer is what the user chose, and up to .2 for being grounded and well formed; what earns more than
the mean of its group becomes likelier, what earns less unlikelier, and all of it stays near where it began.

With --decisions the questions are what a server was asked, and a reply earns what its answer is worth by what became of
the server's own (the rewards in Kafka, doubly robust). --model is the one that the server runs, whichever adapter decided.

  r2rec lm traces ... --out traces.jsonl
  r2rec lm tune --texts traces.jsonl --model M.gguf --readout letters --prompt 3 --adapter-out thinks.gguf
  r2rec lm think --events events.csv --items items.csv --fit-before 1436920119 --model M.gguf --adapter thinks.gguf --adapter-out better.gguf
  r2rec lm think --decisions --kafka kafka:9092 --model M.gguf --adapter better.gguf --adapter-out clicked.gguf
  r2rec eval ... --ranker lm --model M.gguf --adapter better.gguf --think 96

Each step tells reward, what answers were worth (of past events: the share of right ones), how much is grounded, the KL divergence, and how many groups had no
spread and so taught nothing. --checkpoint FILE makes a long run one that can be ended at any time.`
}

func (c lmThinkCommand) Run(p *process) (err error) {
	l := learning{checkpointFlags: c.checkpointFlags, steps: c.Steps, batch: c.Batch, threads: c.Threads, rate: c.Rate, seed: c.Seed, out: c.AdapterOut, outFlag: "--adapter-out"}
	if err := errors.Join(c.checkQuestions(), l.check(), wrong(checkCounts(count{"--group", c.Group, 2}, count{"--most-tokens", c.MostTokens, 1}, count{"--rank", c.Rank, 1}))); err != nil {
		return err
	}
	if !(c.Beta > 0) || math.IsInf(c.Beta, 0) {
		return misuse("--beta %v: want more than 0", c.Beta)
	}
	options := engine.Options{Path: c.Model, Readout: engine.Letters, PromptVersion: iot.Thoughts}
	trainable := options
	trainable.Trainable = true
	model, err := engine.Open(trainable)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	options.Adapter = c.Adapter
	reference, err := engine.Open(options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reference.Close()) }()
	who, err := reference.Identity(p.ctx)
	if err != nil {
		return err
	}
	shown := &stages{p: p}
	defer shown.close()
	questions, before, learned, err := c.questions(p, shown, who)
	if err != nil {
		return err
	}
	digest, err := rltrainer.Digest(questions)
	if err != nil {
		return err
	}
	adapter := engine.AdapterOptions{From: c.Adapter, Seed: c.Seed, Note: fmt.Sprintf("thoughts rewarded for what happened before %s", before), LearnedEvents: learned}
	if c.Adapter == "" {
		adapter.Rank = c.Rank
	}
	adapter.Learn = l.options(fmt.Sprintf("lm think --steps %d --batch %d --group %d --most-tokens %d --beta %v --seed %d, model %.12s with %.12q, questions %.12s",
		c.Steps, c.Batch, c.Group, c.MostTokens, c.Beta, c.Seed, who.Digest, who.Adapter, digest))
	learner, err := model.NewAdapter(adapter)
	if err != nil {
		return err
	}
	o := rltrainer.ThinkOptions{Steps: c.Steps, Batch: c.Batch, Beta: c.Beta, Group: c.Group, MostTokens: c.MostTokens, Workers: c.Threads, Seed: c.Seed}
	err = l.run(p, shown, learner, func(ctx context.Context, from int, told func(lm.Progress) error) error {
		o.From = from
		o.Told = func(s rltrainer.ThinkStep) error {
			shown.close()
			p.log.Info("thinking", "step", s.Step, "reward", round(s.Reward), "worth", round(s.Worth), "answered", round(s.Answered), "grounded", round(s.Grounded),
				"tokens", round(s.Length), "kl", fmt.Sprintf("%.5f", s.KL), "clipped", round(s.Clipped), "flat_groups", s.Flat, "gradient", round(s.Gradient))
			return told(s.Progress)
		}
		return rltrainer.Think(ctx, thinkingLearner{learner, learner.Writer()}, reference, questions, o)
	}, nil)
	if err != nil {
		return err
	}
	if file := c.inputFile(); file != "" {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("--checkpoint: %w", err)
		}
	}
	p.log.Info("adapter written", "file", c.AdapterOut, "model", who.Name)
	return nil
}

// thinkingLearner writes as it is, and learns from it.
type thinkingLearner struct {
	lm.TextLearner
	lm.Writer
}
