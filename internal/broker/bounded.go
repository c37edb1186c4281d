package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

// What may wait for Kafka in a BoundedWriter.
const (
	maxWaiting      = 8 << 20          // bytes of records
	messageOverhead = 256              // bytes, about, that a record takes beside its key and value
	stalledAfter    = 10 * time.Second // without one record acknowledged, although some were to be
	triedEvery      = 5 * time.Second  // by one record, then
	closeWithin     = 5 * time.Second
)

// ErrStalled says that Kafka has not acknowledged anything for a while, or that too much waits for it: nothing was handed to
// it. The same may succeed later.
var ErrStalled = errors.New("records wait for Kafka, which acknowledges none: nothing was sent, try again later")

// BoundedWriter is a writer for a process that answers others. A kafka.Writer tries each record several times, whether or not
// anybody waits for it still, and each behind the ones before it: while Kafka is away that is a queue without end, in which
// every caller waits longer than the last. Here what waits is bounded, and who comes to a Kafka that is away is told so at
// once, but for one every few seconds who finds out whether it is back.
type BoundedWriter struct {
	to       *kafka.Writer
	now      func() time.Time
	patience time.Duration   // of Close
	ctx      context.Context // of what waits
	stop     context.CancelFunc

	mu      sync.Mutex
	waiting int       // bytes
	failing bool      // the last that came to an end did not get there
	since   time.Time // of the last acknowledgement, or the moment from which there should have been one
	tried   time.Time // when a stalled Kafka was tried last
}

// NewBoundedWriter returns a NewWriter for a process that answers others. The caller closes it.
func (c *Client) NewBoundedWriter(topic string) *BoundedWriter {
	return newBoundedWriter(c.NewWriter(topic))
}

func newBoundedWriter(to *kafka.Writer) *BoundedWriter {
	w := &BoundedWriter{to: to, now: time.Now, patience: closeWithin}
	w.ctx, w.stop = context.WithCancel(context.Background())
	return w
}

// WriteMessages returns when all in-sync replicas hold the records, with an error that says what failed, with ErrStalled,
// or when ctx ends: then they may be stored all the same, later.
func (w *BoundedWriter) WriteMessages(ctx context.Context, msgs ...kafka.Message) error {
	size := 0
	for _, m := range msgs {
		size += len(m.Key) + len(m.Value) + messageOverhead
	}
	if err := w.enter(size); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		err := w.to.WriteMessages(w.ctx, msgs...)
		w.leave(size, err)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done: // at the same time
		return err
	default:
		return ctx.Err()
	}
}

func (w *BoundedWriter) enter(size int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	if w.waiting == 0 && !w.failing {
		w.since = now
	}
	if w.waiting > 0 && w.waiting+size > maxWaiting {
		return fmt.Errorf("%w (%d bytes wait, and %d more are too many)", ErrStalled, w.waiting, size)
	}
	if stalled := now.Sub(w.since); stalled > stalledAfter {
		if now.Sub(w.tried) < triedEvery {
			return fmt.Errorf("%w (for %v)", ErrStalled, stalled.Round(time.Second))
		}
		w.tried = now
	}
	w.waiting += size
	return nil
}

func (w *BoundedWriter) leave(size int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting -= size
	if w.failing = err != nil; !w.failing {
		w.since = w.now()
	}
}

// Close waits for what was handed over until it is written or given up, for a few seconds at most; what waits for Kafka to be
// found is given up at once.
func (w *BoundedWriter) Close() error {
	w.mu.Lock()
	waiting := w.waiting
	w.mu.Unlock()
	w.stop()
	if err := closeWriter(w.to, w.patience); err != nil {
		return fmt.Errorf("%d bytes: %w", waiting, err)
	}
	return nil
}

// CloseWriter closes a writer, and waits a few seconds for Kafka to acknowledge what it holds. The error says that it did not.
func CloseWriter(w *kafka.Writer) error { return closeWriter(w, closeWithin) }

func closeWriter(w *kafka.Writer, patience time.Duration) error {
	done := make(chan error, 1)
	go func() { done <- w.Close() }()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return fmt.Errorf("records for topic %s were not acknowledged by Kafka and may be lost", w.Topic)
	}
}
