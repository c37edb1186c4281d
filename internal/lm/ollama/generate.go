package ollama

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/ollama/ollama/api"

	"github.com/r2rec/r2rec/internal/lm"
)

// topLogprobs is the most alternatives that Ollama states.
const topLogprobs = 20

// Letters returns the log-share of each of the first n letters as the first token of the model's answer to the prompt;
// see lm.Letters, or with Options.Learned lm.LearnedLetters. The server puts the prompt into the model's own chat template,
// unless Options.Learned. Measured on SmolLM2-135M-Instruct with prompts of 20 candidates, the letters so have .26 to .39
// of the probability, and .10 to .20 where the bare prompt is continued; lm.DefaultMinMass is far below both. The template
// is part of the model's digest.
func (c *Client) Letters(ctx context.Context, prompt string, n int) (lm.Reading, error) {
	shares, stated, err := c.read(ctx, prompt, n, c.opt.MinMass)
	return lm.Reading{Shares: shares, Stated: stated}, err
}

// read is Letters with another least mass.
func (c *Client) read(ctx context.Context, prompt string, n int, minMass float64) (shares []float64, stated []bool, err error) {
	var mass float64
	letters := lm.Letters
	if c.opt.Learned {
		letters = lm.LearnedLetters
	}
	answers, err := c.answers(ctx, []string{prompt}, func(_ int, top []lm.Token) (err error) {
		shares, stated, mass, err = letters(top, n, minMass)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	c.opt.Logger.LogAttrs(ctx, slog.LevelDebug, "ollama: answered", slog.Float64("letter_mass", mass),
		slog.Int("prompt_tokens", answers[0].PromptEvalCount), slog.Duration("took", answers[0].TotalDuration))
	return shares, stated, nil
}

// answers asks where each of the texts ends, one after the other, and has read take the tokens that the server states there;
// the first error ends it. To the circuit breaker all of it is one call.
func (c *Client) answers(ctx context.Context, texts []string, read func(k int, top []lm.Token) error) ([]*api.GenerateResponse, error) {
	answers, err := c.generate.Execute(func() (answers []*api.GenerateResponse, err error) {
		for k, text := range texts {
			r, err := c.ask(ctx, text, false)
			if errors.Is(err, errSilent) && c.opt.Learned {
				r, err = c.ask(ctx, text, true)
			}
			if err != nil {
				return nil, err
			}
			top := make([]lm.Token, 0, topLogprobs)
			for _, t := range r.Logprobs[0].TopLogprobs {
				top = append(top, lm.Token{Text: t.Token, Logprob: t.Logprob})
			}
			if err := read(k, top); err != nil {
				return nil, err
			}
			answers = append(answers, r)
		}
		return answers, nil
	})
	if err != nil {
		return nil, fmt.Errorf("ask model %q at %s: %w", c.opt.Model, c.shown, refused(err))
	}
	return answers, nil
}

// errSilent is an answer without alternatives. A server states none where the most likely token ends the answer, or has no
// text.
var errSilent = fmt.Errorf("no alternatives were stated: %w", lm.ErrNonsense)

// spoken is the grammar of an answer that has text. It decides which token is said, and what is stated are the model's own
// log-probabilities all the same: so a model that would rather end its answer tells how much it would like to say the
// letters.
const spoken = `{"type":"string"}`

// ask has the model evaluate the prompt and say one token, aloud one that has text. The answer it returns states
// alternatives at that token.
func (c *Client) ask(ctx context.Context, prompt string, aloud bool) (*api.GenerateResponse, error) {
	timed, cancel := context.WithTimeout(ctx, c.opt.Timeout)
	defer cancel()
	no := false
	request := &api.GenerateRequest{
		Model:       c.opt.Model,
		Prompt:      prompt,
		Raw:         c.opt.Learned,
		Stream:      &no,
		Think:       &api.ThinkValue{Value: false}, // the first token is the answer
		Truncate:    &no,                           // a prompt that is too long is an error
		Shift:       &no,
		Logprobs:    true,
		TopLogprobs: topLogprobs,
		KeepAlive:   &api.Duration{Duration: c.opt.KeepAlive},
		Options: map[string]any{
			"num_predict": 1,
			"num_ctx":     c.opt.NumCtx,
			"temperature": 0,
			"seed":        1,
		},
	}
	if c.opt.Threads > 0 {
		request.Options["num_thread"] = c.opt.Threads
	}
	if aloud {
		request.Format = json.RawMessage(spoken)
	}
	var answers []api.GenerateResponse
	err := c.api.Generate(timed, request, func(r api.GenerateResponse) error {
		if len(answers) == 0 {
			answers = append(answers, r)
			return nil
		}
		return fmt.Errorf("more than one answer: %w", errGarbled)
	})
	switch {
	case err != nil:
		return nil, c.classify(ctx, err)
	case len(answers) == 0:
		return nil, fmt.Errorf("an empty answer: %w", errGarbled)
	}
	r := &answers[0]
	switch {
	case !r.Done:
		return nil, fmt.Errorf("an unfinished answer: %w", errGarbled)
	case r.PromptEvalCount >= c.opt.NumCtx:
		// A server that does not know `truncate` fills the context to its end with what is left of the prompt.
		return nil, fmt.Errorf("the server took %d tokens of a prompt of %d bytes, and its context holds %d: %w",
			r.PromptEvalCount, len(prompt), c.opt.NumCtx, lm.ErrPromptTooLong)
	case len(r.Logprobs) == 0 && r.DoneReason == "stop":
		return nil, fmt.Errorf("the model ended its answer before it began: %w", errSilent)
	case len(r.Logprobs) == 0 || len(r.Logprobs[0].TopLogprobs) == 0:
		return nil, fmt.Errorf("the server states no log-probabilities (Ollama 0.12.11 or later does): %w", errSilent)
	}
	return r, nil
}
