package adapters

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/r2rec/r2rec/internal/event"
)

// appendHeader is a header of every record that Append writes: a token that no other record has. A retry can store a
// record twice, even long after; all but the first with the same token are void.
const appendHeader = "r2-append"

// What a request may take. A broker answers a waiting one at once when there is something.
const (
	longPoll   = time.Second
	answerTime = 5 * time.Second
	fetchBytes = 4 << 20
)

// GapError says that the log does not hold what follows on what was read: it was made again, or records were deleted.
type GapError struct {
	Topic       string
	Next        int64 // the offset that was asked for
	First, Last int64 // the stretch that the log holds: from First up to, not including, Last
}

func (e *GapError) Error() string {
	return fmt.Sprintf("%s/0 holds the records from %d up to %d, and %d is the next to read: the topic was made again, or lost records; it has to be kept for ever (retention.ms = -1, cleanup.policy = delete)",
		e.Topic, e.First, e.Last, e.Next)
}

// reader folds the log, record by record.
type reader struct {
	client *kafka.Client
	topic  string
	state  State
	tokens map[string]int64 // of all records so far, with their offsets
}

func newReader(w *kafka.Writer) *reader {
	return &reader{client: &kafka.Client{Addr: w.Addr, Transport: w.Transport}, topic: w.Topic, tokens: map[string]int64{}}
}

// snapshot is the state so far, safe to keep.
func (r *reader) snapshot() State {
	s := r.state
	s.Entries = slices.Clip(s.Entries)
	return s
}

// read asks once for what comes next, waits at most so long for a first record, and calls each after every record. end is
// where the log ended.
func (r *reader) read(ctx context.Context, wait time.Duration, each func() error) (end int64, err error) {
	asked, cancel := context.WithTimeout(ctx, wait+answerTime)
	defer cancel()
	res, err := r.client.Fetch(asked, &kafka.FetchRequest{Topic: r.topic, Offset: r.state.Offset, MinBytes: 1, MaxBytes: fetchBytes, MaxWait: max(wait, time.Millisecond)})
	if err == nil {
		err = res.Error
	}
	if errors.Is(err, kafka.OffsetOutOfRange) {
		return 0, r.gap(asked)
	}
	if err != nil {
		return 0, fmt.Errorf("read %s/0 at %d: %w", r.topic, r.state.Offset, err)
	}
	for {
		record, err := res.Records.ReadRecord()
		if errors.Is(err, io.EOF) {
			return res.HighWatermark, nil
		}
		if err != nil {
			return 0, fmt.Errorf("read %s/0 at %d: %w", r.topic, r.state.Offset, err)
		}
		if record.Offset < r.state.Offset { // of the same batch as the one that was asked for
			continue
		}
		raw, err := kafka.ReadAll(record.Value)
		if err != nil {
			return 0, fmt.Errorf("read %s/0 at %d: %w", r.topic, record.Offset, err)
		}
		r.fold(record.Offset, raw, record.Headers)
		if err := each(); err != nil {
			return 0, err
		}
	}
}

// fold takes one record as it stands in the log.
func (r *reader) fold(offset int64, raw []byte, headers []kafka.Header) {
	p, err := event.DecodePromotion(raw)
	if err != nil {
		r.state.add(offset, event.Promotion{}, "it cannot be read: "+err.Error())
		return
	}
	void := ""
	for _, h := range headers {
		if h.Key != appendHeader {
			continue
		}
		if first, again := r.tokens[string(h.Value)]; again {
			void = fmt.Sprintf("it was sent again: the first stands at offset %d", first)
		} else {
			r.tokens[string(h.Value)] = offset
		}
		break
	}
	if void == "" {
		void = r.state.judge(p)
	}
	r.state.add(offset, p, void)
}

func (r *reader) gap(ctx context.Context) error {
	gap := &GapError{Topic: r.topic, Next: r.state.Offset}
	res, err := r.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{
		r.topic: {kafka.FirstOffsetOf(0), kafka.LastOffsetOf(0)}}})
	if err != nil {
		return fmt.Errorf("%s/0 does not hold offset %d; ask what it holds: %w", r.topic, r.state.Offset, err)
	}
	for _, o := range res.Topics[r.topic] {
		if o.Error != nil {
			return fmt.Errorf("%s/0 does not hold offset %d; ask what it holds: %w", r.topic, r.state.Offset, o.Error)
		}
		gap.First, gap.Last = o.FirstOffset, o.LastOffset
	}
	return gap
}
