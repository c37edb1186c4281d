package broker_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
)

const limit = 30 * time.Second

func newClient(t *testing.T, s broker.Settings) *broker.Client {
	t.Helper()
	c, err := broker.New(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func write(ctx context.Context, t *testing.T, c *broker.Client, topic string, msgs ...kafka.Message) {
	t.Helper()
	w := c.NewWriter(topic)
	defer w.Close()
	if err := w.WriteMessages(ctx, msgs...); err != nil {
		t.Fatal(err)
	}
}

func readFirst(ctx context.Context, t *testing.T, c *broker.Client, topic string, partition int) kafka.Message {
	t.Helper()
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: c.Brokers(), Dialer: c.Dialer, Topic: c.Topic(topic), Partition: partition,
		MaxBytes: 2 * broker.MaxDeadLetterBytes, MaxWait: 50 * time.Millisecond})
	defer r.Close()
	if err := r.SetOffset(kafka.FirstOffset); err != nil {
		t.Fatal(err)
	}
	m, err := r.ReadMessage(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The hashes are those of org.apache.kafka.common.utils.Utils.murmur2, from its own tests.
func TestKeyedRecordsGoWhereJavaPutsThem(t *testing.T) {
	hashes := map[string]int32{"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536,
		"a-little-bit-longer-string": -1486304829, "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107}
	const partitions = 7
	embeddedtest.EachKafka(t, func(t *testing.T, s broker.Settings) {
		ctx, c := bounded(t), newClient(t, s)
		if err := c.EnsureTopics(ctx, broker.Topics{Partitions: partitions}); err != nil {
			t.Fatal(err)
		}
		for key, hash := range hashes {
			want := int(hash&0x7fffffff) % partitions
			before, err := c.Offsets(ctx, broker.Interactions)
			if err != nil {
				t.Fatal(err)
			}
			write(ctx, t, c, broker.Interactions, kafka.Message{Key: []byte(key), Value: []byte("v")})
			after, err := c.Offsets(ctx, broker.Interactions)
			if err != nil {
				t.Fatal(err)
			}
			for p := range partitions {
				grown := after[p].Last - before[p].Last
				if (p == want) != (grown == 1) {
					t.Errorf("key %q: partition %d grew by %d, want the record in %d", key, p, grown, want)
				}
			}
		}
	})
}

func TestOffsets(t *testing.T) {
	embeddedtest.EachKafka(t, func(t *testing.T, s broker.Settings) {
		ctx, c := bounded(t), newClient(t, s)
		if _, err := c.Offsets(ctx, broker.Adapters); !errors.Is(err, kafka.UnknownTopicOrPartition) || !strings.Contains(err.Error(), c.Topic(broker.Adapters)) {
			t.Errorf("without the topic: %v, want an error that is UnknownTopicOrPartition and names the topic", err)
		}
		if err := c.EnsureTopics(ctx, broker.Topics{Partitions: 3}); err != nil {
			t.Fatal(err)
		}
		write(ctx, t, c, broker.Adapters, kafka.Message{Value: []byte("1")}, kafka.Message{Value: []byte("2")})
		got, err := c.Offsets(ctx, broker.Adapters)
		if want := (broker.Offsets{Partition: 0, First: 0, Last: 2}); err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("adapters: %v, %v, want %v", got, err, want)
		}
		got, err = c.Offsets(ctx, broker.Interactions)
		if err != nil || len(got) != 3 || got[2] != (broker.Offsets{Partition: 2}) {
			t.Errorf("interactions: %v, %v, want three empty partitions in order", got, err)
		}
	})
}

// The largest record of a topic fits into the dead letters together with its reason; a larger one is refused by name.
func TestDeadLettersHoldTheLargestRecord(t *testing.T) {
	embeddedtest.EachKafka(t, func(t *testing.T, s broker.Settings) {
		ctx, c := bounded(t), newClient(t, s)
		if err := c.EnsureTopics(ctx, broker.Topics{Partitions: 1}); err != nil {
			t.Fatal(err)
		}
		value := make([]byte, broker.MaxRecordBytes-100) // does not compress
		_, _ = rand.Read(value)
		write(ctx, t, c, broker.Interactions, kafka.Message{Value: value})
		original := readFirst(ctx, t, c, broker.Interactions, 0)
		write(ctx, t, c, broker.DeadLetters, kafka.Message{Key: []byte("key"), Value: original.Value,
			Headers: []kafka.Header{{Key: "reason", Value: bytes.Repeat([]byte("why "), 1000)}}})
		if got := readFirst(ctx, t, c, broker.DeadLetters, 0); !bytes.Equal(got.Value, value) {
			t.Error("the dead letter is not the record")
		}

		w := c.NewWriter(broker.Interactions)
		defer w.Close()
		var tooLarge kafka.MessageTooLargeError
		if err := w.WriteMessages(ctx, kafka.Message{Value: make([]byte, broker.MaxRecordBytes+1)}); !errors.As(err, &tooLarge) {
			t.Errorf("a record over the limit: %v, want MessageTooLargeError", err)
		}
	})
}

func TestWaitReadyWaitsForTheBroker(t *testing.T) {
	ctx := bounded(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	addr := l.Addr().String()
	l.Close() // free, and refused until the broker starts

	var started *embedded.Kafka
	c := newClient(t, broker.Settings{Brokers: []string{addr}})
	err = c.WaitReady(ctx, limit, func(err error, _ time.Duration) {
		if started != nil {
			return
		}
		if !strings.Contains(err.Error(), addr) {
			t.Errorf("attempt failed with %q, want the address %s in it", err, addr)
		}
		if started, err = embedded.StartKafka(ctx, embedded.Options{KafkaPort: port}); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Errorf("WaitReady = %v after the broker started", err)
	}
	if started == nil {
		t.Fatal("ready before there was a broker")
	}
	started.Close()
}

func TestWaitReadyGivesUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	c := newClient(t, broker.Settings{Brokers: []string{addr}})
	err = c.WaitReady(bounded(t), 200*time.Millisecond, nil)
	if err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("after the limit: %v, want an error that names %s", err, addr)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = c.WaitReady(ctx, time.Hour, func(error, time.Duration) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("after cancelling: %v, want context.Canceled", err)
	}
}
