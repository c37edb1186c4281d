package reasoner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/policy"
)

// Target says which adapters are to be served. Digests name them; an empty one is the bare base model.
type Target struct {
	Current   string
	Candidate string  // to Share of the users, while it is being rolled out; empty: there is none
	Share     float64 // 0 to 1
}

func (t Target) wants(adapter string) bool {
	return adapter == t.Current || adapter != "" && adapter == t.Candidate
}

// Loader makes adapters ready.
type Loader interface {
	// Load fetches an adapter and gets it ready beside everything that serves; an empty digest is the bare base model.
	// An error with a method Refused() bool that answers true says that the adapter must not be served here, however
	// often it is tried; any other, that it may work later.
	Load(ctx context.Context, adapter string) (Loaded, error)
}

// Loaded is a model that a Loader made ready. Its Identity names the adapter.
type Loaded interface {
	Model
	// Prove compares what it answers with what its trainer measured: an error says why it is not to be served. Errors
	// are of the two kinds that Loader.Load has. The context bounds nothing: Prove gives each answer no longer than each.
	Prove(ctx context.Context, each time.Duration) error
	// Warm has it ready to answer its first request as fast as any other. The context and each are as Prove's.
	Warm(ctx context.Context, each time.Duration) error
	// Close lets go of it. Nothing is asked of it any more.
	Close() error
}

// SwitchOptions of a Switch. The zero value of a field takes the default its comment states.
type SwitchOptions struct {
	Loader Loader // required
	// First is the bare base model, which serves at once. The Switch closes it in the end. Required.
	First Loaded
	// StepTimeout bounds each step of an attempt: to fetch and load an adapter, and one answer of its proof or to warm it
	// up. It does not bound the attempt: a proof is hundreds of calls to some model servers, which a slow one may take an
	// hour for, and one that stands still is given up after the first. Default 10 minutes.
	StepTimeout time.Duration
	// Backoff makes the pauses between attempts; it must never say backoff.Stop. Default: 1 s, doubled up to a minute,
	// each half as long to one and a half times as long.
	Backoff func() backoff.BackOff

	Now        func() time.Time                       // required
	After      func(d time.Duration) <-chan time.Time // a timer of the same clock. Default time.After
	Logger     *slog.Logger                           // Default: discarded
	Registerer prometheus.Registerer                  // Default: metrics are counted but not registered
}

// Switch serves one adapter, and possibly a second one to a share of the users, and changes them while requests go on.
// What is wanted and missing is loaded beside what serves, proven and warmed up; then one pointer moves. No request waits
// for any of it, none fails for it, and each is answered wholly by the model that it began with: a model is closed when
// the last request that holds it has ended.
//
// An adapter that cannot be had, or is refused, leaves what serves where it is; Status says so. It is safe for concurrent
// use.
type Switch struct {
	opt     SwitchOptions
	metrics *switchMetrics
	serving atomic.Pointer[serving]
	wake    chan struct{}  // something may be to load
	open    sync.WaitGroup // models that are not closed yet

	mu      sync.Mutex
	want    Target
	loaded  map[string]*holding // by adapter, each with one reference of ours
	faults  map[string]*fault   // of adapters that are wanted, by adapter
	loading *attempt            // nil: nothing is being loaded
	changed chan struct{}       // closed at the next change of Status
	closed  bool
}

// serving is what requests see of a Switch, all of it at once.
type serving struct {
	current, candidate *holding // candidate nil: there is none
	share              float64
}

// holding counts who holds a model: the requests, and the Switch as long as it serves it.
type holding struct {
	Loaded
	adapter string
	holders atomic.Int64
	end     func() // when nobody holds it any more
}

