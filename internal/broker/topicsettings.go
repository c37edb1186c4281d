package broker

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
)

// Settings of topics, as Kafka calls them.
const (
	cleanup       = "cleanup.policy"
	retentionTime = "retention.ms"
	retentionSize = "retention.bytes"
	deletionTime  = "delete.retention.ms"
	timeType      = "message.timestamp.type"
	timeAhead     = "message.timestamp.after.max.ms"
)

// Retention is how long a topic keeps something.
type Retention struct {
	For     time.Duration // negative: for ever
	Decided bool          // for this topic; else it is what the brokers do with every topic
}

// Retention asks the brokers how long a topic keeps its records, which takes the right to describe its configuration.
func (c *Client) Retention(ctx context.Context, topic string) (Retention, error) {
	r, err := c.retention(ctx, topic, retentionTime)
	return r, c.wrap("ask how long topic "+c.Topic(topic)+" keeps its records", err)
}

// DeletionRetention asks the brokers how long a compacted topic keeps, at least, a record without value, which says that
// something is deleted. It takes the right that Retention does.
func (c *Client) DeletionRetention(ctx context.Context, topic string) (Retention, error) {
	r, err := c.retention(ctx, topic, deletionTime)
	return r, c.wrap("ask how long topic "+c.Topic(topic)+" keeps deletions", err)
}

func (c *Client) retention(ctx context.Context, topic, setting string) (r Retention, err error) {
	set, err := c.topicSettings(ctx, topic, setting)
	if err != nil {
		return r, err
	}
	e, ok := set[setting]
	if !ok {
		return r, fmt.Errorf("the brokers do not tell %s", setting)
	}
	r.Decided = decided(e)
	r.For, err = duration(e)
	return r, err
}

// Cleanup is by which rules a topic loses records.
type Cleanup struct {
	Policy string        // compact, delete, or both
	For    time.Duration // after which those are deleted that may be; negative: never
	Bytes  int64         // of a partition beyond which they are; negative: there is no limit
}

// Compacts tells whether a record goes once a later one has its key.
func (c Cleanup) Compacts() bool { return strings.Contains(c.Policy, "compact") }

// Deletes tells whether records go although none has taken their place.
func (c Cleanup) Deletes() bool {
	return strings.Contains(c.Policy, "delete") && (c.For >= 0 || c.Bytes >= 0)
}

// String says it to people: delete after 168h0m0s.
func (c Cleanup) String() string {
	said := c.Policy
	if c.Deletes() && c.For >= 0 {
		said += fmt.Sprintf(" after %v", c.For)
	}
	if c.Deletes() && c.Bytes >= 0 {
		said += fmt.Sprintf(" beyond %d bytes a partition", c.Bytes)
	}
	return said
}

// Cleanup asks the brokers by which rules a topic loses records. It takes the right that Retention does.
func (c *Client) Cleanup(ctx context.Context, topic string) (Cleanup, error) {
	k, err := c.cleanup(ctx, topic)
	return k, c.wrap("ask by which rules topic "+c.Topic(topic)+" loses records", err)
}

func (c *Client) cleanup(ctx context.Context, topic string) (k Cleanup, err error) {
	set, err := c.topicSettings(ctx, topic, cleanup, retentionTime, retentionSize)
	if err != nil {
		return k, err
	}
	for _, name := range []string{cleanup, retentionTime, retentionSize} {
		if _, ok := set[name]; !ok {
			return k, fmt.Errorf("the brokers do not tell %s", name)
		}
	}
	k.Policy = set[cleanup].ConfigValue
	if k.For, err = duration(set[retentionTime]); err != nil {
		return k, err
	}
	size := set[retentionSize].ConfigValue
	if k.Bytes, err = strconv.ParseInt(size, 10, 64); err != nil {
		return k, fmt.Errorf("%s is %q: %w", retentionSize, size, err)
	}
	return k, nil
}

// Ahead asks the brokers how far the time of a topic's record may lie ahead of their clocks; negative: they do not look at it.
// It takes the right that Retention does.
func (c *Client) Ahead(ctx context.Context, topic string) (time.Duration, error) {
	doing := "ask which times the records of topic " + c.Topic(topic) + " may have"
	set, err := c.topicSettings(ctx, topic, timeType, timeAhead)
	if err != nil {
		return 0, c.wrap(doing, err)
	}
	e, ok := set[timeAhead]
	switch {
	case set[timeType].ConfigValue == "LogAppendTime":
		return -1, nil
	case !ok:
		return 0, c.wrap(doing, fmt.Errorf("the brokers do not know %s, which Kafka has since 3.6", timeAhead))
	}
	d, err := duration(e)
	return d, c.wrap(doing, err)
}

// topicSettings reads those settings of a topic that the brokers know.
func (c *Client) topicSettings(ctx context.Context, topic string, names ...string) (map[string]kafka.DescribeConfigResponseConfigEntry, error) {
	set := map[string]kafka.DescribeConfigResponseConfigEntry{}
	return set, c.admin(func(admin *kafka.Client) error {
		res, err := admin.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{
			{ResourceType: kafka.ResourceTypeTopic, ResourceName: c.Topic(topic), ConfigNames: names}}})
		if err != nil {
			return err
		}
		for _, of := range res.Resources {
			if of.Error != nil {
				return of.Error
			}
			for _, e := range of.ConfigEntries {
				set[e.ConfigName] = e
			}
		}
		return nil
	})
}

// ofTheTopic is the source of what was set for a topic (DYNAMIC_TOPIC_CONFIG). Brokers before Kafka 1.1 name no source, but
// say whether something is their default.
const ofTheTopic = 1

func decided(e kafka.DescribeConfigResponseConfigEntry) bool {
	return e.ConfigSource == ofTheTopic || e.ConfigSource == 0 && !e.IsDefault
}

// duration is a setting in milliseconds; negative: more than a Duration can say, or none.
func duration(e kafka.DescribeConfigResponseConfigEntry) (time.Duration, error) {
	ms, err := strconv.ParseInt(e.ConfigValue, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s is %q: %w", e.ConfigName, e.ConfigValue, err)
	}
	if ms < 0 || ms > math.MaxInt64/int64(time.Millisecond) {
		return -1, nil
	}
	return time.Duration(ms) * time.Millisecond, nil
}
