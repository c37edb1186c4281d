package web

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// MonitorOptions are all required but AllowedHosts, which are those of Options.
type MonitorOptions struct {
	Health       Health
	Gatherer     prometheus.Gatherer
	Logger       *slog.Logger
	AllowedHosts []string
}

// Monitor answers /healthz, /readyz and /metrics on ln until ctx ends, and nothing else: it is for a process that has no
// Server, and is watched over all the same. None of the three holds data of users. It closes ln.
func Monitor(ctx context.Context, ln net.Listener, o MonitorOptions) error {
	const timeout = 10 * time.Second
	s := &Server{
		Options:  Options{Health: o.Health, Gatherer: o.Gatherer, AllowedHosts: o.AllowedHosts, ShutdownGrace: time.Second},
		log:      o.Logger,
		timeouts: timeouts{header: timeout, read: timeout, write: timeout, idle: 2 * time.Minute},
		ending:   make(chan struct{}),
	}
	return s.answer(ctx, ln, s.protect(s.mux(s.probes(), isLoopback(ln.Addr()), "there are /healthz, /readyz and /metrics here")))
}
