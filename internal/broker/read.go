package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
)

// readPatience is how long Read waits for a record that the cluster says it has.
const readPatience = 30 * time.Second

// Since asks for the stretches of all partitions of a topic that hold what was written at a time or later, by the time
// of the records, in the order of the partitions. An empty stretch has First equal to Last.
func (c *Client) Since(ctx context.Context, topic string, at time.Time) ([]Offsets, error) {
	parts, err := c.Offsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	name := c.Topic(topic)
	var requests []kafka.OffsetRequest
	for _, p := range parts {
		requests = append(requests, kafka.TimeOffsetOf(p.Partition, at))
	}
	doing := fmt.Sprintf("find what topic %s holds since %s", name, at.UTC().Format(time.RFC3339))
	var res *kafka.ListOffsetsResponse
	err = c.admin(func(admin *kafka.Client) (err error) {
		res, err = admin.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{name: requests}})
		return c.wrap(doing, err)
	})
	if err != nil {
		return nil, err
	}
	for _, p := range res.Topics[name] {
		if p.Error != nil {
			return nil, c.wrap(doing, p.Error)
		}
		parts[p.Partition].First = parts[p.Partition].Last // nothing is as young
		for offset := range p.Offsets {
			if offset >= 0 {
				parts[p.Partition].First = offset
			}
		}
	}
	return parts, nil
}

// Read gives every record of these stretches of a topic to f, partition by partition, each in the order of its offsets.
// It ends at the first error of f. A stretch that begins before what the cluster still holds is read from there on; one
// that the cluster does not give to its end is an error.
func (c *Client) Read(ctx context.Context, topic string, parts []Offsets, f func(kafka.Message) error) error {
	for _, p := range parts {
		if p.First >= p.Last {
			continue
		}
		if err := c.readPartition(ctx, topic, p, f); err != nil {
			return fmt.Errorf("read %s/%d from %d to %d: %w", c.Topic(topic), p.Partition, p.First, p.Last, err)
		}
	}
	return nil
}

func (c *Client) readPartition(ctx context.Context, topic string, p Offsets, f func(kafka.Message) error) error {
	r := kafka.NewReader(kafka.ReaderConfig{
		Brokers: c.Brokers(), Dialer: c.Dialer, Topic: c.Topic(topic), Partition: p.Partition, MinBytes: 1, MaxBytes: 4 * MaxRecordBytes,
		MaxWait: time.Second, ReadLagInterval: -1,
	})
	defer r.Close()
	if err := r.SetOffset(p.First); err != nil {
		return err
	}
	for next := p.First; next < p.Last; {
		wait, cancel := context.WithTimeout(ctx, readPatience)
		m, err := r.FetchMessage(wait)
		cancel()
		if err != nil {
			return fmt.Errorf("at %d: %w", next, err)
		}
		if m.Offset >= p.Last {
			return nil
		}
		next = m.Offset + 1
		if err := f(m); err != nil {
			return fmt.Errorf("at %d: %w", m.Offset, err)
		}
	}
	return nil
}
