package reasoner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/r2rec/r2rec/internal/event"
)

// Run loads what Want asks for, until ctx ends. One adapter is loaded at a time, the one that is to be current first; a
// newer target that does not want the one that is being loaded ends that attempt.
func (s *Switch) Run(ctx context.Context) error {
	for {
		for adapter, ok := s.due(); ok && ctx.Err() == nil; adapter, ok = s.due() {
			s.try(ctx, adapter)
		}
		var again <-chan time.Time
		if pause, ok := s.pause(); ok {
			again = s.opt.After(pause)
		}
		select {
		case <-s.wake:
		case <-again:
		case <-ctx.Done():
			return nil
		}
	}
}

// due is an adapter that is wanted, not loaded, and may be tried now.
func (s *Switch) due() (adapter string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := []string{s.want.Current}
	if s.want.Candidate != "" {
		wanted = append(wanted, s.want.Candidate)
	}
	for _, adapter := range wanted {
		f := s.faults[adapter]
		if s.loaded[adapter] == nil && (f == nil || !f.Refused && f.Again <= event.At(s.opt.Now())) {
			return adapter, true
		}
	}
	return "", false
}

// pause is how long nothing is due; false: until something else is wanted.
func (s *Switch) pause() (pause time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		if f.Refused {
			continue
		}
		if left := f.Again.Std().Sub(s.opt.Now()); !ok || left < pause {
			pause, ok = max(left, 0), true
		}
	}
	return pause, ok
}

// try loads an adapter and serves it, or notes why not.
func (s *Switch) try(ctx context.Context, adapter string) {
	begun := s.opt.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	wanted := s.want.wants(adapter) // still
	if wanted {
		s.loading = &attempt{adapter: adapter, cancel: cancel}
	}
	s.mu.Unlock()
	if !wanted {
		return
	}

	m, err := s.load(ctx, adapter)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.loading = nil
	switch {
	case !s.want.wants(adapter) || errors.Is(err, context.Canceled) && ctx.Err() != nil: // overtaken, or the end
		s.metrics.loads.WithLabelValues("overtaken").Inc()
		if err == nil {
			s.hold(adapter, m).release()
		}
	case err != nil:
		s.failed(adapter, err)
	default:
		took := s.opt.Now().Sub(begun)
		s.metrics.loads.WithLabelValues("served").Inc()
		s.metrics.seconds.Observe(took.Seconds())
		s.opt.Logger.Info("adapter loaded, proven and warmed up", "adapter", shown(adapter), "took", took)
		delete(s.faults, adapter)
		s.loaded[adapter] = s.hold(adapter, m)
	}
	s.settle()
}

// load makes an adapter ready for its first request.
func (s *Switch) load(ctx context.Context, adapter string) (Loaded, error) {
	loading, cancel := context.WithTimeout(ctx, s.opt.StepTimeout)
	defer cancel()
	m, err := s.opt.Loader.Load(loading, adapter)
	if err != nil {
		return nil, err
	}
	if err := s.ready(ctx, m, adapter); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// ready finds out who the model is, has it prove itself, and warms it up.
func (s *Switch) ready(ctx context.Context, m Loaded, adapter string) error {
	asking, cancel := context.WithTimeout(ctx, s.opt.StepTimeout)
	defer cancel()
	who, err := m.Identity(asking)
	if err != nil {
		return err
	}
	if who.Adapter != adapter { // decisions would record the wrong one
		return refusal{fmt.Errorf("what was loaded calls itself adapter %q", who.Adapter)}
	}
	if err := m.Prove(ctx, s.opt.StepTimeout); err != nil {
		return err
	}
	if err := m.Warm(ctx, s.opt.StepTimeout); err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	return nil
}

// refusal is an error that trying again does not mend.
type refusal struct{ error }

func (refusal) Refused() bool   { return true }
func (r refusal) Unwrap() error { return r.error }

// failed notes why an adapter does not serve, and when it is tried again.
func (s *Switch) failed(adapter string, err error) {
	var r interface{ Refused() bool }
	f := s.faults[adapter]
	if f == nil {
		f = &fault{Fault: Fault{Adapter: adapter, Since: event.At(s.opt.Now())}, pause: s.opt.Backoff()}
		s.faults[adapter] = f
	}
	f.Attempts++
	f.Reason, f.Again = err.Error(), 0
	serves := shown(s.serving.Load().current.adapter)
	if f.Refused = errors.As(err, &r) && r.Refused(); f.Refused {
		s.metrics.loads.WithLabelValues("refused").Inc()
		s.opt.Logger.Error("adapter refused", "adapter", shown(adapter), "reason", err, "serving", serves)
		return
	}
	pause := f.pause.NextBackOff()
	f.Again = event.At(s.opt.Now().Add(pause))
	s.metrics.loads.WithLabelValues("failed").Inc()
	s.opt.Logger.Warn("adapter not loaded, to be tried again", "adapter", shown(adapter), "reason", err, "attempts", f.Attempts, "pause", pause, "serving", serves)
}

type switchMetrics struct {
	loads    *prometheus.CounterVec
	switches prometheus.Counter
	loaded   prometheus.Gauge
	seconds  prometheus.Histogram
}

func newSwitchMetrics(reg prometheus.Registerer) (*switchMetrics, error) {
	m := &switchMetrics{
		loads: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "r2rec_adapter_loads_total",
			Help: "Adapters that were to be served, by what became of it: served, refused, failed (tried again), overtaken by a newer one."}, []string{"outcome"}),
		switches: prometheus.NewCounter(prometheus.CounterOpts{Name: "r2rec_adapter_switches_total",
			Help: "Times that requests began to be answered by another adapter."}),
		loaded: prometheus.NewGauge(prometheus.GaugeOpts{Name: "r2rec_models_loaded",
			Help: "Models in memory: those that serve, and those whose last requests go on."}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "r2rec_adapter_load_seconds",
			Help: "Time to fetch, load, prove and warm up an adapter that was served.", Buckets: prometheus.ExponentialBuckets(0.005, 2, 16)}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.loads, m.switches, m.loaded, m.seconds} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("reasoner: register metrics: %w", err)
		}
	}
	return m, nil
}
