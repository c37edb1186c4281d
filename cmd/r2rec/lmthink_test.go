package main

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama/lora"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/redis/go-redis/v9"
)

// Replies are written, rewarded and learned from; a run that was stopped goes on to the bytes of one without a break.
func TestLMThink(t *testing.T) {
	t.Parallel()
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
	s.learnedFrom(first)
	s.learnedFrom(adapter)
	again, checkpoint := s.file("again.gguf"), s.file("run.ckpt")
	going := args(again, "--adapter", first, "--checkpoint", checkpoint, "--checkpoint-every", "1")
	killedAt(t, "msg=thinking step=2 ", checkpoint, going)
	lmDo(t, going...)
	if !bytes.Equal(readFile(t, again), readFile(t, adapter)) {
		t.Error("a run that was stopped gives another file")
	}
	for flag, want := range map[string]string{"--beta=0": "--beta 0: want more than 0", "--group=1": "--group 1: want 2 or more", "--steps=0": "--steps 0: want 1 to"} {
		if code, _, log := lmRun(t.Context(), slices.Concat(args(again), []string{flag})...); code != 2 || !strings.Contains(log, want) {
			t.Errorf("%s: exit code %d, %s", flag, code, log)
		}
	}
}

// What became of a server's decisions is what replies earn.
func TestLMThinkLearnsFromDecisions(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	path := s.wordy()
	model, err := engine.Open(engine.Options{Path: path, Readout: engine.Letters, PromptVersion: iot.Thoughts})
	s.must(err)
	defer model.Close()
	p := newTrainer(newPlace(t, broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}}, &redis.UniversalOptions{Addrs: []string{embeddedtest.Redis(t)}}))
	args := func(more ...string) []string {
		return slices.Concat([]string{"think", "--decisions", "--model", path, "--steps", "2", "--batch", "2", "--group", "3", "--most-tokens", "5", "--adapter-out", s.file("clicked.gguf")}, p.kafkaArgs(), more)
	}
	if code, _, log := lmRun(t.Context(), args()...); code != 1 || !strings.Contains(log, "no decision to learn from: no decision that was shown has a reward yet") {
		t.Errorf("without decisions: exit code %d, %s", code, log)
	}
	p.live(model, 120, "d")
	log := lmDo(t, args()...)
	if !strings.Contains(log, `msg="decisions read" decisions=`) || strings.Count(log, "msg=thinking step=") != 2 {
		t.Errorf("the log says %s", log)
	}
	a, err := lora.Read(s.file("clicked.gguf"))
	s.must(err)
	if a.Manifest.Steps != 2 || a.Manifest.PromptVersion != iot.Thoughts || a.Manifest.LearnedEvents != (event.Past{}) {
		t.Errorf("manifest %+v", a.Manifest)
	}
	// Whichever adapter decided.
	lmDo(t, args("--adapter", s.file("clicked.gguf"), "--adapter-out", s.file("more.gguf"))...)
	// A run that was stopped goes on by what it began with, though more was decided since.
	whole, again, checkpoint := s.file("whole.gguf"), s.file("again.gguf"), s.file("run.ckpt")
	lmDo(t, args("--steps", "4", "--adapter-out", whole)...)
	going := args("--steps", "4", "--adapter-out", again, "--checkpoint", checkpoint, "--checkpoint-every", "1")
	killedAt(t, "msg=thinking step=2 ", checkpoint, going)
	p.live(model, 40, "e")
	if code, _, log := lmRun(t.Context(), append(going, "--staleness=48h")...); code != 1 || !strings.Contains(log, "--staleness 48h0m0s: the run of --checkpoint "+checkpoint+" was begun with 720h0m0s; remove the checkpoint to begin anew") {
		t.Errorf("with another staleness: exit code %d, %s", code, log)
	}
	kept := readFile(t, checkpoint+".input")
	s.must(os.Remove(checkpoint + ".input"))
	if code, _, log := lmRun(t.Context(), going...); code != 1 || !strings.Contains(log, "what its run learns from is not known") {
		t.Errorf("without what it learns from: exit code %d, %s", code, log)
	}
	s.must(os.WriteFile(checkpoint+".input", kept, 0o600))
	lmDo(t, going...)
	if !bytes.Equal(readFile(t, again), readFile(t, whole)) {
		t.Error("a run that was stopped gives another file")
	}
	for _, file := range []string{checkpoint, checkpoint + ".input"} {
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%s stays behind", file)
		}
	}
	for flag, want := range map[string]string{"--held=1": "--held 1: want more than 0", "--fit-before=5": "--decisions: the questions are read from Kafka"} {
		if code, _, log := lmRun(t.Context(), args(flag)...); code != 2 || !strings.Contains(log, want) {
			t.Errorf("%s: exit code %d, %s", flag, code, log)
		}
	}
	if code, _, log := lmRun(t.Context(), "think", "--model", path, "--adapter-out", s.file("x.gguf")); code != 2 || !strings.Contains(log, "missing flags: --events=FILE, --items=FILE, --fit-before=TIME") {
		t.Errorf("without questions: exit code %d, %s", code, log)
	}
}
