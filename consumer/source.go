package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

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

// source is one partition of one topic as its owner reads it: where the owner stands, and what Kafka holds.
type source struct {
	g      *group
	topic  string
	id     int
	log    *slog.Logger
	holder string // who needs what is read, for errors

	reader *kafka.Reader

	applied int64 // everything below it is in the store
	first   int64 // the oldest offset that Kafka has, as last asked
	end     int64 // the offset that the next record will get, as last heard
	known   bool  // the store is known to have held something of this partition
	asked   time.Time
	watched time.Time // when the end was last asked for while something failed
	heard   time.Time // when the reader last gave a record or had none to give
}

func (g *group) source(topic string, a kafka.PartitionAssignment, holder string) source {
	g.health.own(topic, a.ID)
	return source{g: g, topic: topic, id: a.ID, holder: holder, known: a.Offset >= 0,
		log: g.member.Logger.With("topic", topic, "partition", a.ID)}
}

// open places the reader at an offset that Kafka has.
func (s *source) open(position int64) error {
	s.close()
	s.reader = kafka.NewReader(s.readerConfig())
	if err := s.reader.SetOffset(position); err != nil {
		return fmt.Errorf("consumer: %s/%d: seek to %d: %w", s.topic, s.id, position, err)
	}
	s.log.Debug("reading", "from", position, "first", s.first, "end", s.end)
	s.applied, s.heard = position, s.g.member.Now()
	s.report()
	return nil
}

// fetch gives the next record; ok is false where none came before wait ended, a context within ctx. An error is one that
// the reader does not get over: kafka.OffsetOutOfRange, ctx's own, or a permanent one. next is the offset that is read
// from, for errors.
func (s *source) fetch(ctx, wait context.Context, next int64) (m kafka.Message, ok bool, err error) {
	for {
		m, err := s.reader.FetchMessage(wait)
		switch {
		case ctx.Err() != nil:
			return m, false, ctx.Err()
		case err == nil:
			s.end = max(s.end, m.HighWaterMark)
			return m, true, nil
		case errors.Is(err, kafka.OffsetOutOfRange): // the reader's last word, also where nobody waits by now
			return m, false, err
		case wait.Err() != nil:
			return m, false, nil
		case transient(err): // the reader tries again by itself, with pauses
			s.failed("read", err)
		default:
			return m, false, fmt.Errorf("consumer: read %s/%d at %d: %w", s.topic, s.id, next, err)
		}
	}
}

// gave notes that the reader gives records.
func (s *source) gave() {
	s.heard = s.g.member.Now()
	s.recovered("read")
}

// notAfter is the latest timestamp that an event in m may have.
func (s *source) notAfter(m kafka.Message) event.Time {
	at := m.Time
	if at.IsZero() {
		at = s.g.member.Now()
	}
	return event.At(at.Add(s.g.member.Skew))
}

// watchStall finds a reader that gives nothing although there is something from next on.
func (s *source) watchStall(next int64) {
	now := s.g.member.Now()
	switch {
	case next >= s.end:
		s.heard = now
		s.recovered("read")
	case now.Sub(s.heard) >= stallAfter:
		s.failed("read", fmt.Errorf("no record for %v although the partition goes from %d to %d", now.Sub(s.heard), next, s.end))
	}
}

// ask asks Kafka for the first and the last offset.
func (s *source) ask(ctx context.Context) error {
	return s.attempt(ctx, asking, func() error {
		begun := s.g.member.Now()
		first, end, err := s.offsets(ctx)
		if err == nil {
			s.first, s.end, s.asked = first, end, begun
		}
		return err
	})
}

const asking = "ask for the offsets"

func (s *source) offsets(ctx context.Context) (first, end int64, err error) {
	res, err := s.g.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{
		s.topic: {kafka.FirstOffsetOf(s.id), kafka.LastOffsetOf(s.id)},
	}})
	if err != nil {
		return 0, 0, err
	}
	for _, o := range res.Topics[s.topic] {
		if o.Partition == s.id {
			return o.FirstOffset, o.LastOffset, o.Error
		}
	}
	return 0, 0, kafka.UnknownTopicOrPartition
}

