package consumer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/r2rec/r2rec/internal/event"
)

// Whatever cannot be applied ends in the dead letters, bytes unchanged, with a reason; and the stream goes on.
func TestBadRecordsBecomeDeadLetters(t *testing.T) {
	eachCluster(t, func(t *testing.T, c *cluster) {
		interaction := func(value string) *kgo.Record {
			return &kgo.Record{Topic: c.topics.Interactions, Key: []byte("u"), Value: []byte(value)}
		}
		item := func(key, value string) *kgo.Record {
			return &kgo.Record{Topic: c.topics.Items, Key: []byte(key), Value: []byte(value)}
		}
		bad := map[string]struct {
			record *kgo.Record
			reason event.ErrorReason
			field  string
		}{
			"malformed":    {interaction(`{"event_id":`), event.MalformedJSON, ""},
			"empty":        {interaction(``), event.MalformedJSON, ""},
			"unknown type": {interaction(`{"event_id":"e","user_id":"u","item_id":"i","type":"sniff","timestamp":1700000000000}`), event.UnknownType, "type"},
			"year 9999":    {interaction(`{"event_id":"e","user_id":"u","item_id":"i","type":"click","timestamp":"9999-01-01T00:00:00Z"}`), event.TimestampOutOfRange, "timestamp"},
			"empty id":     {interaction(`{"event_id":"e","user_id":"","item_id":"i","type":"click","timestamp":1700000000000}`), event.MissingField, "user_id"},
			"bad UTF-8":    {interaction("{\"event_id\":\"e\",\"user_id\":\"\xff\",\"item_id\":\"i\",\"type\":\"click\",\"timestamp\":1700000000000}"), event.InvalidUTF8, ""},
			"1 MB title":   {item("i", `{"item_id":"i","title":"`+strings.Repeat("x", 1<<20)+`"}`), event.TooLarge, ""},
			"other key":    {item("j", `{"item_id":"i","title":"t"}`), event.KeyMismatch, "item_id"},
			"user deleted": {&kgo.Record{Topic: c.topics.Users, Key: []byte("u")}, event.MalformedJSON, ""},
		}
		g := newMemory()
		r := start(t, c.options(g))
		n := 0
		for _, b := range bad { // each between two good ones
			c.produce(c.clicks(n, 3)...)
			c.produce(b.record)
			n += 3
		}
		c.produce(c.clicks(n, 3)...)
		g.awaitClicks(t, n+3)
		g.await(t, "all watermarks behind the bad ones", func() bool {
			return g.marks[partitionKey{c.topics.Items, 0}] == 2 && g.marks[partitionKey{c.topics.Users, 0}] == 1
		})

		// The watermarks have passed, so the letters are there.
		letters := map[string]*kgo.Record{}
		for _, l := range c.letters(len(bad)) {
			h := headers(l)
			letters[h[HeaderTopic]+"/"+h[HeaderPartition]+"@"+h[HeaderOffset]] = l
		}
		for name, b := range bad {
			l := letters[fmt.Sprintf("%s/%d@%d", b.record.Topic, b.record.Partition, b.record.Offset)]
			if l == nil {
				t.Errorf("%s: no dead letter", name)
				continue
			}
			h := headers(l)
			if !bytes.Equal(l.Value, b.record.Value) || !bytes.Equal(l.Key, b.record.Key) {
				t.Errorf("%s: the bytes changed: key %q, %d bytes of value", name, l.Key, len(l.Value))
			}
			if h[HeaderReason] != string(b.reason) || h[HeaderField] != b.field || h[HeaderDetail] == "" {
				t.Errorf("%s: headers %q, want reason %s, field %q", name, h, b.reason, b.field)
			}
		}
		r.stop()
		for reason, want := range map[event.ErrorReason]float64{event.MalformedJSON: 2, event.TimestampOutOfRange: 1} {
			if got := testutil.ToFloat64(r.metrics.deadLetters.WithLabelValues(c.topics.Interactions, string(reason))); got != want {
				t.Errorf("dead_letters_total of %s is %v, want %v", reason, got, want)
			}
		}
	})
}

// A letter that the broker finds too large is cut, with the length and digest of the whole; those beside it are not.
func TestDeadLetterTooLargeForTheBroker(t *testing.T) {
	eachCluster(t, func(t *testing.T, c *cluster) {
		c.topics.DeadLetters += "-small"
		c.create(c.topics.DeadLetters, 1, "max.message.bytes", "100000")
		random := rand.NewChaCha8(seed(t))
		noise := func(n int) []byte { b := make([]byte, n); random.Read(b); return b } // zstd cannot help
		large, key := noise(400_000), noise(80_000)
		var records []*kgo.Record
		for range 20 { // together more than the broker takes at once
			records = append(records, &kgo.Record{Topic: c.topics.Interactions, Value: noise(20_000)})
		}
		records = append(records,
			&kgo.Record{Topic: c.topics.Interactions, Key: []byte("u"), Value: large},
			&kgo.Record{Topic: c.topics.Interactions, Key: key, Value: noise(70_000)})
		c.produce(records...)
		g := newMemory()
		r := start(t, c.options(g))
		g.await(t, "the watermark", func() bool {
			return g.marks[partitionKey{c.topics.Interactions, 0}] == int64(len(records))
		})
		seen := map[string]*kgo.Record{}
		for _, l := range c.letters(len(records)) {
			seen[headers(l)[HeaderOffset]] = l
		}
		for i := range 20 {
			if l := seen[fmt.Sprint(i)]; l == nil || !bytes.Equal(l.Value, records[i].Value) || headers(l)[HeaderTruncated] != "" {
				t.Errorf("letter %d is not whole", i)
			}
		}
		if l := seen["20"]; !bytes.Equal(l.Value, large[:64<<10]) || string(l.Key) != "u" ||
			headers(l)[HeaderTruncated] != fmt.Sprintf("400000 %x", sha256.Sum256(large)) {
			t.Errorf("large value: %d bytes, headers %q", len(l.Value), headers(l))
		}
		if l := seen["21"]; len(l.Value) != 1<<10 || !bytes.Equal(l.Key, key[:1<<10]) ||
			headers(l)[HeaderKeyTruncated] != fmt.Sprintf("80000 %x", sha256.Sum256(key)) {
			t.Errorf("large key: %d and %d bytes, headers %q", len(l.Key), len(l.Value), headers(l))
		}
		r.stop()
	})
}

