package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"

	"github.com/r2rec/r2rec/bench/peers"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/llama"
	"github.com/r2rec/r2rec/internal/llama/learn"
)

type benchTrainCommand struct {
	measuredBase `embed:""`
	Model        string `help:"GGUF file of a Llama-family model to train an adapter on; empty: the shape of the base model." type:"existingfile" placeholder:"FILE" group:"Model"`
	Threads      int    `help:"Threads that learn, here and at the peer; 0: one a processor." default:"0" group:"Model"`

	Rank   int `help:"Rank of the adapter, which changes the query and value layers of every block." default:"8" group:"Work"`
	Batch  int `help:"Texts a step." default:"4" group:"Work"`
	Tokens int `help:"Tokens of each text." default:"500" group:"Work"`
	Steps  int `help:"Steps to measure, after one that is not; figures are medians." default:"3" group:"Work"`

	Python string `help:"Python with PyTorch and PEFT, to compare with." default:"python3" placeholder:"PATH" group:"Peer"`

	JSON bool `help:"Figures for machines, one JSON object a line." group:"Results"`
}

// Help is shown by `r2rec bench train --help`.
func (benchTrainCommand) Help() string {
	return `Times steps of learning, forward, backward and AdamW, on texts of made-up tokens: of a LoRA adapter that learns the
last four tokens of each text, of a whole model of the base's shape that learns which of 20 lines was chosen, and of the
adapter on groups of 8 samples that answer one prompt, as reinforcement learning has them.

  r2rec bench train
  r2rec bench train --model SmolLM2-135M-Instruct.Q4_1.gguf --python venv/bin/python --json

Where the Python has PyTorch and PEFT (bench/peers/pytorch_lora.py says how to install them), it trains the same adapter
on a model of the same shape, in float32 and with as many threads.`
}

// answer is how many tokens at the end of a text are learned.
const answer = 4

func (c benchTrainCommand) check() error {
	return wrong(checkCounts(count{"--threads", c.Threads, 0}, count{"--rank", c.Rank, 1}, count{"--batch", c.Batch, 1}, count{"--tokens", c.Tokens, 2 * lines}, count{"--steps", c.Steps, 1}))
}

func (c benchTrainCommand) Run(p *process) (err error) {
	if err := c.check(); err != nil {
		return err
	}
	shown := &stages{p: p}
	defer shown.close()
	base, err := c.measuredBase.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, base.Close()) }()
	out := &benchReport{command: "bench train", machine: thisMachine()}
	name, weights, err := c.model(base.Shape(), nameOf(base))
	if err != nil {
		return err
	}
	adapter, err := c.adapter(weights)
	if err != nil {
		return err
	}
	shown.set("training an adapter", 0, 1)
	ours, err := c.time(p.ctx, adapter, c.toSay)
	if err != nil {
		return err
	}
	c.add(out, "lora_tokens_per_second", name, fmt.Sprintf("%s, rank %d on query and value layers, %d texts of %d tokens a step, the last %d learned", name, c.Rank, c.Batch, c.Tokens, answer), ours)
	whole, err := llama.New(base.Shape(), .1, 1)
	if err != nil {
		return err
	}
	all, err := whole.TrainAll()
	if err != nil {
		return err
	}
	shown.set("training a model", 0, 1)
	full, err := c.time(p.ctx, all, c.toChoose)
	if err != nil {
		return err
	}
	of := nameOf(base) + "'s shape"
	c.add(out, "full_tokens_per_second", of, fmt.Sprintf("%s, every weight, %d texts of %d tokens a step, one of %d lines learned", of, c.Batch, c.Tokens, lines), full)
	shown.set("asking PyTorch", 0, 1)
	theirs, err := peers.PyTorch(p.ctx, c.Python, c.work(weights.Config))
	switch {
	case p.ctx.Err() != nil:
		return p.ctx.Err()
	case err != nil:
		out.missing("PyTorch", err.Error())
	default:
		f := figure{Model: name, Threads: threads(c.Threads), Samples: c.Steps, Peer: theirs.Versions, Of: theirs.Versions + ", the same adapter on the same shape"}
		f.Metric, f.Unit, f.Value = "pytorch_tokens_per_second", "tokens/s", theirs.TokensPerSecond
		out.add(f)
		f.Metric, f.Unit, f.Value = "ratio_to_pytorch", "ratio", median(ours)/theirs.TokensPerSecond
		out.add(f)
	}
	if err := c.addGroups(p, shown, out, name, adapter); err != nil {
		return err
	}
	shown.close()
	return out.write(p.stdout, c.JSON)
}

