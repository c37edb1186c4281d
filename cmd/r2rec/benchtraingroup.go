package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/r2rec/r2rec/bench/peers"
	"github.com/r2rec/r2rec/internal/llama"
	"github.com/r2rec/r2rec/internal/llama/learn"
)

// A group as GRPO learns from it: replies to one prompt.
const (
	groupPrompt  = 400
	groupSamples = 8
	groupTokens  = 64
)

// groups times steps on groups, in turns with the prompt read once and with each sample after a prompt of its own: samples
// a second of both.
func (c benchTrainCommand) groups(ctx context.Context, t *llama.Trainable) (together, alone []float64, err error) {
	trainer, err := learn.New(t, learn.Options{Optimiser: learn.AdamW{Rate: 1e-4}, Workers: threads(c.Threads)})
	if err != nil {
		return nil, nil, err
	}
	for step := range 1 + c.Steps {
		r := rand.New(rand.NewPCG(3, uint64(step)))
		var grouped, apart []learn.Example
		for range threads(c.Threads) { // a group for each, so that none is idle
			prompt := randomTokens(r, t.Vocabulary, groupPrompt)
			ways := make([]learn.Continuation, groupSamples)
			for i := range ways {
				ways[i].Tokens = randomTokens(r, t.Vocabulary, groupTokens)
			}
			for i := range ways {
				e, err := learn.Continue(prompt, ways[i:i+1])
				if err != nil {
					return nil, nil, err
				}
				apart = append(apart, e)
			}
			e, err := learn.Continue(prompt, ways)
			if err != nil {
				return nil, nil, err
			}
			grouped = append(grouped, e)
		}
		for _, turn := range []struct {
			batch []learn.Example
			rates *[]float64
		}{{grouped, &together}, {apart, &alone}} {
			start := time.Now()
			if _, err := trainer.Step(ctx, turn.batch); err != nil {
				return nil, nil, err
			}
			if step > 0 { // the first makes the memory
				*turn.rates = append(*turn.rates, float64(len(apart))/time.Since(start).Seconds())
			}
		}
	}
	return together, alone, nil
}

func randomTokens(r *rand.Rand, vocabulary, n int) []int32 {
	tokens := make([]int32, n)
	for i := range tokens {
		tokens[i] = r.Int32N(int32(vocabulary))
	}
	return tokens
}

// addGroups measures groups here and, where it is installed, by PyTorch, which reads the prompt anew for each sample.
func (c benchTrainCommand) addGroups(p *process, shown *stages, out *benchReport, name string, t *llama.Trainable) error {
	shown.set("training on groups", 0, 1)
	together, alone, err := c.groups(p.ctx, t)
	if err != nil {
		return err
	}
	of := fmt.Sprintf("%s, the same adapter, groups of %d samples of %d tokens on a prompt of %d", name, groupSamples, groupTokens, groupPrompt)
	f := figure{Metric: "group_samples_per_second", Value: median(together), Unit: "samples/s", Model: name, Of: of + ", which is read once", Threads: threads(c.Threads), Samples: len(together), Best: quantile(together, 1)}
	out.add(f)
	f.Metric, f.Of, f.Value, f.Best = "group_alone_samples_per_second", of+", which is read for each", median(alone), quantile(alone, 1)
	out.add(f)
	ratios := make([]float64, len(together))
	for i := range ratios {
		ratios[i] = together[i] / alone[i]
	}
	f.Metric, f.Unit, f.Of, f.Value, f.Best = "group_speedup", "ratio", of+", the prompt read once, over each sample alone, in turns", median(ratios), 0
	out.add(f)
	shown.set("asking PyTorch about groups", 0, 1)
	work := c.work(t.Config)
	work.Batch, work.Tokens, work.Answer = groupSamples, groupPrompt+groupTokens, groupTokens
	theirs, err := peers.PyTorch(p.ctx, c.Python, work)
	switch {
	case p.ctx.Err() != nil:
		return p.ctx.Err()
	case errors.Is(err, peers.ErrNotInstalled): // it was named as missing before
		return nil
	case err != nil:
		out.missing("PyTorch on groups", err.Error())
		return nil
	}
	f.Metric, f.Of, f.Peer, f.Value = "group_ratio_to_pytorch", of+"; the peer reads the prompt for each", theirs.Versions, median(together)/(theirs.TokensPerSecond/float64(work.Tokens))
	out.add(f)
	return nil
}
