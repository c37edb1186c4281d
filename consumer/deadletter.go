package consumer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/r2rec/r2rec/internal/event"
)

// The headers of a dead letter. Its key and value are those of the record, bytes unchanged. Topic, partition and offset
// together identify the record: one that was read twice is published twice.
const (
	HeaderReason       = "r2-reason"        // why, one word of a closed set (event.Reasons)
	HeaderField        = "r2-field"         // the field, where one is to blame
	HeaderDetail       = "r2-detail"        // for people, at most 1 KiB
	HeaderTopic        = "r2-topic"         // where the record was
	HeaderPartition    = "r2-partition"     //
	HeaderOffset       = "r2-offset"        //
	HeaderTruncated    = "r2-truncated"     // only where the broker refused the whole value: its length in bytes, a space, its SHA-256 in hexadecimal
	HeaderKeyTruncated = "r2-key-truncated" // the same for the key
)

const (
	maxDetail = 1 << 10
	// chunkBytes bounds what is published at once: Kafka's limit on a record applies to the records that travel together.
	chunkBytes = 512 << 10
)

// cuts are the longest keys and values that are tried one after the other where a broker says that a letter is too
// large; the first is no limit.
var cuts = []int{-1, 64 << 10, 1 << 10, 0}

// letter is a record on its way to the dead letters.
type letter struct {
	record kafka.Message
	err    error
	cut    int  // index into cuts
	alone  bool // it travels alone
	acked  bool
}

func newLetter(m kafka.Message, err error) *letter {
	return &letter{record: m, err: err, alone: len(m.Key)+len(m.Value) >= chunkBytes}
}

func (l *letter) message() kafka.Message {
	r, field, detail := reason(l.err)
	if len(detail) > maxDetail {
		detail = strings.ToValidUTF8(detail[:maxDetail], "")
	}
	m := kafka.Message{Key: l.record.Key, Value: l.record.Value, Headers: []kafka.Header{
		header(HeaderReason, r), header(HeaderField, field), header(HeaderDetail, detail), header(HeaderTopic, l.record.Topic),
		header(HeaderPartition, number(l.record.Partition)), header(HeaderOffset, number(l.record.Offset)),
	}}
	limit := cuts[l.cut]
	shorten := func(b *[]byte, name string) {
		if limit >= 0 && len(*b) > limit {
			m.Headers = append(m.Headers, header(name, fmt.Sprintf("%d %x", len(*b), sha256.Sum256(*b))))
			*b = (*b)[:limit]
		}
	}
	shorten(&m.Value, HeaderTruncated)
	shorten(&m.Key, HeaderKeyTruncated)
	return m
}

// letterBox takes what cannot be applied. It returns nil once every letter is safe; after an error it can be called again
// with the same letters.
type letterBox interface {
	publish(ctx context.Context, letters []*letter) error
}

// deadLetters publishes what cannot be applied. It is shared by the partitions; one publishes at a time.
type deadLetters struct {
	writer *kafka.Writer
	turn   chan struct{}
}

func newDeadLetters(m Member, topic string) *deadLetters {
	return &deadLetters{
		turn: make(chan struct{}, 1),
		writer: &kafka.Writer{
			Addr:         kafka.TCP(m.Brokers...),
			Topic:        topic,
			Transport:    m.Transport,
			Balancer:     kafka.Murmur2Balancer{},
			RequiredAcks: kafka.RequireAll,
			Compression:  kafka.Zstd, // what fitted into its topic compressed should fit here
			MaxAttempts:  1,          // the caller tries again
			BatchSize:    1000,
			BatchBytes:   1 << 40, // the broker knows its limit, the client does not
			BatchTimeout: 5 * time.Millisecond,
			WriteTimeout: requestTimeout,
			ReadTimeout:  requestTimeout,
		},
	}
}

func (d *deadLetters) close() { d.writer.Close() }

// publish returns nil once every letter is acknowledged by all in-sync replicas. After an error it can be called again
// with the same letters; those that are acknowledged are not published again.
func (d *deadLetters) publish(ctx context.Context, letters []*letter) error {
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		chunk := nextChunk(letters)
		if len(chunk) == 0 {
			return nil
		}
		if err := d.send(ctx, chunk); err != nil {
			return err
		}
	}
}

// nextChunk takes letters that are not acknowledged, as many as may travel together.
func nextChunk(letters []*letter) (chunk []*letter) {
	size := 0
	for _, l := range letters {
		switch {
		case l.acked:
			continue
		case l.alone && len(chunk) == 0:
			return []*letter{l}
		case l.alone:
			return chunk
		}
		if size += len(l.record.Key) + len(l.record.Value) + maxDetail; size > chunkBytes && len(chunk) > 0 {
			return chunk
		}
		chunk = append(chunk, l)
	}
	return chunk
}

// send publishes a chunk and marks what is acknowledged, and what has to be made smaller.
func (d *deadLetters) send(ctx context.Context, chunk []*letter) error {
	messages := make([]kafka.Message, len(chunk))
	for i, l := range chunk {
		messages[i] = l.message()
	}
	err := d.writer.WriteMessages(ctx, messages...)
	var each kafka.WriteErrors
	if err != nil && !errors.As(err, &each) {
		return fmt.Errorf("write %d records to %s: %w", len(chunk), d.writer.Topic, err)
	}
	var refused []error
	for i, l := range chunk {
		var failed error
		if each != nil {
			failed = each[i]
		}
		tooLarge := errors.Is(failed, kafka.MessageSizeTooLarge) || errors.Is(failed, kafka.RecordListTooLarge)
		switch {
		case failed == nil:
			l.acked = true
		case tooLarge && !l.alone:
			l.alone = true
		case tooLarge && l.cut+1 < len(cuts):
			l.cut++
		default:
			refused = append(refused, fmt.Errorf("write %s/%d@%d to %s: %w", l.record.Topic, l.record.Partition, l.record.Offset, d.writer.Topic, failed))
		}
	}
	if len(refused) > 0 {
		return refused[0]
	}
	return nil
}

// reason gives the parts of a decoding error.
func reason(err error) (reason, field, detail string) {
	var e *event.Error
	if errors.As(err, &e) {
		return string(e.Reason), e.Field, e.Error()
	}
	return "undecodable", "", err.Error()
}

func header(key, value string) kafka.Header { return kafka.Header{Key: key, Value: []byte(value)} }

func number[T int | int64](n T) string { return strconv.FormatInt(int64(n), 10) }
