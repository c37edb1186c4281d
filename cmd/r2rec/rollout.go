package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/ope"
	"github.com/r2rec/r2rec/rltrainer"
)

// rollOutFlags say when a roll-out ends.
type rollOutFlags struct {
	RollOutTolerance float64       `help:"Reward a decision by which an adapter that is being rolled out may be worse than the current one and go to all users all the same." default:"0.02" env:"R2REC_ROLLOUT_TOLERANCE" group:"Roll-out"`
	RollOutLimit     time.Duration `help:"A roll-out that its rewards have not decided by then goes back." default:"168h" env:"R2REC_ROLLOUT_LIMIT" group:"Roll-out"`
}

func (f rollOutFlags) check() error {
	switch {
	case !(f.RollOutTolerance >= 0):
		return misuse("--roll-out-tolerance %v: want 0 or more", f.RollOutTolerance)
	case f.RollOutLimit <= 0:
		return misuse("--roll-out-limit %v: want some time", f.RollOutLimit)
	}
	return nil
}

// rollOuts ends roll-outs by what the users earn who have the new adapter. Any number of processes may do so at once: the
// log decides whose record counts, and all of them see the same rewards.
type rollOuts struct {
	rollOutFlags
	kafka *broker.Client
	log   *adapters.Log
	every time.Duration
	now   func() time.Time
	to    *slog.Logger

	test ope.SequentialOptions    // what is expected; tolerance and share are filled in
	saw  func(w *rltrainer.Watch) // hears where a roll-out stands before more rewards are waited for; nil: nobody
}

// run watches one roll-out after the other until ctx ends.
func (r rollOuts) run(ctx context.Context) error {
	var watched string
	stop, done := func() {}, make(chan struct{})
	close(done)
	defer func() { stop(); <-done }()
	return r.log.Follow(ctx, func(s adapters.State) error {
		now, ok := rltrainer.RollOutOf(s)
		key := fmt.Sprint(now.Candidate, now.Since)
		if key == watched {
			return nil
		}
		watched = key
		stop()
		<-done
		if !ok {
			stop = func() {}
			return nil
		}
		var watching context.Context
		watching, stop = context.WithCancel(ctx)
		done = make(chan struct{})
		go func(done chan<- struct{}) {
			defer close(done)
			r.watch(watching, now)
		}(done)
		return nil
	})
}

// watch follows a roll-out to its end. What fails, such as the record of its end while no broker takes it, is begun again.
func (r rollOuts) watch(ctx context.Context, o rltrainer.RollOut) {
	pauses := backoff.NewExponentialBackOff(backoff.WithInitialInterval(time.Second), backoff.WithMaxInterval(time.Minute), backoff.WithMaxElapsedTime(0))
	err := backoff.RetryNotify(func() error {
		w, err := r.begin(o)
		if err != nil {
			return backoff.Permanent(err)
		}
		read := rewardsSince(r.kafka, o.Since)
		read.every = r.every
		_, err = w.Run(ctx, func(ctx context.Context, add func(event.Reward) error) error {
			if r.saw != nil {
				r.saw(w)
			}
			return read.next(ctx, r.to, add)
		}, r.log, r.now)
		return err
	}, backoff.WithContext(pauses, ctx), func(err error, pause time.Duration) {
		if ctx.Err() == nil {
			r.to.Warn("a roll-out could not be watched to its end, beginning again", "adapter", o.Candidate, "error", err, "again_in", pause)
		}
	})
	switch {
	case ctx.Err() != nil:
	case err != nil:
		r.to.Error("a roll-out is not watched: it goes on until it is ended by r2rec adapters rollback, or promote --share 1", "adapter", o.Candidate, "error", err)
	default:
		r.to.Info("a roll-out has ended by its rewards", "adapter", o.Candidate)
	}
}

func (r rollOuts) begin(o rltrainer.RollOut) (*rltrainer.Watch, error) {
	test := r.test
	test.Tolerance, test.Share = r.RollOutTolerance, o.Share
	return rltrainer.NewWatch(o, r.RollOutLimit, test)
}

// look ends a roll-out if the rewards that there are decide it.
func (r rollOuts) look(ctx context.Context) error {
	s, err := r.log.State(ctx)
	if err != nil {
		return err
	}
	o, ok := rltrainer.RollOutOf(s)
	if !ok {
		return nil
	}
	w, err := r.begin(o)
	if err != nil {
		return err
	}
	if err := rewardsSince(r.kafka, o.Since).each(ctx, w.Add); err != nil {
		return err
	}
	if _, ended, err := w.End(ctx, r.log, r.now); err != nil || !ended {
		return err
	}
	r.to.Info("a roll-out has ended by its rewards", "adapter", o.Candidate)
	return nil
}
