package consumer

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the collectors that a Consumer and a Joiner both have, named r2rec_consumer_… and r2rec_joiner_….
type metrics struct {
	events      *prometheus.CounterVec
	deadLetters *prometheus.CounterVec
	batches     *prometheus.CounterVec
	rewinds     *prometheus.CounterVec
	gaps        *prometheus.CounterVec
	apply       *prometheus.HistogramVec
	lag         *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer, subsystem string) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "r2rec", Subsystem: subsystem, Name: name, Help: help}, labels)
	}
	m := &metrics{
		events:      counter("events_total", "Events applied, repetitions included.", "topic"),
		deadLetters: counter("dead_letters_total", "Records published to the dead letters, repetitions included.", "topic", "reason"),
		batches:     counter("batches_total", "Batches applied.", "topic"),
		rewinds:     counter("rewinds_total", "Times that the store had lost writes and they were read again.", "topic"),
		gaps:        counter("gaps_total", "Times that Kafka no longer had what was still needed.", "topic"),
		apply: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "r2rec", Subsystem: subsystem, Name: "apply_seconds",
			Help: "Time to apply a batch, retries included.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 14)}, []string{"topic"}),
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "r2rec", Subsystem: subsystem, Name: "lag",
			Help: "Offsets between the end of an owned partition and what is applied of it."}, []string{"topic", "partition"}),
	}
	for _, c := range []prometheus.Collector{m.events, m.deadLetters, m.batches, m.rewinds, m.gaps, m.apply, m.lag} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) applied(topic string, events int, took time.Duration) {
	m.events.WithLabelValues(topic).Add(float64(events))
	m.batches.WithLabelValues(topic).Inc()
	m.apply.WithLabelValues(topic).Observe(took.Seconds())
}

func (m *metrics) buried(topic string, letters []*letter) {
	for _, l := range letters {
		r, _, _ := reason(l.err)
		m.deadLetters.WithLabelValues(topic, r).Inc()
	}
}

func (m *metrics) position(topic string, id int, lag int64) {
	m.lag.WithLabelValues(topic, strconv.Itoa(id)).Set(float64(lag))
}

// forget removes the lag of partitions that are no longer owned.
func (m *metrics) forget(owned []*source) {
	for _, s := range owned {
		m.lag.DeleteLabelValues(s.topic, strconv.Itoa(s.id))
	}
}
