package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
)

// baseFile is the base model as a file.
const baseFile = "../../internal/lm/engine/base.gguf"

// small are flags that make bench lm quick.
func small(more ...string) []string {
	return append(strings.Fields("bench lm --requests 12 --events 3000 --prompt 48 --generate 4 --runs 2 --json"), more...)
}

// bench runs a benchmark with --json and returns its figures by metric, which are positive numbers, each metric once, and
// each with the machine that it was measured on.
func bench(t *testing.T, args ...string) map[string]figure {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(t.Context(), args, &out, &errs); code != 0 {
		t.Fatalf("r2rec %s: exit code %d, %s", strings.Join(args, " "), code, errs.String())
	}
	figures := map[string]figure{}
	for line := range strings.Lines(out.String()) {
		var f figure
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if _, twice := figures[f.Metric]; twice || f.Command != args[0]+" "+args[1] || f.Unit == "" || f.Of == "" {
			t.Errorf("%s", line)
		}
		if !(f.Value > 0) || math.IsInf(f.Value, 0) {
			t.Errorf("%s is %v", f.Metric, f.Value)
		}
		if f.Machine == "" || f.Cores < 1 || !strings.HasPrefix(f.Go, "go") || f.Kernels == "" || f.Metric != peersMissing && f.Threads < 1 {
			t.Errorf("%s does not say where it was measured: %s", f.Metric, line)
		}
		figures[f.Metric] = f
	}
	return figures
}

