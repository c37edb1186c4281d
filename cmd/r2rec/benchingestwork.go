package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/r2rec/r2rec/consumer"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"
)

// ingestMix is how often each kind of interaction comes, in percent.
var ingestMix = []struct {
	kind  event.Type
	value float64
	share int
}{
	{event.Click, 0, 60}, {event.Like, 0, 10}, {event.Purchase, 0, 8}, {event.Cart, 0, 7}, {event.Rating, 5, 6}, {event.Rating, 1, 2}, {event.Dislike, 0, 4}, {event.Hide, 0, 3},
}

// Popularity falls with rank as (head + rank)^-exponent: the first of 20,000 items has about 1 % of all interactions, the
// most active of 100,000 users 0.2 %.
const (
	ingestExponent = 1.1
	itemHead       = 20
	userHead       = 100
)

// ingestEvents draws n interactions, the i-th with the id i, in the order in which they are published: by time, but for a
// tenth that is up to an hour late.
func ingestEvents(n, users, items int, views float64, seed uint64) []event.Interaction {
	rng := rand.New(rand.NewPCG(seed, 7))
	user := rand.NewZipf(rng, ingestExponent, userHead, uint64(users-1))
	item := rand.NewZipf(rng, ingestExponent, itemHead, uint64(items-1))
	events := make([]event.Interaction, n)
	for i := range events {
		at := event.Time(1_700_000_000_000 + int64(i)*10)
		if rng.IntN(10) == 0 {
			at -= event.Time(rng.IntN(3_600_000))
		}
		in := event.Interaction{EventID: strconv.Itoa(i), Timestamp: at,
			UserID: "u" + strconv.FormatUint(user.Uint64(), 10), ItemID: "i" + strconv.FormatUint(item.Uint64(), 10)}
		if rng.Float64() < views {
			in.Type = event.View
		} else {
			left := rng.IntN(100)
			for _, m := range ingestMix {
				if left -= m.share; left < 0 {
					in.Type = m.kind
					if m.kind == event.Rating {
						in.Value = &m.value
					}
					break
				}
			}
		}
		events[i] = in
	}
	return events
}

func ingestMessage(in event.Interaction) (kafka.Message, error) {
	raw, err := event.Encode(in)
	return kafka.Message{Key: []byte(in.UserID), Value: raw}, err
}

// publish puts all events into Kafka.
func (b *ingestBench) publish() error {
	w := b.backlog.NewWriter(broker.Interactions)
	const chunk = 10_000
	for start := 0; start < len(b.events); start += chunk {
		b.shown.set("publishing", start, len(b.events))
		var ms []kafka.Message
		for _, in := range b.events[start:min(start+chunk, len(b.events))] {
			m, err := ingestMessage(in)
			if err != nil {
				return errors.Join(err, w.Close())
			}
			ms = append(ms, m)
		}
		if err := w.WriteMessages(b.p.ctx, ms...); err != nil {
			return errors.Join(fmt.Errorf("publish interactions: %w", err), w.Close())
		}
	}
	return w.Close()
}

// applied counts what a consumer has applied. Stretches that come again count once.
type applied struct {
	mu      sync.Mutex
	ends    map[int]int64
	changed chan struct{} // holds one notice at most
	each    func(batch []event.Interaction, now time.Time)

	first, last time.Time
	atFirst     int64
}

func newApplied(each func([]event.Interaction, time.Time)) *applied {
	return &applied{ends: map[int]int64{}, changed: make(chan struct{}, 1), each: each}
}

func (a *applied) batch(span event.Span, batch []event.Interaction) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ends[span.Partition] = max(a.ends[span.Partition], span.End)
	a.last = now
	if a.first.IsZero() {
		a.first, a.atFirst = now, a.total()
	}
	if a.each != nil {
		a.each(batch, now)
	}
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

func (a *applied) total() (n int64) {
	for _, end := range a.ends {
		n += end
	}
	return n
}

// reached waits until n events are applied.
func (a *applied) reached(ctx context.Context, n int64) error {
	for {
		a.mu.Lock()
		total := a.total()
		a.mu.Unlock()
		if total >= n {
			return nil
		}
		select {
		case <-a.changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// consumer runs a new member of a new group while f runs.
func (b *ingestBench) consumer(topics *ingestTopics, graph consumer.Graph, a *applied, f func(context.Context) error) error {
	c, err := newConsumer(b.p, topics.Client, graph, prometheus.NewRegistry(), consumer.Options{
		Member: consumer.Member{Group: topics.newGroup()}, OnApplied: a.batch})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(b.p.ctx)
	defer stop()
	eg, ctx := errgroup.WithContext(ctx)
	eg.Go(func() error { return c.Run(ctx) })
	eg.Go(func() error {
		defer stop()
		return f(ctx)
	})
	return eg.Wait()
}

// consume lets a consumer bring the backlog into the graph, and returns the events a second from its first applied batch
// on.
func (b *ingestBench) consume(graph consumer.Graph) (rate float64, err error) {
	a := newApplied(nil)
	n := int64(len(b.events))
	if err := b.consumer(b.backlog, graph, a, func(ctx context.Context) error { return a.reached(ctx, n) }); err != nil {
		return 0, err
	}
	if n == a.atFirst {
		return 0, fmt.Errorf("all %d interactions were applied in one batch, which gives no rate: give more --events", n)
	}
	return float64(n-a.atFirst) / a.last.Sub(a.first).Seconds(), nil
}