// attempt does one call, with pauses and further attempts where it fails for the moment.
func (s *source) attempt(ctx context.Context, what string, op func() error) error {
	err := retry(ctx, s.g.member.Backoff(), func(err error) {
		s.failed(what, err)
		if what != asking {
			s.fallBehind(ctx)
		}
	}, op)
	if err != nil {
		return fmt.Errorf("consumer: %s/%d@%d: %s: %w", s.topic, s.id, s.applied, what, err)
	}
	s.recovered(what)
	return nil
}

// forgetsWithin bounds the wait for who is forgotten: a partition of users that nobody reads must not stop everything.
const forgetsWithin = time.Minute

// awaitForgets waits until it is known who is forgotten, whatever keeps that from being known: also where Kafka does not tell
// where users ends, or the store how far it is read.
func (s *source) awaitForgets(ctx context.Context) error {
	const what = "wait until it is known who is forgotten"
	m := &s.g.member
	if m.Forgets == nil {
		return nil
	}
	begun := m.Now()
	wait, cancel := context.WithTimeout(ctx, forgetsWithin)
	defer cancel()
	var all func(context.Context) (bool, error)
	for {
		known, err := false, error(nil)
		if all == nil {
			all, err = m.Forgets(wait)
		}
		if err == nil {
			known, err = all(wait)
		} else {
			all = nil
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !transient(err):
			return fmt.Errorf("consumer: %s/%d@%d: %s: %w", s.topic, s.id, s.applied, what, err)
		case known:
			s.recovered(what)
			return nil
		case err == nil:
			err = errors.New("not everything that Kafka has of the topic users is in the graph")
		}
		if wait.Err() == nil && m.Now().Sub(begun) < forgetsWithin {
			s.failed(what, err)
			s.fallBehind(wait)
			_ = pause(wait, m.CheckInterval) // where it is cut short, the next turn is the last
			continue
		}
		s.recovered(what)
		s.log.Warn("not everything of the topic users is read, going on without: what a forgotten user did may count until it is",
			"waited", forgetsWithin, "error", err)
		return nil
	}
}

func (s *source) failed(what string, err error) {
	if s.g.health.failing(s.topic, s.id, what, err) {
		s.log.Warn("cannot go on, trying again", "doing", what, "offset", s.applied, "error", err)
	}
}

func (s *source) recovered(what string) {
	if lasted, was := s.g.health.recovered(s.topic, s.id, what); was {
		s.log.Info("going on", "doing", what, "offset", s.applied, "after", lasted)
	}
}

// fallBehind keeps the lag true while nothing moves: the reader, whose queue is full, hears of no new end. That Kafka does
// not tell is nothing to stop for.
func (s *source) fallBehind(ctx context.Context) {
	now := s.g.member.Now()
	if s.reader == nil || now.Sub(s.watched) < s.g.member.CheckInterval { // no position yet, or asked just now
		return
	}
	s.watched = now
	if _, end, err := s.offsets(ctx); err == nil {
		s.end = max(s.end, end)
		s.report()
	}
}

func (s *source) report() {
	s.g.health.moved(s.topic, s.id, s.applied, s.end, s.known)
	s.g.metrics.position(s.topic, s.id, max(0, s.end-s.applied))
}

func (s *source) close() {
	if s.reader != nil {
		s.reader.Close()
		s.reader = nil
	}
}

func (s *source) readerConfig() kafka.ReaderConfig {
	m := &s.g.member
	return kafka.ReaderConfig{
		Brokers:               m.Brokers,
		Dialer:                m.Dialer,
		Topic:                 s.topic,
		Partition:             s.id,
		QueueCapacity:         m.QueueCapacity,
		MinBytes:              1,
		MaxBytes:              m.FetchBytes,
		MaxWait:               fetchWait,
		ReadBatchTimeout:      requestTimeout,
		ReadLagInterval:       -1,
		OffsetOutOfRangeError: true,
		ErrorLogger:           debugLogger(m.Logger),
	}
}
