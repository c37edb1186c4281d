package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/segmentio/kafka-go"
)

// liveRun produces interactions at a steady rate, whether or not they keep up, and notes what became of each.
type liveRun struct {
	warm []kafka.Message // that come before
	// The key and the value of each interaction, in the order in which they are due, one after the other, and where they
	// end: as messages they would give the garbage collector much to look at in the middle of the measurement.
	bytes []byte
	ends  []int
	rate  float64 // a second

	mu             sync.Mutex
	start          time.Time
	visible, acked []float64 // milliseconds from when an interaction was due, but for those of the first second
}

// livePrefix is what the ids of these interactions begin with; their number follows.
const livePrefix = "live-"

// liveLinger is how long the producer waits for more for a partition. It sends one request a partition, where others send
// one a broker: with the usual 5 ms Kafka would be busy with requests on a machine that all of this shares.
const liveLinger = 10 * time.Millisecond

// newLiveRun encodes what will be produced, so that this takes nobody's time then, and some to begin with.
func newLiveRun(events []event.Interaction, rate float64, lasting time.Duration, warm int) (*liveRun, error) {
	n := int(rate * lasting.Seconds())
	r := &liveRun{rate: rate, ends: make([]int, 0, 2*n), visible: make([]float64, 0, n), acked: make([]float64, 0, n)}
	for _, in := range events[:min(len(events), warm)] {
		m, err := ingestMessage(in)
		if err != nil {
			return nil, err
		}
		r.warm = append(r.warm, m)
	}
	for i := range n {
		in := events[i%len(events)]
		in.EventID = livePrefix + strconv.Itoa(i)
		m, err := ingestMessage(in)
		if err != nil {
			return nil, err
		}
		r.bytes = append(r.bytes, m.Key...)
		r.ends = append(r.ends, len(r.bytes))
		r.bytes = append(r.bytes, m.Value...)
		r.ends = append(r.ends, len(r.bytes))
	}
	return r, nil
}

func (r *liveRun) len() int { return len(r.ends) / 2 }

// messages are those from one up to another.
func (r *liveRun) messages(from, to int) []kafka.Message {
	ms := make([]kafka.Message, 0, to-from)
	for i := from; i < to; i++ {
		begin := 0
		if i > 0 {
			begin = r.ends[2*i-1]
		}
		ms = append(ms, kafka.Message{Key: r.bytes[begin:r.ends[2*i]], Value: r.bytes[r.ends[2*i]:r.ends[2*i+1]], WriterData: i})
	}
	return ms
}

func (r *liveRun) due(i int) time.Time {
	return r.start.Add(time.Duration(float64(i) / r.rate * float64(time.Second)))
}

// note appends how long the i-th took until now; the caller has locked.
func (r *liveRun) note(to *[]float64, i int, now time.Time) {
	if d := r.due(i); d.Sub(r.start) >= time.Second {
		*to = append(*to, now.Sub(d).Seconds()*1000)
	}
}

// saw notes a batch that is in the graph.
func (r *liveRun) saw(batch []event.Interaction, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, in := range batch {
		if number, isOurs := strings.CutPrefix(in.EventID, livePrefix); isOurs {
			if i, err := strconv.Atoi(number); err == nil {
				r.note(&r.visible, i, now)
			}
		}
	}
}

// produce returns when all is handed to the writer; failed hears of what Kafka did not take.
func (r *liveRun) produce(ctx context.Context, w *kafka.Writer, failed func(error), progress func(sent int)) error {
	w.Async, w.Compression, w.BatchTimeout = true, 0, liveLinger
	w.Completion = func(ms []kafka.Message, err error) {
		if err != nil {
			failed(fmt.Errorf("publish interactions: %w", err))
		}
		now := time.Now()
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, m := range ms {
			r.note(&r.acked, m.WriterData.(int), now)
		}
	}
	r.mu.Lock()
	r.start = time.Now()
	r.mu.Unlock()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for sent := 0; sent < r.len(); {
		from := sent
		for now := time.Now(); sent < r.len() && !r.due(sent).After(now); {
			sent++
		}
		progress(sent)
		if err := w.WriteMessages(ctx, r.messages(from, sent)...); err != nil {
			return fmt.Errorf("publish interactions: %w", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// live lets a consumer bring a liveRun into the empty graph.
func (b *ingestBench) live(topics *ingestTopics, r *liveRun) error {
	if err := b.store.wipe(b.p.ctx); err != nil {
		return err
	}
	a := newApplied(r.saw)
	return b.consumer(topics, b.graph, a, func(ctx context.Context) (err error) {
		ctx, stop := context.WithCancelCause(ctx)
		defer stop(nil)
		first := topics.NewWriter(broker.Interactions)
		defer func() { err = errors.Join(err, first.Close()) }()
		// Each partition has had an event before the clock starts: the group is joined, the connections are open.
		for _, m := range r.warm {
			if err := first.WriteMessages(ctx, m); err != nil {
				return fmt.Errorf("publish interactions: %w", err)
			}
		}
		if err := a.reached(ctx, int64(len(r.warm))); err != nil {
			return err
		}
		w := topics.NewWriter(broker.Interactions)
		defer func() { err = errors.Join(err, w.Close()) }()
		if err := r.produce(ctx, w, stop, func(sent int) { b.shown.set("producing", sent, r.len()) }); err != nil {
			return err
		}
		return a.reached(ctx, int64(len(r.warm)+r.len()))
	})
}
