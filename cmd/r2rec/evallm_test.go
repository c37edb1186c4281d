package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/r2rec/r2rec/internal/lm/engine"
)

// The language model ranks by the evidence of the moment: far better than chance without having seen the data, the same
// in company, and with nothing later.
func TestEvalLM(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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
		{[]string{"--ranker", "lm,pool", "--pool-weight", ".5"}, 2, "--ranker pool: it joins fusion and lm"},
		{[]string{"--ranker", "fusion,lm,pool"}, 2, "--ranker pool: say the model's weight"},
		{[]string{"--ranker", "fusion,lm", "--pool-weight", ".5"}, 2, "they are about the ranker pool"},
		{[]string{"--ranker", "fusion,lm,pool", "--pool-weight", "2"}, 2, "--pool-weight 2: want 0 to 1"},
		{[]string{"--ranker", "fusion,lm,pool", "--pool-from", model}, 1, "--pool-from: " + model + ":1: "},
		{[]string{"--ranker", "lm", "--ollama", "http://127.0.0.1:1"}, 2, "--ollama: name the GGUF file of the base model by --model"},
		{[]string{"--ranker", "lm", "--ollama", "http://127.0.0.1:1", "--model", model, "--readout", "lines"}, 2, "a server tells letters and verdicts only"},
		{[]string{"--ranker", "lm", "--ollama", "http://127.0.0.1:1", "--model", model, "--readout", "verdicts"}, 1, "on a server the bare base is read by letters"},
		{[]string{"--ranker", "lm", "--ollama", "http://127.0.0.1:1", "--model", model, "--adapter", adapter, "--readout", "letters"}, 1, "learned to be read by lines"},
		{[]string{"--ranker", "lm", "--ollama", "http://127.0.0.1:1", "--model", model, "--adapter", adapter, "--prompt", "1"}, 1, "learned to read prompts of version 4"},
		{[]string{"--sample=-1"}, 2, "--sample -1: want"},
		{[]string{"--ranker", "lm", "--think", "8"}, 1, "--think 8: it is read by lines of prompts of version 4"},
		{[]string{"--ranker", "lm", "--think=-1"}, 2, "--think -1: want tokens"},
		{[]string{"--ranker", "fusion", "--think", "8"}, 2, "--think is about the language model"},
		{[]string{"--ranker", "lm", "--model", adapter}, 1, "it is an adapter: name the model that it belongs to"},
		{[]string{"--ranker", "lm", "--adapter", model}, 1, "adapter " + model + ": "},
		{[]string{"--ranker", "lm", "--adapter", "/does/not/exist"}, 2, "/does/not/exist"},
		{[]string{"--ranker", "lm", "--model", s.file("events.csv")}, 1, "open GGUF file " + s.file("events.csv")},
		{[]string{"--ranker", "lm", "--readout", "aloud"}, 2, "--readout"},
		{[]string{"--ranker", "lm", "--prompt", "9"}, 1, "prompts of version 4; lines and 9 are asked for"},
		{[]string{"--ranker", "fusion", "--model", model}, 2, "--model is about the language model, which does not rank here; add lm to --ranker"},
		{[]string{"--adapter", adapter}, 2, "--adapter is about the language model"},
		{[]string{"--readout", "lines"}, 2, "--readout is about the language model"},
		{[]string{"--prompt", "2"}, 2, "--prompt is about the language model"},
		{[]string{"--ranker", "lm", "--fit-before", s.before}, 2, "--fit-before is about the fusion"},
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), s.args(tc.args...), &out, &errs); code != tc.code || out.Len() != 0 || !strings.Contains(errs.String(), tc.want) {
			t.Errorf("r2rec eval %q: exit code %d, printed %q, %s; want %d and %q", tc.args, code, out.String(), errs.String(), tc.code, tc.want)
		}
	}

	// The same flags of serve and recommend are checked before any server is asked.
	for _, tc := range []struct {
		args string
		code int
		want string
	}{
		{"--no-model --model " + model, 2, "--no-model excludes --model, --adapter and --ollama"},
		{"--no-model --adapter " + adapter, 2, "--no-model excludes --model, --adapter and --ollama"},
		{"--no-model --ollama http://127.0.0.1:1", 2, "--no-model excludes --model, --adapter and --ollama"},
		{"--ollama http://127.0.0.1:1 --adapter " + adapter, 2, "--adapter is for the model that runs within this program; Ollama has adapters in its models"},
		{"--model " + model + " --adapter " + adapter, 1, "it does not belong to this model"},
		{"--model smollm2:135m", 1, "--model: open GGUF file smollm2:135m: open smollm2:135m: no such file or directory; it names a GGUF file here, or with --ollama URL a model of that server"},
		{"--model " + s.file("events.csv"), 1, "open GGUF file " + s.file("events.csv")},
	} {
		for _, command := range []string{"recommend u", "serve --listen 127.0.0.1:0"} {
			var out, errs bytes.Buffer
			args := strings.Fields(command + " --kafka 127.0.0.1:1 --redis redis://127.0.0.1:1/0 " + tc.args)
			if code := run(t.Context(), args, &out, &errs); code != tc.code || !strings.Contains(errs.String(), tc.want) || strings.Contains(errs.String(), "not ready") {
				t.Errorf("r2rec %q: exit code %d, %s; want %d and %q", args, code, errs.String(), tc.code, tc.want)
			}
		}
	}
}

