package rltrainer

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/r2rec/r2rec/internal/gguf"
)

// learns lets go of what was learned from other decisions than there are now, since some of them were forgotten, or deleted in
// Kafka.
func (r *round) learns(training []Rollout) error {
	ids := make([]string, len(training))
	for i, x := range training {
		ids[i] = x.Decision.DecisionID
	}
	from := fmt.Sprintf("%x", sha256.Sum256(fmt.Append(nil, ids, r.note.Parent)))
	if r.note.Learns == from {
		return nil
	}
	if r.note.Learns != "" {
		r.Logger.Warn("some decisions that the round began with are forgotten or deleted: learning begins anew", "dir", r.Dir)
	}
	if err := r.remove(checkpointFile, fittedFile, adapterFile); err != nil {
		return err
	}
	rep := &r.note.Report
	r.note.Learns, rep.Fitted, rep.Policy, rep.Thoughts, rep.Skipped = from, FitReport{}, nil, nil, 0
	return r.write()
}

// learner begins, or goes on from a checkpoint, unless that is damaged or of another run.
func (r *round) learner(o LearnerOptions) (AdapterLearner, error) {
	l, err := r.Teacher.Begin(o)
	if err != nil {
		return nil, fmt.Errorf("begin an adapter: %w", err)
	}
	err = l.Resume(r.path(checkpointFile))
	var unusable interface{ Unusable() bool }
	switch {
	case err == nil || errors.Is(err, fs.ErrNotExist):
		return l, nil
	case !errors.As(err, &unusable):
		return nil, fmt.Errorf("go on from a checkpoint: %w; remove %s to begin learning anew", err, r.path(checkpointFile))
	}
	r.Logger.Warn("the checkpoint is of no use: learning begins anew", "file", r.path(checkpointFile), "error", err)
	if err := os.Remove(r.path(checkpointFile)); err != nil {
		return nil, err
	}
	if l, err = r.Teacher.Begin(o); err != nil {
		return nil, fmt.Errorf("begin an adapter: %w", err)
	}
	return l, nil
}

// checkpoint keeps what was learned, now and then, and what the report says of it.
func (r *round) checkpoint(l AdapterLearner, step int) error {
	if step%r.Learn.Checkpoint != 0 {
		return nil
	}
	return r.keep(l)
}

func (r *round) keep(l AdapterLearner) error {
	if err := r.write(); err != nil { // first: of a report that knows of more steps than a checkpoint has, the rest is cut off
		return err
	}
	if err := l.Save(r.path(checkpointFile)); err != nil {
		return fmt.Errorf("keep a checkpoint: %w", err)
	}
	return nil
}

// finished writes what a learner made, and only then lets go of its checkpoint.
func (r *round) finished(l AdapterLearner, to string) error {
	if err := r.write(); err != nil {
		return err
	}
	if err := gguf.WriteFile(to, l.Write); err != nil {
		return err
	}
	if err := os.Remove(r.path(checkpointFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func there(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
