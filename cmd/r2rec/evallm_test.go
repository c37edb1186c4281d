package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/r2rec/r2rec/internal/lm/engine"
)

// The language model ranks by the evidence of the moment: far better than chance without having seen the data, the same
// in company, and with nothing later.
func TestEvalLM(t *testing.T) {
	s := newSlice(t)
	out, log := s.eval("--ranker", "lm", "--json", "--ranks", s.file("alone.json"), "--verify", "3")
	_, figures := s.figures(out)
	if figures["n"] != float64(s.cases) || figures["hr1_low"] < .15 { // chance is .05
		t.Errorf("%v", figures)
	}
	base := identity(t, engine.Options{})
	for _, want := range []string{"verified: the same scores with everything later deleted", "ranker=lm", "digest=" + base.Digest, "readout=lines"} {
		if !strings.Contains(log, want) {
			t.Errorf("no %q in the log:\n%s", want, log)
		}
	}
	s.eval("--ranker", "popularity,lm,fusion", "--ranks", s.file("company.json"))
	if !cmp.Equal(s.ranks("alone.json")["lm"], s.ranks("company.json")["lm"]) {
		t.Error("lm ranks otherwise in company")
	}
}

// An adapter ranks with the model that it was tuned on, and with no other.
func TestEvalLMWithAnAdapter(t *testing.T) {
	s := newSlice(t)
	adapter, model := s.file("adapter.gguf"), s.file("model.gguf")
	lmDo(t, s.tune(adapter, "--steps", "20")...)
	lmDo(t, tiny(model)...)
	s.eval("--ranker", "lm", "--ranks", s.file("base.json"))
	_, log := s.eval("--ranker", "lm", "--adapter", adapter, "--ranks", s.file("tuned.json"), "--verify", "3")
	if who := identity(t, engine.Options{Adapter: adapter}); !strings.Contains(log, "adapter="+who.Adapter) || !strings.Contains(log, "verified") {
		t.Errorf("the log does not name the adapter:\n%s", log)
	}
	_, log = s.eval("--ranker", "lm", "--model", model, "--ranks", s.file("other.json"))
	if who := identity(t, engine.Options{Path: model}); !strings.Contains(log, "digest="+who.Digest) {
		t.Errorf("the log does not name the model:\n%s", log)
	}
	base, tuned, other := s.ranks("base.json")["lm"], s.ranks("tuned.json")["lm"], s.ranks("other.json")["lm"]
	if cmp.Equal(base, tuned) || cmp.Equal(base, other) {
		t.Error("the adapter or the model makes no difference")
	}
	for _, tc := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--ranker", "lm", "--model", model, "--adapter", adapter}, 1, "adapter " + adapter + ": it does not belong to this model: the adapter is for base_digest "},
		{[]string{"--ranker", "lm,pool", "--pool-weight", ".5"}, 1, "--ranker pool: it joins fusion and lm"},
		{[]string{"--ranker", "fusion,lm,pool"}, 1, "--ranker pool: say the model's weight"},
		{[]string{"--ranker", "fusion,lm", "--pool-weight", ".5"}, 1, "they are about the ranker pool"},
		{[]string{"--ranker", "fusion,lm,pool", "--pool-weight", "2"}, 1, "--pool-weight 2: want 0 to 1"},
		{[]string{"--ranker", "fusion,lm,pool", "--pool-from", model}, 1, "--pool-from: " + model + ":1: "},
		{[]string{"--ranker", "lm", "--ollama", "http://127.0.0.1:1"}, 1, "--ollama: name the GGUF file of the base model by --model"},
		{[]string{"--ranker", "lm", "--ollama", "http://127.0.0.1:1", "--model", model, "--readout", "lines"}, 1, "a server tells letters only"},
		{[]string{"--sample=-1"}, 1, "--sample -1: want"},
		{[]string{"--ranker", "lm", "--think", "8"}, 1, "--think 8: the model reads prompts of version 2 by lines"},
		{[]string{"--ranker", "lm", "--think=-1"}, 1, "--think -1: want tokens"},
		{[]string{"--ranker", "fusion", "--think", "8"}, 1, "--think is about the language model"},
		{[]string{"--ranker", "lm", "--model", adapter}, 1, "it is an adapter: name the model that it belongs to"},
		{[]string{"--ranker", "lm", "--adapter", model}, 1, "adapter " + model + ": "},
		{[]string{"--ranker", "lm", "--adapter", "/does/not/exist"}, 2, "/does/not/exist"},
		{[]string{"--ranker", "lm", "--model", s.file("events.csv")}, 1, "open GGUF file " + s.file("events.csv")},
		{[]string{"--ranker", "lm", "--readout", "aloud"}, 2, "--readout"},
		{[]string{"--ranker", "lm", "--prompt", "9"}, 1, "prompts of version 2; lines and 9 are asked for"},
		{[]string{"--ranker", "fusion", "--model", model}, 1, "--model is about the language model, which does not rank here; add lm to --ranker"},
		{[]string{"--adapter", adapter}, 1, "--adapter is about the language model"},
		{[]string{"--readout", "lines"}, 1, "--readout is about the language model"},
		{[]string{"--prompt", "2"}, 1, "--prompt is about the language model"},
		{[]string{"--ranker", "lm", "--fit-before", s.before}, 1, "--fit-before is about the fusion"},
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), s.args(tc.args...), &out, &errs); code != tc.code || out.Len() != 0 || !strings.Contains(errs.String(), tc.want) {
			t.Errorf("r2rec eval %q: exit code %d, printed %q, %s; want %d and %q", tc.args, code, out.String(), errs.String(), tc.code, tc.want)
		}
	}

	// The same flags of serve and recommend are checked before any server is asked.
	for _, tc := range []struct {
		args string
		want string
	}{
		{"--no-model --model " + model, "--no-model excludes --model, --adapter and --ollama"},
		{"--no-model --adapter " + adapter, "--no-model excludes --model, --adapter and --ollama"},
		{"--no-model --ollama http://127.0.0.1:1", "--no-model excludes --model, --adapter and --ollama"},
		{"--ollama http://127.0.0.1:1 --adapter " + adapter, "--adapter is for the model that runs within this program; Ollama has adapters in its models"},
		{"--model " + model + " --adapter " + adapter, "it does not belong to this model"},
		{"--model smollm2:135m", "--model: open GGUF file smollm2:135m: open smollm2:135m: no such file or directory; it names a GGUF file here, or with --ollama URL a model of that server"},
		{"--model " + s.file("events.csv"), "open GGUF file " + s.file("events.csv")},
	} {
		for _, command := range []string{"recommend u", "serve --listen 127.0.0.1:0"} {
			var out, errs bytes.Buffer
			args := strings.Fields(command + " --kafka 127.0.0.1:1 --redis redis://127.0.0.1:1/0 " + tc.args)
			if code := run(t.Context(), args, &out, &errs); code != 1 || !strings.Contains(errs.String(), tc.want) || strings.Contains(errs.String(), "not ready") {
				t.Errorf("r2rec %q: exit code %d, %s; want %q", args, code, errs.String(), tc.want)
			}
		}
	}
}

