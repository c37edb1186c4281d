package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/dataset"
	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/rltrainer"
	"golang.org/x/sync/errgroup"
)

type benchLMCommand struct {
	measuredBase `embed:""`
	Model        string `help:"GGUF file of a Llama-family model to read and write text with; empty: the shape of the base model, on made-up tokens." type:"existingfile" placeholder:"FILE" group:"Model"`
	Threads      int    `help:"Threads that read and write text; 0: one a processor. A recommendation always takes one." default:"0" group:"Model"`

	Requests int `help:"Recommendations to measure, each of another context." default:"400" group:"Work"`
	Events   int `help:"Interactions of the bundled data set that make the graph from which the contexts are read; 0: all." default:"30000" group:"Work"`
	Prompt   int `help:"Tokens of a text that is read." default:"600" group:"Work"`
	Generate int `help:"Tokens that are written after it." default:"64" group:"Work"`
	Runs     int `help:"Texts to measure with; figures are medians." default:"5" group:"Work"`

	Ollama      string `help:"URL of an Ollama server to compare with. Given here alone, not in --config." explicit:"" placeholder:"URL" group:"Peer"`
	OllamaModel string `help:"The model of --model, as that server names it." placeholder:"NAME" group:"Peer"`

	JSON bool `help:"Figures for machines, one JSON object a line." group:"Results"`
}

// Help is shown by `r2rec bench lm --help`.
func (benchLMCommand) Help() string {
	return `Streams a part of the bundled data set through a graph within this process, reads the contexts of many users from it,
and times what a recommendation takes from a context on: building the prompt, tokenizing, reading, shares of the 20
candidates. Then reads and writes text, again with two thirds of it kept from the text before, and times the products of
matrices beside a loop of multiply-adds that nothing on the core can beat.

  r2rec bench lm
  r2rec bench lm --model SmolLM2-135M-Instruct.Q4_1.gguf --ollama http://127.0.0.1:11434 --ollama-model smollm2:135m --json

The engine keeps quantized weights as they are and computes in float32 with the numbers that they stand for; an Ollama
also rounds what is multiplied with them.`
}

func (c benchLMCommand) check() error {
	if err := checkCounts(count{"--threads", c.Threads, 0}, count{"--requests", c.Requests, 1}, count{"--events", c.Events, 0}, count{"--prompt", c.Prompt, 3}, count{"--generate", c.Generate, 1}, count{"--runs", c.Runs, 1}); err != nil {
		return wrong(err)
	}
	switch {
	case (c.Ollama == "") != (c.OllamaModel == ""):
		return misuse("--ollama and --ollama-model belong together: the server, and what it calls the model")
	case c.Ollama != "" && c.Model == "":
		return misuse("--ollama needs --model FILE: both must run the same model to be compared")
	}
	return nil
}

func (c benchLMCommand) Run(p *process) (err error) {
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
	contexts, err := benchContexts(p, shown, c.Events, c.Requests)
	if err != nil {
		return err
	}
	out := &benchReport{command: "bench lm", machine: thisMachine()}
	if err := c.recommend(p.ctx, out, shown, base, contexts); err != nil {
		return err
	}
	s, err := c.speaker(base, contexts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := c.speak(p.ctx, out, shown, s); err != nil {
		return err
	}
	shown.set("multiplying matrices", 0, 1)
	c.products(out, "", s.name, s.weights.Config)
	if c.Model != "" {
		c.products(out, "base_", nameOf(base), base.Shape())
	}
	if err := p.ctx.Err(); err != nil {
		return err
	}
	shown.close()
	return out.write(p.stdout, c.JSON)
}

// benchContexts are what a graph of the first events of the bundled data set knows of users when they chose something, n
// at most: the later of these moments.
func benchContexts(p *process, shown *stages, first, n int) (contexts []event.Context, err error) {
	data, err := dataset.Bundled()
	if err != nil {
		return nil, err
	}
	events := firstEvents(data.Interactions(), first)
	cases, err := eval.Draw(events, event.Latest, 2*n, 1) // as many as it finds about the number
	if err == nil && len(cases) == 0 {
		err = errors.New("no choice in them can be asked about: give more, or 0 for all")
	}
	if err != nil {
		return nil, misuse("--events %d: %w", first, err)
	}
	cases = cases[max(0, len(cases)-n):]
	o := evalGraph{History: graphcache.DefaultRead.History, ItemList: graphcache.DefaultRead.ItemList, Met: graphcache.DefaultRead.Met, Positive: 4, Negative: 2}
	graph, err := o.open(p.ctx, p, data.Items())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, graph.close()) }()
	graph.words = true
	examples, err := rltrainer.Ask(p.ctx, graph, events, cases, func(done, total int) { shown.set("reading contexts", done, total) })
	for _, e := range examples {
		contexts = append(contexts, e.Context)
	}
	return contexts, err
}

