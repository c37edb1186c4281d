package consumer

import (
	"context"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/r2rec/r2rec/internal/event"
)

// stream is one topic of a pair: a source that looks one record ahead.
type stream struct {
	source
	next  int64 // the offset after what was read, the record ahead included
	until int64 // the end when Kafka was last asked
	ahead *ahead
}

// ahead is the next record, decoded.
type ahead struct {
	offset int64
	bytes  int
	time   int64 // Kafka's, in milliseconds
	joinRecord
	letter *letter // a decision that cannot be decoded
}

func (s *stream) open(position int64) error {
	s.next, s.ahead = position, nil
	return s.source.open(position)
}

// ask asks Kafka for the first and the last offset.
func (s *stream) ask(ctx context.Context) error {
	err := s.source.ask(ctx)
	s.until = s.end
	return err
}

// peek reads the next record, if none is ahead and Kafka is known to have one, and tells the merge what is known.
func (s *stream) peek(ctx, wait context.Context, to *side, settle time.Duration, decode func(kafka.Message) ahead) error {
	for s.ahead == nil && s.next < s.end {
		m, ok, err := s.fetch(ctx, wait, s.next)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		s.gave()
		if m.Offset < s.next {
			continue
		}
		if m.Offset > s.next { // compaction left a hole, or the reader jumped over what Kafka deleted
			if err := s.ask(ctx); err != nil {
				return err
			}
			if s.next < s.first {
				if err := s.missing(s.applied, true); err != nil {
					return err
				}
			}
		}
		s.next = m.Offset + 1
		if isMarker(m) {
			continue
		}
		a := decode(m)
		a.offset, a.bytes, a.time = m.Offset, len(m.Key)+len(m.Value), kafkaTime(m, a.joinRecord)
		s.ahead = &a
		to.has, to.next = true, a.time
	}
	if s.ahead == nil && s.next >= s.until {
		// All that could be read when Kafka was asked is read: what comes is recorded later, but for what was on its way.
		to.upTo = max(to.upTo, s.asked.Add(-settle).UnixMilli())
	}
	return nil
}

const waitingForTime = "wait for the time of a record"

// watchTime tells of a record ahead that lies later than soon. Everything recorded after it waits until its time has come, and
// counts as recorded no earlier: what was in time is late then.
func (s *stream) watchTime(soon int64) {
	if s.ahead == nil || s.ahead.time <= soon {
		return
	}
	now, at := s.g.member.Now(), time.UnixMilli(s.ahead.time)
	s.failed(waitingForTime, fmt.Errorf("the record at offset %d says that it was recorded at %s, %v ahead of the clock of this machine: until then this partition earns no rewards, and what comes meanwhile may be dropped as late. "+
		"Correct the clock of its producer, and have the brokers refuse such records (message.timestamp.after.max.ms of the topic)",
		s.ahead.offset, at.UTC().Format(time.RFC3339), at.Sub(now).Round(time.Second)))
}

// kafkaTime is when a record was recorded, in milliseconds. Where Kafka does not tell (before 0.10), it is the event's
// own time.
func kafkaTime(m kafka.Message, r joinRecord) int64 {
	switch {
	case !m.Time.IsZero():
		return m.Time.UnixMilli()
	case r.decision != nil:
		return int64(r.decision.Timestamp)
	case r.interaction != nil:
		return int64(r.interaction.Timestamp)
	}
	return 0
}

// decodeInteraction leaves out what cannot be decoded: whoever fills the graph makes a dead letter of it.
func (s *stream) decodeInteraction(m kafka.Message) (a ahead) {
	if in, err := event.DecodeInteraction(m.Value, s.notAfter(m)); err == nil {
		a.interaction = &in
	}
	return a
}

func (s *stream) decodeDecision(m kafka.Message) (a ahead) {
	d, err := event.DecodeDecision(m.Value)
	if limit := s.notAfter(m); err == nil && d.Timestamp > limit {
		err = &event.Error{Reason: event.TimestampOutOfRange, Field: "timestamp", Value: d.Timestamp.String(),
			Rule: "is later than " + limit.String() + ", the latest that is accepted here: check the server's clock"}
	}
	if err != nil {
		a.letter = newLetter(m, err)
		return a
	}
	a.decision = &d
	return a
}
