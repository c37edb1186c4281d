// Package broker is how r2rec reaches Kafka: the connection settings, the names and shapes of the topics, and the few
// administrative questions that the rest of the program asks.
//
// It promises that
//   - one Settings value configures every connection, and never shows its password when printed, logged or marshalled;
//   - writers acknowledge only what all in-sync replicas hold, and place keyed records as Java's default partitioner
//     does (murmur2), so that a user's records from any such producer share a partition and its order. Producers built
//     on librdkafka have to ask for it: partitioner=murmur2_random;
//   - a topic is never created by accident: only EnsureTopics creates, and it refuses topics whose partitions do not fit
//     together;
//   - errors name the addresses and what was tried.
//
// Reading is left to the consumer, which takes Dialer for its consumer groups. Nothing here logs.
package broker

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/segmentio/kafka-go"
)

// Limits of a writer. The largest record that fits is a little smaller: key, headers and framing count too.
const (
	// MaxRecordBytes is the size of the largest batch, and so of the largest record, on all topics but DeadLetters:
	// Kafka's default.
	MaxRecordBytes = 1 << 20
	// MaxDeadLetterBytes is the size on DeadLetters: twice as much, so that the largest record of any other topic fits
	// there together with its reason, also where it is encoded in base64.
	MaxDeadLetterBytes = 2 << 20

	dialTimeout  = 5 * time.Second
	batchTimeout = 5 * time.Millisecond
	batchRecords = 1000
	attempts     = 5
)

// Client holds what is needed to talk to one Kafka cluster. It is safe for concurrent use and opens no connection until
// it is asked something.
type Client struct {
	// Dialer opens the connections of readers and consumer groups.
	Dialer *kafka.Dialer
	// Transport pools the connections of writers. It remembers for some seconds which topics exist.
	Transport *kafka.Transport

	settings Settings
	describe string
}

// New checks the settings and reads the certificate files. It does not connect; WaitReady does.
func New(s Settings) (*Client, error) {
	s = s.withDefaults()
	if err := s.Validate(); err != nil {
		return nil, err
	}
	tlsConfig, err := s.tlsConfig()
	if err != nil {
		return nil, err
	}
	mechanism, err := s.mechanism()
	if err != nil {
		return nil, err
	}
	return &Client{
		Dialer: &kafka.Dialer{
			ClientID:      s.ClientID,
			Timeout:       dialTimeout,
			DualStack:     true,
			KeepAlive:     30 * time.Second,
			TLS:           tlsConfig,
			SASLMechanism: mechanism,
		},
		Transport: &kafka.Transport{
			Dial:        (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
			DialTimeout: dialTimeout,
			ClientID:    s.ClientID,
			TLS:         tlsConfig,
			SASL:        mechanism,
		},
		settings: s,
		describe: s.describe(),
	}, nil
}

// Close drops the idle connections of the writers' pool. Writers are closed by who made them, before.
func (c *Client) Close() { c.Transport.CloseIdleConnections() }

// Brokers are the addresses to begin with, host:port.
func (c *Client) Brokers() []string { return c.settings.Brokers }

// Topic is the name on the cluster of one of this package's topics: the prefix is put before it.
func (c *Client) Topic(name string) string { return c.settings.TopicPrefix + name }

// NewWriter returns a writer to one of this package's topics (the name without the prefix). WriteMessages returns when
// all in-sync replicas hold the records, or after at most five attempts with an error: kafka.WriteErrors, one an input
// record, or kafka.MessageTooLargeError. An attempt that failed may have been stored all the same, so records can appear
// twice. A batch waits at most 5 ms for company. The caller closes the writer.
func (c *Client) NewWriter(topic string) *kafka.Writer {
	size := int64(MaxRecordBytes)
	if topic == DeadLetters {
		size = MaxDeadLetterBytes
	}
	return &kafka.Writer{
		Addr:                   kafka.TCP(c.settings.Brokers...),
		Topic:                  c.Topic(topic),
		Balancer:               kafka.Murmur2Balancer{},
		RequiredAcks:           kafka.RequireAll,
		Compression:            kafka.Zstd,
		MaxAttempts:            attempts,
		BatchSize:              batchRecords,
		BatchBytes:             size,
		BatchTimeout:           batchTimeout,
		Transport:              c.Transport,
		AllowAutoTopicCreation: false,
	}
}

// WaitReady asks the cluster for its brokers until it answers, with growing pauses up to a second, for at most limit.
// notify, if not nil, hears of every failed attempt and the pause after it.
func (c *Client) WaitReady(ctx context.Context, limit time.Duration, notify func(err error, pause time.Duration)) error {
	policy := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(50*time.Millisecond),
		backoff.WithMaxInterval(time.Second),
		backoff.WithMaxElapsedTime(limit),
	)
	err := backoff.RetryNotify(func() error {
		return c.admin(func(admin *kafka.Client) error {
			attempt, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			_, err := admin.Metadata(attempt, &kafka.MetadataRequest{Topics: []string{}})
			return c.wrap("ask for the brokers", err)
		})
	}, backoff.WithContext(policy, ctx), notify)
	if err != nil {
		return fmt.Errorf("kafka is not ready after %v: %w", limit, err)
	}
	return nil
}

// admin runs f with a client whose knowledge of the cluster is fresh: a pooled transport answers from a cache that may
// not know of a topic that was made, or made again, a moment ago.
func (c *Client) admin(f func(*kafka.Client) error) error {
	t := c.Transport
	fresh := &kafka.Transport{Dial: t.Dial, DialTimeout: t.DialTimeout, ClientID: t.ClientID, TLS: t.TLS, SASL: t.SASL}
	defer fresh.CloseIdleConnections()
	return f(&kafka.Client{Addr: kafka.TCP(c.settings.Brokers...), Timeout: 4 * dialTimeout, Transport: fresh})
}

// Missing names those of this package's topics that do not exist, with their prefix. What is temporary is tried again, as
// Offsets does.
func (c *Client) Missing(ctx context.Context, topics ...string) ([]string, error) {
	if len(topics) == 0 {
		return nil, nil
	}
	names := make([]string, len(topics))
	for i, t := range topics {
		names[i] = c.Topic(t)
	}
	return backoff.RetryWithData(func() (missing []string, err error) {
		err = c.admin(func(admin *kafka.Client) error {
			have, err := c.partitions(ctx, admin, names...)
			if err != nil {
				return settled(err)
			}
			for _, name := range names {
				if _, ok := have[name]; !ok {
					missing = append(missing, name)
				}
			}
			return nil
		})
		return missing, err
	}, backoff.WithContext(patience(), ctx))
}

// partitions counts the partitions of the topics of these names; a topic that does not exist is left out.
func (c *Client) partitions(ctx context.Context, admin *kafka.Client, names ...string) (map[string]int, error) {
	doing := "look up topics " + strings.Join(names, ", ")
	res, err := admin.Metadata(ctx, &kafka.MetadataRequest{Topics: names})
	if err != nil {
		return nil, c.wrap(doing, err)
	}
	counts := map[string]int{}
	for _, t := range res.Topics {
		switch t.Error {
		case nil:
			counts[t.Name] = len(t.Partitions)
		case kafka.UnknownTopicOrPartition:
		default:
			return nil, c.wrap("look up topic "+t.Name, t.Error)
		}
	}
	return counts, nil
}

func (c *Client) wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %s: %w", c.describe, doing, err)
}
