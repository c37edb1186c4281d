package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/r2rec/r2rec/internal/event"
)

// rewardLog publishes rewards. It is shared by the partitions.
type rewardLog struct{ writer *kafka.Writer }

func newRewardLog(m Member, topic string) *rewardLog {
	return &rewardLog{&kafka.Writer{
		Addr:         kafka.TCP(m.Brokers...),
		Topic:        topic,
		Transport:    m.Transport,
		Balancer:     kafka.Murmur2Balancer{},
		RequiredAcks: kafka.RequireAll,
		Compression:  kafka.Zstd,
		MaxAttempts:  1, // the caller tries again
		BatchSize:    1000,
		BatchTimeout: 5 * time.Millisecond,
		WriteTimeout: requestTimeout,
		ReadTimeout:  requestTimeout,
	}}
}

func (l *rewardLog) close() { l.writer.Close() }

// encodeRewards gives the records of rewards.
func encodeRewards(rewards []event.Reward) ([]kafka.Message, error) {
	messages := make([]kafka.Message, len(rewards))
	for i, r := range rewards {
		raw, err := event.Encode(r)
		if err != nil {
			return nil, fmt.Errorf("encode the reward of decision %q, position %d: %w", r.DecisionID, r.Position, err)
		}
		messages[i] = kafka.Message{Key: []byte(r.UserID), Value: raw}
	}
	return messages, nil
}

// publish returns what is not yet acknowledged by all in-sync replicas, and why; nothing and nil once all is.
func (l *rewardLog) publish(ctx context.Context, messages []kafka.Message) ([]kafka.Message, error) {
	if len(messages) == 0 {
		return nil, nil
	}
	err := l.writer.WriteMessages(ctx, messages...)
	if err == nil {
		return nil, nil
	}
	err = fmt.Errorf("write %d rewards to %s: %w", len(messages), l.writer.Topic, err)
	var each kafka.WriteErrors
	if !errors.As(err, &each) {
		return messages, err
	}
	var left []kafka.Message
	for i, failed := range each {
		if failed != nil {
			left = append(left, messages[i])
		}
	}
	return left, err
}
