package adapters

import (
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
)

// TestReadingGoesOnWithinABatch: brokers answer with whole batches, also where a reader stands in the middle of one.
func TestReadingGoesOnWithinABatch(t *testing.T) {
	embeddedtest.EachKafka(t, func(t *testing.T, k broker.Settings) {
		c, err := broker.New(k)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		if err := c.EnsureTopics(t.Context(), broker.Topics{Partitions: 1}); err != nil {
			t.Fatal(err)
		}
		w := c.NewWriter(broker.Adapters)
		defer w.Close()
		if err := w.WriteMessages(t.Context(), kafka.Message{Value: []byte("0")}, kafka.Message{Value: []byte("1")}, kafka.Message{Value: []byte("2")}); err != nil {
			t.Fatal(err)
		}
		r := newReader(w)
		r.state.Offset = 1
		if end, err := r.read(t.Context(), time.Second, func() error { return nil }); err != nil || end != 3 {
			t.Fatalf("read up to %d, %v; want 3", end, err)
		}
		if e := r.state.Entries; len(e) != 2 || e[0].Offset != 1 || e[1].Offset != 2 {
			t.Errorf("entries %+v, want those of offsets 1 and 2", e)
		}
	})
}
