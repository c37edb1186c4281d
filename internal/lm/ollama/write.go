package ollama

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/ollama/ollama/api"

	"github.com/r2rec/r2rec/internal/lm"
)

var (
	_ lm.Writer = (*Client)(nil)
	_ lm.Writer = (*Model)(nil)
)

// Write implements lm.Writer, but for the guide, since a server writes to the end unasked, and for the tokens: it tells the
// words and log-probabilities of a text, and not the numbers of its tokens. The text stands alone, in no template; each of the n texts is a call of its own. A server need not
// give the same text for the same seed after it was updated, or with others at the same time.
func (c *Client) Write(ctx context.Context, text string, n int, o lm.WriteOptions) ([]lm.Written, error) {
	if n < 1 || o.Most < 1 {
		return nil, fmt.Errorf("write %d texts of at most %d tokens: want 1 or more of both: %w", n, o.Most, lm.ErrNonsense)
	}
	out := make([]lm.Written, n)
	for i := range out {
		answers, err := c.generate.Execute(func() ([]*api.GenerateResponse, error) {
			r, err := c.goOn(ctx, text, rand.NewPCG(o.Seed, uint64(i)).Uint64()>>33, o) // the server reads 32 bits
			return []*api.GenerateResponse{r}, err
		})
		if err != nil {
			return nil, fmt.Errorf("have model %q at %s write: %w", c.opt.Model, c.shown, refused(err))
		}
		r := answers[0]
		out[i] = lm.Written{Text: r.Response, Whole: r.DoneReason == "stop"}
		for _, t := range r.Logprobs {
			out[i].LogProbs = append(out[i].LogProbs, t.Logprob)
		}
	}
	return out, nil
}

// Write has the model write as Client.Write does; a server that has not got it in memory loads it first.
func (m *Model) Write(ctx context.Context, text string, n int, o lm.WriteOptions) ([]lm.Written, error) {
	if err := m.ready(ctx); err != nil {
		return nil, err
	}
	written, err := m.client.Write(ctx, text, n, o)
	return written, m.noticed(err)
}

// goOn has the model write one text.
func (c *Client) goOn(ctx context.Context, text string, seed uint64, o lm.WriteOptions) (*api.GenerateResponse, error) {
	timed, cancel := context.WithTimeout(ctx, c.opt.Timeout)
	defer cancel()
	no := false
	request := &api.GenerateRequest{Model: c.opt.Model, Prompt: text, Raw: true, Stream: &no, Truncate: &no, Shift: &no, Logprobs: true,
		KeepAlive: &api.Duration{Duration: c.opt.KeepAlive},
		Options: map[string]any{"num_predict": o.Most, "num_ctx": c.opt.NumCtx, "temperature": o.Temperature, "seed": seed,
			"top_k": 0, "top_p": 1, "min_p": 0, "repeat_penalty": 1}} // nothing but the model's own distribution
	if len(o.Stop) > 0 {
		request.Options["stop"] = o.Stop
	}
	if c.opt.Threads > 0 {
		request.Options["num_thread"] = c.opt.Threads
	}
	var answer *api.GenerateResponse
	err := c.api.Generate(timed, request, func(r api.GenerateResponse) error {
		if answer != nil {
			return fmt.Errorf("more than one answer: %w", lm.ErrNonsense)
		}
		answer = &r
		return nil
	})
	switch {
	case err != nil:
		return nil, c.classify(ctx, err)
	case answer == nil || !answer.Done:
		return nil, fmt.Errorf("an unfinished answer: %w", lm.ErrNonsense)
	case answer.PromptEvalCount >= c.opt.NumCtx:
		return nil, fmt.Errorf("the server took %d tokens of a text of %d bytes, and its context holds %d: %w", answer.PromptEvalCount, len(text), c.opt.NumCtx, lm.ErrPromptTooLong)
	}
	for _, stop := range o.Stop {
		if strings.Contains(answer.Response, stop) {
			return nil, errors.Join(fmt.Errorf("the text goes on after %q, where it was to stop", stop), lm.ErrNonsense)
		}
	}
	return answer, nil
}
