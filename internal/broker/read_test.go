package broker_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
)

// What was written since a time is read whole, in the order of each partition, and nothing that came afterwards.
func TestReadWhatWasWrittenSince(t *testing.T) {
	embeddedtest.EachKafka(t, func(t *testing.T, s broker.Settings) {
		c, err := broker.New(s)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		if err := c.EnsureTopics(bounded(t), broker.Topics{Partitions: 3}); err != nil {
			t.Fatal(err)
		}
		start := time.UnixMilli(1_795_000_000_000)
		w := c.NewWriter(broker.Rewards)
		defer w.Close()
		write := func(from, to int) {
			t.Helper()
			var batch []kafka.Message
			for i := from; i < to; i++ {
				batch = append(batch, kafka.Message{Key: fmt.Append(nil, "user ", i%17), Value: fmt.Append(nil, i), Time: start.Add(time.Duration(i) * time.Second)})
			}
			if err := w.WriteMessages(bounded(t), batch...); err != nil {
				t.Fatal(err)
			}
		}
		write(0, 200)
		parts, err := c.Since(bounded(t), broker.Rewards, start.Add(50*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		write(200, 250) // later than the question
		var got []string
		last := map[int]int64{}
		err = c.Read(bounded(t), broker.Rewards, parts, func(m kafka.Message) error {
			if before, seen := last[m.Partition]; seen && m.Offset <= before {
				t.Errorf("offset %d of partition %d came after %d", m.Offset, m.Partition, before)
			}
			last[m.Partition] = m.Offset
			got = append(got, fmt.Sprintf("%03s", m.Value))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(got)
		var want []string
		for i := 50; i < 200; i++ {
			want = append(want, fmt.Sprintf("%03d", i))
		}
		if !slices.Equal(got, want) {
			t.Errorf("read %v, want 050 to 199", got)
		}

		empty, err := c.Since(bounded(t), broker.Rewards, start.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range empty {
			if p.First != p.Last {
				t.Errorf("partition %d holds %d to %d of the future", p.Partition, p.First, p.Last)
			}
		}
		enough := errors.New("enough")
		if err := c.Read(bounded(t), broker.Rewards, parts, func(kafka.Message) error { return enough }); !errors.Is(err, enough) || !strings.Contains(err.Error(), c.Topic(broker.Rewards)) {
			t.Errorf("got %v, want the caller's own error with the place", err)
		}
	})
}
