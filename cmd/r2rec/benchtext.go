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
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama"
	"github.com/r2rec/r2rec/internal/llama/token"
	"github.com/r2rec/r2rec/internal/lm/engine"
)

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
	what, err := c.peer(ctx, out, peer)
	if err != nil {
		return err
	}
	var read, written, together, kept, peerRead, peerWritten []float64
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
		together = append(together, t.together/t.written)
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
	out.add(figure{Metric: "group_generate_speedup", Value: median(together), Unit: "ratio", Model: s.name, Threads: threads(c.Threads), Samples: len(together),
		Of: fmt.Sprintf("tokens a second of %d texts that are written at once, over those of one alone", atOnce)})
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

// peer names the server to compare with; "" where there is none, which the report then says.
func (c benchLMCommand) peer(ctx context.Context, out *benchReport, peer peers.Ollama) (string, error) {
	if c.Ollama == "" {
		out.missing("Ollama", "give --ollama and --ollama-model")
		return "", nil
	}
	version, err := peer.Version(ctx)
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil:
		out.missing("Ollama", err.Error())
		return "", nil
	case version == "0.0.0": // built from source
		return "Ollama, " + c.OllamaModel, nil
	}
	return fmt.Sprintf("Ollama %s, %s", version, c.OllamaModel), nil
}

// kept is how much of a text the session has read before, where it is to be read again with another end.
func (c benchLMCommand) kept() int { return c.Prompt * 2 / 3 }

// spoken is what one text took.
type spoken struct {
	text          string
	read, written float64 // tokens a second
	together      float64 // tokens a second of all texts that are written at once
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
	start := time.Now()
	if _, err := session.GenerateMany(ctx, tokens, slices.Repeat([]llama.GenerateOptions{{Most: 1 + c.Generate}}, atOnce)); err != nil {
		return spoken{}, err
	}
	together := time.Since(start)
	again, _, err := generate(ctx, session, slices.Concat(tokens[:c.kept()], other[c.kept():]), 0)
	return spoken{text: text, read: float64(c.Prompt) / reading.Seconds(), written: float64(c.Generate) / writing.Seconds(),
		together: float64(atOnce*c.Generate) / together.Seconds(), kept: again.Seconds() / reading.Seconds()}, err
}

// atOnce is how many texts are written together: a group of GRPO.
const atOnce = 8

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
