package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/ope"
	"github.com/r2rec/r2rec/internal/web"
	"github.com/r2rec/r2rec/rltrainer"
	"golang.org/x/sync/errgroup"
)

// rollOutFlags say when a roll-out goes forward or back.
type rollOutFlags struct {
	WatchRollouts    bool          `help:"End roll-outs by the rewards of both adapters: complete them or go back, by a test that is valid at every look. Of several processes one does." default:"true" negatable:"" env:"R2REC_WATCH_ROLLOUTS" group:"Roll-outs"`
	RolloutLimit     time.Duration `help:"A roll-out that has not been decided by then goes back." default:"168h" env:"R2REC_ROLLOUT_LIMIT" group:"Roll-outs"`
	RolloutTolerance float64       `help:"Reward a decision by which a new adapter may be worse and is rolled out all the same: the gate has found it better before; 0: it has to be shown better again." default:"0.02" env:"R2REC_ROLLOUT_TOLERANCE" group:"Roll-outs"`
}

func (f rollOutFlags) check() error {
	switch {
	case f.RolloutLimit <= 0:
		return fmt.Errorf("--rollout-limit %v: want a time, such as 168h", f.RolloutLimit)
	case !(f.RolloutTolerance >= 0):
		return fmt.Errorf("--rollout-tolerance %v: want 0 or more", f.RolloutTolerance)
	}
	return nil
}

// rollOuts watches the log of adapters for roll-outs and ends them.
type rollOuts struct {
	p     *process
	flags rollOutFlags
	kafka *broker.Client
	log   *adapters.Log
	lease adapters.LeaseOptions // so that one process watches
	model event.Model           // what records are for
	every time.Duration         // between two looks
	test  ope.SequentialOptions // what is expected of rewards; tolerance and share are filled in

	mu   sync.Mutex
	look *web.RollOut // nil: none is watched here
}

// retryWatch is how long a process waits that found another one watching, or that could not read or write.
const retryWatch = 10 * time.Second

// run watches until ctx ends, whenever no other process does.
func (r *rollOuts) run(ctx context.Context) error {
	for {
		if err := r.leased(ctx); ctx.Err() == nil && err != nil && !errors.Is(err, adapters.ErrLeased) {
			r.p.log.Warn("roll-outs are not watched for the moment", "error", err, "again_in", retryWatch)
		}
		if !waitFor(ctx, retryWatch) {
			return nil
		}
	}
}

// clocksApart is how far the clock of Kafka may be behind the trainer's. What was decided before the roll-out does not count.
const clocksApart = 5 * time.Minute

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

func (r *rollOuts) leased(ctx context.Context) error {
	lease, err := adapters.TakeLease(ctx, r.lease)
	if err != nil {
		return err
	}
	err = r.follow(lease.Lost())
	if released := lease.Release(context.WithoutCancel(ctx)); released != nil {
		r.p.log.Debug("the lease of who watches roll-outs runs out by itself", "error", released)
	}
	return err
}

// follow watches each roll-out that the log has under way, until another state of it ends that.
func (r *rollOuts) follow(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	var now rltrainer.RollOut
	stop := func() {}
	g.Go(func() error {
		defer func() { stop() }()
		return r.log.Follow(ctx, func(s adapters.State) error {
			next, _ := rltrainer.RollOutOf(s)
			if s.Candidate == "" {
				next = rltrainer.RollOut{}
			}
			if next == now {
				return nil
			}
			stop()
			now = next
			if now.Candidate == "" {
				stop = func() {}
				return nil
			}
			watching, cancel := context.WithCancel(ctx)
			done := make(chan struct{})
			stop = func() { cancel(); <-done }
			go func() {
				defer close(done)
				r.watch(watching, next)
			}()
			return nil
		})
	})
	return g.Wait()
}

// watch ends one roll-out. What cannot be read or written is tried again, from the rewards as they stand in Kafka.
func (r *rollOuts) watch(ctx context.Context, of rltrainer.RollOut) {
	defer r.show(nil)
	for {
		err := r.decide(ctx, of)
		if err == nil || ctx.Err() != nil {
			return
		}
		r.p.log.Warn("a roll-out is not watched for the moment", "adapter", adapters.Name(of.Candidate), "error", err, "again_in", retryWatch)
		if !waitFor(ctx, retryWatch) {
			return
		}
	}
}

func (r *rollOuts) decide(ctx context.Context, of rltrainer.RollOut) error {
	w, err := r.begin(of)
	if err != nil {
		return err
	}
	r.show(r.shown(w))
	tail := rewardTail{kafka: r.kafka, since: of.Since.Std().Add(-clocksApart)}
	first := true
	s, err := w.Run(ctx, func(ctx context.Context) ([]event.Reward, error) {
		if !first {
			r.show(r.shown(w))
			if !waitFor(ctx, r.every) {
				return nil, ctx.Err()
			}
		}
		first = false
		return tail.read(ctx)
	}, r.log, r.model, time.Now)
	if err != nil {
		return err
	}
	r.told(of, s)
	return nil
}

func (r *rollOuts) begin(of rltrainer.RollOut) (*rltrainer.Watch, error) {
	test := r.test
	test.Tolerance, test.Share = r.flags.RolloutTolerance, of.Share
	return rltrainer.NewWatch(of, r.flags.RolloutLimit, test)
}

// once ends a roll-out if the rewards that there are decide it: for who does not stay.
func (r *rollOuts) once(ctx context.Context) error {
	state, err := r.log.State(ctx)
	if err != nil {
		return err
	}
	of, ok := rltrainer.RollOutOf(state)
	if !ok || !r.flags.WatchRollouts {
		return nil
	}
	w, err := r.begin(of)
	if err != nil {
		return err
	}
	tail := rewardTail{kafka: r.kafka, since: of.Since.Std().Add(-clocksApart)}
	for {
		rewards, err := tail.read(ctx)
		if err != nil {
			return err
		}
		for _, reward := range rewards {
			if err := w.Add(reward); err != nil {
				return err
			}
		}
		if len(rewards) == 0 {
			break
		}
	}
	ended, ok, err := w.End(ctx, r.log, r.model, time.Now)
	if ok && err == nil {
		r.told(of, ended)
	}
	return err
}

// told tells how a roll-out has ended.
func (r *rollOuts) told(of rltrainer.RollOut, s adapters.State) {
	last := s.Entries[len(s.Entries)-1]
	r.p.log.Info("a roll-out has ended", "adapter", adapters.Name(of.Candidate), "by", last.Record.Kind, "reason", last.Record.Reason, "current", adapters.Name(s.Current))
}

// shown is where the watch stands.
func (r *rollOuts) shown(w *rltrainer.Watch) *web.RollOut {
	l := w.Look()
	out := &web.RollOut{Candidate: w.Candidate, Current: w.Current, Share: w.Share, Since: w.Since, Until: event.At(w.Since.Std().Add(r.flags.RolloutLimit)),
		Decisions: l.Decisions, Users: l.Users, Mean: l.Mean, Reason: l.Reason}
	if l.Known {
		out.Interval = &web.Interval{Low: l.Low, High: l.High}
	}
	return out
}

func (r *rollOuts) show(look *web.RollOut) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.look = look
}

// of is where the roll-out of that adapter stands, if it is watched here.
func (r *rollOuts) of(candidate string) *web.RollOut {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.look == nil || r.look.Candidate != candidate {
		return nil
	}
	look := *r.look
	return &look
}
