// Package consumer is how events come out of Kafka: a Consumer brings the topics `interactions`, `items` and `users`
// into the graph, and a Joiner joins `interactions` to `decisions` and publishes what was earned to `rewards`. Both are
// members of consumer groups; what a Joiner promises stands at its type.
//
// A Consumer promises:
//
//   - No acknowledged event is lost. A partition is read from the watermark that the graph itself holds, not from the
//     group's committed offset, which is written for lag tools only. Every batch names the stretch of offsets that it
//     covers, and the graph refuses a stretch that does not join on to what it has (event.BehindError): then the store
//     lost writes, and the partition is read again from where the store stands. An idle partition is compared too,
//     every Options.CheckInterval.
//   - No event is dropped silently. What cannot be decoded goes to the dead-letter topic, acknowledged by all in-sync
//     replicas before the watermark passes it. Records that Kafka deleted before they were applied are a *GapError.
//   - Delivery is at least once. Applying twice must be harmless to the Graph; dead letters can appear twice and are told
//     apart by their headers (HeaderTopic, HeaderPartition, HeaderOffset).
//   - One goroutine owns one partition, and nobody else touches its state; all goroutines have ended when Run returns.
//   - Memory is bounded: a partition holds at most Options.QueueCapacity records that are not yet decoded and one batch.
//   - Transient failures of Kafka and of the graph are retried until the context ends, with pauses that grow to a cap.
//     They are logged when they begin and when they are over, and Health shows them meanwhile. Other failures end Run.
//
// The order of a partition is kept; nothing is promised about the order across partitions. Left to others: creating
// topics (Run waits for them), what an event means (internal/event), what it does to the graph (Graph).
//
// Two things that Kafka tells no consumer of this kind: a topic that was deleted, made again and filled beyond the old
// watermark between two checks looks like the old one; and records of aborted transactions are applied, because
// kafka-go does not filter them. Transaction markers, which kafka-go delivers as records, are recognised and skipped.
package consumer

import (
	"context"

	"github.com/segmentio/kafka-go"

	"github.com/r2rec/r2rec/internal/event"
)

// Graph is what the consumer fills. Its methods are called by several goroutines, but never by two for one partition of
// one group at a time, except for moments around a rebalance. It must not keep a batch after it returns.
//
// Errors that may go away by themselves have a method Retriable() bool that answers true, or are network errors.
type Graph interface {
	// Watermark returns the lowest watermark of a partition over the store's groups: everything below it is applied. ok
	// is false where no group has one; a group without one among others that have counts as 0.
	Watermark(ctx context.Context, topic string, partition int) (lowest int64, ok bool, err error)

	// ApplyInteractions, ApplyItems and ApplyUsers apply a batch, in offset order, and advance the watermark to span.End.
	// They return *event.BehindError where the store does not hold everything below span.Start. An empty batch with
	// Start == End compares only; an empty batch with Start < End advances.
	ApplyInteractions(ctx context.Context, span event.Span, batch []event.Interaction) error
	ApplyItems(ctx context.Context, span event.Span, batch []event.Item) error
	ApplyUsers(ctx context.Context, span event.Span, batch []event.User) error

	// SetWatermark moves the partition's watermark of every group to offset, whatever it was. It is called only where
	// Options.OnGap accepts a gap.
	SetWatermark(ctx context.Context, topic string, partition int, offset int64) error
}

// Consumer is one member of the consumer group.
type Consumer struct {
	*group
	opt Options
}

// New checks the options, fills in the defaults and registers the metrics. It does not connect; Run does.
func New(opt Options) (*Consumer, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	g, err := newGroup(opt.Member, "consumer", opt.Topics.consumed(), opt.Topics.DeadLetters)
	if err != nil {
		return nil, err
	}
	return &Consumer{group: g, opt: opt}, nil
}

// Run joins the group and consumes until ctx ends, then returns nil; or until something fails that will not go away by
// itself, then returns that: *GapError where Kafka no longer has what the graph needs, else an error of Kafka or the
// graph. Before it returns it has left the group and joined all its goroutines. One Run at a time.
func (c *Consumer) Run(ctx context.Context) error {
	dead := newDeadLetters(c.opt.Member, c.opt.Topics.DeadLetters)
	defer dead.close()
	return c.run(ctx, func(assigned map[string][]kafka.PartitionAssignment) ([]owner, error) {
		var owners []owner
		for _, topic := range c.topics {
			for _, a := range assigned[topic] {
				owners = append(owners, newPartition(c, topic, a, dead))
			}
		}
		return owners, nil
	})
}
