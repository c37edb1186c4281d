package adapters

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/segmentio/kafka-go"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/event"
)

// Log is the Kafka topic `adapters`: one partition, kept for ever, never compacted. It is safe for concurrent use.
type Log struct {
	writer *kafka.Writer
	log    *slog.Logger
}

// NewLog reads and writes the log through a writer to its topic, which has to ask for the acknowledgement of all in-sync
// replicas. Close closes the writer. It does not connect, and makes no topic.
func NewLog(w *kafka.Writer, logger *slog.Logger) (*Log, error) {
	if w.RequiredAcks != kafka.RequireAll || w.Async {
		return nil, fmt.Errorf("the log of adapters in %s: the writer does not wait for all in-sync replicas, and what it writes could be lost", w.Topic)
	}
	return &Log{writer: w, log: logger}, nil
}

// Close ends the writing. A record that Kafka did not acknowledge it waits for a few seconds, and then it is an error.
func (l *Log) Close() error { return broker.CloseWriter(l.writer) }

// errOwn ends a reading at the record that was looked for.
var errOwn = errors.New("the record was found")

// Append writes a record and reads the log up to it: the state there, and whether the record counted. Why it did not says
// the last entry. A record that breaks the contract is not written.
//
// An error means that it is not known whether the record was, or will be, stored: a later State tells.
func (l *Log) Append(ctx context.Context, p event.Promotion) (State, bool, error) {
	raw, err := event.Encode(p)
	if err != nil {
		return State{}, false, fmt.Errorf("append to %s: %w", l.writer.Topic, err)
	}
	token := rand.Text()
	wrote := l.writer.WriteMessages(ctx, kafka.Message{Value: raw, Headers: []kafka.Header{{Key: appendHeader, Value: []byte(token)}}})

	// Where the writing failed it may have been stored all the same.
	r := newReader(l.writer)
	err = l.patiently(ctx, func() error {
		end, err := r.read(ctx, 0, func() error {
			if _, ok := r.tokens[token]; ok {
				return errOwn
			}
			return nil
		})
		switch {
		case err != nil:
			return err
		case r.state.Offset < end:
			return errMore
		case wrote != nil:
			return backoff.Permanent(wrote)
		}
		return errors.New("the record is acknowledged and not to be seen yet")
	})
	if !errors.Is(err, errOwn) {
		return State{}, false, fmt.Errorf("append to %s: whether the record is stored is not known: %w", l.writer.Topic, errors.Join(wrote, err))
	}
	last := r.state.Entries[len(r.state.Entries)-1]
	return r.snapshot(), last.Void == "", nil
}

// State reads the log from its beginning to where it ends now. It waits at most 20 s for brokers that are not ready.
func (l *Log) State(ctx context.Context) (State, error) {
	r := newReader(l.writer)
	if err := l.patiently(ctx, func() error { return l.catchUp(ctx, r) }); err != nil {
		return State{}, fmt.Errorf("read the log of adapters: %w", err)
	}
	return r.snapshot(), nil
}

// errMore says that a reading went well and has not come to the end.
var errMore = errors.New("there is more")

// catchUp reads once, and says errMore where that did not reach the end.
func (l *Log) catchUp(ctx context.Context, r *reader) error {
	end, err := r.read(ctx, 0, func() error { return nil })
	if err == nil && r.state.Offset < end {
		return errMore
	}
	return err
}

// Pauses between attempts, and how long State and Append try.
const (
	shortestPause = 20 * time.Millisecond
	longestPause  = time.Second
	patience      = 20 * time.Second
)

func pauses(limit time.Duration) *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(backoff.WithInitialInterval(shortestPause), backoff.WithMaxInterval(longestPause), backoff.WithMaxElapsedTime(limit))
}

// patiently repeats what fails for a reason that can pass.
func (l *Log) patiently(ctx context.Context, do func() error) error {
	return backoff.Retry(func() error {
		for {
			err := do()
			switch {
			case errors.Is(err, errMore):
			case err == nil || passing(err):
				return err
			default:
				return backoff.Permanent(err)
			}
		}
	}, backoff.WithContext(pauses(patience), ctx))
}

// passing tells whether a failure can end by itself. Of Kafka's own codes those that it calls temporary do, and Unknown,
// which stands for a leader that could not be reached; of all others only what this package knows to be final does not.
func passing(err error) bool {
	var gap *GapError
	var code kafka.Error
	switch {
	case errors.Is(err, errOwn) || errors.As(err, &gap):
		return false
	case errors.As(err, &code):
		return code.Temporary() || code == kafka.Unknown
	}
	return true
}

// Follow calls changed with the state at the end of the log, and from then on after every new record, some milliseconds
// after it was written. It goes on until ctx ends, which is its error then, until changed returns an error, which is
// returned as it is, or until the log lost records, which is a *GapError. Anything else, such as brokers that are away,
// is waited for, with a pause of at most a second between attempts, and logged when it begins and when it is over.
func (l *Log) Follow(ctx context.Context, changed func(State) error) error {
	r, begun, failing := newReader(l.writer), false, false
	wait := pauses(0)
	for {
		var refused error
		end, err := r.read(ctx, longPollOnce(begun), func() error {
			if begun {
				refused = changed(r.snapshot())
			}
			return refused
		})
		if err == nil && !begun && r.state.Offset >= end {
			begun = true
			refused = changed(r.snapshot())
		}
		var gap *GapError
		switch {
		case refused != nil:
			return refused
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &gap):
			return fmt.Errorf("follow the log of adapters: %w", err)
		case err == nil:
			if failing {
				l.log.Info("the log of adapters can be read again", "topic", l.writer.Topic, "offset", r.state.Offset)
			}
			failing = false
			wait.Reset()
			continue
		case !failing:
			l.log.Warn("the log of adapters cannot be read: what is served stays", "topic", l.writer.Topic, "offset", r.state.Offset, "error", err)
			failing = true
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait.NextBackOff()):
		}
	}
}

// longPollOnce is how long a request may wait for a record: not at all until the end was seen.
func longPollOnce(begun bool) time.Duration {
	if begun {
		return longPoll
	}
	return 0
}
