package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/r2rec/r2rec/internal/event"
)

// Options say what the server stands on and how it behaves. The first block has to be given; every zero value of the
// second means the default that its comment names.
type Options struct {
	Recommender Recommender
	Publisher   Publisher
	Explorer    Explorer
	Health      Health
	Feed        *Feed // what the consumer and the demo report to
	Logger      *slog.Logger
	Now         func() time.Time
	Registerer  prometheus.Registerer // the server's own metrics go here
	Gatherer    prometheus.Gatherer   // what /metrics shows

	Adapters         Adapters      // the log of adapters; nil: this server follows none
	Loop             Loop          // how learning goes; nil: it is not followed
	Token            string        // bearer token asked for by everything that holds data; "": none
	AllowedHosts     []string      // host names, as CheckHost wants them, that are answered besides the loopback ones; none and not on loopback: all
	DefaultK         int           // items of a list where the request does not say; 5
	MaxK             int           // most items of a list; 50
	FutureTolerance  time.Duration // how far in the future an event's timestamp may lie; event.Skew, as consumers
	RecommendTimeout time.Duration // for one fresh recommendation; 30 s
	Decisions        int           // newest decisions kept in memory for `why`; 1000
	MaxStreams       int           // streams at once; 64
	Tick             time.Duration // between stats messages; 1 s
	ShutdownGrace    time.Duration // for requests in flight when Serve is told to end; 5 s
}

func (o *Options) fill() error {
	switch {
	case o.Recommender == nil, o.Publisher == nil, o.Explorer == nil, o.Health == nil:
		return errors.New("web: Recommender, Publisher, Explorer and Health must be given")
	case o.Feed == nil, o.Logger == nil, o.Now == nil, o.Registerer == nil, o.Gatherer == nil:
		return errors.New("web: Feed, Logger, Now, Registerer and Gatherer must be given")
	}
	setDefault(&o.DefaultK, 5)
	setDefault(&o.MaxK, 50)
	setDefault(&o.FutureTolerance, event.Skew)
	setDefault(&o.RecommendTimeout, 30*time.Second)
	setDefault(&o.Decisions, 1000)
	setDefault(&o.MaxStreams, 64)
	setDefault(&o.Tick, time.Second)
	setDefault(&o.ShutdownGrace, 5*time.Second)
	if o.DefaultK < 1 || o.DefaultK > o.MaxK {
		return fmt.Errorf("web: DefaultK %d must be 1 to MaxK, which is %d", o.DefaultK, o.MaxK)
	}
	if o.Decisions < 1 || o.MaxStreams < 1 || o.Tick <= 0 || o.RecommendTimeout <= 0 {
		return errors.New("web: Decisions, MaxStreams, Tick and RecommendTimeout must be positive")
	}
	return nil
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// timeouts of the HTTP server. WriteTimeout has to leave room for a fresh recommendation.
type timeouts struct{ header, read, write, idle, keepAlive time.Duration }

// Server serves the API and the page.
type Server struct {
	Options
	log       *slog.Logger
	decisions *decisions
	metrics   metrics
	assets    map[string]asset
	timeouts  timeouts
	ending    chan struct{} // closed when Serve is told to end: streams stop
	tracing   chan struct{} // holds one token while a user's traces are looked for
}

// New checks the options and registers the server's metrics.
func New(o Options) (*Server, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	assets, err := loadAssets()
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(o.Registerer, o.Feed)
	if err != nil {
		return nil, err
	}
	return &Server{
		Options: o, log: o.Logger, decisions: newDecisions(o.Decisions), metrics: m, assets: assets,
		timeouts: timeouts{
			header: 5 * time.Second, read: o.RecommendTimeout + 30*time.Second, write: o.RecommendTimeout + 30*time.Second,
			idle: 2 * time.Minute, keepAlive: 15 * time.Second,
		},
		ending: make(chan struct{}), tracing: make(chan struct{}, 1),
	}, nil
}

// Decided records a decision for `why`, for the page and the feed. Decisions that are asked for over HTTP are recorded
// by the server itself; this is for those made elsewhere in the process.
func (s *Server) Decided(rec event.Recommendation, d event.Decision) {
	d.DecisionID = rec.DecisionID // none where Kafka did not take it: then nobody can refer to it
	s.decisions.add(redact(rec, d))
	s.Feed.decided(d)
}

// Forgotten drops from memory what the user did before u.ForgetBefore, wherever the request to forget came from. It is
// harmless to tell it twice.
func (s *Server) Forgotten(u event.User) { s.decisions.forget(u) }

// NotForgotten is a batch without what users did who were forgotten lately: a replay brings it once more.
func (s *Server) NotForgotten(batch []event.Interaction) []event.Interaction {
	return s.decisions.notForgotten(batch)
}

// Serve answers on ln until ctx ends, then stops streams at once, gives requests in flight ShutdownGrace, and returns
// nil. It closes ln. On a loopback address it answers only for loopback host names and AllowedHosts. It may be called
// once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	loopback := isLoopback(ln.Addr())
	if !loopback && s.Token == "" {
		s.log.Warn("no token is set and the address is not a loopback one: whoever reaches it can read and forget every user", "address", ln.Addr())
	}
	// group's context ends when ctx does or when the listener fails: either way everything below it ends.
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.answer(ctx, ln, s.handler(loopback)) })
	group.Go(func() error { s.tell(ctx); return nil })
	group.Go(func() error { s.report(ctx); return nil })
	return group.Wait()
}

// answer serves HTTP on ln until ctx ends.
func (s *Server) answer(ctx context.Context, ln net.Listener, h http.Handler) error {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: s.timeouts.header,
		ReadTimeout:       s.timeouts.read,
		WriteTimeout:      s.timeouts.write,
		IdleTimeout:       s.timeouts.idle,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve HTTP on %s: %w", ln.Addr(), err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		close(s.ending)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.ShutdownGrace)
		defer cancel()
		if err := server.Shutdown(grace); err != nil {
			s.log.Warn("requests in flight were cut off", "after", s.ShutdownGrace)
			return server.Close()
		}
		return nil
	})
	return group.Wait()
}

// isLoopback tells whether only this machine can connect to the address.
func isLoopback(a net.Addr) bool {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	return false
}
