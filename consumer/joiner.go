package consumer

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/segmentio/kafka-go"

	"github.com/r2rec/r2rec/internal/event"
)

// JoinStore keeps the state of the join: for each partition a head, and a part for each user who has decisions pending,
// all under one version. Its methods are called by several goroutines, by two for one partition only around a rebalance.
// Errors that may go away by themselves have a method Retriable() bool that answers true, or are network errors.
type JoinStore interface {
	// LoadJoin reads the partition of this number of the join whose interactions are this topic: version and head, the
	// parts of the users named, and of at most most users whose Due is before due, the earliest first; all as of one
	// moment. Forgotten is as of that moment or later.
	LoadJoin(ctx context.Context, topic string, partition int, users []string, due event.Time, most int) (event.JoinState, error)
	// CommitJoin writes head and the users' parts, all or nothing, if the partition's version still is this one, and
	// raises the version; false: it is not, and nothing was written.
	CommitJoin(ctx context.Context, topic string, partition int, version int64, head []byte, users []event.JoinUser) (bool, error)
}

// Joiner joins what users did (`interactions`) to what they were shown (`decisions`) and publishes what each shown slot
// earned (`rewards`). docs/contracts.md, "Reward", has the rules; they are these.
//
// It promises:
//
//   - Only what was shown earns, zeros included: a decision without an impression gives no reward.
//   - A reward is a function of the two logs: which events are in time, which decision they belong to and what a slot
//     earned are the same however fast either topic is read, however records are cut into batches, and whenever the
//     Joiner was killed and started again; a replay from the beginning gives the same bytes. To that end records are
//     worked on in an order that only Kafka's offsets and times decide, and an event's lateness is measured against
//     a clock that the log itself moves. Where a topic has nothing new, the wall clock moves it, later by a slack; this
//     changes nothing as long as a record can be read within half a minute (or the lateness, if that is less) of its
//     Kafka time. Forgetting is outside the logs: what a forgotten user did before earns nothing from then on.
//   - Rewards are published, acknowledged by all in-sync replicas, before the state that says so is written: after a
//     crash they come twice, never not at all. Decision and position tell repetitions.
//   - One goroutine owns a partition of both topics. The store accepts a batch only on the version that it was made
//     from, so two owners during a rebalance cannot both apply. Where the store says less than was assumed (flushed,
//     restored), the Joiner goes back to where it stands; an empty store begins with what Kafka has.
//   - Nothing is held in memory but one batch and what the readers fetched ahead. The store holds a decision until it is
//     final or may no longer be shown, and at most JoinerOptions.MaxPending a user.
//   - Decisions that cannot be decoded become dead letters. Interactions that cannot are the Consumer's to report.
//
// Interactions are worked on JoinerOptions.Lateness after they were recorded, so that the decisions they may belong to
// are known: a Joiner that keeps up shows that much lag.
type Joiner struct {
	*group
	opt   JoinerOptions
	rules *joinRules
	joins *joinMetrics
}

// NewJoiner checks the options, fills in the defaults and registers the metrics. It does not connect; Run does.
func NewJoiner(opt JoinerOptions) (*Joiner, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	t := opt.Topics
	g, err := newGroup(opt.Member, "joiner", []string{t.Interactions, t.Decisions}, t.Rewards, t.DeadLetters)
	if err != nil {
		return nil, err
	}
	joins, err := newJoinMetrics(opt.Registerer)
	if err != nil {
		return nil, fmt.Errorf("consumer: register metrics: %w", err)
	}
	j := &Joiner{group: g, opt: opt, rules: opt.rules(), joins: joins}
	g.fits = j.fit
	g.balancers = []kafka.GroupBalancer{copartition{}}
	return j, nil
}

// Run joins the group and works until ctx ends, then returns nil; or until something fails that will not go away by
// itself, then returns that: *CopartitionError, *GapError, or an error of Kafka or the store. Before it returns it has
// left the group and joined all its goroutines. One Run at a time.
func (j *Joiner) Run(ctx context.Context) error {
	dead := newDeadLetters(j.opt.Member, j.opt.Topics.DeadLetters)
	defer dead.close()
	rewards := newRewardLog(j.opt.Member, j.opt.Topics.Rewards)
	defer rewards.close()
	return j.run(ctx, func(assigned map[string][]kafka.PartitionAssignment) ([]owner, error) {
		decisions := map[int]kafka.PartitionAssignment{}
		for _, a := range assigned[j.opt.Topics.Decisions] {
			decisions[a.ID] = a
		}
		var owners []owner
		for _, a := range assigned[j.opt.Topics.Interactions] {
			d, ok := decisions[a.ID]
			if !ok {
				return nil, fmt.Errorf("consumer: group %s assigned %s/%d without the same partition of %s: all members have to join both topics, by the same version of this program",
					j.opt.Group, j.opt.Topics.Interactions, a.ID, j.opt.Topics.Decisions)
			}
			owners = append(owners, newPair(j, a, d, dead, rewards))
		}
		return owners, nil
	})
}

// copartition gives the same numbers of all topics to the same member: ranges, of partitions in the order of their
// numbers. kafka-go's range balancer takes them in the order in which the broker happens to list them.
type copartition struct{ kafka.RangeGroupBalancer }

// ProtocolName differs from the range balancer's: a member that does not sort must not share out the partitions.
func (copartition) ProtocolName() string { return "r2rec-copartition" }

func (c copartition) AssignGroups(members []kafka.GroupMember, partitions []kafka.Partition) kafka.GroupMemberAssignments {
	sorted := slices.Clone(partitions)
	slices.SortFunc(sorted, func(a, b kafka.Partition) int { return cmp.Compare(a.ID, b.ID) })
	return c.RangeGroupBalancer.AssignGroups(members, sorted)
}

// CopartitionError says that a user's interactions and decisions lie in partitions of different numbers.
type CopartitionError struct {
	Interactions, Decisions string // the topics
	HaveI, HaveD            int    // their partitions
}

func (e *CopartitionError) Error() string {
	return fmt.Sprintf("consumer: topic %s has %d partitions and %s has %d: they must have equally many, or a user's clicks and decisions do not meet. "+
		"Make %s again with %d; rewards from its old records are lost", e.Interactions, e.HaveI, e.Decisions, e.HaveD, e.Decisions, e.HaveI)
}

func (j *Joiner) fit(topics []kafka.Topic) error {
	have := map[string]int{}
	for _, t := range topics {
		have[t.Name] = len(t.Partitions)
	}
	i, d := have[j.opt.Topics.Interactions], have[j.opt.Topics.Decisions]
	if i != d {
		return &CopartitionError{Interactions: j.opt.Topics.Interactions, Decisions: j.opt.Topics.Decisions, HaveI: i, HaveD: d}
	}
	return nil
}