// The watermark does not pass a bad record before its letter is acknowledged, however often publishing fails.
func TestWatermarkWaitsForTheDeadLetter(t *testing.T) {
	c := fakeCluster(t)
	c.produce(&kgo.Record{Topic: c.topics.Interactions, Value: []byte("bad")})
	fault := c.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: c.topics.DeadLetters, Err: kerr.NotEnoughReplicas, Count: -1})
	g := newMemory()
	r := start(t, c.options(g))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := fault.Wait(ctx, 5); err != nil {
		t.Fatal(err)
	}
	c.eventually("health shows it", func() bool {
		for _, p := range r.Health().Partitions {
			if p.Trouble.Doing == "publish dead letters" && strings.Contains(p.Trouble.Error, "Replicas") && !p.Trouble.Since.IsZero() {
				return true
			}
		}
		return false
	})
	g.mu.Lock()
	if at := g.marks[partitionKey{c.topics.Interactions, 0}]; at != 0 {
		t.Errorf("the watermark is at %d without the letter", at)
	}
	g.mu.Unlock()
	fault.Remove()
	g.await(t, "the watermark", func() bool { return g.marks[partitionKey{c.topics.Interactions, 0}] == 1 })
	c.letters(1)
	c.eventually("health is well again", func() bool {
		for _, p := range r.Health().Partitions {
			if p.Trouble != (Trouble{}) {
				return false
			}
		}
		return true
	})
	r.stop()
}

// Where some letters fail, those are published again, and the others are not.
func TestDeadLettersFailOnePartition(t *testing.T) {
	c := fakeCluster(t)
	c.topics.DeadLetters += "-two"
	c.create(c.topics.DeadLetters, 2)
	const n = 40
	for i := range n {
		c.produce(&kgo.Record{Topic: c.topics.Interactions, Key: fmt.Append(nil, "user", i), Value: []byte("bad")})
	}
	c.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: c.topics.DeadLetters, Partitions: []int32{1}, Err: kerr.NotEnoughReplicas, Count: 3})
	g := newMemory()
	opt := c.options(g)
	opt.Linger = time.Second // one batch
	opt.MaxBatch = n
	r := start(t, opt)
	g.await(t, "the watermark", func() bool { return g.marks[partitionKey{c.topics.Interactions, 0}] == n })
	r.stop()
	times := map[string]int{}
	for _, l := range c.letters(n) {
		times[headers(l)[HeaderOffset]]++
	}
	if len(times) != n {
		t.Errorf("%d letters for %d bad records: %v", len(times), n, times)
	}
	for p := range int32(2) {
		if end := c.fake.PartitionInfo(c.topics.DeadLetters, p).HighWatermark; end == 0 || end == n {
			t.Errorf("partition %d of the dead letters has %d records, want a part of %d", p, end, n)
		}
	}
}

func TestDeadLetterRefusedForGood(t *testing.T) {
	c := fakeCluster(t)
	c.produce(&kgo.Record{Topic: c.topics.Interactions, Value: []byte("bad")})
	c.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: c.topics.DeadLetters, Err: kerr.TopicAuthorizationFailed, Count: -1})
	g := newMemory()
	err := start(t, c.options(g)).wait()
	if err == nil || !strings.Contains(err.Error(), "interactions/0@0") || errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
	if at := g.marks[partitionKey{c.topics.Interactions, 0}]; at != 0 {
		t.Errorf("the watermark is at %d without the letter", at)
	}
}

// A transaction leaves marks in the log, which are no events and no rubbish.
func TestTransactionMarkersAreSkipped(t *testing.T) {
	eachCluster(t, func(t *testing.T, c *cluster) {
		producer, err := kgo.NewClient(kgo.SeedBrokers(c.brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID(c.group))
		if err != nil {
			t.Fatal(err)
		}
		defer producer.Close()
		for i := range 3 {
			if err := producer.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			if err := producer.ProduceSync(t.Context(), c.click(0, i)).FirstErr(); err != nil {
				t.Fatal(err)
			}
			if err := producer.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
				t.Fatal(err)
			}
		}
		g := newMemory()
		r := start(t, c.options(g))
		g.await(t, "the watermark behind the last mark", func() bool { return g.marks[partitionKey{c.topics.Interactions, 0}] == 6 })
		r.stop()
		g.awaitClicks(t, 3)
		if n := testutil.CollectAndCount(r.metrics.deadLetters); n != 0 {
			t.Errorf("%d kinds of dead letters", n)
		}
	})
}
