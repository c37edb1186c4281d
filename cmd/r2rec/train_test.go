package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/internal/simulate"
	"github.com/r2rec/r2rec/rltrainer"
	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"
)

// lived is a trainer's place whose topics hold what users decided about the lists of the bare base model: they want what
// has a high share of their categories.
func lived(t *testing.T, k broker.Settings, r *redis.UniversalOptions) *trainer {
	t.Helper()
	p := newTrainer(newPlace(t, k, r))
	p.live(p.base, 640, "d")
	return p
}

// live has users decide about n lists of a model, which are called name and a number.
func (p *trainer) live(model *engine.Model, n int, name string) {
	p.Helper()
	t := p.T
	c, err := broker.New(p.kafka)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	who, err := model.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	service := simulate.Service{Model: model, Identity: who, Temperature: 1.5}
	draw := rand.New(rand.NewPCG(7, 7))
	var decisions, rewards []kafka.Message
	start := event.At(time.Now().Add(-time.Hour))
	for i, ctx := range randomContexts(n) {
		ctx.Candidates = ctx.Candidates[:6]
		d, err := service.Decide(t.Context(), fmt.Sprint(name, i), fmt.Sprint("u", i%400), start+event.Time(i), ctx, uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		category := map[string]float64{}
		for _, c := range ctx.Candidates {
			category[c.ItemID] = c.Evidence.Category
		}
		decisions = append(decisions, message(t, d.UserID, d))
		user := simulate.User{Stays: .8, Wants: func(item string) float64 { return .9 * category[item] * category[item] }}
		for _, r := range user.Browse(d, draw) {
			rewards = append(rewards, message(t, d.UserID, r))
		}
	}
	for topic, batch := range map[string][]kafka.Message{broker.Decisions: decisions, broker.Rewards: rewards} {
		w := c.NewWriter(topic)
		if err := errors.Join(w.WriteMessages(t.Context(), batch...), w.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

func message[T event.Contract](t *testing.T, user string, v T) kafka.Message {
	t.Helper()
	raw, err := event.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return kafka.Message{Key: []byte(user), Value: raw}
}

// train is a command line that teaches with little effort, in a folder.
func (p *trainer) train(dir string, more ...string) []string {
	args := append([]string{"train", "--once", "--json", "--dir", dir, "--adapters", p.folder, "--least", "100", "--fit-steps", "4", "--fit-rate", "3e-3", "--steps", "12", "--rate", "2e-3",
		"--batch", "16", "--checkpoint-every", "1", "--beta", ".15", "--detect", ".3", "--log-level", "warn"}, p.kafkaArgs()...)
	return append(append(args, p.redisArgs()...), more...)
}

// process is the command as a process of its own.
func (p *trainer) process(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(p.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// finish runs a round to its end.
func (p *trainer) finish(dir string, more ...string) (code int, r rltrainer.Report) {
	p.Helper()
	cmd := p.process(p.train(dir, more...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exited *exec.ExitError
	if err != nil && !errors.As(err, &exited) {
		p.Fatal(err)
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		p.Fatalf("exit code %d, %v: %s %s", cmd.ProcessState.ExitCode(), err, out.String(), errs.String())
	}
	return cmd.ProcessState.ExitCode(), r
}

// await waits until a file is there, or the process has ended.
func await(path string, ended <-chan error) (there bool) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(path); err == nil {
			return true
		}
		select {
		case <-tick.C:
		case <-ended:
			return false
		}
	}
}

// killedAtEachStage kills a round, one process of it after the other, as soon as there is each of its files. It tells whether
// that was in time: where the machine is busy elsewhere, the round may have ended.
func (p *trainer) killedAtEachStage(dir string) bool {
	p.Helper()
	for _, file := range []string{"round.json", "checkpoint", "fitted.gguf", "adapter.gguf"} {
		cmd := p.process(p.train(dir)...)
		if err := cmd.Start(); err != nil {
			p.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		if await(filepath.Join(dir, file), ended) {
			if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				p.Fatal(err)
			}
			<-ended
		}
		if err := embeddedtest.Flush(p.Context(), p.rdb); err != nil { // the dead one's lease among the rest
			p.Fatal(err)
		}
		if code := cmd.ProcessState.ExitCode(); code > 0 {
			p.Fatalf("the round ended with exit code %d before there was a %s", code, file)
		}
		if _, err := os.Stat(filepath.Join(dir, "round.json")); err != nil {
			return false
		}
	}
	return true
}

// A process that is killed at any stage leaves a round that the next one ends as if nothing had been, also where Redis lost
// everything meanwhile: one promotion, of the same adapter to the bit.
func TestTrainIsKilledAtEachStage(t *testing.T) {
	t.Parallel()
	embeddedtest.EachSingle(t, func(t *testing.T, k broker.Settings, r *redis.UniversalOptions) {
		p, dir := lived(t, k, r), t.TempDir()
		for tries := 1; !p.killedAtEachStage(dir); tries++ {
			if tries == 5 {
				t.Fatal("each of five rounds ended before it was killed at each of its stages")
			}
			k = otherTopics(k)
			p, dir = lived(t, k, r), t.TempDir()
		}
		code, report := p.finish(dir)
		if code != 0 || report.Verdict != rltrainer.Promoted || len(report.Policy) != 12 {
			t.Fatalf("exit code %d, %s: %s, %d steps", code, report.Verdict, report.Reason, len(report.Policy))
		}
		state, err := p.log.State(t.Context())
		if err != nil || len(state.Entries) != 1 || state.Candidate != report.Adapter {
			t.Errorf("the log says %+v, %v", state, err)
		}
		if list := p.do(append([]string{"adapters", "list", "--adapters", p.folder}, p.kafkaArgs()...)...); !strings.Contains(list, adapters.Short(report.Adapter)) {
			t.Errorf("the list of adapters lacks it:\n%s", list)
		}

		other := lived(t, otherTopics(k), r)
		if code, undisturbed := other.finish(t.TempDir()); code != 0 || undisturbed.Adapter != report.Adapter {
			t.Errorf("undisturbed: exit code %d, adapter %s, and %s after four kills", code, undisturbed.Adapter, report.Adapter)
		}

		if code, again := p.finish(dir); code != exitWaiting || !strings.Contains(again.Reason, "being rolled out") {
			t.Errorf("during the roll-out: exit code %d, %s", code, again.Reason)
		}
	})
}

// Two trainers at once: the second one waits while the first has the lease; where the first was paused for longer than
// that, both end, and one promotion counts. The first one ends as soon as it sees that the lease ran out, or goes on beside
// the other one and finds that it comes too late.
func TestTrainersAtOnce(t *testing.T) {
	t.Parallel()
	embeddedtest.EachSingle(t, func(t *testing.T, k broker.Settings, r *redis.UniversalOptions) {
		p := lived(t, k, r)
		dir := t.TempDir()
		first := p.process(p.train(dir, "--seed", "2", "--steps", "60")...)
		var out, errs bytes.Buffer
		first.Stdout, first.Stderr = &out, &errs
		if err := first.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- first.Wait() }()
		if !await(filepath.Join(dir, "checkpoint"), ended) {
			t.Fatal("the first round ended before it had a checkpoint")
		}
		if err := first.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		if held, err := p.rdb.Persist(t.Context(), "r2:train").Result(); err != nil || !held { // however long the next one takes to ask for it
			t.Fatalf("the first round has no lease: %v", err)
		}
		if code, second := p.finish(t.TempDir()); code != exitWaiting || !strings.Contains(second.Reason, "another trainer is at work") {
			t.Errorf("while the lease is held: exit code %d, %s", code, second.Reason)
		}
		if err := p.rdb.Del(t.Context(), "r2:train").Err(); err != nil { // as if it had run out
			t.Fatal(err)
		}
		if code, second := p.finish(t.TempDir()); code != 0 {
			t.Errorf("after the lease: exit code %d, %s: %s", code, second.Verdict, second.Reason)
		}
		if err := first.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		<-ended
		if code := first.ProcessState.ExitCode(); code != exitWaiting && !(code == 1 && strings.Contains(errs.String(), adapters.ErrLost.Error())) {
			t.Errorf("who was paused: exit code %d, %s%s", code, out.String(), errs.String())
		}
		state, err := p.log.State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		counted := 0
		for _, e := range state.Entries {
			if e.Void == "" {
				counted++
			}
		}
		if counted != 1 {
			t.Errorf("%d records count: %+v", counted, state.Entries)
		}
	})
}

func TestTrainSaysWhatIsWrong(t *testing.T) {
	for want, args := range map[string][]string{
		"say --once, or --every":    {},
		"--least 0: want 1 or more": {"--once", "--least", "0"},
		"no such file":              {"--once", "--model", "/does/not/exist.gguf"},
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), append([]string{"train"}, args...), &out, &errs); code == 0 || !strings.Contains(errs.String(), want) {
			t.Errorf("r2rec train %v: exit code %d, %s; want %q", args, code, errs.String(), want)
		}
	}
}

// The variable that names the servers' model names the one that learns for them.
func TestTrainLearnsTheServersModel(t *testing.T) {
	t.Setenv("R2REC_MODEL", "/does/not/exist.gguf")
	ctx, stop := context.WithCancel(t.Context())
	stop()
	for _, args := range []string{"train --once", "train export out", "adapters promote x"} {
		var out, errs bytes.Buffer
		if code := run(ctx, strings.Fields(args), &out, &errs); code != 2 || !strings.Contains(errs.String(), "R2REC_MODEL") {
			t.Errorf("r2rec %s: exit code %d, %s", args, code, errs.String())
		}
	}
	var out, errs bytes.Buffer
	if code := run(ctx, []string{"adapters", "list", "--adapters", "mem://"}, &out, &errs); code != exitStopped {
		t.Errorf("what needs no model: exit code %d, %s", code, errs.String())
	}
}

// otherTopics are topics beside those of these settings.
func otherTopics(k broker.Settings) broker.Settings {
	k.TopicPrefix += "other-"
	return k
}
