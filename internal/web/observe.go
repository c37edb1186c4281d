package web

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests    *prometheus.CounterVec   // route, code
	seconds     *prometheus.HistogramVec // route
	events      *prometheus.CounterVec   // result
	impressions *prometheus.CounterVec   // result
}

func newMetrics(r prometheus.Registerer, f *Feed) (metrics, error) {
	m := metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "r2rec_http_requests_total", Help: "Requests answered, by route and status code.",
		}, []string{"route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "r2rec_http_request_seconds", Help: "Time to answer, by route; streams are left out.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"route"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "r2rec_http_events_total", Help: "Events posted, by result: published, refused or failed.",
		}, []string{"result"}),
		impressions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "r2rec_http_impressions_total", Help: "Impressions published for lists that were declared as shown, by result: published or failed.",
		}, []string{"result"}),
	}
	for _, result := range []string{"published", "failed"} {
		m.impressions.WithLabelValues(result)
	}
	collectors := []prometheus.Collector{
		m.requests, m.seconds, m.events, m.impressions,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "r2rec_http_streams", Help: "Streams that are open.",
		}, func() float64 { return float64(f.streams()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "r2rec_http_stream_dropped_total", Help: "Messages that a stream missed because its reader was slow.",
		}, func() float64 { return float64(f.missed.Load()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "r2rec_http_stream_unsampled_total", Help: "Events left out of the streams because more came than can be shown.",
		}, func() float64 { return float64(f.unsampled.Load()) }),
	}
	for _, c := range collectors {
		if err := r.Register(c); err != nil {
			return metrics{}, fmt.Errorf("web: register metrics: %w", err)
		}
	}
	return m, nil
}

// observe counts, times and logs. The route is the pattern and not the path, so that the number of series is bounded
// and no user id gets into metrics or logs.
func (s *Server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := s.Now()
		rec := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			took := s.Now().Sub(begun)
			route := r.Pattern
			if route == "" {
				route = "none"
			}
			s.metrics.requests.WithLabelValues(route, strconv.Itoa(rec.status)).Inc()
			if route != "GET /v1/stream" {
				s.metrics.seconds.WithLabelValues(route).Observe(took.Seconds())
			}
			s.log.Debug("answered", "method", r.Method, "route", route, "status", rec.status, "took", took, "from", r.RemoteAddr)
		}()
		next.ServeHTTP(rec, r)
	})
}

// statusRecorder remembers the status that was sent.
type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (r *statusRecorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
