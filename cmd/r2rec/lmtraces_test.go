package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/rltrainer"
)

// wordy is a small model that does not say how it is read, and so can be asked to write.
func (s slice) wordy() string {
	s.Helper()
	model, path := s.file("taught.gguf"), s.file("wordy.gguf")
	lmDo(s.T, tiny(model)...)
	f, err := gguf.Open(model)
	s.must(err)
	defer f.Close()
	s.words(f, path)
	return path
}

func (s slice) traces(out string, more ...string) []string {
	return append([]string{"traces", "--events", s.file("events.csv"), "--items", s.file("items.csv"), "--fit-before", s.before, "--cases", "40", "--most-tokens", "6", "--out", out}, more...)
}

// Every case has one fate. What is kept can be learned, and a run that was stopped goes on to the same bytes.
func TestTraces(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	model := s.wordy()
	kept, dropped := s.file("kept.jsonl"), s.file("dropped.jsonl")
	code, printed, log := lmRun(t.Context(), s.traces(kept, "--model", model, "--dropped", dropped, "--json")...)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, log)
	}
	var told struct {
		Cases int
		Fates map[rltrainer.Fate]int
		Tries int
	}
	s.must(json.Unmarshal([]byte(printed), &told))
	sum := 0
	for _, n := range told.Fates {
		sum += n
	}
	traces := readTraces(t, kept)
	if told.Cases == 0 || sum != told.Cases || len(traces) != told.Fates[rltrainer.Kept] || len(traces)+len(readTraces(t, dropped)) != told.Cases || told.Tries == 0 {
		t.Errorf("%d kept in the file, told %+v", len(traces), told)
	}
	for _, trace := range traces {
		if trace.Fate != rltrainer.Kept || !(trace.After > trace.Before) || !strings.HasSuffix(trace.Prompt, "Thought:\n") || !strings.Contains(trace.Completion, "\nAnswer: ") {
			t.Errorf("kept: %+v", trace)
		}
	}
	past, err := json.Marshal(s.past(s.before))
	s.must(err)
	if text := string(readFile(t, kept)); strings.Count(text, `"learned_events":`+string(past)) != len(traces) {
		t.Errorf("not every trace says of which events it is: %.2000s", text)
	}
	for _, trace := range readTraces(t, dropped) {
		if trace.Fate == rltrainer.Kept {
			t.Errorf("dropped: %+v", trace)
		}
	}

	again := s.file("again.jsonl")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out bytes.Buffer
	said := &onText{text: " done=6 ", f: cancel}
	args := append([]string{"lm"}, s.traces(again, "--model", model, "--log-level", "debug")...)
	if code := run(ctx, args, &out, said); code != exitStopped || out.Len() > 0 {
		t.Fatalf("stopped in the middle: exit code %d, printed %q, %s", code, out.String(), said)
	}
	partial := readFile(t, again+".partial")
	if code, _, log := lmRun(t.Context(), s.traces(again, "--model", model, "--seed", "9")...); code != 1 || !strings.Contains(log, "of other flags, models or data; remove the file to begin anew") {
		t.Errorf("with another seed: exit code %d, %s", code, log)
	}
	s.must(os.WriteFile(again+".partial", partial[:len(partial)-1], 0o644)) // killed while it wrote a line
	others := s.file("others.jsonl")
	if code, _, log := lmRun(t.Context(), s.traces(again, "--model", model, "--dropped", others)...); code != 0 {
		t.Fatalf("going on: exit code %d, %s", code, log)
	}
	for whole, after := range map[string]string{kept: again, dropped: others} {
		if !bytes.Equal(readFile(t, after), readFile(t, whole)) {
			t.Errorf("%s is not that of a run without a break", after)
		}
	}
	if _, err := os.Stat(again + ".partial"); err == nil {
		t.Error("what was done so far stays behind")
	}
}

// A model that learned texts goes on as they do; so does one that was stopped on the way.
func TestTuneTexts(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	model, adapter, plot := s.wordy(), s.file("adapter.gguf"), s.file("plot.svg")
	const prompt, completion = "Likes, newest first:", " 1. A\n2. B"
	line, err := json.Marshal(map[string]any{"prompt": prompt, "completion": completion, "seed": 3, "learned_events": s.past(s.before)})
	s.must(err)
	s.write("texts.jsonl", strings.Repeat(string(line)+"\n", 5))
	args := []string{"tune", "--texts", s.file("texts.jsonl"), "--model", model, "--readout", "letters", "--prompt", "3", "--steps", "300", "--batch", "2", "--rate", "2e-2", "--rank", "16"}
	log := lmDo(t, append(args, "--adapter-out", adapter, "--plot", plot)...)
	if !strings.Contains(log, "texts=5") || !strings.Contains(log, "step=300") {
		t.Errorf("the log says %s", log)
	}
	if drawn := string(readFile(t, plot)); !strings.Contains(drawn, "<svg") || !strings.Contains(drawn, "Loss") {
		t.Errorf("the plot is %.200s", drawn)
	}
	written := func(adapter string) string {
		m, err := engine.Open(engine.Options{Path: model, Adapter: adapter, Readout: engine.Letters, PromptVersion: iot.Thoughts})
		s.must(err)
		defer m.Close()
		w, err := m.Write(t.Context(), prompt, 1, lm.WriteOptions{Most: 20})
		s.must(err)
		return w[0].Text
	}
	s.learnedFrom(adapter)
	if got := written(adapter); !strings.HasPrefix(got, completion) {
		t.Errorf("with the adapter it goes on %q, want %q; without %q", got, completion, written(""))
	}
	if code, _, log := lmRun(t.Context(), append(args, "--adapter-out", s.file("none.gguf"), "--rank", "1000000")...); code != exitMisused || !strings.Contains(log, "--rank 1000000") {
		t.Errorf("a rank above the matrices': exit code %d, %s", code, log)
	}
	again, checkpoint := s.file("again.gguf"), s.file("run.ckpt")
	killedAt(t, "msg=learning step=100 ", checkpoint, append(args, "--adapter-out", again, "--checkpoint", checkpoint, "--checkpoint-every", "1"))
	lmDo(t, append(args, "--adapter-out", again, "--checkpoint", checkpoint)...)
	if !bytes.Equal(readFile(t, again), readFile(t, adapter)) {
		t.Error("a run that was stopped gives another file")
	}
}

func readTraces(t *testing.T, path string) (traces []rltrainer.Trace) {
	t.Helper()
	for line := range strings.Lines(string(readFile(t, path))) {
		var trace rltrainer.Trace
		if err := json.Unmarshal([]byte(line), &trace); err != nil {
			t.Fatal(err)
		}
		traces = append(traces, trace)
	}
	return traces
}

// While one process writes traces, another that is to write the same is sent away, and takes nothing from it.
func TestTracesAreWrittenByOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "traces"+partial)
	log, err := openTraceLog(path, "run", 3)
	if err != nil {
		t.Fatal(err)
	}
	if done, err := log.add(rltrainer.Trace{Example: 1}); done != 1 || err != nil {
		t.Fatal(err)
	}
	before := readFile(t, path)
	for _, run := range []string{"run", "another run"} {
		if _, err := openTraceLog(path, run, 3); err == nil || !strings.Contains(err.Error(), "another process is at work") {
			t.Errorf("%s: a second process writes too: %v", run, err)
		}
	}
	if !bytes.Equal(readFile(t, path), before) {
		t.Error("the second changed what the first wrote")
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := openTraceLog(path, "run", 3)
	if err != nil || again.done() != 1 {
		t.Fatalf("after the first ended: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}
