package dataset_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/dataset"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
)

// readAll reads a topic from its beginning to the end that it has now, partition by partition.
func readAll(ctx context.Context, t *testing.T, c *broker.Client, topic string, each func(partition int, m kafka.Message)) {
	t.Helper()
	offsets, err := c.Offsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range offsets {
		if o.First == o.Last {
			continue
		}
		r := kafka.NewReader(kafka.ReaderConfig{Brokers: c.Brokers(), Dialer: c.Dialer, Topic: c.Topic(topic), Partition: o.Partition, MaxWait: 20 * time.Millisecond})
		defer r.Close()
		for next := o.First; next < o.Last; {
			m, err := r.ReadMessage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			each(o.Partition, m)
			next = m.Offset + 1
		}
	}
}

// The whole bundled data set arrives in Kafka: every record valid, keyed as the contract says, a user's events together
// and in the order of time, and with today's Kafka time.
func TestPublishBundled(t *testing.T) {
	embeddedtest.EachKafka(t, func(t *testing.T, s broker.Settings) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		c, err := broker.New(s)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.EnsureTopics(ctx, broker.Topics{Partitions: 4}); err != nil {
			t.Fatal(err)
		}
		d, err := dataset.Bundled()
		if err != nil {
			t.Fatal(err)
		}
		items, interactions := c.NewWriter(broker.Items), c.NewWriter(broker.Interactions)
		defer items.Close()
		defer interactions.Close()
		var done, total int
		start := time.Now()
		got, err := dataset.Publish(ctx, d, items, interactions, dataset.PublishOptions{Progress: func(d, of int) {
			if d < done {
				t.Errorf("progress went back from %d to %d", done, d)
			}
			done, total = d, of
		}})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%.0f records a second", float64(total)/time.Since(start).Seconds())
		if want := (dataset.Published{Items: 9125, Interactions: 100004}); got != want {
			t.Errorf("published %+v, want %+v", got, want)
		}
		if done != 109129 || total != 109129 {
			t.Errorf("progress ended at %d of %d, want 109,129", done, total)
		}

		n := 0
		readAll(ctx, t, c, broker.Items, func(_ int, m kafka.Message) {
			if _, err := event.DecodeItem(m.Key, m.Value); err != nil {
				t.Fatal(err)
			}
			n++
		})
		if n != 9125 {
			t.Errorf("%d items in Kafka, want 9,125", n)
		}
		ids, home, last := map[string]bool{}, map[string]int{}, map[string]event.Time{}
		readAll(ctx, t, c, broker.Interactions, func(partition int, m kafka.Message) {
			in, err := event.DecodeInteraction(m.Value, event.At(m.Time))
			if err != nil {
				t.Fatal(err)
			}
			if string(m.Key) != in.UserID {
				t.Fatalf("key %q of an event of user %q", m.Key, in.UserID)
			}
			if p, ok := home[in.UserID]; ok && p != partition {
				t.Fatalf("user %s is in partitions %d and %d", in.UserID, p, partition)
			}
			if in.Timestamp < last[in.UserID] {
				t.Fatalf("user %s: an event of %v after one of %v", in.UserID, in.Timestamp, last[in.UserID])
			}
			if m.Time.Before(start.Add(-time.Minute)) {
				t.Fatalf("Kafka time %v is that of the event, not of sending", m.Time)
			}
			ids[in.EventID], home[in.UserID], last[in.UserID] = true, partition, in.Timestamp
		})
		if len(ids) != 100004 {
			t.Errorf("%d different events in Kafka, want 100,004", len(ids))
		}
	})
}

// recorder keeps what it is given, and fails from the given batch on.
type recorder struct {
	batches [][]kafka.Message
	failAt  int
	err     error
}

func (r *recorder) WriteMessages(_ context.Context, msgs ...kafka.Message) error {
	if r.err != nil && len(r.batches) == r.failAt {
		return r.err
	}
	r.batches = append(r.batches, msgs)
	return nil
}

func small(t *testing.T, events, items string) *dataset.Dataset {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"events.csv": "user_id,item_id,rating,timestamp\n" + events, "items.csv": "item_id,title,categories\n" + items} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d, err := dataset.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestPublishInBatchesAndLeavesOutWhatIsRefused(t *testing.T) {
	d := small(t, "u,1,,1000000000\nu,2,,1000000001\n,3,,1000000002\nu,4,,1000000003\n", "a,A,\n,no id,\nb,B,\n")
	var items, interactions recorder
	var refused []string
	var progress []string
	got, err := dataset.Publish(t.Context(), d, &items, &interactions, dataset.PublishOptions{Batch: 2,
		Rejected: func(err error) { refused = append(refused, err.Error()) },
		Progress: func(done, total int) { progress = append(progress, fmt.Sprint(done, "/", total)) }})
	if err != nil {
		t.Fatal(err)
	}
	if want := (dataset.Published{Items: 2, Interactions: 3, Rejected: 2}); got != want {
		t.Errorf("published %+v, want %+v", got, want)
	}
	if len(refused) != 2 || !strings.Contains(refused[0], "items.csv:3") || !strings.Contains(refused[1], "events.csv:4") {
		t.Errorf("refused %q, want items.csv:3 and events.csv:4", refused)
	}
	var sizes []int
	for _, b := range interactions.batches {
		sizes = append(sizes, len(b))
	}
	if fmt.Sprint(sizes) != "[2 1]" {
		t.Errorf("batches of %v interactions, want 2 and 1", sizes)
	}
	if last := progress[len(progress)-1]; last != "7/7" {
		t.Errorf("progress %q, want 7 of 7 at the end", progress)
	}

	_, err = dataset.Publish(t.Context(), d, &recorder{}, &recorder{}, dataset.PublishOptions{})
	if err == nil || !strings.Contains(err.Error(), "items.csv:3") {
		t.Errorf("with nobody to hear of refused records: %v, want the first of them", err)
	}
}

func TestReplayLeavesOutWhatBreaksTheContract(t *testing.T) {
	d := small(t, "u,1,,1000000000\n,2,,1000000001\nu,3,,1000000002\n", "a,A,\n")
	tick := make(chan time.Time, 3)
	for range cap(tick) {
		tick <- time.Time{}
	}
	var out recorder
	var seen, refused []string
	err := dataset.Replay(t.Context(), d, &out, tick, func(done, total int) { seen = append(seen, fmt.Sprint(done, "/", total)) },
		func(err error) { refused = append(refused, err.Error()) })
	if err != nil || len(out.batches) != 2 || fmt.Sprint(seen) != "[1/3 2/3 3/3]" || len(refused) != 1 || !strings.Contains(refused[0], "events.csv:3") {
		t.Errorf("%v, %d published, %v dealt with, refused %q; want 2, all three, and events.csv:3", err, len(out.batches), seen, refused)
	}
}

func TestPublishStopsAtTheWritersError(t *testing.T) {
	d := small(t, "u,1,,1000000000\nu,2,,1000000001\nu,3,,1000000002\n", "a,A,\n")
	full := errors.New("disk full")
	for name, err := range map[string]error{"plain": full, "one a record": kafka.WriteErrors{nil, full}} {
		got, err := dataset.Publish(t.Context(), d, &recorder{}, &recorder{failAt: 1, err: err}, dataset.PublishOptions{Batch: 2})
		if !errors.Is(err, full) || !strings.Contains(err.Error(), "interactions 3 to 3") {
			t.Errorf("%s: %v, want the writer's error and the records", name, err)
		}
		if want := (dataset.Published{Items: 1, Interactions: 2}); got != want {
			t.Errorf("%s: published %+v, want %+v", name, got, want)
		}
	}
}
