package main

import (
	"context"
	"fmt"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/llama/learn"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/rltrainer"
)

// teacher trains adapters over a model that runs within this program.
type teacher struct {
	base    *engine.Model // to be trained over
	options engine.Options
	adapter engine.AdapterOptions // what a first adapter changes; its Learn is filled in
	threads int
	model   event.Model
}

var _ rltrainer.Teacher = (*teacher)(nil)

// newTeacher opens the model. The caller closes it.
func newTeacher(ctx context.Context, o engine.Options, a engine.AdapterOptions, threads int) (*teacher, error) {
	o.Trainable = true
	base, err := engine.Open(o)
	if err != nil {
		return nil, err
	}
	t := &teacher{base: base, options: o, adapter: a, threads: threads}
	t.model, err = base.Identity(ctx)
	if err != nil {
		base.Close()
		return nil, err
	}
	return t, nil
}

func (t *teacher) Close() error { return t.base.Close() }

func (t *teacher) Model() event.Model { return t.model }

func (t *teacher) Settings() string {
	return fmt.Sprintf("rank %d, alpha %v, targets %v, threads %d", t.adapter.Rank, t.adapter.Alpha, t.adapter.Targets, t.threads)
}

func (t *teacher) Begin(o rltrainer.LearnerOptions) (rltrainer.AdapterLearner, error) {
	a := engine.AdapterOptions{From: o.From, Seed: o.Seed, Note: o.Note}
	if o.From == "" {
		a.Rank, a.Alpha, a.Targets = t.adapter.Rank, t.adapter.Alpha, t.adapter.Targets
	}
	a.Learn = learn.Options{Optimiser: learn.AdamW{Rate: o.Rate, Beta2: .98, Decay: .05}, Schedule: learn.Trapezoid(o.Steps, min(20, o.Steps/5), .3, .03), Workers: t.threads, Run: o.Run}
	l, err := t.base.NewAdapter(a)
	if err != nil {
		return nil, err
	}
	return adapterLearner{l}, nil
}

func (t *teacher) Open(adapter string) (rltrainer.RankerCloser, error) {
	o := t.options
	o.Trainable, o.Adapter = false, adapter
	return engine.Open(o)
}

// adapterLearner can be taken up again.
type adapterLearner struct{ *engine.Learner }

func (l adapterLearner) Steps() int               { return l.Trainer().Steps() }
func (l adapterLearner) Save(path string) error   { return l.Trainer().Save(path) }
func (l adapterLearner) Resume(path string) error { return l.Trainer().Resume(path) }

// Thoughts implements rltrainer.AdapterLearner.
func (l adapterLearner) Thoughts() rltrainer.ThoughtLearner { return thinkingLearner{l, l.Writer()} }
