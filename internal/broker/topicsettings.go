package broker

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"
)

// Settings of topics, as Kafka calls them.
const (
	retentionTime = "retention.ms"
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
