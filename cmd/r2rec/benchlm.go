package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"path/filepath"
	"slices"
	"time"

	"github.com/r2rec/r2rec/bench/peers"
	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/dataset"
	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama"
	"github.com/r2rec/r2rec/internal/llama/token"
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

	Ollama      string `help:"URL of an Ollama server to compare with." placeholder:"URL" group:"Peer"`
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

The engine computes in float32 whatever the file holds; an Ollama computes with the file's own quantized numbers.`
}

func (c benchLMCommand) check() error {
	for _, flag := range []struct {
		name         string
		value, least int
	}{{"--threads", c.Threads, 0}, {"--requests", c.Requests, 1}, {"--events", c.Events, 0}, {"--prompt", c.Prompt, 3}, {"--generate", c.Generate, 1}, {"--runs", c.Runs, 1}} {
		if flag.value < flag.least {
			return fmt.Errorf("%s %d: want %d or more", flag.name, flag.value, flag.least)
		}
	}
	switch {
	case (c.Ollama == "") != (c.OllamaModel == ""):
		return errors.New("--ollama and --ollama-model belong together: the server, and what it calls the model")
	case c.Ollama != "" && c.Model == "":
		return errors.New("--ollama needs --model FILE: both must run the same model to be compared")
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
	contexts, err := c.contexts(p, shown)
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

// contexts are what a graph of the first events knows of users when they chose something: the later of these moments.
func (c benchLMCommand) contexts(p *process, shown *stages) (contexts []event.Context, err error) {
	data, err := dataset.Bundled()
	if err != nil {
		return nil, err
	}
	events := firstEvents(data.Interactions(), c.Events)
	cases, err := eval.Draw(events, event.Latest, 2*c.Requests, 1) // as many as it finds about the number
	if err == nil && len(cases) == 0 {
		err = errors.New("no choice in them can be asked about: give more, or 0 for all")
	}
	if err != nil {
		return nil, fmt.Errorf("--events %d: %w", c.Events, err)
	}
	cases = cases[max(0, len(cases)-c.Requests):]
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

// speaker is the model that reads and writes, and texts for it.
type speaker struct {
	name    string
	weights *llama.Model
	// text gives the tokens of a text that begins like no other, and the text itself where there is a tokenizer.
	text  func(i int) (tokens []int32, text string, err error)
	close func() error
}

// speaker opens --model, or makes a model of the base's shape: its weights say nothing about its speed.
func (c benchLMCommand) speaker(base *engine.Model, contexts []event.Context) (speaker, error) {
	if c.Model == "" {
		weights, err := llama.New(base.Shape(), .1, 1)
		s := speaker{name: nameOf(base) + "'s shape", weights: weights, close: func() error { return nil }}
		s.text = func(i int) ([]int32, string, error) {
			r := mathrand.New(mathrand.NewPCG(1, uint64(i)))
			tokens := make([]int32, c.Prompt)
			for j := range tokens {
				tokens[j] = r.Int32N(int32(weights.Vocabulary))
			}
			return tokens, "", nil
		}
		return s, err
	}
	file, err := gguf.Open(c.Model)
	if err != nil {
		return speaker{}, fmt.Errorf("--model: %w", err)
	}
	s := speaker{name: filepath.Base(c.Model), close: file.Close}
	tokenizer, err := token.FromMetadata(file.Metadata)
	if err == nil {
		s.weights, err = llama.Load(file, false)
	}
	if err != nil {
		return speaker{}, errors.Join(fmt.Errorf("--model %s: %w", c.Model, err), file.Close())
	}
	nonce := rand.Text() // a server may remember the texts of an earlier run
	s.text = func(i int) ([]int32, string, error) {
		r := mathrand.New(mathrand.NewPCG(1, uint64(i)))
		text := fmt.Sprintf("%d %s", i, nonce)
		for {
			tokens, ends := tokenizer.EncodeOffsets(text, token.Options{AddSpecial: true})
			if len(tokens) >= c.Prompt {
				return tokens[:c.Prompt], text[:ends[c.Prompt-1]], nil
			}
			prompt, err := iot.Build(iot.Words, contexts[r.IntN(len(contexts))], r.Uint64())
			if err != nil {
				return nil, "", err
			}
			text += "\n" + prompt.Text
		}
	}
	return s, nil
}

// speak times texts being read and written, here and at the peer in turn, so that what else the machine does hits both.
func (c benchLMCommand) speak(ctx context.Context, out *benchReport, shown *stages, s speaker) error {
	session, err := s.weights.NewSession(c.Prompt+c.Generate, threads(c.Threads))
	if err != nil {
		return fmt.Errorf("--prompt %d, --generate %d: %w", c.Prompt, c.Generate, err)
	}
	peer := peers.Ollama{URL: c.Ollama, Model: c.OllamaModel, Threads: c.Threads}
	what := ""
	if c.Ollama == "" {
		out.missing("Ollama", "give --ollama and --ollama-model")
	} else if version, err := peer.Version(ctx); err == nil {
		what = fmt.Sprintf("Ollama %s, %s", version, c.OllamaModel)
	} else if ctx.Err() != nil {
		return ctx.Err()
	} else {
		out.missing("Ollama", err.Error())
	}
	var read, written, kept, peerRead, peerWritten []float64
	for i := range 1 + c.Runs { // the first finds memory not yet used, and a server that has to load the model
		shown.set("reading and writing", i, 1+c.Runs)
		t, err := c.speakOnce(ctx, session, s, i)
		if err != nil {
			return err
		}
		var said peers.Spoken
		if what != "" {
			if said, err = peer.Generate(ctx, t.text, c.Generate); err != nil && ctx.Err() != nil {
				return ctx.Err()
			} else if err != nil {
				out.missing("Ollama", err.Error())
				what = ""
			}
		}
		if i == 0 {
			continue
		}
		read, written, kept = append(read, t.read), append(written, t.written), append(kept, t.kept)
		if what != "" {
			peerRead = append(peerRead, float64(said.PromptTokens)/said.Prompt.Seconds())
			peerWritten = append(peerWritten, float64(said.Tokens)/said.Answer.Seconds())
		}
	}
	add := func(metric, unit string, value []float64, of string) {
		out.add(figure{Metric: metric, Value: median(value), Unit: unit, Model: s.name, Of: of, Threads: threads(c.Threads), Samples: len(value), Best: quantile(value, 1)})
	}
	add("prompt_tokens_per_second", "tokens/s", read, fmt.Sprintf("%s, %d tokens up to the first token after them", s.name, c.Prompt))
	add("generate_tokens_per_second", "tokens/s", written, fmt.Sprintf("%s, %d tokens after %d, the likeliest each time", s.name, c.Generate, c.Prompt))
	out.add(figure{Metric: "prefix_first_token_ratio", Value: median(kept), Unit: "ratio", Model: s.name, Threads: threads(c.Threads), Samples: len(kept),
		Of: fmt.Sprintf("time to the first token with %d of %d tokens kept, over that without", c.kept(), c.Prompt)})
	if what == "" {
		return nil
	}
	add("ollama_prompt_tokens_per_second", "tokens/s", peerRead, what)
	add("ollama_generate_tokens_per_second", "tokens/s", peerWritten, what)
	ratio := func(metric string, ours, theirs []float64) {
		out.add(figure{Metric: metric, Value: median(ours) / median(theirs), Unit: "ratio", Model: s.name, Peer: what, Threads: threads(c.Threads), Samples: len(ours),
			Of: "to " + what})
	}
	ratio("ratio_prompt", read, peerRead)
	ratio("ratio_generate", written, peerWritten)
	return nil
}

// kept is how much of a text the session has read before, where it is to be read again with another end.
func (c benchLMCommand) kept() int { return c.Prompt * 2 / 3 }

// spoken is what one text took.
type spoken struct {
	text          string
	read, written float64 // tokens a second
	kept          float64 // time to the first token with most of the text kept, over that without
}

func (c benchLMCommand) speakOnce(ctx context.Context, session *llama.Session, s speaker, i int) (spoken, error) {
	tokens, text, err := s.text(i)
	if err != nil {
		return spoken{}, err
	}
	other, _, err := s.text(-1 - i)
	if err != nil {
		return spoken{}, err
	}
	reading, writing, err := generate(ctx, session, tokens, c.Generate)
	if err != nil {
		return spoken{}, err
	}
	again, _, err := generate(ctx, session, slices.Concat(tokens[:c.kept()], other[c.kept():]), 0)
	return spoken{text: text, read: float64(c.Prompt) / reading.Seconds(), written: float64(c.Generate) / writing.Seconds(), kept: again.Seconds() / reading.Seconds()}, err
}

// generate tells how long it takes to the first token after a text, and from there to so many more.
func generate(ctx context.Context, session *llama.Session, tokens []int32, more int) (toFirst, rest time.Duration, err error) {
	start := time.Now()
	for _, err := range session.Generate(ctx, tokens, llama.GenerateOptions{Most: 1 + more}) {
		if err != nil {
			return 0, 0, err
		}
		if toFirst == 0 {
			toFirst = time.Since(start)
		}
	}
	return toFirst, time.Since(start) - toFirst, nil
}

// products adds what the matrix products of a model's layers reach, and which share of the core's peak that is.
func (c benchLMCommand) products(out *benchReport, prefix, name string, shape llama.Config) {
	rate, peak := products(shape, c.Prompt, 10*c.Runs)
	what := fmt.Sprintf("%s, the products of one block on %d rows, float32", name, c.Prompt)
	out.add(figure{Metric: prefix + "gflops", Value: rate / 1e9, Unit: "GFLOP/s", Model: name, Threads: 1, Samples: 10 * c.Runs, Of: what})
	out.add(figure{Metric: prefix + "peak_share", Value: rate / peak, Unit: "share", Model: name, Threads: 1, Samples: 10 * c.Runs,
		Of: fmt.Sprintf("of the core's %s GFLOP/s, multiply-adds in registers", decimal(peak/1e9))})
}
