package consumer

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/r2rec/r2rec/internal/event"
)

// joinMetrics are the collectors that only a Joiner has, named r2rec_joiner_….
type joinMetrics struct {
	rewards   *prometheus.CounterVec
	events    *prometheus.CounterVec
	decisions *prometheus.CounterVec
	pending   *prometheus.GaugeVec
}

func newJoinMetrics(reg prometheus.Registerer) (*joinMetrics, error) {
	counter := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "r2rec", Subsystem: "joiner", Name: name, Help: help}, []string{label})
	}
	m := &joinMetrics{
		rewards: counter("rewards_total", "Rewards published, by how they were attributed, repetitions included.", "attribution"),
		events: counter("interactions_total",
			"Interactions that could have earned or shown something, by what became of them: shown, named, window, unattributed, late, early, excess, forgotten.", "outcome"),
		decisions: counter("decisions_total", "Decisions by what became of them: pending, then rewarded or unshown; late, excess, forgotten.", "outcome"),
		pending: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "r2rec", Subsystem: "joiner", Name: "pending",
			Help: "Decisions of an owned partition that may still earn."}, []string{"partition"}),
	}
	for _, c := range []prometheus.Collector{m.rewards, m.events, m.decisions, m.pending} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	for _, by := range []string{event.ByDecision, event.ByWindow, event.ByNothing} {
		m.rewards.WithLabelValues(by)
	}
	for _, out := range []string{outShown, outNamed, outWindow, outUnattributed, outLate, outEarly, outExcess, outForgotten} {
		m.events.WithLabelValues(out)
	}
	for _, out := range []string{outPending, outRewarded, outUnshown, outLate, outExcess, outForgotten} {
		m.decisions.WithLabelValues(out)
	}
	return m, nil
}

func (m *joinMetrics) joined(j *joining) {
	for _, r := range j.rewards {
		m.rewards.WithLabelValues(r.Attribution).Inc()
	}
	for out, n := range j.events {
		m.events.WithLabelValues(out).Add(float64(n))
	}
	for out, n := range j.decisions {
		m.decisions.WithLabelValues(out).Add(float64(n))
	}
}
