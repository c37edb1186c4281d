package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama/lora"
)

// Replies are written, rewarded and learned from; a run that was stopped goes on to the bytes of one without a break.
func TestLMThink(t *testing.T) {
	s := newSlice(t)
	model, first, adapter := s.wordy(), s.file("first.gguf"), s.file("adapter.gguf")
	args := func(out string, more ...string) []string {
		return append([]string{"think", "--events", s.file("events.csv"), "--items", s.file("items.csv"), "--fit-before", s.before, "--cases", "10",
			"--model", model, "--steps", "4", "--batch", "2", "--group", "3", "--most-tokens", "5", "--adapter-out", out}, more...)
	}
	log := lmDo(t, args(first)...)
	if strings.Count(log, "msg=thinking step=") != 4 || !strings.Contains(log, "flat_groups=") {
		t.Errorf("the log says %s", log)
	}
	lmDo(t, args(adapter, "--adapter", first)...)
	a, err := lora.Read(first)
	s.must(err)
	b, err := lora.Read(adapter)
	s.must(err)
	if a.Manifest.Readout != "letters" || a.Manifest.PromptVersion != iot.Thoughts || a.Manifest.Steps != 4 || b.Manifest.Parent == "" {
		t.Errorf("manifests %+v, and of one that goes on %+v", a.Manifest, b.Manifest)
	}
	again, checkpoint := s.file("again.gguf"), s.file("run.ckpt")
	going := args(again, "--adapter", first, "--checkpoint", checkpoint, "--checkpoint-every", "1")
	killedAt(t, checkpoint, going)
	lmDo(t, going...)
	if !bytes.Equal(readFile(t, again), readFile(t, adapter)) {
		t.Error("a run that was stopped gives another file")
	}
	for flag, want := range map[string]string{"--beta=0": "--beta 0: want more than 0", "--group=1": "--group 1: want 2 or more", "--steps=0": "--steps 0: want 1 to"} {
		if code, _, log := lmRun(t.Context(), slices.Concat(args(again), []string{flag})...); code != 1 || !strings.Contains(log, want) {
			t.Errorf("%s: exit code %d, %s", flag, code, log)
		}
	}
}