// A model that is asked to think writes before it answers, and it is told how much of that was grounded.
func TestEvalLMThinks(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	_, log := s.eval("--ranker", "lm", "--model", s.wordy(), "--readout", "letters", "--prompt", "3", "--think", "8")
	if !strings.Contains(log, "msg=thoughts asked=") || !strings.Contains(log, " dropped=") {
		t.Errorf("the log says %s", log)
	}
}

// The pool's weight is learned from earlier cases, and from no others.
func TestEvalPool(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	var early, late, times []string
	lines := slices.Collect(strings.Lines(string(readFile(t, s.file("cases.jsonl")))))
	at := func(line string) string {
		_, rest, _ := strings.Cut(line, `"at":`)
		return rest[:strings.IndexAny(rest, ",}")]
	}
	for _, line := range lines {
		times = append(times, at(line))
	}
	slices.Sort(times) // of as many digits each
	for _, line := range lines {
		if at(line) < times[len(times)/2] {
			early = append(early, line)
		} else {
			late = append(late, line)
		}
	}
	s.write("early.jsonl", strings.Join(early, ""))
	s.write("late.jsonl", strings.Join(late, ""))
	scores := s.file("scores.jsonl")
	s.eval("--ranker", "fusion,lm", "--cases", s.file("early.jsonl"), "--scores", scores)
	pool := []string{"--ranker", "fusion,lm,pool", "--pool-from", scores, "--cases"}
	_, log := s.eval(append(pool, s.file("late.jsonl"), "--ranks", s.file("ranks.json"))...)
	if !strings.Contains(log, "weight of the pool learned") {
		t.Errorf("the log says %s", log)
	}
	if ranks := s.ranks("ranks.json"); cmp.Equal(ranks["pool"], ranks["fusion"]) || cmp.Equal(ranks["pool"], ranks["lm"]) || len(ranks["pool"]) != len(late) {
		t.Errorf("%d ranks of the pool, want a mixture", len(ranks["pool"]))
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), s.args(append(pool, s.file("early.jsonl"))...), &out, &errs); code != 1 || !strings.Contains(errs.String(), "the weight is to be learned from earlier ones") {
		t.Errorf("from the very cases: exit code %d, %s", code, errs.String())
	}
	printed, log := s.eval("--ranker", "lm", "--sample", "5", "--json")
	if _, figures := s.figures(printed); figures["n"] != 5 || !strings.Contains(log, "a sample of the cases is asked") {
		t.Errorf("a sample of 5: %v, %s", figures, log)
	}
}
