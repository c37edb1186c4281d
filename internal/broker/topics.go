package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/segmentio/kafka-go"
)

// The topics, without the prefix.
const (
	Interactions = "interactions" // what users did; keyed by user id
	Items        = "items"        // the catalogue; compacted, keyed by item id
	Users        = "users"        // who is to be forgotten; compacted, keyed by user id
	Decisions    = "decisions"    // what was shown; keyed by user id, partitioned like Interactions
	Rewards      = "rewards"      // what it earned; keyed by user id
	Adapters     = "adapters"     // the log of promotions: one partition, kept for ever, never compacted
	DeadLetters  = "deadletters"  // what could not be applied, and why
)

// AllTopics lists the topics in the order of the constants.
var AllTopics = []string{Interactions, Items, Users, Decisions, Rewards, Adapters, DeadLetters}

// DefaultPartitions is the number of partitions of the topics that are shared out among consumers.
const DefaultPartitions = 8

// keptToLearn is how long Decisions and Rewards are kept: trainers read those of 30 days, by default.
const keptToLearn = 40 * 24 * time.Hour

// keptLetters is how long DeadLetters keeps what could not be applied: time enough for somebody to see and repair it.
const keptLetters = 90 * 24 * time.Hour

// keptDeletions is how long Items keeps the records that delete an item: a Redis that comes back from an older snapshot reads
// them again, however old it is, and would keep the item without. It is not the longest that Kafka takes, which it adds to
// the time of day.
const keptDeletions = 100 * 365 * 24 * time.Hour

// maxAhead is how far the time of a record of Interactions or Decisions may lie ahead of the brokers' clocks, which is no more
// than the join of the two allows for by default (consumer.JoinerOptions.Lateness): brokers refuse what is later. They have to,
// because it is the producer's time that counts, also where the brokers put their own beside it (LogAppendTime): kafka-go
// reads only the producer's.
const maxAhead = 5 * time.Minute

// Topics says how topics are made that do not exist yet. Those that exist are left as they are.
type Topics struct {
	Partitions        int // of Interactions, Items, Users and Rewards; 0 means DefaultPartitions
	ReplicationFactor int // of all; 0 means the brokers' default
}

// PartitionsError says that the partitions of existing topics do not fit together.
type PartitionsError struct {
	Topic string // with its prefix
	Have  int
	Want  int
	Why   string
}

func (e *PartitionsError) Error() string {
	return fmt.Sprintf("topic %s has %d partitions, want %d: %s", e.Topic, e.Have, e.Want, e.Why)
}

// EnsureTopics makes the topics that are missing, with retentions of their own and the times of records looked at where they
// count, and then checks that the partitions of all fit together: Decisions has as many as Interactions, or a click and the
// decision that earned it would reach different consumers, and Adapters has one, or the log of promotions has no order.
// What does not fit is an error that is a *PartitionsError. Several processes may call it at the same time.
//
// The brokers' default of the replication factor is used where none is given; on a cluster of one broker that cannot
// satisfy or does not know it (before Kafka 2.4), the factor is 1. Brokers that cannot look at times (before Kafka 3.6) make
// the topics without, see Ahead.
func (c *Client) EnsureTopics(ctx context.Context, spec Topics) error {
	if spec.Partitions < 0 || spec.ReplicationFactor < 0 {
		return fmt.Errorf("ensure topics: partitions %d, replication factor %d: want 0 or more", spec.Partitions, spec.ReplicationFactor)
	}
	if spec.Partitions == 0 {
		spec.Partitions = DefaultPartitions
	}
	names := make([]string, len(AllTopics))
	for i, t := range AllTopics {
		names[i] = c.Topic(t)
	}
	// Whoever asked before the topics were there has cached that they are not.
	defer c.Transport.CloseIdleConnections()

	// The brokers learn of a new topic one after the other.
	return backoff.Retry(func() error {
		return c.admin(func(admin *kafka.Client) error {
			have, err := c.partitions(ctx, admin, names...)
			if err != nil {
				return settled(err)
			}
			if len(have) == len(names) {
				if err := c.fit(have); err != nil {
					return backoff.Permanent(c.wrap("check topics", err))
				}
				return nil
			}
			if err := c.create(ctx, admin, spec, have); err != nil {
				return err
			}
			return c.wrap("create topics", errors.New("the new topics are not visible yet"))
		})
	}, backoff.WithContext(patience(), ctx))
}

