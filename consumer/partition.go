package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/segmentio/kafka-go"

	"github.com/r2rec/r2rec/internal/event"
)

const (
	// A reader that is told to stop first finishes its fetch. Of a limit above a second, kafka-go keeps one second for
	// the way back and lets the broker wait for the rest: a quarter of a second here, and rebalances stay prompt.
	fetchWait = 1250 * time.Millisecond

	// stallAfter is how long the broker may have records and the reader give none before that counts as a failure:
	// kafka-go retries some errors without telling.
	stallAfter = 15 * time.Second
)

// partition is what one goroutine knows about the partition it owns.
type partition struct {
	c     *Consumer
	topic string
	id    int
	log   *slog.Logger
	dead  *deadLetters

	reader  *kafka.Reader
	readErr error // why the reader has to be placed anew; handled once the batch before it is applied
	batch   batch

	applied   int64 // everything below it is in the graph
	first     int64 // the oldest offset that Kafka has, as last asked
	end       int64 // the offset that the next record will get, as last heard
	committed int64 // what the group had committed; negative: nothing
	known     bool  // the graph is known to have held something of this partition
	asked     time.Time
	heard     time.Time       // when the reader last gave a record or had none to give
	rewinds   backoff.BackOff // pauses between rewinds with no batch applied in between; nil: none yet
}

func newPartition(c *Consumer, topic string, a kafka.PartitionAssignment, dead *deadLetters) *partition {
	c.health.own(topic, a.ID)
	p := &partition{
		c: c, topic: topic, id: a.ID, dead: dead,
		log:       c.opt.Logger.With("topic", topic, "partition", a.ID),
		committed: a.Offset,
		known:     a.Offset >= 0,
	}
	p.batch = batch{sink: c.sink(topic), hole: -1}
	return p
}

// run consumes the partition until ctx ends, then returns nil, or until it fails for good. The batch at hand is
// abandoned, which is safe: its watermark has not moved, or its data are in.
func (p *partition) run(ctx context.Context) error {
	defer p.close()
	err := p.locate(ctx)
	for err == nil {
		err = p.step(ctx)
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// step takes one batch, or none within the check interval, to the graph.
func (p *partition) step(ctx context.Context) error {
	if err := p.fill(ctx); err != nil {
		return err
	}
	err := p.flush(ctx)
	var behind *event.BehindError
	switch {
	case errors.As(err, &behind):
		return p.rewind(ctx, behind)
	case err != nil:
		return err
	case p.readErr != nil:
		p.log.Warn("kafka has no such offset, asking the graph where to go on", "offset", p.applied, "error", p.readErr)
		return p.locate(ctx)
	}
	return nil
}

// locate places the reader where the graph's watermark says.
func (p *partition) locate(ctx context.Context) error {
	var lowest int64
	var ok bool
	err := p.attempt(ctx, "read the watermark", func() (err error) {
		lowest, ok, err = p.c.opt.Graph.Watermark(ctx, p.topic, p.id)
		return err
	})
	if err != nil {
		return err
	}
	p.known = p.known || lowest > 0
	// After the watermark, so that the end cannot be older than it.
	if err := p.ask(ctx); err != nil {
		return err
	}
	return p.seek(ctx, lowest, ok)
}

// seek places the reader at the watermark lowest, or does what the options say where Kafka has no such offset.
func (p *partition) seek(ctx context.Context, lowest int64, ok bool) error {
	position := lowest
	if lowest < p.first || lowest > p.end {
		if p.known { // else nothing was ever read: what Kafka deleted before is nobody's loss
			if err := p.gap(ctx, lowest, ok); err != nil {
				return err
			}
		}
		position = p.first
	}
	p.close()
	p.reader = kafka.NewReader(p.readerConfig())
	if err := p.reader.SetOffset(position); err != nil {
		return fmt.Errorf("consumer: %s/%d: seek to %d: %w", p.topic, p.id, position, err)
	}
	p.log.Debug("reading", "from", position, "first", p.first, "end", p.end)
	p.applied, p.readErr, p.heard = position, nil, p.c.opt.Now()
	p.report()
	return nil
}

// rewind goes back to where the store stands.
func (p *partition) rewind(ctx context.Context, behind *event.BehindError) error {
	p.c.metrics.rewinds.WithLabelValues(p.topic).Inc()
	// Whoever applied the same stretch in between may have moved the store on: what is above applied was never read here.
	lowest := min(behind.Lowest, p.applied)
	p.log.Warn("the graph lost writes, reading them again", "from", lowest, "to", p.applied)
	if p.rewinds == nil {
		p.rewinds = p.c.opt.Backoff()
	} else if err := pause(ctx, p.rewinds.NextBackOff()); err != nil { // it did not help the last time
		return err
	}
	p.known = p.known || lowest > 0
	if err := p.ask(ctx); err != nil {
		return err
	}
	return p.seek(ctx, lowest, lowest > 0)
}

// fill collects a batch: it waits at most the check interval for a first record, and at most the linger for more.
func (p *partition) fill(ctx context.Context) error {
	opt := &p.c.opt
	p.batch.begin(p.applied)
	wait, cancel := context.WithTimeout(ctx, opt.CheckInterval)
	defer cancel()
	for p.batch.records < opt.MaxBatch && p.batch.bytes < opt.MaxBytes {
		m, err := p.reader.FetchMessage(wait)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && wait.Err() != nil:
			return nil
		case errors.Is(err, kafka.OffsetOutOfRange):
			p.readErr = err
			return nil
		case err != nil && transient(err): // the reader tries again by itself, with pauses
			p.failed("read", err)
			continue
		case err != nil:
			return fmt.Errorf("consumer: read %s/%d at %d: %w", p.topic, p.id, p.batch.next, err)
		}
		if p.batch.records == 0 {
			p.heard = opt.Now()
			p.recovered("read")
			linger, cancel := context.WithTimeout(ctx, opt.Linger)
			defer cancel()
			wait = linger
		}
		p.end = max(p.end, m.HighWaterMark)
		p.batch.add(m, p.notAfter(m))
	}
	return nil
}

// notAfter is the latest timestamp that an event in m may have.
func (p *partition) notAfter(m kafka.Message) event.Time {
	at := m.Time
	if at.IsZero() {
		at = p.c.opt.Now()
	}
	return event.At(at.Add(p.c.opt.Skew))
}

// flush applies the batch, or compares the watermarks where there is none.
func (p *partition) flush(ctx context.Context) error {
	b, idle := &p.batch, p.batch.records == 0
	if idle || b.hole >= 0 || p.c.opt.Now().Sub(p.asked) >= p.c.opt.CheckInterval {
		if err := p.ask(ctx); err != nil {
			return err
		}
	}
	if idle {
		if p.applied > p.end || p.applied < p.first { // made again, or deleted before we could read
			return p.seek(ctx, p.applied, true)
		}
		p.watchStall()
	} else if b.hole >= 0 && b.hole < p.first {
		// The reader jumped over what Kafka deleted. A hole above first is what compaction leaves.
		if err := p.jumped(b.hole); err != nil {
			return err
		}
	}

	span := event.Span{Topic: p.topic, Partition: p.id, First: p.first, Start: p.applied, End: b.next}
	if len(b.letters) > 0 {
		if err := p.attempt(ctx, "publish dead letters", func() error { return p.dead.publish(ctx, b.letters) }); err != nil {
			return err
		}
		p.c.metrics.buried(p.topic, b.letters)
	}
	started := p.c.opt.Now()
	if err := p.attempt(ctx, "apply "+p.topic, func() error { return b.sink.apply(ctx, span) }); err != nil {
		return err
	}
	if !idle {
		p.c.metrics.applied(p.topic, b.sink.len(), p.c.opt.Now().Sub(started))
		p.applied, p.known, p.rewinds = b.next, true, nil
	}
	p.report()
	return nil
}

// watchStall finds a reader that gives nothing although there is something.
func (p *partition) watchStall() {
	now := p.c.opt.Now()
	switch {
	case p.applied >= p.end:
		p.heard = now
		p.recovered("read")
	case now.Sub(p.heard) >= stallAfter:
		p.failed("read", fmt.Errorf("no record for %v although the partition goes from %d to %d", now.Sub(p.heard), p.applied, p.end))
	}
}

// ask asks Kafka for the first and the last offset.
func (p *partition) ask(ctx context.Context) error {
	return p.attempt(ctx, "ask for the offsets", func() error {
		res, err := p.c.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{
			p.topic: {kafka.FirstOffsetOf(p.id), kafka.LastOffsetOf(p.id)},
		}})
		if err != nil {
			return err
		}
		for _, o := range res.Topics[p.topic] {
			if o.Partition != p.id {
				continue
			}
			if o.Error != nil {
				return o.Error
			}
			p.first, p.end, p.asked = o.FirstOffset, o.LastOffset, p.c.opt.Now()
			return nil
		}
		return kafka.UnknownTopicOrPartition
	})
}

