// Package ollama asks a model that an Ollama server runs (https://ollama.com). A call of /api/generate evaluates a text,
// generates one token and states the 20 most likely ones. The readout letters takes one, at the end of the prompt; verdicts,
// which a model has to have learned, takes one at the end of each candidate's line.
//
// What it promises: an answer is finite log-shares, one a candidate, or an error that wraps one of package lm's. A
// server that is down costs a caller no time: after some failures in a row calls fail at once (a circuit breaker), and
// one call at a time finds out whether it is back. An answer is never trusted: it is bounded in size and checked, and a
// prompt that the server shortened is not taken for answered.
//
// A Client asks a model that somebody installed. An Installer makes models itself, of a base model's file and of adapters
// for it, and is an engine of internal/lm/loader: what the server has is not made again, an adapter is known by its digest,
// and nothing that others made is touched. Whether the server really serves an adapter, it does not promise: that is what a
// proof is for (internal/lm/proof), and Model.Sides answers it.
//
// What it leaves to others: starting the server, prompts (internal/iot), and what to serve when there is an error (the
// reasoner).
package ollama

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ollama/ollama/api"
	"github.com/sony/gobreaker/v2"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm"
)

// Options of a Client. The zero value of a field takes the default that its comment states.
type Options struct {
	BaseURL string // of the server, e.g. http://127.0.0.1:11434, which is the default
	Model   string // as `ollama list` names it; required

	// Timeout of one call. Default 20 s. A model that is not in memory is loaded by the first call, which takes longer.
	Timeout time.Duration
	// NumCtx is the size of the model's context in tokens, prompt and answer. Default 4096, which holds any prompt of
	// iot.MaxBytes. A change makes the server load the model again.
	NumCtx int
	// Threads that compute an answer, where that is a processor's work. Default: the server's choice, all cores; one is as fast
	// for a model of a few million weights, and leaves the others alone. A change makes the server load the model again.
	Threads int
	// KeepAlive is how long the server keeps the model in memory after a call. Default 30 minutes; negative: for ever.
	KeepAlive time.Duration
	// Learned asks as an adapter learns (internal/lm/engine): the prompt stands alone, in no template, and a letter is one
	// token.
	Learned bool
	// Think has the model write a thought of at most so many tokens before it answers, where it is asked to; its identity says
	// so. It reads prompts of iot.Thoughts then, Learned. 0: it answers at once.
	Think int
	// Lists is how many lists that take several calls each are asked for at once: those by verdicts, and those that the model
	// thinks about. Default 1: of a server that answers one request at a time (OLLAMA_NUM_PARALLEL) a second list would push the
	// first out of the cache, and all would be read again for each call.
	Lists int
	// MinMass is the least probability of all letters together, or of a verdict's yes and no, that ranks. Default
	// lm.DefaultMinMass; less than 0: there is no least.
	MinMass float64

	// OpenAfter is how many calls fail in a row before the circuit breaker opens, and Pause is how long calls then fail
	// at once before one is let through to probe. Defaults 3 and 2 s.
	OpenAfter int
	Pause     time.Duration

	HTTPClient *http.Client // default: one of its own with http.DefaultTransport; its transport is wrapped
	Logger     *slog.Logger // default: discards. Says when the circuit breaker changes its state.

	countTokens func(string) int // of a text that goes on; nil: the vocabulary is not known
}

// Client asks one model of one server. It is safe for concurrent use.
type Client struct {
	shown string // where the server is, without a password
	opt   Options
	api   *api.Client
	// Describing and generating fail apart: a server that lists its models while its runner hangs must still open the
	// second.
	describe *gobreaker.CircuitBreaker[Info]
	generate *gobreaker.CircuitBreaker[[]*api.GenerateResponse]
	turns    chan struct{} // one is held for each list that takes several calls
}

