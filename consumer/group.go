package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"
)

// group is what a Consumer and a Joiner have in common: membership in a consumer group, and goroutines that own what
// the group assigns.
type group struct {
	member  Member
	topics  []string                  // consumed, in the order of assignments
	written []string                  // they have to exist too
	fits    func([]kafka.Topic) error // whether the topics fit together; nil: they do
	// balancers share out the partitions; nil: kafka-go's default.
	balancers []kafka.GroupBalancer

	client  *kafka.Client
	metrics *metrics
	health  *health
}

// owner is one goroutine that owns partitions of a generation.
type owner interface {
	// run works until ctx ends, then returns nil, or until it fails for good.
	run(ctx context.Context) error
	// sources are the partitions it owns.
	sources() []*source
}

func newGroup(m Member, subsystem string, topics []string, written ...string) (*group, error) {
	metrics, err := newMetrics(m.Registerer, subsystem)
	if err != nil {
		return nil, fmt.Errorf("consumer: register metrics: %w", err)
	}
	return &group{
		member: m, topics: topics, written: written,
		client:  &kafka.Client{Addr: kafka.TCP(m.Brokers...), Timeout: requestTimeout, Transport: m.Transport},
		metrics: metrics,
		health:  newHealth(m.Now),
	}, nil
}

// Health tells how the member is doing.
func (g *group) Health() Health { return g.health.snapshot() }

// run joins the group and lets owners work on what is assigned, until ctx ends, then returns nil; or until something
// fails that will not go away by itself. Before it returns it has left the group and joined all its goroutines.
func (g *group) run(ctx context.Context, own func(assigned map[string][]kafka.PartitionAssignment) ([]owner, error)) error {
	parent := ctx
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if err := g.awaitTopics(ctx); err != nil {
		return ending(parent, err)
	}
	group, err := kafka.NewConsumerGroup(g.config())
	if err != nil {
		return fmt.Errorf("consumer: group %s: %w", g.member.Group, err)
	}
	for ctx.Err() == nil {
		gen, err := group.Next(ctx)
		switch {
		case err == nil:
			g.recovered()
			gen.Start(func(generation context.Context) {
				if err := g.generation(ctx, generation, gen, own); err != nil {
					stop(err)
				}
				if ctx.Err() != nil {
					// Returning would make kafka-go join once more, just to leave then. Close ends the generation.
					<-generation.Done()
				}
			})
		case ctx.Err() != nil:
		case transient(err):
			// The group joins again by itself; it pauses Member.RejoinBackoff.
			g.failed(err)
		default:
			stop(fmt.Errorf("consumer: join group %s: %w", g.member.Group, err))
		}
	}
	closeErr := group.Close()
	return errors.Join(ending(parent, context.Cause(ctx)), closeErr)
}

// ending is what run returns: nothing where it was asked to end.
func ending(parent context.Context, err error) error {
	if parent.Err() != nil && (errors.Is(err, context.Cause(parent)) || errors.Is(err, parent.Err())) {
		return nil
	}
	return err
}

// generation owns the partitions of one generation of the group until it or run's context ends. It returns nil then,
// or else what stopped an owner for good.
func (g *group) generation(run, generation context.Context, gen *kafka.Generation,
	own func(map[string][]kafka.PartitionAssignment) ([]owner, error)) error {
	ctx, cancel := context.WithCancel(run)
	defer cancel()
	defer context.AfterFunc(generation, cancel)()

	// A topic that was deleted would end every generation at once: the pause is here.
	if err := g.awaitTopics(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	owners, err := own(gen.Assignments)
	if err != nil {
		return err
	}
	var owned []*source
	for _, o := range owners {
		owned = append(owned, o.sources()...)
	}
	g.member.Logger.Info("partitions assigned", "group", gen.GroupID, "generation", gen.ID, "partitions", len(owned))
	defer g.health.clear()
	defer g.metrics.forget(owned)
	working, ctx := errgroup.WithContext(ctx)
	for _, o := range owners {
		working.Go(func() error { return o.run(ctx) })
	}
	working.Go(func() error {
		ticker := time.NewTicker(g.member.CommitInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
				g.commit(gen)
			}
		}
	})
	err = working.Wait()
	g.commit(gen)
	return err
}

// commit tells Kafka the positions. Nothing depends on them but lag tools, so a failure is no more than a remark.
func (g *group) commit(gen *kafka.Generation) {
	positions := g.health.positions()
	if err := gen.CommitOffsets(positions); err != nil {
		g.member.Logger.Debug("positions not committed", "group", gen.GroupID, "generation", gen.ID, "error", err)
	}
}

// awaitTopics waits until all topics exist, and checks that they fit together. kafka-go would end every generation at
// once if one did not exist, and brokers that create topics by themselves would create them uncompacted.
func (g *group) awaitTopics(ctx context.Context) error {
	names := append(append([]string{}, g.topics...), g.written...)
	failed := false
	err := retry(ctx, g.member.Backoff(), func(err error) {
		if !failed {
			g.failed(err)
			failed = true
		}
	}, func() error {
		res, err := g.client.Metadata(ctx, &kafka.MetadataRequest{Topics: names})
		if err != nil {
			return fmt.Errorf("consumer: look up topics: %w", err)
		}
		for _, t := range res.Topics {
			if t.Error != nil {
				return fmt.Errorf("consumer: look up topic %s: %w", t.Name, t.Error)
			}
		}
		if g.fits != nil {
			return g.fits(res.Topics)
		}
		return nil
	})
	if failed && err == nil {
		g.recovered()
	}
	return err
}

func (g *group) failed(err error) {
	if g.health.groupFailed(err) {
		g.member.Logger.Warn("cannot join the group, trying again", "group", g.member.Group, "error", err)
	}
}

func (g *group) recovered() {
	if g.health.groupRecovered() {
		g.member.Logger.Info("joined the group again", "group", g.member.Group)
	}
}

func (g *group) config() kafka.ConsumerGroupConfig {
	m := &g.member
	return kafka.ConsumerGroupConfig{
		ID:                     m.Group,
		Brokers:                m.Brokers,
		Dialer:                 m.Dialer,
		Topics:                 g.topics,
		GroupBalancers:         g.balancers,
		HeartbeatInterval:      m.HeartbeatInterval,
		SessionTimeout:         m.SessionTimeout,
		RebalanceTimeout:       m.RebalanceTimeout,
		JoinGroupBackoff:       m.RejoinBackoff,
		WatchPartitionChanges:  true,
		PartitionWatchInterval: m.PartitionWatch,
		StartOffset:            kafka.FirstOffset,
		Timeout:                requestTimeout,
		ErrorLogger:            debugLogger(m.Logger),
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
