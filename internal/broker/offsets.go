package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/segmentio/kafka-go"
)

// Offsets is the stretch of a partition that the cluster holds: from First up to, not including, Last.
type Offsets struct {
	Partition int
	First     int64
	Last      int64
}

// Offsets asks for the stretches of all partitions of one of this package's topics, in the order of the partitions. It
// waits at most 20 s for partitions without a leader, as those of a new topic are for a moment. A topic that does not
// exist gives an error that is kafka.UnknownTopicOrPartition, at once.
func (c *Client) Offsets(ctx context.Context, topic string) ([]Offsets, error) {
	name := c.Topic(topic)
	return backoff.RetryWithData(func() (out []Offsets, err error) {
		err = c.admin(func(admin *kafka.Client) error {
			out, err = c.offsets(ctx, admin, name)
			return err
		})
		return out, err
	}, backoff.WithContext(patience(), ctx))
}

// offsets asks once. Errors that will not go away by themselves are permanent.
func (c *Client) offsets(ctx context.Context, admin *kafka.Client, name string) ([]Offsets, error) {
	doing := "list offsets of topic " + name
	counts, err := c.partitions(ctx, admin, name)
	if err != nil {
		return nil, settled(err)
	}
	if counts[name] == 0 {
		return nil, backoff.Permanent(c.wrap(doing, kafka.UnknownTopicOrPartition))
	}
	var requests []kafka.OffsetRequest
	for p := range counts[name] {
		requests = append(requests, kafka.FirstOffsetOf(p), kafka.LastOffsetOf(p))
	}
	res, err := admin.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{name: requests}})
	if err != nil {
		return nil, settled(c.wrap(doing, err))
	}
	out := make([]Offsets, counts[name])
	seen := 0
	for _, p := range res.Topics[name] {
		if p.Error != nil {
			return nil, settled(c.wrap(fmt.Sprintf("list offsets of %s/%d", name, p.Partition), p.Error))
		}
		out[p.Partition] = Offsets{Partition: p.Partition, First: p.FirstOffset, Last: p.LastOffset}
		seen++
	}
	if seen != len(out) {
		return nil, c.wrap(doing, fmt.Errorf("answered for %d of %d partitions", seen, len(out)))
	}
	return out, nil
}

// patience is how long a question waits for the cluster to settle: 20 s, with pauses from 20 to 500 ms.
func patience() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(backoff.WithInitialInterval(20*time.Millisecond),
		backoff.WithMaxInterval(500*time.Millisecond), backoff.WithMaxElapsedTime(4*dialTimeout))
}

// settled makes err permanent unless it is temporary.
func settled(err error) error {
	if temporary(err) {
		return err
	}
	return backoff.Permanent(err)
}

// temporary tells whether an error is one of Kafka's that can pass by itself: what Kafka calls so, and kafka.Unknown, as which
// kafka-go reports a partition whose leader could not be reached. Other errors of the network are left to the caller, who
// knows how long to wait.
func temporary(err error) bool {
	var code kafka.Error
	return errors.As(err, &code) && (code.Temporary() || code == kafka.Unknown)
}
