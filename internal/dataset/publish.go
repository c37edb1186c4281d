package dataset

import (
	"context"
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go"

	"github.com/r2rec/r2rec/internal/event"
)

// Writer is the part of a *kafka.Writer that Publish uses: it returns when the records are stored, or with an error.
type Writer interface {
	WriteMessages(ctx context.Context, msgs ...kafka.Message) error
}

// PublishOptions say how Publish goes on. The zero value is a working default.
type PublishOptions struct {
	Batch    int                   // records handed to a writer at once; default 1,000
	Progress func(done, total int) // called after every batch with the records dealt with, refused ones included; nil: not called
	Rejected func(err error)       // hears of a record that breaks the contract, which is then left out; nil: Publish fails with it
}

// Published counts what Publish has sent and left out.
type Published struct {
	Items        int
	Interactions int
	Rejected     int
}

// Publish sends the catalogue to items, keyed by item id, and then the interactions in their order to interactions, keyed
// by user id. Every record is valid. It stops at the first error of a writer; the count then tells what was stored for
// certain, and sending all of it again does no harm. The Kafka time of the records is that of sending, not that of the
// interaction: Kafka would delete old ones at once.
func Publish(ctx context.Context, d *Dataset, items, interactions Writer, o PublishOptions) (Published, error) {
	if o.Batch <= 0 {
		o.Batch = 1000
	}
	var out Published
	nItems, nInteractions := d.Len()
	p := publisher{options: o, total: nItems + nInteractions, rejected: &out.Rejected}

	p.begin("items", items, &out.Items)
	for it, err := range d.Items() {
		if err := send(ctx, &p, it.ItemID, it, err); err != nil {
			return out, err
		}
	}
	if err := p.flush(ctx); err != nil {
		return out, err
	}
	p.begin("interactions", interactions, &out.Interactions)
	for in, err := range d.Interactions() {
		if err := send(ctx, &p, in.UserID, in, err); err != nil {
			return out, err
		}
	}
	return out, p.flush(ctx)
}

// publisher collects the records of one kind into batches.
type publisher struct {
	options PublishOptions
	total   int
	done    int

	kind     string
	to       Writer
	sent     *int
	rejected *int
	batch    []kafka.Message
}

func (p *publisher) begin(kind string, to Writer, sent *int) { p.kind, p.to, p.sent = kind, to, sent }

// send adds a record, or deals with the error that stands in its place.
func send[T event.Contract](ctx context.Context, p *publisher, key string, record T, err error) error {
	var value []byte
	if err == nil {
		value, err = event.Encode(record)
	}
	if err != nil {
		if p.options.Rejected == nil {
			return fmt.Errorf("publish %s: %w", p.kind, err)
		}
		p.options.Rejected(err)
		*p.rejected++
		p.done++
		return nil
	}
	p.batch = append(p.batch, kafka.Message{Key: []byte(key), Value: value})
	if len(p.batch) < p.options.Batch {
		return nil
	}
	return p.flush(ctx)
}

func (p *publisher) flush(ctx context.Context) error {
	if len(p.batch) > 0 {
		if err := p.to.WriteMessages(ctx, p.batch...); err != nil {
			return fmt.Errorf("publish %s %d to %d: %w", p.kind, *p.sent+1, *p.sent+len(p.batch), firstOf(err))
		}
	}
	*p.sent += len(p.batch)
	p.done += len(p.batch)
	// The writer may still hold the old slice after an error or a cancelled context, so it is not reused.
	p.batch = make([]kafka.Message, 0, p.options.Batch)
	if p.options.Progress != nil {
		p.options.Progress(p.done, p.total)
	}
	return nil
}

// firstOf finds the reason in a list with one entry a record, most of them nil.
func firstOf(err error) error {
	var each kafka.WriteErrors
	if errors.As(err, &each) {
		for _, e := range each {
			if e != nil {
				return e
			}
		}
	}
	return err
}
