package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/r2rec/r2rec/internal/dataset"
	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/eval/live"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm"
	"github.com/r2rec/r2rec/internal/lm/engine"
)

// evalModel says which language model ranks as lm.
type evalModel struct {
	engineFlags `embed:""`
	Adapter     string `help:"GGUF file of a LoRA adapter for the model, as r2rec lm tune writes it." type:"existingfile" placeholder:"FILE" group:"Model"`
	Ollama      string `help:"URL of an Ollama server that runs --model, the GGUF file of a base model, and --adapter, by letters or verdicts, as r2rec serve has it; what is made there is deleted afterwards. Given here alone, not in --config." explicit:"" placeholder:"URL" group:"Model"`
	Think       int    `help:"Have the model write a thought of at most so many tokens before it answers, for models that read prompt 3 by letters; 0: it answers at once." placeholder:"TOKENS" group:"Model"`
}

// check finds flags that nobody reads; asked tells whether the language model ranks at all.
func (f evalModel) check(asked bool) error {
	for _, flag := range []struct {
		name  string
		given bool
	}{{"--model", f.Model != ""}, {"--adapter", f.Adapter != ""}, {"--readout", f.Readout != ""}, {"--prompt", f.Prompt != 0}, {"--ollama", f.Ollama != ""}, {"--think", f.Think != 0}} {
		if flag.given && !asked {
			return misuse("%s is about the language model, which does not rank here; add lm to --ranker", flag.name)
		}
	}
	if f.Ollama != "" && f.Model == "" {
		return misuse("--ollama: name the GGUF file of the base model by --model; r2rec puts it there")
	}
	if f.Ollama != "" && f.Readout != "" && f.Readout != string(engine.Letters) && f.Readout != string(engine.Verdicts) {
		return misuse("--ollama with --readout %s: a server tells %s and %s only", f.Readout, engine.Letters, engine.Verdicts)
	}
	if f.Think < 0 {
		return misuse("--think %d: want tokens, or 0 for no thought", f.Think)
	}
	return nil
}

// promptedRanker is the language model's ranking, over a graph that it closes.
type promptedRanker struct {
	*live.Prompted
	graph *measured
	model io.Closer // nil: another ranker closes it
	tell  func()    // at the end
}

func (r promptedRanker) Close() error {
	r.tell()
	err := r.graph.close()
	if r.model != nil {
		err = errors.Join(err, r.model.Close())
	}
	return err
}

// thoughtCount counts what a model wrote before it answered.
type thoughtCount struct {
	asked, grounded, lines int
	shortened, borneOut    int // lines whose end was cut off; lines that name a category which the catalogue bears out
	dropped                map[iot.Fault]int
}

func (t *thoughtCount) add(r iot.Reply, c event.Context) {
	t.asked++
	if len(r.Thought.Steps) > 0 {
		t.grounded++
	}
	t.shortened += r.Shortened
	t.lines += len(r.Thought.Steps) + len(r.Dropped)
	t.borneOut += iot.BorneOut(r.Thought, c)
	for _, err := range r.Dropped {
		var why *iot.UngroundedError
		if errors.As(err, &why) {
			t.dropped[why.Fault]++
		}
	}
}

// lm is the language model over an empty graph, and how to begin again in a world with less data.
func (c evalCommand) lm(p *process, data *dataset.Dataset, cases []eval.Case) (k contestant, err error) {
	if c.Adapter != "" {
		if _, says, err := adapterSays(c.Adapter); err == nil { // otherwise who opens it says what is wrong
			adapter := schooling{"--adapter " + c.Adapter, says.LearnedEvents, ", or learn another by an earlier --fit-before", slog.LevelWarn}
			if k.taught, err = c.untaught(p, adapter, data, cases); err != nil {
				return k, err
			}
		}
	}
	model, err := c.openModel(p)
	if err != nil {
		return k, err
	}
	who, err := model.Identity(p.ctx)
	if err != nil {
		return k, errors.Join(err, model.Close())
	}
	if c.Think > 0 {
		if err := lm.CheckThinks(who.Readout, who.PromptVersion); err != nil {
			return k, errors.Join(fmt.Errorf("--think %d: %w; add --prompt %d --readout letters, for a model that was taught nothing else", c.Think, err, iot.Thoughts), model.Close())
		}
	}
	thought := &thoughtCount{dropped: map[iot.Fault]int{}}
	ranked := func(ctx context.Context, seen event.Context, seed uint64) ([]float64, error) {
		prompt, err := iot.Build(who.PromptVersion, seen, seed)
		if err != nil {
			return nil, err
		}
		if c.Think == 0 {
			return model.Rank(ctx, prompt)
		}
		reply, shares, err := lm.Thinker{Writer: model, Ranker: model, Most: c.Think}.Think(ctx, seen, prompt)
		thought.add(reply, seen)
		return shares, err
	}
	tell := func() {
		if thought.asked > 0 {
			p.log.Info("thoughts", "asked", thought.asked, "with_a_grounded_line", thought.grounded, "lines", thought.lines, "shortened", thought.shortened, "borne_out_by_categories", thought.borneOut, "dropped", thought.dropped)
		}
	}
	grow, err := c.grow(!iot.Factored(who.PromptVersion))
	if err != nil {
		return k, errors.Join(err, model.Close())
	}
	over := func(ctx context.Context, owned io.Closer) (eval.Ranker, error) {
		g, err := c.open(ctx, p, data.Items())
		if err != nil {
			return nil, err
		}
		g.words, g.learn = iot.Worded(who.PromptVersion), c.factorFlags.options(c.Seed)
		return promptedRanker{live.NewPrompted(live.Grow(g, grow), ranked), g, owned, tell}, nil
	}
	if k.Ranker, err = over(p.ctx, model); err != nil {
		return k, errors.Join(err, model.Close())
	}
	p.log.Info("language model", "name", who.Name, "digest", who.Digest, "adapter", who.Adapter, "readout", who.Readout, "prompt", who.PromptVersion)
	k.fresh = func(ctx context.Context, _ eval.Stream) (eval.Ranker, error) { return over(ctx, nil) }
	return k, nil
}