// A model that is asked to think writes before it answers, and it is told how much of that was grounded.
func TestEvalLMThinks(t *testing.T) {
	s := newSlice(t)
	_, log := s.eval("--ranker", "lm", "--model", s.wordy(), "--readout", "letters", "--prompt", "3", "--think", "8")
	if !strings.Contains(log, "msg=thoughts asked=") || !strings.Contains(log, "lines_dropped=") {
		t.Errorf("the log says %s", log)
	}
}

// The pool's weight is learned from other cases; the ends of it are the fusion and the model.
func TestEvalPool(t *testing.T) {
	s := newSlice(t)
	three := []string{"--ranker", "fusion,lm,pool"}
	s.eval("--ranker", "fusion,lm", "--scores", s.file("scores.jsonl"), "--ranks", s.file("alone.json"))
	_, log := s.eval(append(three, "--pool-from", s.file("scores.jsonl"), "--ranks", s.file("pool.json"))...)
	if !strings.Contains(log, "weight of the pool learned") {
		t.Errorf("the log says %s", log)
	}
	alone, learned := s.ranks("alone.json"), s.ranks("pool.json")
	for name, weight := range map[string]string{"fusion": "0", "lm": "1"} {
		s.eval(append(three, "--pool-weight", weight, "--ranks", s.file(name+".json"))...)
		if !cmp.Equal(s.ranks(name + ".json")["pool"], alone[name]) {
			t.Errorf("at weight %s the pool is not %s", weight, name)
		}
	}
	if cmp.Equal(learned["pool"], alone["fusion"]) || len(learned["pool"]) != s.cases {
		t.Error("the pool is the fusion")
	}
	out, log := s.eval("--ranker", "lm", "--sample", "5", "--json")
	if _, figures := s.figures(out); figures["n"] != 5 || !strings.Contains(log, "a sample of the cases is asked") {
		t.Errorf("a sample of 5: %v, %s", figures, log)
	}
}
