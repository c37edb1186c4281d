package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/eval/live"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama"
	"github.com/r2rec/r2rec/internal/llama/token"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/rltrainer"
)

type lmPretrainCommand struct {
	Out string `help:"Write the model to this GGUF file." required:"" type:"path" placeholder:"FILE"`

	Worlds  int     `help:"Synthetic worlds to make." default:"160" group:"Data"`
	Cases   int     `help:"About so many cases from each." default:"120" group:"Data"`
	Hold    int     `help:"Of these, so many are not learned from, but measured with." default:"8" group:"Data"`
	Steps   int     `help:"Steps of learning." default:"900" group:"Learning"`
	Batch   int     `help:"Cases a step." default:"64" group:"Learning"`
	Rate    float64 `help:"Rate of learning: warmed up over 20 steps or a fifth of all, full up to 30 % of all, then falling to 3 % of itself." default:"2e-3" group:"Learning"`
	Threads int     `help:"Cases worked on at once. The weights depend on it, as on the seed." default:"2" group:"Learning"`
	Seed    uint64  `help:"Seed of worlds, weights and order. The same seed gives the same file on the same kind of processor." default:"1" group:"Learning"`

	checkpointFlags `embed:"" set:"checkpoint_every=100"`

	Dim         int `help:"Width of the model." default:"64" group:"Shape"`
	Layers      int `help:"Layers." default:"2" group:"Shape"`
	Heads       int `help:"Attention heads, which share one head of keys and values." default:"4" group:"Shape"`
	FeedForward int `help:"Units of each feed-forward layer." default:"128" group:"Shape"`
	Vocabulary  int `help:"Tokens of the vocabulary, which is made from the prompts." default:"512" group:"Shape"`
}

// Help is shown by `r2rec lm pretrain --help`.
func (lmPretrainCommand) Help() string {
	return `Makes synthetic worlds (users with drifting tastes, items whose popularity rises and falls), streams each through a
graph as a server would, draws cases by the rule of the evaluation, and trains a small language model from nothing
to read the digits of the prompt, latent factors among them where the world has any. It learns to weigh evidence and
knows no real item. With the flags at their defaults it makes the model that travels with the program.

  r2rec lm pretrain --out base.gguf
  r2rec eval --events events.csv --items items.csv --cases valid.jsonl --ranker lm --model base.gguf
  r2rec demo --model base.gguf

--checkpoint FILE keeps the learning, not the worlds, of a run that is ended: the same command makes the worlds again and
learns on where it stood.`
}

func (c lmPretrainCommand) Run(p *process) error {
	l := c.learning()
	if err := errors.Join(c.check(), l.check()); err != nil {
		return err
	}
	shown := &stages{p: p}
	defer shown.close()
	begun := time.Now()
	learnFrom, held, err := c.examples(p, shown)
	if err != nil {
		return err
	}
	shown.close()
	p.log.Info("worlds made and asked", "examples", len(learnFrom), "held", len(held), "took", time.Since(begun).Round(time.Second))
	vocabulary, err := c.vocabulary(texts(learnFrom))
	if err != nil {
		return err
	}
	digest, err := rltrainer.Digest(learnFrom)
	if err != nil {
		return err
	}
	learner, err := engine.NewModel(engine.ModelOptions{
		Name: engine.BaseName, Spread: .1, Seed: c.Seed, Tokens: vocabulary, PromptVersion: iot.FullFigures, Readout: engine.Lines,
		Shape: c.shape(), Extra: c.card(),
		Learn: l.options(fmt.Sprintf("lm pretrain --worlds %d --hold %d --cases %d --steps %d --batch %d --seed %d, examples %.12s", c.Worlds, c.Hold, c.Cases, c.Steps, c.Batch, c.Seed, digest)),
	})
	if err != nil {
		return err
	}
	err = l.run(p, shown, learner, l.fit(learner, learnFrom, iot.FullFigures), func(ctx context.Context) ([]any, error) {
		score, err := rltrainer.Measure(ctx, learner, held, iot.FullFigures)
		return []any{"held_cross_entropy", round(score.CrossEntropy), "held_hr1", round(score.HR1), "held", score.Examples}, err
	})
	if err != nil {
		return err
	}
	p.log.Info("model written", "file", c.Out, "took", time.Since(begun).Round(time.Second))
	return nil
}

func (c lmPretrainCommand) learning() learning {
	return learning{checkpointFlags: c.checkpointFlags, steps: c.Steps, batch: c.Batch, threads: c.Threads, rate: c.Rate, decay: .05, seed: c.Seed, out: c.Out, outFlag: "--out"}
}

// maxParameters is more than a reader of digits has any use for.
const maxParameters = 100_000_000

