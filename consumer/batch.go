package consumer

import (
	"bytes"
	"context"

	"github.com/segmentio/kafka-go"

	"github.com/r2rec/r2rec/internal/event"
)

// batch is a contiguous stretch of one partition's records, decoded. Offsets may be missing in it: compaction takes
// records out, and markers are no events.
type batch struct {
	sink    sink
	letters []*letter
	records int
	bytes   int
	next    int64 // the offset after the last record
	hole    int64 // the first offset that is missing; negative: none is
}

// begin empties the batch; it will hold what comes from start on.
func (b *batch) begin(start int64) {
	b.sink.reset()
	b.letters, b.records, b.bytes, b.next, b.hole = nil, 0, 0, start, -1
}

// add decodes a record, and makes a dead letter of what cannot be decoded.
func (b *batch) add(m kafka.Message, notAfter event.Time) {
	if m.Offset < b.next {
		return
	}
	if m.Offset > b.next && b.hole < 0 {
		b.hole = b.next
	}
	b.records++
	b.bytes += len(m.Key) + len(m.Value)
	b.next = m.Offset + 1
	if isMarker(m) {
		return
	}
	if err := b.sink.add(m, notAfter); err != nil {
		b.letters = append(b.letters, newLetter(m, err))
	}
}

// isMarker tells whether a record is the mark that a transaction leaves in the log, which kafka-go delivers as if it
// were a record: key and value are the two big-endian structures of Kafka's control records, version 0, which no JSON
// can equal.
func isMarker(m kafka.Message) bool {
	return len(m.Key) == 4 && len(m.Value) == 6 && len(m.Headers) == 0 &&
		bytes.HasPrefix(m.Key, []byte{0, 0, 0}) && m.Key[3] <= 1 && bytes.HasPrefix(m.Value, []byte{0, 0})
}

// sink collects the events of one topic and applies them.
type sink interface {
	add(m kafka.Message, notAfter event.Time) error
	apply(ctx context.Context, span event.Span) error
	len() int
	reset()
}

func (c *Consumer) sink(topic string) sink {
	g := c.opt.Graph
	switch topic {
	case c.opt.Topics.Items:
		return &collector[event.Item]{
			decode: func(m kafka.Message, _ event.Time) (event.Item, error) { return event.DecodeItem(m.Key, m.Value) },
			send:   g.ApplyItems,
		}
	case c.opt.Topics.Users:
		return &collector[event.User]{
			decode: func(m kafka.Message, notAfter event.Time) (event.User, error) {
				return event.DecodeUser(m.Key, m.Value, notAfter)
			},
			send: g.ApplyUsers,
		}
	default:
		return &collector[event.Interaction]{
			decode: func(m kafka.Message, notAfter event.Time) (event.Interaction, error) {
				return event.DecodeInteraction(m.Value, notAfter)
			},
			send: func(ctx context.Context, span event.Span, batch []event.Interaction) error {
				err := g.ApplyInteractions(ctx, span, batch)
				if err == nil && len(batch) > 0 {
					c.opt.OnApplied(span, batch)
				}
				return err
			},
		}
	}
}

type collector[T any] struct {
	decode func(kafka.Message, event.Time) (T, error)
	send   func(context.Context, event.Span, []T) error
	events []T
}

func (s *collector[T]) add(m kafka.Message, notAfter event.Time) error {
	v, err := s.decode(m, notAfter)
	if err == nil {
		s.events = append(s.events, v)
	}
	return err
}

func (s *collector[T]) apply(ctx context.Context, span event.Span) error {
	return s.send(ctx, span, s.events)
}

func (s *collector[T]) len() int { return len(s.events) }

func (s *collector[T]) reset() {
	clear(s.events) // lets go of the strings
	s.events = s.events[:0]
}
