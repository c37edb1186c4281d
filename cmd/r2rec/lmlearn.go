package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"github.com/r2rec/r2rec/internal/chart"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/llama/learn"
	"github.com/r2rec/r2rec/internal/lm"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/rltrainer"
)

// checkpointFlags say how a run survives its end.
type checkpointFlags struct {
	Checkpoint      string `help:"Keep the state of learning in this file. Where it is there already, the run goes on from it, if it was begun with the same flags and data. Removed when all is done." type:"path" placeholder:"FILE" group:"Learning"`
	Plot            string `help:"Draw the loss of each step into this SVG file; of a run that goes on, from where it went on." type:"path" placeholder:"FILE" group:"Learning"`
	CheckpointEvery int    `help:"Steps between two writings of --checkpoint." default:"${checkpoint_every}" group:"Learning"`
}

// learning is how both commands that teach a model do it.
type learning struct {
	checkpointFlags
	steps, batch, threads int
	rate, decay           float64
	seed                  uint64
	out, outFlag          string
}

const (
	maxBatch   = 1 << 16
	maxThreads = 1 << 10 // each has gradients of its own
)

// check finds what is wrong with the flags before anything takes time.
func (l learning) check() error {
	for _, flag := range []struct {
		name        string
		value, most int
	}{{"--steps", l.steps, math.MaxInt32}, {"--batch", l.batch, maxBatch}, {"--threads", l.threads, maxThreads}, {"--checkpoint-every", l.CheckpointEvery, math.MaxInt32}} {
		if flag.value < 1 || flag.value > flag.most {
			return misuse("%s %d: want 1 to %d", flag.name, flag.value, flag.most)
		}
	}
	if !(l.rate > 0) || math.IsInf(l.rate, 0) {
		return misuse("--rate %v: want more than 0", l.rate)
	}
	if l.Plot != "" && (l.Plot == l.out || l.Plot == l.Checkpoint) {
		return misuse("--plot %s: %s or --checkpoint is to be written there", l.Plot, l.outFlag)
	}
	if l.Checkpoint == l.out {
		return misuse("--checkpoint %s: %s is to be written there", l.Checkpoint, l.outFlag)
	}
	if err := checkWritable(l.outFlag, l.out); err != nil {
		return err
	}
	for _, file := range []struct{ flag, path string }{{"--checkpoint", l.Checkpoint}, {"--plot", l.Plot}} {
		if file.path != "" {
			if err := checkWritable(file.flag, file.path); err != nil {
				return err
			}
		}
	}
	return nil
}

// options of the trainer. Run names what is learned, for who goes on from a checkpoint.
func (l learning) options(run string) learn.Options {
	return learn.Options{Optimiser: learn.AdamW{Rate: l.rate, Decay: l.decay}, Schedule: learn.Trapezoid(l.steps, min(20, l.steps/5), .3, .03), Workers: l.threads, Run: run}
}

// lesson leads a learner through the steps after those that are taken, and tells of each.
type lesson func(ctx context.Context, from int, told func(lm.Progress) error) error

// fit is supervised fine-tuning on examples.
func (l learning) fit(learner *engine.Learner, examples []rltrainer.Example, promptVersion int) lesson {
	return func(ctx context.Context, from int, told func(lm.Progress) error) error {
		return rltrainer.Fit(ctx, learner, examples, rltrainer.FitOptions{PromptVersion: promptVersion, Steps: l.steps, Batch: l.batch, Seed: l.seed, From: from, Told: told})
	}
}

// run teaches the learner and writes what came of it. Held, if not nil, measures it on the way: what it gives is logged
// every hundred steps.
func (l learning) run(p *process, shown *stages, learner *engine.Learner, teach lesson, held func(context.Context) ([]any, error)) error {
	trainer := learner.Trainer()
	if l.Checkpoint != "" {
		err := trainer.Resume(l.Checkpoint)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("--checkpoint: %w; remove the file to begin anew", err)
		}
		if err == nil {
			p.log.Info("learning goes on", "checkpoint", l.Checkpoint, "step", trainer.Steps())
		}
	}
	loss, counted := 0., 0
	var curve chart.Line
	told := func(at lm.Progress) error {
		shown.set("learning", at.Step, l.steps)
		loss += at.Loss
		counted++
		curve.X, curve.Y = append(curve.X, float64(at.Step)), append(curve.Y, at.Loss)
		if l.Checkpoint != "" && at.Step%l.CheckpointEvery == 0 {
			if err := trainer.Save(l.Checkpoint); err != nil {
				return fmt.Errorf("--checkpoint: %w", err)
			}
		}
		if at.Step%100 != 0 && at.Step != l.steps {
			return nil
		}
		said := []any{"step", at.Step, "loss", round(loss / float64(counted)), "gradient", round(at.Gradient), "skipped", at.Skipped}
		loss, counted = 0, 0
		if held != nil {
			more, err := held(p.ctx)
			if err != nil {
				return err
			}
			said = append(said, more...)
		}
		shown.close()
		p.log.Info("learning", said...)
		return nil
	}
	err := teach(p.ctx, trainer.Steps(), told)
	shown.close()
	if err != nil && p.ctx.Err() != nil && l.Checkpoint != "" { // told to stop: what was learned since the last writing is kept
		if saved := trainer.Save(l.Checkpoint); saved != nil {
			return fmt.Errorf("--checkpoint: %w", saved)
		}
		p.log.Info("stopped: the same command goes on from here", "checkpoint", l.Checkpoint, "step", trainer.Steps())
	}
	if err != nil {
		return err
	}
	if err := gguf.WriteFile(l.out, learner.Write); err != nil {
		return fmt.Errorf("%s: %w", l.outFlag, err)
	}
	if l.Plot != "" {
		curve.Name = "mean loss of the batch, nats"
		err := gguf.WriteFile(l.Plot, func(w io.Writer) error {
			return chart.Write(w, "Learning", fmt.Sprintf("%d steps of %d", l.steps, l.batch), chart.Panel{Title: "Loss", XLabel: "step", Lines: []chart.Line{curve}})
		})
		if err != nil {
			return fmt.Errorf("--plot: %w", err)
		}
	}
	if l.Checkpoint != "" {
		if err := os.Remove(l.Checkpoint); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("--checkpoint: %w", err)
		}
	}
	return nil
}

// checkFolder finds out, before long work, that a file has no folder to stand in.
func checkFolder(flag, file string) error {
	if info, err := os.Stat(filepath.Dir(file)); err != nil {
		return fmt.Errorf("%s %s: %w: make the folder first", flag, file, err)
	} else if !info.IsDir() {
		return fmt.Errorf("%s %s: %s is no folder", flag, file, filepath.Dir(file))
	}
	return nil
}

// checkWritable finds out, before long work, that a file cannot be written beside others and renamed at its end.
func checkWritable(flag, file string) error {
	if err := checkFolder(flag, file); err != nil {
		return err
	}
	if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s %s: is there and no regular file: name a file", flag, file)
	}
	probe, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return fmt.Errorf("%s %s: %w", flag, file, err)
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

func round(x float64) string { return fmt.Sprintf("%.3f", x) }