// fit checks that the partitions of existing topics fit together.
func (c *Client) fit(have map[string]int) error {
	interactions, decisions, adapters := c.Topic(Interactions), c.Topic(Decisions), c.Topic(Adapters)
	if have[decisions] != have[interactions] {
		return &PartitionsError{Topic: decisions, Have: have[decisions], Want: have[interactions],
			Why: fmt.Sprintf("as many as %s, so that a user's clicks and decisions reach the same consumer", interactions)}
	}
	if have[adapters] != 1 {
		return &PartitionsError{Topic: adapters, Have: have[adapters], Want: 1, Why: "the order of promotions decides which of them count"}
	}
	return nil
}

// create makes the topics that are not in have. That another process made one first is no error.
func (c *Client) create(ctx context.Context, admin *kafka.Client, spec Topics, have map[string]int) error {
	var missing []kafka.TopicConfig
	add := func(topic string, partitions int, config ...kafka.ConfigEntry) {
		name := c.Topic(topic)
		if _, ok := have[name]; ok {
			return
		}
		factor := spec.ReplicationFactor
		if factor == 0 {
			factor = -1
		}
		missing = append(missing, kafka.TopicConfig{Topic: name, NumPartitions: partitions, ReplicationFactor: factor, ConfigEntries: config})
	}
	compacted := kafka.ConfigEntry{ConfigName: cleanup, ConfigValue: "compact"}
	deleting := kafka.ConfigEntry{ConfigName: cleanup, ConfigValue: "delete"}
	kept := kafka.ConfigEntry{ConfigName: retentionTime, ConfigValue: "-1"}
	unbounded := kafka.ConfigEntry{ConfigName: retentionSize, ConfigValue: "-1"}
	times := []kafka.ConfigEntry{{ConfigName: timeType, ConfigValue: "CreateTime"}, {ConfigName: timeAhead, ConfigValue: milliseconds(maxAhead)}}
	toLearn := kafka.ConfigEntry{ConfigName: retentionTime, ConfigValue: milliseconds(keptToLearn)}

	// The two must agree, and either may have been made by hand.
	like := spec.Partitions
	if n, ok := have[c.Topic(Interactions)]; ok {
		like = n
	} else if n, ok := have[c.Topic(Decisions)]; ok {
		like = n
	}
	add(Interactions, like, append(times, deleting, kept, unbounded)...) // what the graph is filled from when it is lost
	add(Items, spec.Partitions, compacted, kafka.ConfigEntry{ConfigName: deletionTime, ConfigValue: milliseconds(keptDeletions)})
	add(Users, spec.Partitions, compacted)
	add(Decisions, like, append(times, deleting, toLearn)...)
	add(Rewards, spec.Partitions, deleting, toLearn)
	add(Adapters, 1, deleting, kept, unbounded)
	add(DeadLetters, 1, deleting, kafka.ConfigEntry{ConfigName: retentionTime, ConfigValue: milliseconds(keptLetters)},
		kafka.ConfigEntry{ConfigName: "max.message.bytes", ConfigValue: strconv.Itoa(MaxDeadLetterBytes + MaxDeadLetterBytes/8)})

	for factors, looking := spec.ReplicationFactor == 0, true; ; {
		err := c.createAll(ctx, admin, missing)
		switch {
		case factors && refusesFactor(err):
			factors = false
			res, metaErr := admin.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{}})
			if metaErr != nil || len(res.Brokers) != 1 {
				return backoff.Permanent(fmt.Errorf("%w (the brokers refuse their own default of the replication factor: make the topics by hand)", err))
			}
			for i := range missing {
				missing[i].ReplicationFactor = 1
			}
		case looking && errors.Is(err, kafka.InvalidConfiguration):
			looking = false
			for i := range missing {
				missing[i].ConfigEntries = slices.DeleteFunc(missing[i].ConfigEntries, func(e kafka.ConfigEntry) bool { return e.ConfigName == timeAhead })
			}
		default:
			return err
		}
	}
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

func (c *Client) createAll(ctx context.Context, admin *kafka.Client, topics []kafka.TopicConfig) error {
	res, err := admin.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: topics})
	if err != nil {
		return settled(c.wrap("create topics", err))
	}
	var errs []error
	passes := true
	for _, t := range topics {
		err := res.Errors[t.Topic]
		if err == nil || errors.Is(err, kafka.TopicAlreadyExists) {
			continue
		}
		errs = append(errs, c.wrap("create topic "+t.Topic, err))
		passes = passes && temporary(err)
	}
	if joined := errors.Join(errs...); joined != nil && !passes {
		return backoff.Permanent(joined)
	} else if joined != nil {
		return joined
	}
	return nil
}

// refusesFactor tells whether the brokers refused a topic because of its replication factor.
func refusesFactor(err error) bool {
	return errors.Is(err, kafka.InvalidReplicationFactor) || errors.Is(err, kafka.UnsupportedVersion)
}
