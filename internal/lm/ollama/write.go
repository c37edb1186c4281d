package ollama

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/ollama/ollama/api"

	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm"
)

var (
	_ lm.Writer = (*Client)(nil)
	_ lm.Writer = (*Model)(nil)
)

// Write implements lm.Writer, but for the tokens: a server tells the words and log-probabilities of what its model wrote, and
// neither numbers of tokens nor anything of what a guide gave. The text stands alone, in no template; each of the n texts
// is a call of its own, and of a guided one each part is, which goes on where the one before ended: the server has that in
// its cache. A server need not give the same text for the same seed after it was updated, or with others at the same time.
func (c *Client) Write(ctx context.Context, text string, n int, o lm.WriteOptions) ([]lm.Written, error) {
	if n < 1 || o.Most < 1 {
		return nil, fmt.Errorf("write %d texts of at most %d tokens: want 1 or more of both: %w", n, o.Most, lm.ErrNonsense)
	}
	out := make([]lm.Written, n)
	for i := range out {
		seeds := rand.NewPCG(o.Seed, uint64(i))
		_, err := c.generate.Execute(func() (_ []*api.GenerateResponse, err error) {
			out[i], err = c.write(ctx, text, seeds, o)
			return nil, err
		})
		if err != nil {
			return nil, fmt.Errorf("have model %q at %s write: %w", c.opt.Model, c.shown, refused(err))
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

// write has one text written, part by part: where the guide may have something to say the server stops, and goes on from
// what it gave.
func (c *Client) write(ctx context.Context, text string, seeds *rand.PCG, o lm.WriteOptions) (w lm.Written, err error) {
	stops := o.Stop
	if guided(o.Guide) {
		stops = append(slices.Clone(stops), o.Guide.Closes)
	}
	for left := o.Most; left > 0; {
		r, err := c.goOn(ctx, text+w.Text, seeds.Uint64()>>33, left, stops, o.Temperature) // the server reads 32 bits
		if err != nil {
			return lm.Written{}, err
		}
		w.Text += r.Response
		for _, t := range r.Logprobs {
			w.LogProbs = append(w.LogProbs, t.Logprob)
		}
		left -= max(1, r.EvalCount)
		if r.DoneReason != "stop" {
			break
		}
		if !guided(o.Guide) || !within(w.Text, o.Guide) {
			w.Whole = true
			break
		}
		w.Text += o.Guide.Closes
		given := o.Guide.Next(w.Text)
		w.Text += given
		left -= c.tokens(given)
	}
	return w, nil
}

// guided tells whether a server can be asked to stop for a guide.
func guided(g iot.Guide) bool { return g.Next != nil && g.Opens != "" && g.Closes != "" }

// within tells what a server does not: whether a text that a stop string ended, which is no part of it, stopped where a guide
// may have something to say.
func within(text string, g iot.Guide) bool {
	line := text[strings.LastIndexByte(text, '\n')+1:]
	return strings.LastIndex(line, g.Opens) > strings.LastIndex(line, g.Closes)
}

// tokens are how many a text has that the model did not write, so that guided texts are as long as those of others. Where
// the vocabulary is not known, four bytes are taken for one.
func (c *Client) tokens(text string) int {
	if c.opt.countTokens != nil {
		return c.opt.countTokens(text)
	}
	return (len(text) + 3) / 4
}

// goOn has the model go on with a text, up to a stop string, which is no part of the answer.
func (c *Client) goOn(ctx context.Context, text string, seed uint64, most int, stops []string, temperature float64) (*api.GenerateResponse, error) {
	timed, cancel := context.WithTimeout(ctx, c.opt.Timeout)
	defer cancel()
	no := false
	request := &api.GenerateRequest{Model: c.opt.Model, Prompt: text, Raw: true, Stream: &no, Truncate: &no, Shift: &no, Logprobs: true,
		Think:     &api.ThinkValue{Value: false}, // or what the model thinks by itself is cut out of the answer
		KeepAlive: &api.Duration{Duration: c.opt.KeepAlive},
		Options: map[string]any{"num_predict": most, "num_ctx": c.opt.NumCtx, "temperature": temperature, "seed": seed,
			"top_k": 0, "top_p": 1, "min_p": 0, "repeat_penalty": 1}} // nothing but the model's own distribution
	if len(stops) > 0 {
		request.Options["stop"] = stops
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
	for _, stop := range stops {
		if strings.Contains(answer.Response, stop) {
			return nil, errors.Join(fmt.Errorf("the text goes on after %q, where it was to stop", stop), lm.ErrNonsense)
		}
	}
	return answer, nil
}