// firstEvents cuts a stream of events after so many; 0: nowhere.
func firstEvents(events eval.Stream, n int) eval.Stream {
	if n == 0 {
		return events
	}
	return func(yield func(event.Interaction, error) bool) {
		left := n
		for in, err := range events {
			if left == 0 || !yield(in, err) {
				return
			}
			left--
		}
	}
}

func nameOf(m *engine.Model) string {
	who, _ := m.Identity(context.Background()) // a model within the process always knows
	return who.Name
}

// recommend times recommendations: of one caller, and then of two at once.
func (c benchLMCommand) recommend(ctx context.Context, out *benchReport, shown *stages, m *engine.Model, contexts []event.Context) error {
	who, err := m.Identity(ctx)
	if err != nil {
		return err
	}
	one := func(i int) error {
		prompt, err := iot.Build(who.PromptVersion, contexts[i], uint64(i))
		if err != nil {
			return err
		}
		_, err = m.Rank(ctx, prompt)
		return err
	}
	for i := range min(20, len(contexts)) { // memory and tables that only the first need
		if err := one(i); err != nil {
			return err
		}
	}
	var ms []float64
	for i := range contexts {
		shown.set("recommending", i, len(contexts))
		start := time.Now()
		if err := one(i); err != nil {
			return err
		}
		ms = append(ms, time.Since(start).Seconds()*1000)
	}
	out.add(figure{Metric: "recommendation_ms", Value: median(ms), Unit: "ms", Model: who.Name, Threads: 1, Samples: len(ms), P90: quantile(ms, .9), P99: quantile(ms, .99),
		Of: fmt.Sprintf("%s, prompt to shares of %d candidates, %d contexts (goal: 3 ms)", who.Name, len(contexts[0].Candidates), len(contexts))})
	start := time.Now()
	group := new(errgroup.Group)
	for caller := range 2 {
		group.Go(func() error {
			for i := caller; i < len(contexts); i += 2 {
				if err := one(i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	out.add(figure{Metric: "recommendations_per_second_2", Value: float64(len(contexts)) / time.Since(start).Seconds(), Unit: "1/s", Model: who.Name, Threads: 2,
		Samples: len(contexts), Of: who.Name + ", two callers, one thread each"})
	return nil
}

// products adds what the matrix products of a model's layers reach, and which share of the core's peak that is.
func (c benchLMCommand) products(out *benchReport, prefix, name string, shape llama.Config) {
	rate, peak := products(shape, c.Prompt, 10*c.Runs)
	what := fmt.Sprintf("%s, the products of one block on %d rows, float32, weights in the cache", name, c.Prompt)
	out.add(figure{Metric: prefix + "gflops", Value: rate / 1e9, Unit: "GFLOP/s", Model: name, Threads: 1, Samples: 10 * c.Runs, Of: what})
	out.add(figure{Metric: prefix + "peak_share", Value: rate / peak, Unit: "share", Model: name, Threads: 1, Samples: 10 * c.Runs,
		Of: fmt.Sprintf("of the core's %s GFLOP/s, multiply-adds in registers", decimal(peak/1e9))})
}
