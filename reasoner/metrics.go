package reasoner

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
)

type metrics struct {
	made       *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	chains     *prometheus.CounterVec
	cited      prometheus.Counter
	ungrounded prometheus.Counter
	lines      *prometheus.CounterVec
	unlogged   prometheus.Counter
	unstored   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		made: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "r2rec_recommendations_total",
			Help: "Recommendations made, by who ranked (reasoned, graph) and why the graph did although there is a model."}, []string{"source", "fallback"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "r2rec_recommendation_seconds",
			Help: "Time of one recommendation, by stage: graph, model, masking, all.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 15)}, []string{"stage"}),
		chains: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "r2rec_thought_chains_total",
			Help: "Chains of thoughts, by how far they came: proposed, measured (masked, and ranked again), positive (of the measured: they contribute), shown (those, and what was not measured)."}, []string{"stage"}),
		cited: prometheus.NewCounter(prometheus.CounterOpts{Name: "r2rec_thoughts_with_chains_total",
			Help: "Recommendations with a thought that shows at least one chain."}),
		ungrounded: prometheus.NewCounter(prometheus.CounterOpts{Name: "r2rec_ungrounded_steps_total",
			Help: "Steps of thoughts that cited what is not in the graph, and were not shown."}),
		lines: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "r2rec_thought_lines_total",
			Help: "Lines of thoughts that models wrote, by what became of them: grounded, shortened where their end claimed what is not so, or the fault for which they were dropped before anybody saw them."}, []string{"fate"}),
		unlogged: prometheus.NewCounter(prometheus.CounterOpts{Name: "r2rec_decisions_not_logged_total",
			Help: "Decisions that Kafka did not take; their documents carry no decision id."}),
		unstored: prometheus.NewCounter(prometheus.CounterOpts{Name: "r2rec_recommendations_not_stored_total",
			Help: "Recommendations that Redis did not take."}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.made, m.seconds, m.chains, m.cited, m.ungrounded, m.lines, m.unlogged, m.unstored} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("reasoner: register metrics: %w", err)
		}
	}
	return m, nil
}

// wrote counts the lines of what a model wrote.
func (m *metrics) wrote(r iot.Reply) {
	m.lines.WithLabelValues("grounded").Add(float64(len(r.Thought.Steps) - r.Shortened))
	m.lines.WithLabelValues("shortened").Add(float64(r.Shortened))
	for _, err := range r.Dropped {
		var e *iot.UngroundedError
		if errors.As(err, &e) {
			m.lines.WithLabelValues(string(e.Fault)).Inc()
		}
	}
}

// thought counts the chains of a thought that was served.
func (m *metrics) thought(t event.Thought) {
	shown := citations(t)
	masking := event.Masking{Proposed: shown}
	if t.Masking != nil {
		masking = *t.Masking
	}
	for stage, n := range map[string]int{"proposed": masking.Proposed, "measured": masking.Measured, "positive": masking.Positive, "shown": shown} {
		m.chains.WithLabelValues(stage).Add(float64(n))
	}
	if shown > 0 {
		m.cited.Inc()
	}
}
