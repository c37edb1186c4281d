package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama/lora"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/rltrainer"
)

// The script of the nightly job ends well where there is nothing to learn yet, and badly, before anything is learned, where
// something is wrong. What it does otherwise takes PyTorch: see TestTrainerElsewhere.
func TestARoundElsewhere(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	p := newPlace(t, broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}}, &redis.UniversalOptions{Addrs: []string{embeddedtest.Redis(t)}})
	model, bin, work := s.wordy(), t.TempDir(), t.TempDir()
	self, err := filepath.Abs(os.Args[0])
	s.must(err)
	s.must(os.Symlink(self, filepath.Join(bin, "r2rec")))
	round := func(more ...string) (code int, said string) {
		cmd := exec.CommandContext(t.Context(), "../../deploy/trainer/round.sh")
		cmd.Env = append(os.Environ(), asProgram+"=1", "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "MODEL="+model, "WORK="+work, "EXPORT_FLAGS=--prompt 3",
			"R2REC_KAFKA="+p.kafka.Brokers[0], "R2REC_REDIS=redis://"+p.redis.Addrs[0], "R2REC_ADAPTERS="+t.TempDir())
		cmd.Env = append(cmd.Env, more...)
		out, _ := cmd.CombinedOutput()
		wantFiles(t, work)
		return cmd.ProcessState.ExitCode(), string(out)
	}
	if code, said := round(); code == 0 || !strings.Contains(said, "there is no topic adapters") {
		t.Errorf("before anything consumes: exit code %d, %s", code, said)
	}
	kc, err := broker.New(p.kafka)
	s.must(err)
	t.Cleanup(func() { kc.Close() })
	s.must(kc.EnsureTopics(t.Context(), broker.Topics{Partitions: 1}))
	if code, said := round(); code != 0 || !strings.Contains(said, "nothing is exported: no decision that was shown has a reward yet") {
		t.Errorf("without decisions: exit code %d, %s", code, said)
	}
	export := append([]string{"train", "export", s.file("export"), "--model", model, "--readout", "letters", "--prompt", "3", "--json"}, p.kafkaArgs()...)
	machines := func(code int, want trainExported) {
		t.Helper()
		var out, errs bytes.Buffer
		var got trainExported
		if ended := run(t.Context(), export, &out, &errs); ended != code || json.Unmarshal(out.Bytes(), &got) != nil || got.Verdict != want.Verdict || !strings.Contains(got.Reason, want.Reason) {
			t.Errorf("exit code %d, %q, %s; want %d and %+v", ended, out.String(), errs.String(), code, want)
		}
	}
	machines(exitNothingToLearn, trainExported{Verdict: rltrainer.NothingToLearn, Reason: "no decision that was shown has a reward yet"})
	for more, want := range map[string]string{
		"R2REC_ADAPTERS=ftp://host":  "knows no ftp",
		"EXPORT_FLAGS=--prompt 99":   "99",
		"MODEL=" + s.file("none"):    "none",
		"EXPORT_FLAGS=--readout huh": "huh",
	} {
		if code, said := round(more); code == 0 || !strings.Contains(said, want) {
			t.Errorf("%s: exit code %d, %s; want %q", more, code, said, want)
		}
	}
	newTrainer(p).write(event.Promote, strings.Repeat("ab", 32), "", .5)
	if code, said := round(); code != 0 || !strings.Contains(said, "adapter abababababab is being rolled out to 50 % of the users") {
		t.Errorf("during a roll-out: exit code %d, %s", code, said)
	}
	machines(exitWaiting, trainExported{Verdict: rltrainer.Waiting, Reason: "is being rolled out to 50 % of the users"})
}

// Told to end, the script tells the command at work, waits until that has let go of what it holds, and leaves nothing.
func TestARoundElsewhereEndsWhenItIsTold(t *testing.T) {
	t.Parallel()
	bin, work, told := t.TempDir(), t.TempDir(), t.TempDir()
	running, released := filepath.Join(told, "running"), filepath.Join(told, "released")
	script := "#!/bin/sh\n" + `[ "$2" = export ] || exit 0
trap 'echo > "` + released + `"; exit 130' TERM
echo > "` + running + `"
while kill -0 $PPID 2>/dev/null; do sleep .05; done
`
	if err := os.WriteFile(filepath.Join(bin, "r2rec"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "../../deploy/trainer/round.sh")
	cmd.Env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "MODEL=m", "WORK="+work)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if !await(running, ended) {
		t.Fatal("the script ended before the export")
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-ended
	if code := cmd.ProcessState.ExitCode(); code != exitStopped {
		t.Errorf("exit code %d, want that of the command", code)
	}
	if _, err := os.Stat(released); err != nil {
		t.Errorf("the command was not told: %v", err)
	}
	wantFiles(t, work)
}

// What a thinking server was asked ends in its thought; an adapter that was learned from such prompts is converted like any
// other, and one that does not answer as it did there is not.
func TestConvertReadsPromptsWithThoughts(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	path := s.wordy()
	options := engine.Options{Path: path, Readout: engine.Letters, PromptVersion: iot.Thoughts}
	who, err := newTeacher(t.Context(), options, engine.AdapterOptions{Rank: 2}, 1)
	s.must(err)
	defer who.Close()
	l, err := who.Begin(rltrainer.LearnerOptions{Seed: 1, Steps: 1, Rate: 1e-3, Run: "elsewhere"})
	s.must(err)
	options.Adapter = s.file("learned.gguf")
	s.must(gguf.WriteFile(options.Adapter, l.Write))

	base, err := gguf.Open(path)
	s.must(err)
	defer base.Close()
	heads, err := lora.HeadsOf(base)
	s.must(err)
	a, err := lora.Read(options.Adapter)
	s.must(err)
	model, err := engine.Open(options)
	s.must(err)
	defer model.Close()
	seen := randomContexts(1)[0]
	p, err := iot.Asked(event.Decision{Context: seen, Model: &event.Model{PromptVersion: iot.Thoughts}, Said: []event.Step{{ItemID: seen.Candidates[1].ItemID, Chains: []int{1}, Text: "since it is alike"}}})
	s.must(err)
	if !strings.Contains(p.Text, "since it is alike") {
		t.Fatalf("no thought in %s", p.Text)
	}
	shares, err := model.Rank(t.Context(), p)
	s.must(err)
	for off, want := range map[float64]string{0: "", .3: "differ from what the trainer computed by"} {
		dir, said := filepath.Join(t.TempDir(), "adapter"), trainerAnswer{Prompt: p.Text}
		s.must(lora.WritePEFT(dir, a, heads))
		for j, k := range p.Order {
			said.Completions, said.LogShares = append(said.Completions, " "+string(rune('A'+j))), append(said.LogShares, shares[k]+off*float64(j%2))
		}
		line, err := json.Marshal(said)
		s.must(err)
		s.must(os.WriteFile(filepath.Join(dir, answersFile), line, 0o600))
		_, err = peftAdapter{dir, engineFlags{Model: path}}.convert(&process{ctx: t.Context(), log: newLogger(os.Stderr, slog.LevelError, false)}, s.file("converted.gguf"))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("answers %v off: %v, want %q", off, err, want)
		}
	}
}
