// Package consumer brings Kafka's topics `interactions`, `items` and `users` into the graph.
//
// It promises:
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
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"

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
	opt     Options
	client  *kafka.Client
	metrics *metrics
	health  *health
}

// New checks the options, fills in the defaults and registers the metrics. It does not connect; Run does.
func New(opt Options) (*Consumer, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(opt.Registerer)
	if err != nil {
		return nil, fmt.Errorf("consumer: register metrics: %w", err)
	}
	return &Consumer{
		opt:     opt,
		client:  &kafka.Client{Addr: kafka.TCP(opt.Brokers...), Timeout: requestTimeout, Transport: opt.Transport},
		metrics: m,
		health:  newHealth(opt.Now),
	}, nil
}

// Health tells how the consumer is doing.
func (c *Consumer) Health() Health { return c.health.snapshot() }

// Run joins the group and consumes until ctx ends, then returns nil; or until something fails that will not go away by
// itself, then returns that: *GapError where Kafka no longer has what the graph needs, else an error of Kafka or the
// graph. Before it returns it has left the group and joined all its goroutines. One Run at a time.
func (c *Consumer) Run(ctx context.Context) error {
	parent := ctx
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if err := c.awaitTopics(ctx); err != nil {
		return ending(parent, err)
	}
	dead := newDeadLetters(c.opt)
	defer dead.close()
	group, err := kafka.NewConsumerGroup(c.groupConfig())
	if err != nil {
		return fmt.Errorf("consumer: group %s: %w", c.opt.Group, err)
	}
	for ctx.Err() == nil {
		gen, err := group.Next(ctx)
		switch {
		case err == nil:
			c.groupRecovered()
			gen.Start(func(generation context.Context) {
				if err := c.generation(ctx, generation, gen, dead); err != nil {
					stop(err)
				}
				if ctx.Err() != nil {
					// Returning would make kafka-go join once more, just to leave then. Close ends the generation.
					<-generation.Done()
				}
			})
		case ctx.Err() != nil:
		case transient(err):
			// The group joins again by itself; it pauses Options.RejoinBackoff.
			c.groupFailed(err)
		default:
			stop(fmt.Errorf("consumer: join group %s: %w", c.opt.Group, err))
		}
	}
	closeErr := group.Close()
	return errors.Join(ending(parent, context.Cause(ctx)), closeErr)
}

// ending is what Run returns: nothing where it was asked to end.
func ending(parent context.Context, err error) error {
	if parent.Err() != nil && (errors.Is(err, context.Cause(parent)) || errors.Is(err, parent.Err())) {
		return nil
	}
	return err
}

// generation owns the partitions of one generation of the group until it or Run's context ends. It returns nil then,
// or else what stopped a partition for good.
func (c *Consumer) generation(run, generation context.Context, gen *kafka.Generation, dead *deadLetters) error {
	ctx, cancel := context.WithCancel(run)
	defer cancel()
	defer context.AfterFunc(generation, cancel)()

	// A topic that was deleted would end every generation at once: the pause is here.
	if err := c.awaitTopics(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	owners, ctx := errgroup.WithContext(ctx)
	var owned []*partition
	for _, topic := range c.opt.Topics.consumed() {
		for _, a := range gen.Assignments[topic] {
			owned = append(owned, newPartition(c, topic, a, dead))
		}
	}
	c.opt.Logger.Info("partitions assigned", "group", gen.GroupID, "generation", gen.ID, "partitions", len(owned))
	defer c.health.clear()
	defer c.metrics.forget(owned)
	for _, p := range owned {
		owners.Go(func() error { return p.run(ctx) })
	}
	owners.Go(func() error {
		ticker := time.NewTicker(c.opt.CommitInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
				c.commit(gen)
			}
		}
	})
	err := owners.Wait()
	c.commit(gen)
	return err
}

// commit tells Kafka the positions. Nothing depends on them but lag tools, so a failure is no more than a remark.
func (c *Consumer) commit(gen *kafka.Generation) {
	positions := c.health.positions()
	if err := gen.CommitOffsets(positions); err != nil {
		c.opt.Logger.Debug("positions not committed", "group", gen.GroupID, "generation", gen.ID, "error", err)
	}
}

// awaitTopics waits until all topics exist. kafka-go would end every generation at once if one did not, and brokers that
// create topics by themselves would create them uncompacted.
func (c *Consumer) awaitTopics(ctx context.Context) error {
	names := append(c.opt.Topics.consumed(), c.opt.Topics.DeadLetters)
	failed := false
	err := retry(ctx, c.opt.Backoff(), func(err error) {
		if !failed {
			c.groupFailed(err)
			failed = true
		}
	}, func() error {
		res, err := c.client.Metadata(ctx, &kafka.MetadataRequest{Topics: names})
		if err != nil {
			return fmt.Errorf("consumer: look up topics: %w", err)
		}
		for _, t := range res.Topics {
			if t.Error != nil {
				return fmt.Errorf("consumer: look up topic %s: %w", t.Name, t.Error)
			}
		}
		return nil
	})
	if failed && err == nil {
		c.groupRecovered()
	}
	return err
}

func (c *Consumer) groupFailed(err error) {
	if c.health.groupFailed(err) {
		c.opt.Logger.Warn("cannot join the group, trying again", "group", c.opt.Group, "error", err)
	}
}

func (c *Consumer) groupRecovered() {
	if c.health.groupRecovered() {
		c.opt.Logger.Info("joined the group again", "group", c.opt.Group)
	}
}

func (c *Consumer) groupConfig() kafka.ConsumerGroupConfig {
	return kafka.ConsumerGroupConfig{
		ID:                     c.opt.Group,
		Brokers:                c.opt.Brokers,
		Dialer:                 c.opt.Dialer,
		Topics:                 c.opt.Topics.consumed(),
		HeartbeatInterval:      c.opt.HeartbeatInterval,
		SessionTimeout:         c.opt.SessionTimeout,
		RebalanceTimeout:       c.opt.RebalanceTimeout,
		JoinGroupBackoff:       c.opt.RejoinBackoff,
		WatchPartitionChanges:  true,
		PartitionWatchInterval: 5 * time.Second,
		StartOffset:            kafka.FirstOffset,
		Timeout:                requestTimeout,
		ErrorLogger:            debugLogger(c.opt.Logger),
	}
}

// debugLogger keeps kafka-go's remarks, which include what it handles itself, for whoever looks for them.
func debugLogger(to *slog.Logger) kafka.Logger {
	return kafka.LoggerFunc(func(format string, args ...any) {
		if to.Enabled(context.Background(), slog.LevelDebug) {
			to.Debug("kafka-go: " + fmt.Sprintf(format, args...))
		}
	})
}