// New checks the options. It does not call the server.
func New(o Options) (*Client, error) {
	if o.Model == "" {
		return nil, errors.New("ollama: Model is empty: name one that `ollama list` shows")
	}
	if o.BaseURL == "" {
		o.BaseURL = "http://127.0.0.1:11434"
	}
	base, err := url.Parse(o.BaseURL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, errors.New("ollama: the URL is not of the form http://host:port") // and is not told: it may hold a password
	}
	if o.Timeout <= 0 {
		o.Timeout = 20 * time.Second
	}
	if o.NumCtx <= 0 {
		o.NumCtx = 4096
	}
	if o.KeepAlive == 0 {
		o.KeepAlive = 30 * time.Minute
	}
	if o.Think < 0 || o.Lists < 0 {
		return nil, fmt.Errorf("ollama: Think %d, Lists %d: want 0 or more", o.Think, o.Lists)
	}
	o.Learned = o.Learned || o.Think > 0
	if o.Lists == 0 {
		o.Lists = 1
	}
	if o.OpenAfter <= 0 {
		o.OpenAfter = 3
	}
	if o.Pause <= 0 {
		o.Pause = 2 * time.Second
	}
	if o.HTTPClient == nil {
		o.HTTPClient = &http.Client{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	bounded := *o.HTTPClient
	bounded.Transport = &boundedTransport{next: o.HTTPClient.Transport}
	c := &Client{opt: o, shown: base.Redacted(), api: api.NewClient(base, &bounded), turns: make(chan struct{}, o.Lists)}
	c.describe = gobreaker.NewCircuitBreaker[Info](c.breaker("describe"))
	c.generate = gobreaker.NewCircuitBreaker[[]*api.GenerateResponse](c.breaker("generate"))
	return c, nil
}

func (c *Client) breaker(name string) gobreaker.Settings {
	return gobreaker.Settings{
		Name:        name,
		Timeout:     c.opt.Pause,
		ReadyToTrip: func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= uint32(c.opt.OpenAfter) },
		// A server that answers nonsense, or has no such model, is there and costs no time.
		IsSuccessful: func(err error) bool { return !errors.Is(err, lm.ErrUnavailable) },
		IsExcluded:   func(err error) bool { return errors.Is(err, context.Canceled) && !errors.Is(err, lm.ErrUnavailable) },
		OnStateChange: func(name string, from, to gobreaker.State) {
			c.opt.Logger.Warn("ollama: circuit breaker", "call", name, "from", from.String(), "to", to.String(), "server", c.shown)
		},
	}
}

// State says what the circuit breaker does with calls: "closed" lets them through, "open" fails them at once,
// "half-open" lets one through to probe.
func (c *Client) State() string {
	return max(c.describe.State(), c.generate.State()).String() // closed < half-open < open
}

// Info is what the server says about the model.
type Info struct {
	Name         string // as the server spells it, with its tag
	Digest       string // of the model's manifest: its weights, adapter, template and parameters
	Family       string // such as llama
	Parameters   string // such as 135M
	Quantization string // such as Q4_1
}

// Describe asks the server for the model. The error wraps lm.ErrModelMissing if it has none of that name.
func (c *Client) Describe(ctx context.Context) (Info, error) {
	info, err := c.describe.Execute(func() (Info, error) {
		timed, cancel := context.WithTimeout(ctx, c.opt.Timeout)
		defer cancel()
		list, err := c.api.List(timed)
		if err != nil {
			return Info{}, c.classify(ctx, err)
		}
		for _, m := range list.Models {
			if m.Name == c.opt.Model || m.Name == c.opt.Model+":latest" {
				if m.Digest == "" {
					return Info{}, fmt.Errorf("the server states no digest: %w", lm.ErrNonsense)
				}
				return Info{Name: m.Name, Digest: m.Digest, Family: m.Details.Family,
					Parameters: m.Details.ParameterSize, Quantization: m.Details.QuantizationLevel}, nil
			}
		}
		return Info{}, c.missing()
	})
	if err != nil {
		return Info{}, fmt.Errorf("describe model %q at %s: %w", c.opt.Model, c.shown, refused(err))
	}
	return info, nil
}

// Identity is what a decision records about the model; the digest of the prompt is left empty.
func (c *Client) Identity(ctx context.Context) (event.Model, error) {
	info, err := c.Describe(ctx)
	if err != nil {
		return event.Model{}, err
	}
	who := event.Model{Name: info.Name, Digest: strings.TrimPrefix(info.Digest, "sha256:"), Readout: letters, PromptVersion: iot.Words, Think: c.opt.Think}
	if who.Think > 0 {
		who.PromptVersion = iot.Thoughts
	}
	return who, nil
}

// Rank returns the log-share of each candidate of the prompt's context, in the order of the context, as the model
// states it: not calibrated.
func (c *Client) Rank(ctx context.Context, p iot.Prompt) ([]float64, error) {
	answer, err := c.Letters(ctx, p.Text, len(p.Letters))
	if err != nil {
		return nil, err
	}
	return lm.ByCandidate(answer.Shares, p)
}