// attempt does one call, with pauses and further attempts where it fails for the moment.
func (p *partition) attempt(ctx context.Context, what string, op func() error) error {
	err := retry(ctx, p.c.opt.Backoff(), func(err error) { p.failed(what, err) }, op)
	if err != nil {
		return fmt.Errorf("consumer: %s/%d@%d: %s: %w", p.topic, p.id, p.applied, what, err)
	}
	p.recovered(what)
	return nil
}

func (p *partition) failed(what string, err error) {
	if p.c.health.failing(p.topic, p.id, what, err) {
		p.log.Warn("cannot go on, trying again", "doing", what, "offset", p.applied, "error", err)
	}
}

func (p *partition) recovered(what string) {
	if lasted, was := p.c.health.recovered(p.topic, p.id, what); was {
		p.log.Info("going on", "doing", what, "offset", p.applied, "after", lasted)
	}
}

func (p *partition) report() {
	p.c.health.moved(p.topic, p.id, p.applied, p.end, p.known)
	p.c.metrics.position(p.topic, p.id, max(0, p.end-p.applied))
}

func (p *partition) close() {
	if p.reader != nil {
		p.reader.Close()
		p.reader = nil
	}
}

func (p *partition) readerConfig() kafka.ReaderConfig {
	opt := &p.c.opt
	return kafka.ReaderConfig{
		Brokers:               opt.Brokers,
		Dialer:                opt.Dialer,
		Topic:                 p.topic,
		Partition:             p.id,
		QueueCapacity:         opt.QueueCapacity,
		MinBytes:              1,
		MaxBytes:              opt.FetchBytes,
		MaxWait:               fetchWait,
		ReadBatchTimeout:      requestTimeout,
		ReadLagInterval:       -1,
		OffsetOutOfRangeError: true,
		ErrorLogger:           debugLogger(opt.Logger),
	}
}