func (c benchTrainCommand) add(out *benchReport, metric, model, of string, rates []float64) {
	out.add(figure{Metric: metric, Value: median(rates), Unit: "tokens/s", Model: model, Of: of, Threads: threads(c.Threads), Samples: len(rates), Best: quantile(rates, 1)})
}

// model is the one of --model, or one of the base's shape: its weights say nothing about its speed.
func (c benchTrainCommand) model(base llama.Config, name string) (string, *llama.Model, error) {
	if c.Model == "" {
		weights, err := llama.New(base, .1, 1)
		return name + "'s shape", weights, err
	}
	file, err := gguf.Open(c.Model)
	if err != nil {
		return "", nil, fmt.Errorf("--model: %w", err)
	}
	weights, err := llama.Load(file, true)
	if err := errors.Join(err, file.Close()); err != nil {
		return "", nil, fmt.Errorf("--model %s: %w", c.Model, err)
	}
	return filepath.Base(c.Model), weights, nil
}

// adapter is a LoRA adapter over the query and value layers, at its start.
func (c benchTrainCommand) adapter(m *llama.Model) (*llama.Trainable, error) {
	r := rand.New(rand.NewPCG(1, 0))
	var changes []llama.LowRank
	for layer := range m.Layers {
		for _, name := range []string{"attn_q", "attn_v"} {
			out, in := m.LinearShape(name)
			change := llama.LowRank{Target: fmt.Sprintf("blk.%d.%s", layer, name), Rank: c.Rank, Scale: 2, A: make([]float32, c.Rank*in), B: make([]float32, out*c.Rank)}
			for i := range change.A {
				change.A[i] = float32(.02 * r.NormFloat64())
			}
			changes = append(changes, change)
		}
	}
	return m.TrainChanges(changes)
}

// time gives the tokens a second of some steps.
func (c benchTrainCommand) time(ctx context.Context, t *llama.Trainable, example func(*rand.Rand, llama.Config) learn.Example) ([]float64, error) {
	trainer, err := learn.New(t, learn.Options{Optimiser: learn.AdamW{Rate: 1e-4}, Workers: threads(c.Threads)})
	if err != nil {
		return nil, err
	}
	var rates []float64
	for step := range 1 + c.Steps {
		r := rand.New(rand.NewPCG(2, uint64(step)))
		batch := make([]learn.Example, c.Batch)
		for i := range batch {
			batch[i] = example(r, t.Config)
		}
		start := time.Now()
		report, err := trainer.Step(ctx, batch)
		if err != nil {
			return nil, err
		}
		if step > 0 { // the first makes the memory
			rates = append(rates, float64(report.Tokens)/time.Since(start).Seconds())
		}
	}
	return rates, nil
}

func (c benchTrainCommand) randomText(r *rand.Rand, shape llama.Config) []int32 {
	return randomTokens(r, shape.Vocabulary, c.Tokens)
}

// toSay learns the last tokens of a text, each from those before it.
func (c benchTrainCommand) toSay(r *rand.Rand, shape llama.Config) learn.Example {
	e := learn.Example{Tokens: c.randomText(r, shape)}
	for i := c.Tokens - answer; i < c.Tokens; i++ {
		e.Want = append(e.Want, i-1)
	}
	e.Loss = learn.NextToken(e.Tokens[c.Tokens-answer:])
	return e
}

// lines is how many places of a text are scored where one is learned to be chosen.
const lines = 20

// toChoose learns the choice of one of some lines of a text, as the base model is made.
func (c benchTrainCommand) toChoose(r *rand.Rand, shape llama.Config) learn.Example {
	e := learn.Example{Tokens: c.randomText(r, shape), IDs: []int32{0, 1}, Loss: learn.Lines(learn.Chosen(r.IntN(lines)))}
	for i := range lines {
		e.Want = append(e.Want, (i+1)*c.Tokens/lines-1)
	}
	return e
}

// work is the same for PyTorch.
func (c benchTrainCommand) work(shape llama.Config) peers.LoRA {
	return peers.LoRA{
		Vocabulary: shape.Vocabulary, Dim: shape.Dim, Layers: shape.Layers, Heads: shape.Heads, KVHeads: shape.KVHeads, HeadDim: shape.HeadDim,
		FeedForward: shape.FeedForward, Tied: shape.Tied,
		Rank: c.Rank, Batch: c.Batch, Tokens: c.Tokens, Answer: answer, Steps: c.Steps, Threads: threads(c.Threads),
	}
}
