package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A Ctrl-C in the middle leaves no file but the checkpoint, where one is wanted.
func TestLMStopsWhenItIsTold(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	for text, args := range map[string]func(string) []string{
		"worlds made": func(out string) []string { return tiny(out, "--steps", "100000") },
		"cases asked": func(out string) []string { return s.tune(out, "--steps", "100000") },
	} {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		log := &onText{text: text, f: cancel}
		var out bytes.Buffer
		if code := run(ctx, append([]string{"lm"}, args(filepath.Join(dir, "out.gguf"))...), &out, log); code != exitStopped || strings.Contains(log.String(), "written") {
			t.Errorf("%s: exit code %d, %s", text, code, log)
		}
		cancel()
		wantFiles(t, dir)
		ctx, cancel = context.WithCancel(t.Context())
		log = &onText{text: text, f: cancel}
		checkpoint := []string{"--checkpoint", filepath.Join(dir, "run.ckpt"), "--checkpoint-every", "100000"}
		if code := run(ctx, append(append([]string{"lm"}, args(filepath.Join(dir, "out.gguf"))...), checkpoint...), &out, log); code != exitStopped {
			t.Errorf("%s: exit code %d, %s", text, code, log)
		}
		cancel()
		wantFiles(t, dir, "run.ckpt")
	}
}

// killedAt runs r2rec lm and stops it as it logs a line, between two steps: it returns what its checkpoint held then, which is
// what a kill would leave.
func killedAt(t *testing.T, line, checkpoint string, args []string) (atKill []byte, log string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	said := &onText{text: line, f: func() { atKill = readFile(t, checkpoint); cancel() }}
	if code := run(ctx, append([]string{"lm"}, args...), io.Discard, said); code != exitStopped || strings.Contains(said.String(), " written") {
		t.Fatalf("r2rec lm %q: exit code %d, it was not stopped in the middle: %s", args, code, said)
	}
	return atKill, said.String()
}

// A run that was killed, and one that was told to stop, goes on from its checkpoint to the very bytes of a run without a
// break; with other flags it is refused, and the checkpoint stays.
func TestLMGoesOnFromACheckpoint(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	for name, args := range map[string]func(string, ...string) []string{"pretrain": tiny, "tune": s.tune} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			whole, out, checkpoint := filepath.Join(dir, "whole.gguf"), filepath.Join(dir, "out.gguf"), filepath.Join(dir, "run.ckpt")
			flags := []string{"--steps", "120", "--batch", "2"}
			lmDo(t, args(whole, flags...)...)
			flags = append(flags, "--checkpoint", checkpoint, "--checkpoint-every", "7")

			killed, log := killedAt(t, "msg=learning step=100 ", checkpoint, args(out, flags...))
			if !strings.Contains(log, "stopped: the same command goes on from here") {
				t.Errorf("nobody says that it can go on: %s", log)
			}
			wantFiles(t, dir, "run.ckpt", "whole.gguf")
			stopped := readFile(t, checkpoint)
			if bytes.Equal(stopped, killed) {
				t.Error("the steps since the last writing are not kept")
			}
			for what, other := range map[string][]string{"seed": {"--seed", "9"}, "cases": {"--cases", "21"}, "rate": {"--rate", ".01"}} {
				code, _, log := lmRun(t.Context(), args(out, append(slices.Clone(flags), other...)...)...)
				if code != 1 || !strings.Contains(log, "--checkpoint: ") || !strings.Contains(log, what) || !strings.Contains(log, "remove the file to begin anew") {
					t.Errorf("with another %s: exit code %d, %s", what, code, log)
				}
			}
			if !bytes.Equal(readFile(t, checkpoint), stopped) {
				t.Error("a run that was refused has changed the checkpoint")
			}
			for what, state := range map[string][]byte{"stopped": stopped, "killed": killed} {
				if err := os.WriteFile(checkpoint, state, 0o600); err != nil {
					t.Fatal(err)
				}
				log := lmDo(t, args(out, flags...)...)
				if !strings.Contains(log, "learning goes on") {
					t.Errorf("%s: it has begun anew: %s", what, log)
				}
				if !bytes.Equal(readFile(t, out), readFile(t, whole)) {
					t.Errorf("%s: the file is not that of a run without a break", what)
				}
				if _, err := os.Stat(checkpoint); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s: the checkpoint stays behind: %v", what, err)
				}
			}
			if err := os.WriteFile(checkpoint, killed[:len(killed)/2], 0o600); err != nil {
				t.Fatal(err)
			}
			if code, _, log := lmRun(t.Context(), args(out, flags...)...); code != 1 || !strings.Contains(log, "checksum") {
				t.Errorf("a truncated checkpoint: exit code %d, %s", code, log)
			}
		})
	}
}
