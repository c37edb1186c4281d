package consumer

import (
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

// GapPolicy says what happens where Kafka no longer has what the graph needs.
type GapPolicy string

// Stop, or go on without what is gone.
const (
	StopOnGap     GapPolicy = "stop"     // Run returns a *GapError
	EarliestOnGap GapPolicy = "earliest" // accept the loss: log an error, count it, and go on at the oldest offset there is
)

// requestTimeout bounds one question to Kafka.
const requestTimeout = 5 * time.Second

// Options of a Consumer. The zero value of a field takes the default that its comment states.
type Options struct {
	// Brokers are the addresses to begin with, host:port. Required.
	Brokers []string
	// Dialer opens the connections of the group and of the readers. Default: no TLS, no SASL, 5 s to connect.
	Dialer *kafka.Dialer
	// Transport carries dead letters and questions about topics and offsets; it needs the TLS and SASL settings of
	// Dialer. The caller closes it. Default: a kafka.Transport that the process keeps until its connections idle out.
	Transport kafka.RoundTripper
	// Group is the id of the consumer group; its members share the partitions. Default "r2rec".
	Group string
	// Topics names the topics. Default: interactions, items, users and deadletters.
	Topics Topics
	// Graph takes the events. Required.
	Graph Graph

	// MaxBatch is the largest number of records in a batch. Default 2000.
	MaxBatch int
	// MaxBytes ends a batch early: a batch takes no further record once its keys and values have this many bytes.
	// Default 4 MiB.
	MaxBytes int
	// Linger is how long a batch that has a record waits for more. It bounds the delay of a lonely event; batches that
	// fill up earlier do not wait. Default 5 ms.
	Linger time.Duration
	// QueueCapacity is how many records are fetched ahead for each partition, while a batch is applied. Times the largest
	// record (Kafka's max.message.bytes) it bounds the memory of a partition; more does not make it faster. Default 128.
	QueueCapacity int
	// FetchBytes is how much a partition asks of a broker at once. A single larger record is delivered all the same.
	// Default 1 MiB.
	FetchBytes int
	// Skew is how far an event's timestamp may lie after the time of its Kafka record. It is compared with the record
	// and not with the clock, so that a replay reaches the same verdict; a record without a time is compared with the
	// clock. Brokers keep record times honest (message.timestamp.after.max.ms). Default 24 h.
	Skew time.Duration
	// CheckInterval is how often a partition asks Kafka for its first and last offset, and how long it stays idle before
	// it compares its position with the graph's watermark: how soon a flushed or restored store is noticed. Default 1 s.
	CheckInterval time.Duration
	// CommitInterval is how often positions are committed for lag tools. Default 5 s.
	CommitInterval time.Duration
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
	// Backoff makes the pauses between attempts of one call to Kafka or the graph; it must never say backoff.Stop.
	// Default: exponential from 50 ms to 5 s, half of it random.
	Backoff func() backoff.BackOff

	// OnApplied is called after each batch of interactions that was applied, by the goroutine of its partition: it must
	// be quick, and must not keep the slice. Replays and retries call it again. Default: nothing.
	OnApplied func(span event.Span, batch []event.Interaction)
	// Now is the clock. It times applies, checks and failures. Default time.Now.
	Now func() time.Time
	// Logger takes assignments, failures, rewinds and gaps. Default: discarded.
	Logger *slog.Logger
	// Registerer takes the metrics. Default: a registry of its own, which nobody reads.
	Registerer prometheus.Registerer
}

func (o Options) withDefaults() (Options, error) {
	text := func(v *string, d string) {
		if *v == "" {
			*v = d
		}
	}
	text(&o.Group, "r2rec")
	text(&o.Topics.Interactions, "interactions")
	text(&o.Topics.Items, "items")
	text(&o.Topics.Users, "users")
	text(&o.Topics.DeadLetters, "deadletters")
	if o.OnGap == "" {
		o.OnGap = StopOnGap
	}

	var errs []error
	fail := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("consumer options: "+format, args...))
	}
	number := func(name string, v *int, d int) {
		if *v == 0 {
			*v = d
		}
		if *v < 1 {
			fail("%s is %d, want at least 1", name, *v)
		}
	}
	number("MaxBatch", &o.MaxBatch, 2000)
	number("MaxBytes", &o.MaxBytes, 4<<20)
	number("QueueCapacity", &o.QueueCapacity, 128)
	number("FetchBytes", &o.FetchBytes, 1<<20)
	duration := func(name string, v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
		if *v < time.Millisecond {
			fail("%s is %v, want at least 1ms", name, *v)
		}
	}
	duration("Linger", &o.Linger, 5*time.Millisecond)
	duration("Skew", &o.Skew, 24*time.Hour)
	duration("CheckInterval", &o.CheckInterval, time.Second)
	duration("CommitInterval", &o.CommitInterval, 5*time.Second)
	duration("HeartbeatInterval", &o.HeartbeatInterval, time.Second)
	duration("SessionTimeout", &o.SessionTimeout, 10*time.Second)
	duration("RebalanceTimeout", &o.RebalanceTimeout, 30*time.Second)
	duration("RejoinBackoff", &o.RejoinBackoff, time.Second)
	if o.HeartbeatInterval > o.SessionTimeout/3 {
		fail("HeartbeatInterval is %v, want at most a third of SessionTimeout, %v", o.HeartbeatInterval, o.SessionTimeout)
	}
	if len(o.Brokers) == 0 {
		fail("Brokers is empty, want at least one host:port")
	}
	if o.Graph == nil {
		fail("Graph is missing")
	}
	if o.OnGap != StopOnGap && o.OnGap != EarliestOnGap {
		fail("OnGap is %q, want %s or %s", o.OnGap, StopOnGap, EarliestOnGap)
	}
	names := map[string]bool{}
	for _, name := range append(o.Topics.consumed(), o.Topics.DeadLetters) {
		if names[name] {
			fail("Topics: %s is named twice", name)
		}
		names[name] = true
	}

	if o.Dialer == nil {
		o.Dialer = &kafka.Dialer{ClientID: "r2rec", Timeout: requestTimeout, DualStack: true}
	}
	if o.Transport == nil {
		o.Transport = &kafka.Transport{ClientID: "r2rec", DialTimeout: requestTimeout}
	}
	if o.Backoff == nil {
		o.Backoff = func() backoff.BackOff {
			return backoff.NewExponentialBackOff(
				backoff.WithInitialInterval(50*time.Millisecond),
				backoff.WithMaxInterval(5*time.Second),
				backoff.WithMultiplier(2),
				backoff.WithMaxElapsedTime(0),
			)
		}
	}
	if o.OnApplied == nil {
		o.OnApplied = func(event.Span, []event.Interaction) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	return o, errors.Join(errs...)
}
