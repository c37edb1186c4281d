package broker_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded"
)

// While Kafka is away what waits is bounded, and who comes later is told at once; when it is back, what waited is written
// and all goes on.
func TestBoundedWriter(t *testing.T) {
	ctx := bounded(t)
	k, err := embedded.StartKafka(ctx, embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	stop := func() { k.Close() }
	defer func() { stop() }()
	c := newClient(t, broker.Settings{Brokers: []string{k.Addr}})
	if err := c.EnsureTopics(ctx, broker.Topics{Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	w := c.NewBoundedWriter(broker.Interactions)
	now := time.Now()
	w.Set(func() time.Time { return now }, 1<<30, limit)
	try := func(wait time.Duration, size int) error {
		ctx, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		return w.WriteMessages(ctx, kafka.Message{Key: []byte("k"), Value: bytes.Repeat([]byte("v"), size)})
	}
	if err := try(limit, 10); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour) // of silence, which is no stall
	if err := try(limit, 10); err != nil {
		t.Fatal(err)
	}

	k.Close()
	stop = func() {}
	if err := try(time.Millisecond, 10); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the first record without Kafka: %v, want the caller's deadline", err)
	}
	const large = 900_000
	for fits := 0; ; fits++ {
		err := try(time.Millisecond, large)
		if errors.Is(err, broker.ErrStalled) {
			if fits < 5 || fits > 9 {
				t.Errorf("%d records of %d bytes may wait, want 8 MB of them: %v", fits, large, err)
			}
			break
		}
		if !errors.Is(err, context.DeadlineExceeded) || fits > 20 {
			t.Fatalf("record %d without Kafka: %v", fits, err)
		}
	}
	if err := try(time.Millisecond, 10); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a small record: %v, want the caller's deadline", err)
	}
	now = now.Add(11 * time.Second)
	for range 2 {
		if err := try(time.Millisecond, 10); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("one who tries whether it is back: %v, want the caller's deadline", err)
		}
		for range 3 {
			if err := try(limit, 10); !errors.Is(err, broker.ErrStalled) {
				t.Errorf("a record after 11 s without an answer: %v, want ErrStalled", err)
			}
		}
		now = now.Add(6 * time.Second)
	}

	_, port, err := net.SplitHostPort(k.Addr)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	again, err := embedded.StartKafka(ctx, embedded.Options{KafkaPort: number})
	if err != nil {
		t.Fatal(err)
	}
	stop = again.Close
	if err := c.EnsureTopics(ctx, broker.Topics{Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	for err := try(limit, 10); err != nil; err = try(limit, 10) {
		if !errors.Is(err, broker.ErrStalled) {
			t.Fatal(err)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal("no record is taken although Kafka is back")
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// Where records are given up fast, so that nothing waits, who comes is told at once all the same.
func TestBoundedWriterKnowsThatAllFail(t *testing.T) {
	ctx := bounded(t)
	k, err := embedded.StartKafka(ctx, embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	c := newClient(t, broker.Settings{Brokers: []string{k.Addr}})
	if err := c.EnsureTopics(ctx, broker.Topics{Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	w := c.NewBoundedWriter(broker.Interactions)
	now := time.Now()
	w.Set(func() time.Time { return now }, 1, limit)
	write := func() error { return w.WriteMessages(ctx, kafka.Message{Key: []byte("k"), Value: []byte("v")}) }
	if err := write(); err != nil {
		t.Fatal(err)
	}
	k.Close()
	for range 3 { // seconds apart
		if err := write(); err == nil || errors.Is(err, broker.ErrStalled) {
			t.Errorf("in the first seconds without Kafka: %v, want its own error", err)
		}
		now = now.Add(4 * time.Second)
	}
	if err := write(); err == nil || errors.Is(err, broker.ErrStalled) {
		t.Errorf("one who tries whether it is back: %v, want its own error", err)
	}
	if err := write(); !errors.Is(err, broker.ErrStalled) {
		t.Errorf("after 12 s without success: %v, want ErrStalled", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

// A process that ends without Kafka does not wait for it, whether or not it was ever there.
func TestBoundedWriterClosesWithoutKafka(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c := newClient(t, broker.Settings{Brokers: []string{silent.Addr().String()}})
	w := c.NewBoundedWriter(broker.Interactions)
	w.Set(time.Now, 1, limit)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := w.WriteMessages(ctx, kafka.Message{Value: []byte("v")}); err == nil {
		t.Error("a record was written to nowhere")
	}
	if err := w.Close(); err != nil {
		t.Errorf("closing a writer that never found Kafka: %v", err)
	}
}

// What became of the records is told also where the caller's context has ended by then.
func TestBoundedWriterTellsWhatItKnows(t *testing.T) {
	c := newClient(t, broker.Settings{Brokers: []string{"127.0.0.1:1"}})
	synctest.Test(t, func(t *testing.T) {
		w := c.NewBoundedWriter(broker.Interactions)
		defer w.Close()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var large kafka.MessageTooLargeError
		for range 30 { // of two things that are ready, any may be seen
			err := w.WriteMessages(lateContext{ctx}, kafka.Message{Value: make([]byte, broker.MaxRecordBytes)})
			if !errors.As(err, &large) {
				t.Fatalf("a record that is too large: %v", err)
			}
		}
	})
}

// lateContext ends when everything else in the bubble has come to rest.
type lateContext struct{ context.Context }

func (c lateContext) Done() <-chan struct{} {
	synctest.Wait()
	return c.Context.Done()
}
