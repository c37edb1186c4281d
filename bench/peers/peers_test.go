package peers

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOllamaSaysWhatIsWrong(t *testing.T) {
	for answer, want := range map[string]string{
		`{"prompt_eval_count": 9, "prompt_eval_duration": 0, "eval_count": 1, "eval_duration": 5}`: "nothing to compare with",
		`{"prompt_eval_count": 9, "prompt_eval_duration": 7}`:                                      "nothing to compare with",
		`[]`: "cannot unmarshal",
		`!`:  "404 Not Found: !",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if answer == "!" {
				w.WriteHeader(http.StatusNotFound)
			}
			_, _ = w.Write([]byte(answer))
		}))
		url := strings.Replace(server.URL, "//", "//user:hush@", 1)
		_, err := Ollama{URL: url, Model: "m"}.Generate(t.Context(), "text", 1)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v, want %q and no password", answer, err, want)
		}
		server.Close()
	}
}

// The script, run by whatever Python there is: a figure, or the word that something is not installed.
func TestPyTorchMeasuresOrIsNotInstalled(t *testing.T) {
	work := LoRA{Vocabulary: 64, Dim: 16, Layers: 1, Heads: 2, KVHeads: 1, HeadDim: 8, FeedForward: 32, Tied: true, Rank: 2, Batch: 1, Tokens: 8, Answer: 2, Steps: 1, Threads: 1}
	trained, err := PyTorch(t.Context(), "python3", work)
	switch {
	case err == nil && trained.TokensPerSecond > 0 && strings.Contains(trained.Versions, "PEFT"):
		t.Logf("%+v", trained)
	case !errors.Is(err, ErrNotInstalled):
		t.Errorf("%+v, %v", trained, err)
	}
	if _, err := PyTorch(t.Context(), filepath.Join(t.TempDir(), "python"), work); !errors.Is(err, ErrNotInstalled) {
		t.Errorf("no such Python: %v, want %v", err, ErrNotInstalled)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := PyTorch(ctx, "python3", work); !errors.Is(err, context.Canceled) || errors.Is(err, ErrNotInstalled) {
		t.Errorf("cancelled: %v, want %v alone", err, context.Canceled)
	}
}

// What an interpreter can do wrong. It gets the script and the work.
func TestPyTorchFailures(t *testing.T) {
	for script, want := range map[string]string{
		"exit 3":                                   "not installed",
		"echo out of memory >&2; exit 1":           "out of memory",
		"echo warned":                              "holds no figure",
		`echo '{"tokens_per_second": 0}'`:          "holds no figure",
		`cat >&2; echo "$@" >&2; exit 1`:           `"tokens":500`,
		`grep -c LlamaForCausalLM >&2; exit 1`:     ": 1",
		`echo '{"tokens_per_second": 12.5}'; true`: "",
	} {
		python := filepath.Join(t.TempDir(), "python")
		if err := os.WriteFile(python, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		trained, err := PyTorch(t.Context(), python, LoRA{Tokens: 500})
		switch {
		case want == "" && (err != nil || trained.TokensPerSecond != 12.5):
			t.Errorf("%s: %+v, %v, want 12.5", script, trained, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", script, err, want)
		}
	}
}
