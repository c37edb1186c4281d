package peers

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Ollama is one model of an Ollama server.
type Ollama struct {
	URL     string // of the server, http://host:port
	Model   string // as `ollama list` names it
	Threads int    // 0: as many as the server takes by itself
}

// Spoken is what a server says of one answer: the tokens of the prompt and of the answer, and how long each took.
type Spoken struct {
	PromptTokens, Tokens int
	Prompt, Answer       time.Duration
}

// numCtx is the context that is asked for. Other than that of r2rec's own calls, it would make the server load the model anew.
const numCtx = 4096

// Generate has the server read a prompt as it is, without a chat template, and answer with the likeliest tokens, at most
// so many. A server remembers prompts, so one that begins like an earlier one is not read anew and says nothing.
func (o Ollama) Generate(ctx context.Context, prompt string, most int) (Spoken, error) {
	options := map[string]any{"num_ctx": numCtx, "num_predict": most, "temperature": 0, "seed": 1}
	if o.Threads > 0 {
		options["num_thread"] = o.Threads
	}
	var r struct {
		PromptTokens int   `json:"prompt_eval_count"`
		Prompt       int64 `json:"prompt_eval_duration"` // nanoseconds, as the next
		Tokens       int   `json:"eval_count"`
		Answer       int64 `json:"eval_duration"`
	}
	err := o.call(ctx, http.MethodPost, "/api/generate", map[string]any{
		"model": o.Model, "prompt": prompt, "raw": true, "stream": false, "keep_alive": "30m", "options": options,
	}, &r)
	if err != nil {
		return Spoken{}, err
	}
	if r.PromptTokens < 1 || r.Prompt < 1 || r.Tokens < 1 || r.Answer < 1 {
		return Spoken{}, fmt.Errorf("ollama at %s: the model %s says it read %d tokens in %d ns and wrote %d in %d ns: nothing to compare with",
			o.host(), o.Model, r.PromptTokens, r.Prompt, r.Tokens, r.Answer)
	}
	return Spoken{PromptTokens: r.PromptTokens, Tokens: r.Tokens, Prompt: time.Duration(r.Prompt), Answer: time.Duration(r.Answer)}, nil
}

// Version of the server.
func (o Ollama) Version(ctx context.Context) (string, error) {
	var r struct {
		Version string `json:"version"`
	}
	err := o.call(ctx, http.MethodGet, "/api/version", nil, &r)
	return r.Version, err
}

// mostAnswer bounds an answer: whatever the server sends, memory stays small.
const mostAnswer = 1 << 20

func (o Ollama) call(ctx context.Context, method, path string, in, out any) (err error) {
	defer func() {
		if err != nil && ctx.Err() == nil {
			err = fmt.Errorf("ollama at %s: %w", o.host(), err)
		}
	}()
	var body []byte
	if in != nil {
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(o.URL, "/")+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, mostAnswer))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %.200s", response.Status, answer)
	}
	return json.Unmarshal(answer, out)
}

// host is the server's URL without a password.
func (o Ollama) host() string {
	u, err := url.Parse(o.URL)
	if err != nil {
		return "a URL that cannot be read"
	}
	return u.Redacted()
}