// hold takes a model unless it has ended.
func (h *holding) hold() bool {
	for {
		n := h.holders.Load()
		if n == 0 {
			return false
		}
		if h.holders.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (h *holding) release() {
	if h.holders.Add(-1) == 0 {
		h.end()
	}
}

// attempt is one adapter on its way.
type attempt struct {
	adapter string
	cancel  context.CancelFunc
}

// fault says why an adapter that is wanted does not serve.
type fault struct {
	Fault
	pause backoff.BackOff
}

// NewSwitch serves the base model.
func NewSwitch(opt SwitchOptions) (*Switch, error) {
	if opt.Loader == nil || opt.First == nil || opt.Now == nil {
		return nil, errors.New("reasoner: a Switch needs Loader, First and Now")
	}
	defaultTo(&opt.StepTimeout, 10*time.Minute)
	if opt.Backoff == nil {
		opt.Backoff = func() backoff.BackOff {
			return backoff.NewExponentialBackOff(backoff.WithInitialInterval(time.Second), backoff.WithMultiplier(2), backoff.WithMaxInterval(time.Minute), backoff.WithMaxElapsedTime(0))
		}
	}
	if opt.After == nil {
		opt.After = time.After
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newSwitchMetrics(opt.Registerer)
	if err != nil {
		return nil, err
	}
	s := &Switch{opt: opt, metrics: m, wake: make(chan struct{}, 1), loaded: map[string]*holding{}, faults: map[string]*fault{}, changed: make(chan struct{})}
	first := s.hold("", opt.First)
	s.loaded[""] = first
	s.serving.Store(&serving{current: first})
	return s, nil
}

// hold begins to count the holders of a model: for now it is us.
func (s *Switch) hold(adapter string, m Loaded) *holding {
	h := &holding{Loaded: m, adapter: adapter}
	h.holders.Store(1)
	s.open.Add(1)
	s.metrics.loaded.Inc()
	h.end = func() { // apart from the last request, which need not wait for it
		go func() {
			defer s.open.Done()
			s.metrics.loaded.Dec()
			if err := m.Close(); err != nil {
				s.opt.Logger.Warn("an adapter that served its last request did not close cleanly", "adapter", shown(adapter), "error", err)
			}
		}()
	}
	return h
}

// errNoModel says that a Switch has been closed.
var errNoModel = errors.New("no model serves any more")

// Hold returns the model that answers the user.
func (s *Switch) Hold(_ context.Context, user string) (Model, func(), error) {
	for {
		now := s.serving.Load()
		if now == nil {
			return nil, nil, errNoModel
		}
		h := now.current
		if now.candidate != nil && policy.InRollOut(now.candidate.adapter, user, now.share) {
			h = now.candidate
		}
		if h.hold() { // otherwise it has ended, and others have begun to serve before that
			return h.Loaded, sync.OnceFunc(h.release), nil
		}
	}
}

// Want says what is to be served from now on. What is loaded already serves before it returns; Run loads the rest.
func (s *Switch) Want(t Target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t == s.want || s.closed {
		return
	}
	s.want = t
	maps.DeleteFunc(s.faults, func(adapter string, _ *fault) bool { return !t.wants(adapter) })
	if s.loading != nil && !t.wants(s.loading.adapter) {
		s.loading.cancel()
	}
	s.settle()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// settle serves what is wanted as far as it is loaded, and lets go of what is not wanted any more. Where the adapter that
// is to be current is not there, what was current stays.
func (s *Switch) settle() {
	was := s.serving.Load()
	is := &serving{current: was.current, share: s.want.Share}
	if h := s.loaded[s.want.Current]; h != nil {
		is.current = h
	}
	if s.want.Candidate != "" {
		is.candidate = s.loaded[s.want.Candidate]
	}
	if *is != *was {
		s.serving.Store(is)
		if is.current != was.current || is.candidate != was.candidate {
			s.metrics.switches.Inc()
		}
		s.opt.Logger.Info("serving", "adapter", shown(is.current.adapter), "candidate", is.candidate.digest(), "share", is.share, "was", shown(was.current.adapter))
	}
	for adapter, h := range s.loaded {
		if h != is.current && h != is.candidate {
			delete(s.loaded, adapter)
			h.release()
		}
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// digest of the adapter; none has an empty one.
func (h *holding) digest() string {
	if h == nil {
		return ""
	}
	return h.adapter
}

// shown is an adapter for people.
func shown(adapter string) string {
	if adapter == "" {
		return "none (the base model)"
	}
	return adapter
}

// Fault says why an adapter that is wanted does not serve.
type Fault struct {
	Adapter  string     `json:"adapter"`
	Reason   string     `json:"reason"`
	Refused  bool       `json:"refused"` // it will not be tried again
	Attempts int        `json:"attempts"`
	Since    event.Time `json:"since"`           // the first of them ended
	Again    event.Time `json:"again,omitempty"` // when it is tried again
}

// SwitchStatus is what a Switch does at one moment.
type SwitchStatus struct {
	Wanted  Target
	Serving Target
	Loading string  // the adapter that is being loaded; empty: none, or the base
	Faults  []Fault // one a wanted adapter that does not serve, by digest
}

// Settled tells whether everything that is wanted serves.
func (s SwitchStatus) Settled() bool { return s.Serving == s.Wanted }

// Status is what is wanted, what serves, and why the two differ.
func (s *Switch) Status() SwitchStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status()
}

func (s *Switch) status() SwitchStatus {
	out := SwitchStatus{Wanted: s.want}
	if now := s.serving.Load(); now != nil {
		out.Serving = Target{Current: now.current.adapter, Candidate: now.candidate.digest()}
		if now.candidate != nil || s.want.Candidate == "" {
			out.Serving.Share = now.share
		}
	}
	if s.loading != nil {
		out.Loading = s.loading.adapter
	}
	for _, adapter := range slices.Sorted(maps.Keys(s.faults)) {
		out.Faults = append(out.Faults, s.faults[adapter].Fault)
	}
	return out
}

// Await waits until the status is as asked for. The error is the context's.
func (s *Switch) Await(ctx context.Context, until func(SwitchStatus) bool) error {
	for {
		s.mu.Lock()
		now, changed := s.status(), s.changed
		s.mu.Unlock()
		if until(now) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for adapters %+v, while %+v serve: %w", now.Wanted, now.Serving, ctx.Err())
		}
	}
}

// Close lets go of all models, and waits until the last request that holds one has ended. It is called when Run has
// ended.
func (s *Switch) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.serving.Store(nil)
	for adapter, h := range s.loaded {
		delete(s.loaded, adapter)
		h.release()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { s.open.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close the models: requests hold some of them still: %w", ctx.Err())
	}
}
