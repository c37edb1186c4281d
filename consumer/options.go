package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"

	"github.com/r2rec/r2rec/internal/event"
)

// Topics are the names on the cluster, prefixes included. An empty name takes the name of its field in lower case.
type Topics struct {
	Interactions string
	Items        string
	Users        string
	DeadLetters  string
}

func (t Topics) consumed() []string { return []string{t.Interactions, t.Items, t.Users} }

// GapPolicy says what happens where Kafka no longer has what is still needed.
type GapPolicy string

// Stop, or go on without what is gone.
const (
	StopOnGap     GapPolicy = "stop"     // Run returns a *GapError
	EarliestOnGap GapPolicy = "earliest" // accept the loss: log an error, count it, and go on at the oldest offset there is
)

// requestTimeout bounds one question to Kafka.
const requestTimeout = 5 * time.Second

// Member says how one member of a consumer group reads Kafka. Consumer and Joiner share it. The zero value of a field
// takes the default that its comment states.
type Member struct {
	// Brokers are the addresses to begin with, host:port. Required.
	Brokers []string
	// Dialer opens the connections of the group and of the readers. Default: no TLS, no SASL, 5 s to connect.
	Dialer *kafka.Dialer
	// Transport carries what is published and questions about topics and offsets; it needs the TLS and SASL settings of
	// Dialer. The caller closes it. Default: a kafka.Transport that the process keeps until its connections idle out.
	Transport kafka.RoundTripper
	// Group is the id of the consumer group; its members share the partitions. Default "r2rec" for a Consumer,
	// "r2rec-rewards" for a Joiner: they read for themselves and must not share one.
	Group string

	// MaxBatch is the largest number of records in a batch. Default 2000.
	MaxBatch int
	// MaxBytes ends a batch early: a batch takes no further record once its keys and values have this many bytes.
	// Default 4 MiB.
	MaxBytes int
	// QueueCapacity is how many records are fetched ahead for each partition, while a batch is applied. Times the largest
	// record (Kafka's max.message.bytes) it bounds the memory of a partition; more does not make it faster. Default 128.
	QueueCapacity int
	// FetchBytes is how much a partition asks of a broker at once. A single larger record is delivered all the same.
	// Default 1 MiB.
	FetchBytes int
	// Skew is how far an event's timestamp may lie after the time of its Kafka record. It is compared with the record
	// and not with the clock, so that a replay reaches the same verdict; a record without a time is compared with the
	// clock. The record's time is its producer's, also where the topic has message.timestamp.type=LogAppendTime: kafka-go does
	// not read the brokers'. What keeps it honest are brokers that refuse later ones (message.timestamp.after.max.ms), which
	// broker.EnsureTopics sets for the topics it makes. Default 24 h.
	Skew time.Duration
	// CheckInterval is how often a partition asks Kafka for its first and last offset, and how long it stays idle before
	// it compares its position with the store's: how soon a flushed or restored store is noticed. Default 1 s.
	CheckInterval time.Duration
	// CommitInterval is how often positions are committed for lag tools. Default 5 s.
	CommitInterval time.Duration
	// Forgets asks where the topic users ends now, and returns what tells whether everything up to there is in the graph. Who
	// begins to read interactions, or goes back in them, waits for that first, a minute at most: after Redis lost what it had,
	// what forgotten users did would count again until it is. Default: nobody waits.
	Forgets func(ctx context.Context) (known func(ctx context.Context) (bool, error), err error)
	// OnGap chooses between stopping and losing. Default StopOnGap.
	OnGap GapPolicy

	// HeartbeatInterval is how often the member reports to the group, and so how soon it notices a rebalance. At most a
	// third of SessionTimeout. Default 1 s.
	HeartbeatInterval time.Duration
	// SessionTimeout is how long a silent member keeps its partitions. Default 10 s.
	SessionTimeout time.Duration
	// RebalanceTimeout is how long the group waits for members to join again. Default 30 s.
	RebalanceTimeout time.Duration
	// RejoinBackoff is the pause after a failure to join. Default 1 s.
	RejoinBackoff time.Duration
	// PartitionWatch is how often Kafka is asked whether a topic has more partitions. Default 5 s.
	PartitionWatch time.Duration
	// Backoff makes the pauses between attempts of one call to Kafka or the store; it must never say backoff.Stop.
	// Default: exponential from 50 ms to 5 s, half of it random.
	Backoff func() backoff.BackOff

	// Now is the clock. It times applies, checks and failures. Default time.Now.
	Now func() time.Time
	// Logger takes assignments, failures, rewinds and gaps. Default: discarded.
	Logger *slog.Logger
	// Registerer takes the metrics. Default: a registry of its own, which nobody reads.
	Registerer prometheus.Registerer
}

