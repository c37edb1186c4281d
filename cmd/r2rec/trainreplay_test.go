package main

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/llama/lora"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/rltrainer"
)

// trainRun runs r2rec train to its end.
func trainRun(ctx context.Context, args ...string) (code int, out, log string) {
	var o, e bytes.Buffer
	code = run(ctx, append([]string{"train"}, args...), &o, &e)
	return code, o.String(), e.String()
}

// replay are the flags of a short replay of the slice; more replaces some of them.
func (s slice) replay(out string, more ...string) []string {
	args := []string{"replay", "--adapter-out", out}
	for flag, value := range map[string]string{"--events": s.file("events.csv"), "--items": s.file("items.csv"), "--fit-before": s.before,
		"--cases": "120", "--sft-steps": "2", "--steps": "3", "--choice-steps": "2", "--batch": "8", "--rank": "4", "--gate-share": ".4"} {
		if !slices.Contains(more, flag) {
			args = append(args, flag, value)
		}
	}
	return append(args, more...)
}

func (s slice) replayed(args ...string) (out, log string) {
	s.Helper()
	code, out, log := trainRun(s.Context(), args...)
	if code != 0 {
		s.Fatalf("r2rec train %q: exit code %d\n%s", args, code, log)
	}
	return out, log
}

// The whole loop leaves an adapter that is its seed's, whose parents can be told, that r2rec eval ranks with, and a report.
func TestReplay(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	a, b, sft, report, outcomes := s.file("a.gguf"), s.file("b.gguf"), s.file("sft.gguf"), s.file("report.json"), s.file("outcomes.jsonl")
	out, log := s.replayed(s.replay(a, "--sft-out", sft, "--report", report, "--outcomes", outcomes, "--test", s.file("cases.jsonl"), "--name", "films")...)
	for _, want := range []string{"fine-tuning", "recommended", "learning choices", "learning rewards", "gate", "adapter written"} {
		if !strings.Contains(log, want) {
			t.Errorf("no %q in the log:\n%s", want, log)
		}
	}
	for _, want := range []string{"decisions to learn from", "click model", "gate: underpowered", "after learning from clicks, less before", "films cases"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in what is printed:\n%s", want, out)
		}
	}
	s.replayed(s.replay(b)...)
	if !bytes.Equal(readFile(t, a), readFile(t, b)) {
		t.Error("the same seed gives another adapter, or measuring makes a difference")
	}
	s.replayed(s.replay(b, "--seed", "2")...)
	if bytes.Equal(readFile(t, a), readFile(t, b)) {
		t.Error("another seed gives the same adapter")
	}

	base := identity(t, engine.Options{})
	got, err := lora.Read(a)
	s.must(err)
	if m := got.Manifest; m.BaseDigest != base.Digest || m.Steps != 3 || !strings.Contains(m.Note, "policy gradient") || got.Rank != 4 {
		t.Errorf("%+v, rank %d", m, got.Rank)
	}
	started, err := lora.Read(sft)
	s.must(err)
	f, err := gguf.Open(sft)
	s.must(err)
	defer f.Close()
	if started.Manifest.Steps != 2 || started.Manifest.Parent != "" || got.Manifest.Parent == "" || got.Manifest.Parent == f.Digest() {
		t.Errorf("fine-tuned first: %+v; learning choices stands between: parent %s", started.Manifest, got.Manifest.Parent)
	}
	s.learnedFrom(sft)
	s.learnedFrom(a)
	evaluated, _ := s.eval("--ranker", "lm", "--adapter", a)
	if !strings.Contains(evaluated, "lm") {
		t.Errorf("%s", evaluated)
	}

	var r rltrainer.Learned
	s.must(json.Unmarshal(readFile(t, report), &r))
	if r.Rollouts < 50 || r.Held < 30 || len(r.Steps) != 3 || r.Gate == nil || r.Gate.Found.Decisions != r.Held || r.Tokens == 0 || r.Choices == 0 || r.After.KL <= 0 || len(r.Dropped) != 0 {
		t.Errorf("%+v", r)
	}

	// Several runs are compared together; figures are for machines.
	compared, _ := s.replayed("compare", outcomes)
	if !strings.Contains(out, strings.TrimSpace(compared)) {
		t.Errorf("compared:\n%s\nthe run said:\n%s", compared, out)
	}
	figures, _ := s.replayed("compare", outcomes, "--json")
	seen := map[string]bool{}
	for line := range strings.Lines(figures) {
		var f struct {
			Command, Metric, Unit string
			Value                 *float64
		}
		s.must(json.Unmarshal([]byte(line), &f))
		if f.Command != "train compare" || f.Value == nil || f.Unit == "" || seen[f.Metric] {
			t.Errorf("%s", line)
		}
		seen[f.Metric] = true
	}
	for _, want := range []string{"diff_hr1", "diff_hr1_low", "diff_cross_entropy_high", "needed_users", "diff_hr1_films_cases"} {
		if !seen[want] {
			t.Errorf("no figure %s in\n%s", want, figures)
		}
	}
}

