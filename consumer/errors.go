package consumer

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// unfinished are answers of Kafka's that its own list of retriable errors leaves out because a client is to do something
// first (join again, ask for the leader again); doing the whole call again is that something. Unknown tells nothing,
// so it does not tell that trying again is hopeless either.
var unfinished = []kafka.Error{
	kafka.Unknown, kafka.BrokerNotAvailable, kafka.ReplicaNotAvailable, kafka.StaleControllerEpoch,
	kafka.IllegalGeneration, kafka.UnknownMemberId, kafka.RebalanceInProgress, kafka.MemberIDRequired,
}

// transient is the package's one decision whether a failed call may succeed later with nobody changing anything. An
// error that has a method Retriable() bool decides by it; that is how a Graph tells. Kafka's codes decide by Kafka's own
// list and unfinished. Then every network error is transient, and a connection that broke off. All else is permanent:
// not to know is no reason to try for ever.
func transient(err error) bool {
	var own interface{ Retriable() bool }
	var writes kafka.WriteErrors
	var code kafka.Error
	var network net.Error
	switch {
	case errors.As(err, &own):
		return own.Retriable()
	case errors.As(err, &writes):
		return !slices.ContainsFunc(writes, func(err error) bool { return err != nil && !transient(err) })
	case errors.As(err, &code): // before net.Error, which kafka.Error implements
		return code.Temporary() || slices.Contains(unfinished, code)
	case errors.As(err, &network): // includes context.DeadlineExceeded
		return true
	}
	return slices.ContainsFunc([]error{
		io.EOF, io.ErrUnexpectedEOF, io.ErrNoProgress, io.ErrClosedPipe, net.ErrClosed,
		// What the transport's picture of the cluster lacks for the moment.
		protocol.ErrNoTopic, protocol.ErrNoPartition, protocol.ErrNoLeader,
	}, func(target error) bool { return errors.Is(err, target) })
}

// retry calls op until it succeeds, fails for good, or ctx ends; failed hears of each failure that is followed by
// another attempt.
func retry(ctx context.Context, pauses backoff.BackOff, failed func(error), op func() error) error {
	return backoff.RetryNotify(func() error {
		err := op()
		if err != nil && ctx.Err() == nil && transient(err) {
			failed(err)
			return err
		}
		return backoff.Permanent(err)
	}, backoff.WithContext(pauses, ctx), nil)
}

// pause waits, or returns ctx's error.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
