package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/segmentio/kafka-go"
)

// recordsSince reads what a topic holds since a time, and then what comes.
type recordsSince[T any] struct {
	kafka  *broker.Client
	topic  string
	decode func(kafka.Message) (T, error) // what cannot be decoded is left out: others report it
	since  event.Time
	every  time.Duration // between two looks for more
	most   int64         // records of a partition that are read at once; 0: all
	at     []broker.Offsets

	failing bool // the last time
}

// more is what has come since the last time it was asked.
func (r *recordsSince[T]) more(ctx context.Context) (found []T, err error) {
	err = r.each(ctx, func(x T) error {
		found = append(found, x)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// each gives f what has come since the last time, one by one as it is read. After an error all of it comes again.
func (r *recordsSince[T]) each(ctx context.Context, f func(T) error) error {
	var parts []broker.Offsets
	var err error
	if r.at == nil {
		parts, err = r.kafka.Since(ctx, r.topic, r.since.Std())
	} else if parts, err = r.kafka.Offsets(ctx, r.topic); err == nil && len(parts) >= len(r.at) {
		for i, read := range r.at {
			parts[i].First = max(parts[i].First, read.Last)
		}
	}
	if err != nil {
		return err
	}
	if r.most > 0 {
		for i := range parts {
			parts[i].Last = min(parts[i].Last, parts[i].First+r.most)
		}
	}
	err = r.kafka.Read(ctx, r.topic, parts, func(m kafka.Message) error {
		if x, err := r.decode(m); err == nil {
			return f(x)
		}
		return nil
	})
	if err == nil {
		r.at = parts
	}
	return err
}

// note says that the topic cannot be read, once, and that it can again.
func (r *recordsSince[T]) note(log *slog.Logger, err error) {
	switch {
	case err != nil && !r.failing:
		log.Warn("a topic cannot be read, trying again", "topic", r.topic, "error", err)
	case err == nil && r.failing:
		log.Info("a topic can be read again", "topic", r.topic)
	}
	r.failing = err != nil
}

// follow gives what comes to f until ctx ends. What cannot be read is tried again.
func (r *recordsSince[T]) follow(ctx context.Context, log *slog.Logger, f func([]T)) error {
	tick := time.NewTicker(r.every)
	defer tick.Stop()
	for {
		found, err := r.more(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if r.note(log, err); err == nil {
			f(found)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// next gives f what has come, and waits until some has. What cannot be read is tried again, all of it: f may hear of a record
// twice. An error of f ends it.
func (r *recordsSince[T]) next(ctx context.Context, log *slog.Logger, f func(T) error) error {
	for {
		some := false
		var wrong error
		err := r.each(ctx, func(x T) error {
			some, wrong = true, f(x)
			return wrong
		})
		if wrong != nil {
			return wrong
		}
		if ctx.Err() == nil {
			r.note(log, err)
		}
		if err == nil && some {
			return nil
		}
		pause := time.NewTimer(r.every)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return errors.Join(err, ctx.Err())
		}
	}
}

// rewardsSince reads rewards. r2rec writes them: what is broken is somebody else's.
func rewardsSince(kc *broker.Client, since event.Time) *recordsSince[event.Reward] {
	return &recordsSince[event.Reward]{kafka: kc, topic: broker.Rewards, since: since,
		decode: func(m kafka.Message) (event.Reward, error) { return event.DecodeReward(m.Value) }}
}

// usersSince reads who is to be forgotten.
func usersSince(kc *broker.Client, since event.Time) *recordsSince[event.User] {
	return &recordsSince[event.User]{kafka: kc, topic: broker.Users, since: since,
		decode: func(m kafka.Message) (event.User, error) { return event.DecodeUser(m.Key, m.Value, event.Latest) }}
}
