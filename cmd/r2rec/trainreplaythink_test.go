package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/llama/lora"
	"github.com/r2rec/r2rec/rltrainer"
)

// A policy that thinks is replayed by its thoughts: it learns them, is judged and measured by them, and whatever stands in a flag of
// answers at once has no part in it.
func TestReplayOfAModelThatThinks(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	model, a, b, report := s.wordy(), s.file("a.gguf"), s.file("b.gguf"), s.file("report.json")
	thinks := []string{"--model", model, "--think", "6", "--cases", "60", "--think-steps", "2", "--think-batch", "2", "--think-group", "2", "--test", s.file("cases.jsonl")}
	out, log := s.replayed(s.replay(a, append(thinks, "--report", report)...)...)
	for _, want := range []string{"thoughts: 2 steps", "gate: ", "after learning from clicks, less before"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in what is printed:\n%s", want, out)
		}
	}
	if !strings.Contains(log, "--from begins with it") || strings.Contains(log, "fine-tuning") {
		t.Errorf("the log says\n%s", log)
	}
	var r rltrainer.Learned
	s.must(json.Unmarshal(readFile(t, report), &r))
	if len(r.Thoughts) != 2 || len(r.Steps) != 0 || r.Rollouts+r.Held < 40 || r.Gate == nil || r.Gate.Found.Decisions != r.Held || len(r.Dropped) != 0 {
		t.Errorf("%+v", r)
	}
	s.replayed(s.replay(b, append(thinks, "--sft-steps", "0", "--steps", "0", "--choice-steps", "0")...)...)
	if !bytes.Equal(readFile(t, a), readFile(t, b)) {
		t.Error("the steps of answers at once make a difference")
	}
	got, err := lora.Read(a)
	s.must(err)
	if m := got.Manifest; m.Steps != 2 || m.Readout != "letters" || m.PromptVersion != 3 || !strings.Contains(m.Note, "thoughts rewarded") {
		t.Errorf("%+v", m)
	}
	if code, _, said := trainRun(t.Context(), s.replay(b, "--from", a)...); code != exitMisused || !strings.Contains(said, "--from goes with --think") {
		t.Errorf("--from without --think: %d %s", code, said)
	}
}
