package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/internal/lm/loader"
	"github.com/r2rec/r2rec/internal/ope"
	"github.com/r2rec/r2rec/reasoner"
	"github.com/r2rec/r2rec/rltrainer"
)

// The demo's loop is that of serve and train with shorter times and smaller numbers, so that all of it can be watched within
// minutes. The page states them.
const (
	demoLateness  = 2 * time.Second
	demoShare     = .2              // of the users who get a promoted adapter first
	demoLimit     = 8 * time.Minute // a roll-out that is not decided by then goes back
	demoTolerance = .02             // reward by which it may be worse and go forward
	demoDetect    = .05             // difference that the gate has to be able to see
	demoLook      = time.Second     // between two looks at the rewards
)

// demoTest is narrowest for as many decisions as the demo makes until the limit.
var demoTest = ope.SequentialOptions{Decisions: 3000, Variance: .06}

// demoRound is a small round: some hundred decisions are too few to fit on what was chosen, and the policy has to stay near
// the one that made them for the gate to have anything to say. One thread leaves a processor to those who are served.
var demoRound = roundFlags{Share: demoShare, Staleness: 24 * time.Hour, Held: .5, Detect: demoDetect,
	FitSteps: 0, FitRate: 5e-4, Steps: 80, Rate: 1e-3, Batch: 32, Beta: .1, Rank: 8, Threads: 1, Seed: 1}

// demoLoop learns within the demo.
type demoLoop struct {
	dir      string // everything that is kept, removed in the end
	teacher  *teacher
	adapters *adapterParts
}

// newDemoLoop is nil where nothing can be learned; why says so.
func newDemoLoop(p *process, kc *broker.Client, model reasoner.Model, f modelFlags) (l *demoLoop, why string, err error) {
	embedded, ok := model.(*engine.Model)
	switch {
	case model == nil:
		return nil, "There is no model that could learn.", nil
	case f.Think > 0:
		return nil, "The demo teaches models that answer at once; this one thinks (--think).", nil
	case !ok:
		return nil, "The demo teaches the model that runs within this program only; an Ollama server runs this one.", nil
	case f.Adapter != "":
		return nil, "The adapter is the one of --adapter, for good.", nil
	}
	l = &demoLoop{}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	if l.dir, err = os.MkdirTemp("", "r2rec-demo-"); err != nil {
		return l, "", err
	}
	store, err := adapters.OpenStore(p.ctx, filepath.Join(l.dir, "adapters"))
	if err != nil {
		return l, "", err
	}
	log, err := adapterLog(p, kc)
	if err != nil {
		return l, "", errors.Join(err, store.Close())
	}
	l.adapters = &adapterParts{log: log, store: store, engine: loader.Embedded{Base: embedded}}
	l.teacher, err = newTeacher(p.ctx, engine.Options{Path: f.Model, Concurrency: 1}, engine.AdapterOptions{Rank: demoRound.Rank}, demoRound.Threads)
	return l, "", err
}

func (l *demoLoop) close() error {
	var errs []error
	if l.teacher != nil {
		errs = append(errs, l.teacher.Close())
	}
	if l.adapters != nil {
		errs = append(errs, l.adapters.log.Close(), l.adapters.store.Close())
	}
	if l.dir != "" {
		errs = append(errs, os.RemoveAll(l.dir))
	}
	return errors.Join(errs...)
}

// run has a round whenever there is enough to learn from and no roll-out is under way, until ctx ends.
func (l *demoLoop) run(ctx context.Context, p *process, s *service) error {
	o := demoRound.options()
	o.Learn.Least = max(1, s.loop.parts.needed/4) // half of them are held out
	o.Dir, o.History, o.Log, o.Store, o.Teacher = filepath.Join(l.dir, "round"), history{s.parts.kafka}, l.adapters.log, l.adapters.store, l.teacher
	o.Logger, o.Now, o.Told = p.log, time.Now, s.loop.told
	for n := 1; ; n++ {
		for !s.loop.ready() || s.follower.rollingOut() {
			if !waitFor(ctx, demoLook) {
				return ctx.Err()
			}
		}
		s.loop.began()
		report, err := rltrainer.RunRound(ctx, o)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.loop.roundEnded(report, err)
		if err != nil {
			p.log.Error("a round failed, the next one goes on", "error", err)
			continue
		}
		fmt.Fprintf(p.stdout, "Round %d: %s: %s\n", n, report.Verdict, report.Reason)
	}
}

// rollingOut tells whether an adapter is being rolled out.
func (f *follower) rollingOut() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state.Candidate != ""
}

// waitFor tells whether ctx still goes on after that time.
func waitFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
