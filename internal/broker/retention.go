package broker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"
)

// Retention is how long a topic keeps its records.
type Retention struct {
	For     time.Duration // negative: for ever
	Decided bool          // for this topic; else it is what the brokers do with every topic
}

// Retention asks the brokers how long a topic keeps its records, which takes the right to describe its configuration.
func (c *Client) Retention(ctx context.Context, topic string) (r Retention, err error) {
	err = c.admin(func(admin *kafka.Client) error {
		res, err := admin.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{
			{ResourceType: kafka.ResourceTypeTopic, ResourceName: c.Topic(topic), ConfigNames: []string{retentionTime}}}})
		if err != nil {
			return err
		}
		for _, of := range res.Resources {
			if of.Error != nil {
				return of.Error
			}
			for _, e := range of.ConfigEntries {
				if e.ConfigName == retentionTime {
					r, err = readRetention(e)
					return err
				}
			}
		}
		return errors.New("the brokers do not say")
	})
	return r, c.wrap("ask how long topic "+c.Topic(topic)+" keeps its records", err)
}

const retentionTime = "retention.ms"

// ofTheTopic is the source of what was set for a topic (DYNAMIC_TOPIC_CONFIG). Brokers before Kafka 1.1 name no source, but
// say whether something is their default.
const ofTheTopic = 1

func readRetention(e kafka.DescribeConfigResponseConfigEntry) (Retention, error) {
	ms, err := strconv.ParseInt(e.ConfigValue, 10, 64)
	if err != nil {
		return Retention{}, fmt.Errorf("%s is %q: %w", retentionTime, e.ConfigValue, err)
	}
	r := Retention{For: -1, Decided: e.ConfigSource == ofTheTopic || e.ConfigSource == 0 && !e.IsDefault}
	if ms >= 0 && ms <= math.MaxInt64/int64(time.Millisecond) {
		r.For = time.Duration(ms) * time.Millisecond
	}
	return r, nil
}
