package reasoner

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	made       *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	ungrounded prometheus.Counter
	unlogged   prometheus.Counter
	unstored   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		made: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "r2rec_recommendations_total",
			Help: "Recommendations made, by who ranked (reasoned, graph) and why the graph did although there is a model."}, []string{"source", "fallback"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "r2rec_recommendation_seconds",
			Help: "Time of one recommendation, by stage: graph, model, all.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 15)}, []string{"stage"}),
		ungrounded: prometheus.NewCounter(prometheus.CounterOpts{Name: "r2rec_ungrounded_steps_total",
			Help: "Steps of thoughts that cited what is not in the graph, and were not shown."}),
		unlogged: prometheus.NewCounter(prometheus.CounterOpts{Name: "r2rec_decisions_not_logged_total",
			Help: "Decisions that Kafka did not take; their documents carry no decision id."}),
		unstored: prometheus.NewCounter(prometheus.CounterOpts{Name: "r2rec_recommendations_not_stored_total",
			Help: "Recommendations that Redis did not take."}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.made, m.seconds, m.ungrounded, m.unlogged, m.unstored} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("reasoner: register metrics: %w", err)
		}
	}
	return m, nil
}