// An adapter that did not pass is not written where it is not wanted, and a run without fine-tuning begins from the model.
func TestReplayOnlyIfPassed(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	dir := t.TempDir()
	out, log := s.replayed(s.replay(filepath.Join(dir, "out.gguf"), "--only-if-passed", "--sft-steps", "0", "--choice-steps", "0", "--json")...)
	if !strings.Contains(log, "did not pass the gate") {
		t.Errorf("%s", log)
	}
	wantFiles(t, dir)
	if !strings.Contains(out, `"metric":"gate_passed","value":0`) || !strings.Contains(out, `"metric":"tokens_per_second"`) {
		t.Errorf("%s", out)
	}
	s.replayed(s.replay(filepath.Join(dir, "out.gguf"), "--sft-steps", "0", "--choice-steps", "0")...)
	got, err := lora.Read(filepath.Join(dir, "out.gguf"))
	s.must(err)
	if got.Manifest.Parent != "" {
		t.Errorf("it goes on from %s", got.Manifest.Parent)
	}
}

// A policy that thinks begins from an adapter. What that was taught is neither replayed nor measured by.
func TestReplayLeavesOutWhatFromWasTaught(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	between, _ := s.halves()
	model, early, late := s.wordy(), s.file("early.gguf"), s.file("late.gguf")
	for adapter, before := range map[string]string{early: s.before, late: between} {
		lmDo(t, "think", "--events", s.file("events.csv"), "--items", s.file("items.csv"), "--fit-before", before, "--cases", "10", "--model", model,
			"--steps", "1", "--batch", "2", "--group", "2", "--most-tokens", "5", "--adapter-out", adapter)
	}
	replay := func(from string, more ...string) []string {
		return s.replay(s.file("out.gguf"), append(more, "--model", model, "--readout", "letters", "--prompt", "3", "--think", "5", "--from", from, "--think-steps", "1", "--think-batch", "2", "--think-group", "2")...)
	}
	for want, args := range map[string][]string{
		"--from " + late + ": learned from these very events before " + s.past(between).Before.String():                    replay(late),
		"--test: --from " + late + ": learned from these very events before " + s.past(between).Before.String() + ", and ": replay(late, "--test", s.file("cases.jsonl")),
	} {
		if code, printed, log := trainRun(t.Context(), args...); code != 2 || printed != "" || !strings.Contains(log, want) || !strings.Contains(log, "an earlier") {
			t.Errorf("r2rec train %q: exit code %d, printed %q, %s; want 2 and %q", args, code, printed, log, want)
		}
	}
	_, log := s.replayed(replay(early, "--fit-before", between, "--cases", "600", "--test", s.file("late.jsonl"))...)
	if !strings.Contains(log, "cases whose answers --from was taught are left out") {
		t.Errorf("nothing is left out: %s", log)
	}
}

