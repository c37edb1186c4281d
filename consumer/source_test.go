package consumer

import (
	"context"
	"errors"
	"testing"

	"github.com/segmentio/kafka-go"
)

// A reader says only once that Kafka has no such offset: it is heard also where the wait for a record ends at the same time.
func TestAnOffsetOutOfRangeAtTheEndOfAWait(t *testing.T) {
	c := fakeCluster(t)
	s := source{topic: c.topics.Interactions, reader: kafka.NewReader(kafka.ReaderConfig{Brokers: c.brokers, Topic: c.topics.Interactions, OffsetOutOfRangeError: true})}
	defer s.close()
	const beyond = 100
	if err := s.reader.SetOffset(beyond); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.fetch(t.Context(), over{t.Context()}, beyond); ok || !errors.Is(err, kafka.OffsetOutOfRange) {
		t.Errorf("%v, %v", ok, err)
	}
}

// over is a context that has ended since somebody began to wait.
type over struct{ context.Context }

func (over) Err() error { return context.DeadlineExceeded }