func metrics(figures map[string]figure) string {
	names := make([]string, 0, len(figures))
	for name := range figures {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func TestBenchLM(t *testing.T) {
	own := "generate_tokens_per_second gflops group_generate_speedup peak_share peers_missing prefix_first_token_ratio prompt_tokens_per_second recommendation_ms recommendations_per_second_2"
	figures := bench(t, small()...)
	if got := metrics(figures); got != own {
		t.Errorf("metrics %s, want %s", got, own)
	}
	if f := figures["recommendation_ms"]; f.Samples != 12 || f.Threads != 1 || f.P90 < f.Value || f.P99 < f.P90 {
		t.Errorf("%+v: want 12 samples on one thread and ascending quantiles", f)
	}
	if f := figures[peersMissing]; f.Peer != "Ollama" || !strings.Contains(f.Of, "--ollama") {
		t.Errorf("%+v: want Ollama and what to do", f)
	}

	// A text of its own, with a tokenizer, and a server that is not there.
	figures = bench(t, small("--model", baseFile, "--threads", "1", "--ollama", "http://127.0.0.1:1", "--ollama-model", "m")...)
	if got := metrics(figures); got != "base_gflops base_peak_share "+own {
		t.Errorf("metrics %s, want those of both models", got)
	}
	if f := figures[peersMissing]; !strings.Contains(f.Of, "127.0.0.1:1") {
		t.Errorf("%+v: want which server", f)
	}
	if f := figures["prompt_tokens_per_second"]; f.Model != "base.gguf" || f.Threads != 1 {
		t.Errorf("%+v: want the model and the threads that were asked for", f)
	}
}

// The same model in a real Ollama, in the same run.
func TestBenchLMBesideOllama(t *testing.T) {
	url, model := embeddedtest.RealOllama(t), embeddedtest.RealModel(t)
	args := small("--model", model, "--ollama", url, "--ollama-model", os.Getenv("R2REC_TEST_MODEL"), "--runs", "1")
	figures := bench(t, args...)
	for ratio, of := range map[string]string{"ratio_prompt": "prompt_tokens_per_second", "ratio_generate": "generate_tokens_per_second"} {
		if got, want := figures[ratio].Value, figures[of].Value/figures["ollama_"+of].Value; math.Abs(got/want-1) > 1e-9 || !strings.HasPrefix(figures[ratio].Peer, "Ollama") {
			t.Errorf("%s is %v, want %v, to a named server: %+v", ratio, got, want, figures[ratio])
		}
	}
	if _, is := figures[peersMissing]; is {
		t.Error("a peer is missing that was measured")
	}
}

func TestBenchTrain(t *testing.T) {
	args := strings.Fields("bench train --steps 2 --batch 2 --tokens 60 --rank 2 --python /does/not/exist --json")
	for _, model := range []string{"", baseFile} {
		if model != "" {
			args = append(args, "--model", model)
		}
		figures := bench(t, args...)
		if got, want := metrics(figures), "full_tokens_per_second group_alone_samples_per_second group_samples_per_second group_speedup lora_tokens_per_second peers_missing"; got != want {
			t.Errorf("metrics %s, want %s", got, want)
		}
		if f := figures[peersMissing]; f.Peer != "PyTorch" || !strings.Contains(f.Of, "not installed") {
			t.Errorf("%+v: want PyTorch and that it is not installed", f)
		}
	}
}

// An interpreter that says how fast it was, which the real script says by the same line.
func TestBenchTrainBesideAPeer(t *testing.T) {
	python := filepath.Join(t.TempDir(), "python")
	if err := os.WriteFile(python, []byte("#!/bin/sh\necho '{\"tokens_per_second\": 50, \"versions\": \"PyTorch 2\"}'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	figures := bench(t, strings.Fields("bench train --steps 1 --batch 1 --tokens 60 --json --python "+python)...)
	if got, want := figures["ratio_to_pytorch"].Value, figures["lora_tokens_per_second"].Value/50; math.Abs(got/want-1) > 1e-9 {
		t.Errorf("the ratio is %v, want %v", got, want)
	}
	if got, want := figures["group_ratio_to_pytorch"].Value, figures["group_samples_per_second"].Value/(50./464); math.Abs(got/want-1) > 1e-9 {
		t.Errorf("of groups the ratio is %v, want %v: a sample is 464 tokens there", got, want)
	}
	if _, is := figures[peersMissing]; is || figures["ratio_to_pytorch"].Peer != "PyTorch 2" {
		t.Errorf("%+v", figures)
	}
}

func TestBenchTable(t *testing.T) {
	var out, errs bytes.Buffer
	args := small()
	if code := run(t.Context(), slices.DeleteFunc(args, func(s string) bool { return s == "--json" }), &out, &errs); code != 0 {
		t.Fatalf("exit code %d, %s", code, errs.String())
	}
	rows := strings.Split(strings.TrimSpace(out.String()), "\n")
	if !strings.HasPrefix(rows[0], "r2rec bench lm on ") || !strings.Contains(rows[0], "go1.") {
		t.Errorf("%q does not say where", rows[0])
	}
	unit := strings.Index(rows[2], "unit")
	for _, row := range rows[3:10] {
		if unit < 2 || row[unit-1] != ' ' || row[unit] == ' ' {
			t.Errorf("not in line with %q: %q", rows[2], row)
		}
	}
	if last := rows[len(rows)-1]; !strings.Contains(last, "Ollama was not measured") {
		t.Errorf("%q, want the peer that is missing", last)
	}
}

func TestBenchReportRefuses(t *testing.T) {
	for name, figures := range map[string][]figure{
		"twice": {{Metric: "a", Value: 1}, {Metric: "a", Value: 1}}, "zero": {{Metric: "a"}}, "NaN": {{Metric: "a", Value: math.NaN()}}, "infinite": {{Metric: "a", Value: math.Inf(1)}},
	} {
		var out bytes.Buffer
		if err := (&benchReport{figures: figures}).write(&out, true); err == nil || out.Len() > 0 {
			t.Errorf("%s: %v, and %q was written", name, err, out.String())
		}
	}
}

func TestQuantiles(t *testing.T) {
	samples := []float64{5, 1, 4, 2, 3}
	for share, want := range map[float64]float64{0: 1, .5: 3, .9: 5, 1: 5} {
		if got := quantile(samples, share); got != want {
			t.Errorf("quantile %v of %v is %v, want %v", share, samples, got, want)
		}
	}
}

func TestBenchWrongUsage(t *testing.T) {
	for args, want := range map[string]string{
		"bench lm --runs 0":                    "--runs 0: want 1 or more",
		"bench lm --threads=-1":                "--threads -1: want 0 or more",
		"bench lm --prompt 2":                  "--prompt 2: want 3 or more",
		"bench lm --ollama http://127.0.0.1:1": "--ollama and --ollama-model belong together",
		"bench lm --ollama-model m":            "--ollama and --ollama-model belong together",
		"bench lm --ollama u --ollama-model m": "--ollama needs --model FILE",
		"bench lm --events 20":                 "--events 20: ",
		"bench train --tokens 30":              "--tokens 30: want 40 or more",
		"bench train --rank 0":                 "--rank 0: want 1 or more",
		"bench swap --swaps 0":                 "--swaps 0: want 1 or more",
		"bench retrieve --clients 1":           "--clients 1: want 2 or more",
		"bench memory --users 0":               "--users 0: want 1 or more",
		"bench memory --users 9 --edges 8":     "Edges is 8, must be 9 (one a user)",

		"bench retrieve --users 10 --items 10 --edges 1000": "Edges is 1000, must be 10 (one a user) to",
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), &out, &errs); code != 2 || !strings.Contains(errs.String(), want) || out.Len() > 0 {
			t.Errorf("r2rec %s: exit code %d, %q, %q; want 2 and %q", args, code, out.String(), errs.String(), want)
		}
	}
	for args, want := range map[string]string{ // that is in the model
		"bench lm --events 2000 --prompt 5000": "--prompt 5000, --generate 64: ",
		"bench train --tokens 5000":            "5000 tokens, and the model reads at most 4096",
		"bench train --model bench.go":         "bench.go",
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), &out, &errs); code != 1 || !strings.Contains(errs.String(), want) || out.Len() > 0 {
			t.Errorf("r2rec %s: exit code %d, %q, %q; want 1 and %q", args, code, out.String(), errs.String(), want)
		}
	}
	for _, args := range []string{"bench lm --help", "bench train --help"} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), &out, &errs); code != 0 || !strings.Contains(out.String(), "SmolLM2-135M") || errs.Len() > 0 {
			t.Errorf("r2rec %s: exit code %d, %q, %q; want an example", args, code, out.String(), errs.String())
		}
	}
}

// A Ctrl-C before anything, while texts are being read, and while training ends the command quietly, without figures.
func TestBenchEndsQuietly(t *testing.T) {
	ended := func(ctx context.Context, args ...string) {
		t.Helper()
		var out, errs bytes.Buffer
		if code := run(ctx, args, &out, &errs); code != exitStopped || out.Len() > 0 || errs.Len() > 0 {
			t.Errorf("r2rec %s: exit code %d, %q, %q; want nothing at all", strings.Join(args, " "), code, out.String(), errs.String())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = w.Write([]byte(`{"version": "0"}`))
			return
		}
		_, _ = io.Copy(io.Discard, r.Body) // only then the server notices that nobody waits any more
		cancel()
		<-r.Context().Done()
	}))
	defer server.Close()
	ended(ctx, small("--model", baseFile, "--ollama", server.URL, "--ollama-model", "m")...)
	ended(ctx, small()...)
	ended(ctx, strings.Fields("bench train --batch 1 --tokens 60")...)
}