func TestTrainWrongInput(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	dir := t.TempDir()
	out := filepath.Join(dir, "out.gguf")
	s.write("text", "no outcome")
	s.write("early.jsonl", `{"case":"c1","user":"u","at":789652004,"candidates":["a","b"],"positive":"a"}`)
	replay := func(more ...string) []string { return s.replay(out, more...) }
	for _, tc := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"replay"}, 2, "--events"},
		{replay("--cases", "0"), 2, "--cases 0: want 1 or more"},
		{replay("--rank", "0"), 2, "--rank 0: want 1 or more"},
		{replay("--rank", "1000"), 2, "--rank 1000: "},
		{replay("--targets", "brain"), 2, `target "brain": must be one of`},
		{replay("--k", "0"), 2, "--k 0: want 1 or more"},
		{replay("--sft-share", "1"), 2, "--sft-share 1: want a share from 0 to .9"},
		{replay("--gate-share", "0"), 2, "--gate-share 0: want a share from .01 to .9"},
		{replay("--stays", "0"), 2, "--stays 0: want a probability"},
		{replay("--temperature", "0"), 2, "--temperature 0: want .01 to 100"},
		{replay("--beta", "0"), 2, "--beta 0: want more than 0: without a divergence"},
		{replay("--beta", "NaN"), 2, "--beta NaN"},
		{replay("--gate-detect", "0"), 2, "--gate-detect 0: want more than 0"},
		{replay("--steps=-1"), 2, "--steps -1: want 0 or more"},
		{replay("--steps", "0", "--choice-steps", "0"), 2, "nothing would be learned from clicks"},
		{replay("--sft-out", filepath.Join(dir, "sft.gguf"), "--sft-steps", "0"), 2, "--sft-out: there is no fine-tuning"},
		{replay("--rate", "0"), 2, "--rate 0: want more than 0"},
		{replay("--batch", "0"), 2, "--batch 0: want 1 to"},
		{replay("--threads", "0"), 2, "--threads 0: want 1 to"},
		{replay("--fit-before", "tomorrow"), 2, `--fit-before: "tomorrow" is no time`},
		{replay("--fit-before", "400000000"), 1, "--fit-before 400000000: draw cases to fit with: none of the 0 events"},
		{replay("--outcomes", filepath.Join(dir, "o")), 2, "--outcomes: nothing is measured without --test"},
		{replay("--sft-out", out), 2, "--sft-out " + out + ": --adapter-out is to be written there"},
		{replay("--report", filepath.Join(dir, "missing", "r")), 1, "--report " + filepath.Join(dir, "missing", "r")},
		{replay("--test", s.file("early.jsonl")), 1, "before --fit-before: it would be measured by what learned from it"},
		{replay("--test", s.file("text")), 1, "--test: read cases"},
		{replay("--model", s.file("text")), 1, "open GGUF file " + s.file("text")},
		{s.replay(filepath.Join(dir, "missing", "out.gguf")), 1, "make the folder first"},
		{[]string{"compare"}, 2, "<file>"},
		{[]string{"compare", s.file("text")}, 1, "text: outcome 1: "},
		{[]string{"compare", s.file("early.jsonl")}, 1, "outcome 1: set, user or case is empty"},
	} {
		code, printed, log := trainRun(t.Context(), tc.args...)
		if code != tc.code || printed != "" || !strings.Contains(log, tc.want) {
			t.Errorf("r2rec train %q: exit code %d, printed %q, %s; want %d and %q", tc.args, code, printed, log, tc.code, tc.want)
		}
		if strings.Contains(log, "goroutine") || strings.Contains(log, "level=INFO") {
			t.Errorf("r2rec train %q: a stack, or work was done before: %s", tc.args, log)
		}
	}
	wantFiles(t, dir)
}
