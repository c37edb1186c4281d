package consumer

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/segmentio/kafka-go"

	"github.com/r2rec/r2rec/internal/event"
)

// partition is what one goroutine knows about the partition it owns.
type partition struct {
	source
	c    *Consumer
	dead letterBox

	readErr error // why the reader has to be placed anew; handled once the batch before it is applied
	batch   batch

	rewinds backoff.BackOff // pauses between rewinds with no batch applied in between; nil: none yet
}

func newPartition(c *Consumer, topic string, a kafka.PartitionAssignment, dead letterBox) *partition {
	return &partition{source: c.source(topic, a, ""), c: c, dead: dead, batch: batch{sink: c.sink(topic), hole: -1}}
}

func (p *partition) sources() []*source { return []*source{&p.source} }

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
	if err := p.awaitForgets(ctx); err != nil {
		return err
	}
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
	p.readErr = nil
	return p.open(position)
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
	if err := p.awaitForgets(ctx); err != nil {
		return err
	}
	if err := p.ask(ctx); err != nil {
		return err
	}
	return p.seek(ctx, lowest, lowest > 0)
}

// awaitForgets is source.awaitForgets where that matters.
func (p *partition) awaitForgets(ctx context.Context) error {
	if p.topic != p.c.opt.Topics.Interactions {
		return nil
	}
	return p.source.awaitForgets(ctx)
}

// behindLingers is how many lingers a batch waits for what Kafka is known to have.
const behindLingers = 10

// fill collects a batch: it waits at most the check interval for a first record, and at most the linger for more. Where
// Kafka then is known to have more, it takes that too: whoever is behind needs large batches.
func (p *partition) fill(ctx context.Context) error {
	opt := &p.c.opt
	p.batch.begin(p.applied)
	wait, cancel := context.WithTimeout(ctx, opt.CheckInterval)
	defer func() { cancel() }()
	waitFor := func(d time.Duration) {
		cancel()
		wait, cancel = context.WithTimeout(ctx, d)
	}
	goal := int64(math.MaxInt64)
	for p.batch.records < opt.MaxBatch && p.batch.bytes < opt.MaxBytes && p.batch.next < goal {
		m, ok, err := p.fetch(ctx, wait, p.batch.next)
		switch {
		case errors.Is(err, kafka.OffsetOutOfRange):
			p.readErr = err
			return nil
		case err != nil:
			return err
		case !ok && p.batch.records > 0 && goal == math.MaxInt64:
			goal = p.end
			waitFor(behindLingers * opt.Linger)
			continue
		case !ok:
			return nil
		}
		if p.batch.records == 0 {
			p.gave()
			// Until the next multiple of the linger: so the partitions end their batches at the same time, and the graph
			// can take them together.
			now := opt.Now()
			waitFor(now.Truncate(opt.Linger).Add(opt.Linger).Sub(now))
		}
		p.batch.add(m, p.notAfter(m))
	}
	return nil
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
		p.watchStall(p.applied)
	} else if b.hole >= 0 && b.hole < p.first {
		// The reader jumped over what Kafka deleted. A hole above first is what compaction leaves.
		if err := p.jumped(b.hole); err != nil {
			return err
		}
	}

	span := event.Span{Topic: p.topic, Partition: p.id, Start: p.applied, End: b.next}
	if !p.known { // whoever has read something expects its watermark, wherever the log begins by now
		span.First = p.first
	}
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
