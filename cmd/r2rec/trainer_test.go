//go:build trainer

package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/rltrainer"
	"github.com/redis/go-redis/v9"
)

var (
	python      = flag.String("python", "", "interpreter with deploy/trainer/requirements.txt installed")
	smollm2     = flag.String("smollm2", "", "GGUF file of SmolLM2-135M-Instruct")
	fitSteps    = flag.Int("fit-steps", 60, "steps of fitting on what was chosen")
	grpoSteps   = flag.Int("grpo-steps", 6, "steps of GRPO after them")
	promoted    = flag.Bool("promoted", false, "the adapter has to be promoted: with many more steps, on a GPU")
	trainerKeep = flag.String("keep", "", "folder to leave the export and the adapters in")
)

// The whole way of a trainer elsewhere, with a pretrained model: users decide about the lists of SmolLM2, which knows nothing
// of them; what they did is exported; TRL fits an adapter on what they chose and goes on from it by GRPO; the import gives
// the answers that PyTorch computed, and the gate judges it by what was decided later. Which verdict that is depends on the
// steps: the default is too few for SmolLM2 to learn which letter to answer, and is refused. With -promoted it has to be
// promoted.
//
//	go test -tags trainer ./cmd/r2rec -run TestTrainerElsewhere -timeout 60m -v -python venv/bin/python -smollm2 SmolLM2-135M-Instruct.Q4_1.gguf
func TestTrainerElsewhere(t *testing.T) {
	if *python == "" || *smollm2 == "" {
		t.Fatal("give -python and -smollm2")
	}
	model, err := engine.Open(engine.Options{Path: *smollm2, Readout: engine.Letters, PromptVersion: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	p := newTrainer(newPlace(t, broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}}, &redis.UniversalOptions{Addrs: []string{embeddedtest.Redis(t)}}))
	p.live(model, 1000, "d")

	dir := *trainerKeep
	if dir == "" {
		dir = t.TempDir()
	}
	export, fitted, adapter := filepath.Join(dir, "export"), filepath.Join(dir, "fitted"), filepath.Join(dir, "adapter")
	var written trainExported
	said := p.do(append([]string{"train", "export", export, "--json", "--model", *smollm2, "--readout", "letters", "--prompt", "2"}, p.kafkaArgs()...)...)
	if err := json.Unmarshal([]byte(said), &written); err != nil || written.Rollouts < 400 || written.Choices < 100 {
		t.Fatalf("the export says %s, %v", said, err)
	}
	job := func(args ...string) {
		cmd := exec.CommandContext(t.Context(), *python, append([]string{"../../deploy/trainer/train.py"}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		t.Log(lines[len(lines)-1])
	}
	job("sft", "--export", export, "--model", *smollm2, "--out", fitted, "--steps", fmt.Sprint(*fitSteps), "--batch", "16")
	job("grpo", "--export", export, "--model", *smollm2, "--begin", fitted, "--out", adapter, "--steps", fmt.Sprint(*grpoSteps), "--batch", "8")

	imported := func(folder string, more ...string) (rltrainer.Report, int) {
		args := append([]string{"adapters", "import", folder, "--json", "--model", *smollm2, "--adapters", p.folder, "--detect", ".2", "--work", t.TempDir()}, p.kafkaArgs()...)
		out, err := p.process(append(append(args, p.redisArgs()...), more...)...).Output()
		code := 0
		if exited, ok := err.(*exec.ExitError); ok {
			code = exited.ExitCode()
			t.Logf("%s", exited.Stderr)
		}
		var r rltrainer.Report
		if code != 1 {
			if err := json.Unmarshal(out, &r); err != nil {
				t.Fatalf("exit code %d: %s", code, out)
			}
		}
		return r, code
	}
	spoilt := filepath.Join(t.TempDir(), "spoilt") // the answers of another adapter: as if it had been converted wrong
	if err := os.CopyFS(spoilt, os.DirFS(adapter)); err != nil {
		t.Fatal(err)
	}
	spoil(t, filepath.Join(spoilt, answersFile))
	if _, code := imported(spoilt); code != 1 {
		t.Errorf("an adapter whose answers are others is imported: exit code %d", code)
	}
	r, code := imported(adapter)
	if r.Gate == nil {
		t.Fatalf("exit code %d, %s: %s", code, r.Verdict, r.Reason)
	}
	t.Logf("%s by %d decisions: %s", r.Verdict, r.Held, r.Reason)
	if code != exitCodes[r.Verdict] || *promoted && r.Verdict != rltrainer.Promoted {
		t.Errorf("exit code %d, %s: %s", code, r.Verdict, r.Reason)
	}
}

// spoil gives every letter another one's share: however little was learned, a pretrained model has its favourites.
func spoil(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for line := range bytes.Lines(data) {
		var a trainerAnswer
		if err := json.Unmarshal(line, &a); err != nil {
			t.Fatal(err)
		}
		slices.Reverse(a.LogShares)
		if err := json.NewEncoder(&out).Encode(a); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}