// check finds what is wrong with the flags before anything takes time.
func (c lmPretrainCommand) check() error {
	switch {
	case c.Worlds > rltrainer.MaxWorlds:
		return misuse("--worlds %d: want at most %d", c.Worlds, rltrainer.MaxWorlds)
	case c.Hold < 1 || c.Worlds <= c.Hold:
		return misuse("--worlds %d, --hold %d: some worlds must be held, and some left to learn from", c.Worlds, c.Hold)
	case c.Cases < 1:
		return misuse("--cases %d: want 1 or more", c.Cases)
	case c.Seed > math.MaxUint32:
		return misuse("--seed %d: want at most %d", c.Seed, uint32(math.MaxUint32))
	case c.Heads < 1 || c.Dim%c.Heads != 0:
		return misuse("--dim %d, --heads %d: the width must divide evenly among the heads", c.Dim, c.Heads)
	}
	shape := c.shape()
	if err := shape.Check(); err != nil {
		return misuse("--dim %d, --layers %d, --heads %d, --feed-forward %d, --vocabulary %d: %w", c.Dim, c.Layers, c.Heads, c.FeedForward, c.Vocabulary, err)
	}
	if n := shape.Parameters(); n > maxParameters {
		return misuse("--dim %d, --layers %d, --feed-forward %d, --vocabulary %d: that is a model of %d parameters, want at most %d",
			c.Dim, c.Layers, c.FeedForward, c.Vocabulary, n, maxParameters)
	}
	_, err := c.vocabulary(func(func(string) bool) {})
	return err
}

func (c lmPretrainCommand) shape() llama.Config {
	head := c.Dim / max(1, c.Heads)
	return llama.Config{Vocabulary: c.Vocabulary, Dim: c.Dim, Layers: c.Layers, Heads: c.Heads, KVHeads: 1, HeadDim: head, FeedForward: c.FeedForward,
		Context: 4096, Epsilon: 1e-5, Tied: true, Rope: llama.Rope{Base: 100, Dims: head}}
}

func (c lmPretrainCommand) vocabulary(texts iter.Seq[string]) (token.Vocabulary, error) {
	v, err := token.Train(texts, c.Vocabulary, token.TrainOptions{Required: slices.Concat([]string{" yes", " no"}, spacedLetters())})
	if err != nil {
		return v, misuse("--vocabulary %d: %w", c.Vocabulary, err)
	}
	return v, nil
}

// card is what the file says about itself.
func (c lmPretrainCommand) card() *gguf.Metadata {
	meta := new(gguf.Metadata)
	gguf.Set(meta, "general.description", fmt.Sprintf("Reads the evidence digits of r2rec's prompts. Trained from nothing on %d synthetic worlds, %d steps of %d cases, seed %d; it has seen no real data.",
		c.Worlds-c.Hold, c.Steps, c.Batch, c.Seed))
	return meta
}

// examples are those to learn from and, from other worlds, those to measure with.
func (c lmPretrainCommand) examples(p *process, shown *stages) (learnFrom, held []rltrainer.Example, err error) {
	graph := evalGraph{History: graphcache.DefaultRead.History, ItemList: graphcache.DefaultRead.ItemList, Met: graphcache.DefaultRead.Met, Positive: 4, Negative: 2}
	made := func(what string, first uint64, n int) ([]rltrainer.Example, error) {
		return rltrainer.FromWorlds(p.ctx, rltrainer.WorldOptions{
			Worlds: n, Cases: c.Cases, Seed: first,
			Open: func(ctx context.Context, seed uint64, items []event.Item) (rltrainer.WorldGraph, error) {
				g, err := graph.open(ctx, p, known(items))
				if err != nil {
					return nil, err
				}
				return pretrained{live.Grow(g, live.GrowOptions{NoFactors: seed%withoutFactors == 0}), g}, nil
			},
			Told: func(done, total, _ int) { shown.set(what, done, total) },
		})
	}
	first := c.Seed << 32 // so that different seeds share no world
	if held, err = made("worlds to measure with", first, c.Hold); err != nil {
		return nil, nil, err
	}
	learnFrom, err = made("worlds to learn from", first+uint64(c.Hold), c.Worlds-c.Hold)
	return learnFrom, held, err
}

// withoutFactors is one in so many worlds where nobody learns latent factors, as nobody has to.
const withoutFactors = 4

// pretrained is a world's graph.
type pretrained struct {
	*live.Growing
	graph *measured
}

func (g pretrained) Close() error { return g.graph.close() }

// known gives items as a data set does.
func known(items []event.Item) iter.Seq2[event.Item, error] {
	return func(yield func(event.Item, error) bool) {
		for _, it := range items {
			if !yield(it, nil) {
				return
			}
		}
	}
}

// texts to make a vocabulary from: prompts of two versions, so that titles too are not read byte by byte.
func texts(examples []rltrainer.Example) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i, e := range examples[:min(2000, len(examples))] {
			for _, version := range []int{iot.FullFigures, iot.Words} {
				prompt, err := iot.Build(version, e.Context, uint64(i))
				if err == nil && !yield(prompt.Text) {
					return
				}
			}
		}
	}
}

func spacedLetters() []string {
	var letters []string
	for i := range iot.MaxCandidates {
		letters = append(letters, " "+string(rune('A'+i)))
	}
	return letters
}
