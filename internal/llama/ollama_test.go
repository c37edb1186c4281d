package llama_test

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ollama/ollama/api"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/gguf"
)

// ollama is a real server; what a test adds to it is deleted when the test ends.
type ollama struct{ client *api.Client }

func realOllama(t *testing.T) ollama {
	t.Helper()
	base, err := url.Parse(embeddedtest.RealOllama(t))
	if err != nil {
		t.Fatal(err)
	}
	return ollama{api.NewClient(base, &http.Client{})}
}

// model makes a model of a GGUF file and returns its name, which no other test has.
func (o ollama) model(t *testing.T, path string) string {
	t.Helper()
	return o.create(t, api.CreateRequest{Files: map[string]string{"model.gguf": o.upload(t, path)}})
}

// adapted makes a model of another one and an adapter's GGUF file.
func (o ollama) adapted(t *testing.T, model, path string) string {
	t.Helper()
	return o.create(t, api.CreateRequest{From: model, Adapters: map[string]string{"adapter.gguf": o.upload(t, path)}})
}

func (o ollama) upload(t *testing.T, path string) (digest string) {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	digest = "sha256:" + f.Digest()
	if err := o.client.CreateBlob(t.Context(), digest, data); err != nil {
		t.Fatalf("upload %s: %v", path, err)
	}
	return digest
}

func (o ollama) create(t *testing.T, r api.CreateRequest) string {
	t.Helper()
	r.Model = "test-" + strings.ToLower(rand.Text())
	if err := o.client.Create(t.Context(), &r, func(api.ProgressResponse) error { return nil }); err != nil {
		t.Fatalf("create a model: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		// Deleting alone would leave the weights in the server's memory.
		unload := &api.GenerateRequest{Model: r.Model, KeepAlive: &api.Duration{}}
		if err := o.client.Generate(ctx, unload, func(api.GenerateResponse) error { return nil }); err != nil {
			t.Errorf("unload model %s: %v", r.Model, err)
		}
		if err := o.client.Delete(ctx, &api.DeleteRequest{Model: r.Model}); err != nil {
			t.Errorf("delete model %s: %v", r.Model, err)
		}
	})
	return r.Model
}

// next states the 20 most likely tokens after each prompt, which is taken as it is (special tokens are parsed), by their
// text. Tokens that stand for a part of a character, or for a NUL, have no text of their own and are left out; nothing is
// stated after a prompt where the most likely token is such a one, or ends the answer.
func (o ollama) next(t *testing.T, model string, prompts []string) []map[string]float64 {
	t.Helper()
	all := make([]map[string]float64, len(prompts))
	no := false
	for i, prompt := range prompts {
		r := &api.GenerateRequest{Model: model, Prompt: prompt, Raw: true, Stream: &no, Truncate: &no, Shift: &no, Logprobs: true, TopLogprobs: 20,
			KeepAlive: &api.Duration{Duration: time.Minute}, Options: map[string]any{"num_predict": 1, "num_ctx": positions, "temperature": 0}}
		err := o.client.Generate(t.Context(), r, func(answer api.GenerateResponse) error {
			all[i] = map[string]float64{}
			for _, l := range answer.Logprobs {
				for _, top := range l.TopLogprobs {
					if top.Token != "" && !strings.Contains(top.Token, "\ufffd") {
						all[i][top.Token] = top.Logprob
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatalf("the first token after %q: %v", prompt, err)
		}
	}
	return all
}
