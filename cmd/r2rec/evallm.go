package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/r2rec/r2rec/internal/dataset"
	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/eval/live"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm/engine"
)

// evalModel says which language model ranks as lm.
type evalModel struct {
	engineFlags `embed:""`
	Adapter     string `help:"GGUF file of a LoRA adapter for the model, as r2rec lm tune writes it." type:"existingfile" placeholder:"FILE" group:"Model"`
}

// check finds flags that nobody reads; asked tells whether the language model ranks at all.
func (f evalModel) check(asked bool) error {
	for _, flag := range []struct {
		name  string
		given bool
	}{{"--model", f.Model != ""}, {"--adapter", f.Adapter != ""}, {"--readout", f.Readout != ""}, {"--prompt", f.Prompt != 0}} {
		if flag.given && !asked {
			return fmt.Errorf("%s is about the language model, which does not rank here; add lm to --ranker", flag.name)
		}
	}
	return nil
}

// promptedRanker is the language model's ranking, over a graph that it closes.
type promptedRanker struct {
	*live.Prompted
	graph *measured
	model *engine.Model // nil: another ranker closes it
}

func (r promptedRanker) Close() error {
	err := r.graph.close()
	if r.model != nil {
		err = errors.Join(err, r.model.Close())
	}
	return err
}

// lm is the language model over an empty graph, and how to begin again in a world with less data.
func (c evalCommand) lm(p *process, data *dataset.Dataset) (k contestant, err error) {
	model, err := c.engineFlags.open(engine.Options{Adapter: c.Adapter, Concurrency: 1})
	if err != nil {
		return k, err
	}
	who, err := model.Identity(p.ctx)
	if err != nil {
		return k, err
	}
	ranked := func(ctx context.Context, seen event.Context, seed uint64) ([]float64, error) {
		prompt, err := iot.Build(who.PromptVersion, seen, seed)
		if err != nil {
			return nil, err
		}
		return model.Rank(ctx, prompt)
	}
	over := func(ctx context.Context, owned *engine.Model) (eval.Ranker, error) {
		g, err := c.open(ctx, p, data.Items())
		if err != nil {
			return nil, err
		}
		g.words = iot.Worded(who.PromptVersion)
		return promptedRanker{live.NewPrompted(g, ranked), g, owned}, nil
	}
	if k.Ranker, err = over(p.ctx, model); err != nil {
		return k, errors.Join(err, model.Close())
	}
	p.log.Info("language model", "name", who.Name, "digest", who.Digest, "adapter", who.Adapter, "readout", who.Readout, "prompt", who.PromptVersion)
	k.fresh = func(ctx context.Context, _ eval.Stream) (eval.Ranker, error) { return over(ctx, nil) }
	return k, nil
}