// Options of a Consumer. The zero value of a field takes the default that its comment states.
type Options struct {
	Member

	// Topics names the topics. Default: interactions, items, users and deadletters.
	Topics Topics
	// Graph takes the events. Required.
	Graph Graph

	// Linger is how long a batch that has a record waits for more, at most: it ends at the next multiple of the linger, so
	// that the partitions come to the graph at the same time. It bounds the delay of a lonely event; batches that fill up
	// earlier do not wait, and one that is behind waits up to ten times as long for what Kafka is known to have. Default
	// 5 ms.
	Linger time.Duration

	// OnApplied is called after each batch of interactions that was applied, by the goroutine of its partition: it must
	// be quick, and must not keep the slice. Replays and retries call it again. Default: nothing.
	OnApplied func(span event.Span, batch []event.Interaction)
}

func (o Options) withDefaults() (Options, error) {
	c := checks{of: "consumer"}
	text(&o.Group, "r2rec")
	text(&o.Topics.Interactions, "interactions")
	text(&o.Topics.Items, "items")
	text(&o.Topics.Users, "users")
	text(&o.Topics.DeadLetters, "deadletters")
	c.duration("Linger", &o.Linger, 5*time.Millisecond)
	c.member(&o.Member)
	if o.Graph == nil {
		c.fail("Graph is missing")
	}
	c.distinct(append(o.Topics.consumed(), o.Topics.DeadLetters)...)
	if o.OnApplied == nil {
		o.OnApplied = func(event.Span, []event.Interaction) {}
	}
	return o, errors.Join(c.errs...)
}

// checks fills in defaults and collects what is wrong with options.
type checks struct {
	of   string // whose options
	errs []error
}

func (c *checks) fail(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(c.of+" options: "+format, args...))
}

func text(v *string, d string) {
	if *v == "" {
		*v = d
	}
}

func (c *checks) number(name string, v *int, d int) {
	if *v == 0 {
		*v = d
	}
	if *v < 1 {
		c.fail("%s is %d, want at least 1", name, *v)
	}
}

func (c *checks) duration(name string, v *time.Duration, d time.Duration) {
	if *v == 0 {
		*v = d
	}
	if *v < time.Millisecond {
		c.fail("%s is %v, want at least 1ms", name, *v)
	}
}

func (c *checks) distinct(topics ...string) {
	names := map[string]bool{}
	for _, name := range topics {
		if names[name] {
			c.fail("Topics: %s is named twice", name)
		}
		names[name] = true
	}
}

func (c *checks) member(m *Member) {
	if m.OnGap == "" {
		m.OnGap = StopOnGap
	}
	c.number("MaxBatch", &m.MaxBatch, 2000)
	c.number("MaxBytes", &m.MaxBytes, 4<<20)
	c.number("QueueCapacity", &m.QueueCapacity, 128)
	c.number("FetchBytes", &m.FetchBytes, 1<<20)
	c.duration("Skew", &m.Skew, event.Skew)
	c.duration("CheckInterval", &m.CheckInterval, time.Second)
	c.duration("CommitInterval", &m.CommitInterval, 5*time.Second)
	c.duration("HeartbeatInterval", &m.HeartbeatInterval, time.Second)
	c.duration("SessionTimeout", &m.SessionTimeout, 10*time.Second)
	c.duration("RebalanceTimeout", &m.RebalanceTimeout, 30*time.Second)
	c.duration("RejoinBackoff", &m.RejoinBackoff, time.Second)
	c.duration("PartitionWatch", &m.PartitionWatch, 5*time.Second)
	if m.HeartbeatInterval > m.SessionTimeout/3 {
		c.fail("HeartbeatInterval is %v, want at most a third of SessionTimeout, %v", m.HeartbeatInterval, m.SessionTimeout)
	}
	if len(m.Brokers) == 0 {
		c.fail("Brokers is empty, want at least one host:port")
	}
	if m.OnGap != StopOnGap && m.OnGap != EarliestOnGap {
		c.fail("OnGap is %q, want %s or %s", m.OnGap, StopOnGap, EarliestOnGap)
	}
	if m.Dialer == nil {
		m.Dialer = &kafka.Dialer{ClientID: "r2rec", Timeout: requestTimeout, DualStack: true}
	}
	if m.Transport == nil {
		m.Transport = &kafka.Transport{ClientID: "r2rec", DialTimeout: requestTimeout}
	}
	if m.Backoff == nil {
		m.Backoff = func() backoff.BackOff {
			return backoff.NewExponentialBackOff(
				backoff.WithInitialInterval(50*time.Millisecond),
				backoff.WithMaxInterval(5*time.Second),
				backoff.WithMultiplier(2),
				backoff.WithMaxElapsedTime(0),
			)
		}
	}
	if m.Now == nil {
		m.Now = time.Now
	}
	if m.Logger == nil {
		m.Logger = slog.New(slog.DiscardHandler)
	}
	if m.Registerer == nil {
		m.Registerer = prometheus.NewRegistry()
	}
}
