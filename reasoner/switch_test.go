package reasoner

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sync/errgroup"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/policy"
)

// weights are a model whose answers tell its adapter, and which must not be asked once closed.
type weights struct {
	adapter string
	from    *shelf
	closed  atomic.Bool
	asked   func() // before each answer; nil: nothing happens
}

func (w *weights) Identity(context.Context) (event.Model, error) {
	return event.Model{Name: "m", Digest: "sha256:1", Adapter: w.adapter, Readout: "lines", PromptVersion: iot.Words}, nil
}

func (w *weights) Rank(_ context.Context, p iot.Prompt) ([]float64, error) {
	if w.asked != nil {
		w.asked()
	}
	if w.closed.Load() {
		return nil, fmt.Errorf("adapter %q was asked after it was closed", w.adapter)
	}
	return policy.LogSoftmax(w.scores(len(p.Letters))), nil
}

// scores prefer the candidate that the adapter's name chooses.
func (w *weights) scores(n int) []float64 {
	z := make([]float64, n)
	for _, b := range []byte(w.adapter) {
		z[int(b)%n] += 2
	}
	return z
}

func (w *weights) Prove(ctx context.Context, each time.Duration) error {
	return w.answer(ctx, each, "prove "+w.adapter)
}

func (w *weights) Warm(ctx context.Context, each time.Duration) error {
	return w.answer(ctx, each, "warm "+w.adapter)
}

// answer takes the time of one answer after the other, as many as the shelf says.
func (w *weights) answer(ctx context.Context, each time.Duration, what string) error {
	for range w.from.answers {
		ctx, cancel := context.WithTimeout(ctx, each)
		defer cancel()
		if err := w.from.take(ctx, what); err != nil {
			return err
		}
	}
	return w.from.fault(what)
}

func (w *weights) Close() error {
	if w.closed.Swap(true) {
		return errors.New("closed twice")
	}
	w.from.open.Add(-1)
	return nil
}

// shelf is where adapters are loaded from; faults come by "load NAME", "prove NAME", "warm NAME".
type shelf struct {
	mu      sync.Mutex
	faults  map[string]error
	takes   map[string]time.Duration // what is not here takes no time
	answers int                      // of a proof, and to warm up
	loads   map[string]int
	begun   chan string   // hears of each load, where it is not nil
	proceed chan struct{} // and each waits for it
	alias   string        // what everything that is loaded calls itself; empty: what it is
	open    atomic.Int64
	asked   func(adapter string) // before each answer
}

func (s *shelf) fault(what string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults[what]
}

// take lets pass the time that something takes.
func (s *shelf) take(ctx context.Context, what string) error {
	if s.takes[what] == 0 {
		return nil
	}
	select {
	case <-time.After(s.takes[what]):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *shelf) set(what string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults == nil {
		s.faults = map[string]error{}
	}
	s.faults[what] = err
}

func (s *shelf) make(adapter string) *weights {
	s.open.Add(1)
	w := &weights{adapter: adapter, from: s}
	if s.asked != nil {
		w.asked = func() { s.asked(adapter) }
	}
	return w
}

func (s *shelf) Load(ctx context.Context, adapter string) (Loaded, error) {
	s.mu.Lock()
	if s.loads == nil {
		s.loads = map[string]int{}
	}
	s.loads[adapter]++
	s.mu.Unlock()
	if s.begun != nil {
		s.begun <- adapter
		select {
		case <-s.proceed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if err := s.take(ctx, "load "+adapter); err != nil {
		return nil, err
	}
	if err := s.fault("load " + adapter); err != nil {
		return nil, err
	}
	w := s.make(adapter)
	if s.alias != "" {
		w.adapter = s.alias
	}
	return w, nil
}

// clock is moved by hand.
type clock struct {
	mu     sync.Mutex
	now    time.Time
	timers []timer
	asked  func() // by whoever wants to know the time; nil: nothing happens
}

type timer struct {
	at time.Time
	c  chan time.Time
}

func (c *clock) Now() time.Time {
	if c.asked != nil {
		c.asked()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := timer{c.now.Add(d), make(chan time.Time, 1)}
	c.timers = append(c.timers, t)
	c.fire()
	return t.c
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	c.fire()
}

func (c *clock) fire() {
	var left []timer
	for _, t := range c.timers {
		if t.at.After(c.now) {
			left = append(left, t)
			continue
		}
		t.c <- c.now
	}
	c.timers = left
}

// newTestSwitch runs a Switch until the test ends. Every model that was loaded has to be closed by then.
func newTestSwitch(t *testing.T, s *shelf) (*Switch, *clock) {
	t.Helper()
	c := &clock{now: time.UnixMilli(1.8e12)}
	sw, err := NewSwitch(SwitchOptions{Loader: s, First: s.make(""), Now: c.Now, After: c.After,
		Backoff: func() backoff.BackOff { return backoff.NewConstantBackOff(time.Minute) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- sw.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := sw.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if n := s.open.Load(); n != 0 {
			t.Errorf("%d models are left open", n)
		}
		if n := testutil.ToFloat64(sw.metrics.loaded); n != 0 {
			t.Errorf("%v models are counted as loaded", n)
		}
	})
	return sw, c
}

func await(t *testing.T, s *Switch, until func(SwitchStatus) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.Await(ctx, until); err != nil {
		t.Fatal(err)
	}
}

// want asks for a target and waits until it serves.
func want(t *testing.T, s *Switch, target Target) {
	t.Helper()
	s.Want(target)
	await(t, s, SwitchStatus.Settled)
}

// answers is the adapter that answers a user.
func answers(t *testing.T, s *Switch, user string) string {
	t.Helper()
	m, release, err := s.Hold(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	who, err := m.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return who.Adapter
}

func TestSwitchServesWhatIsWanted(t *testing.T) {
	s := &shelf{}
	sw, _ := newTestSwitch(t, s)
	for _, target := range []Target{{}, {Current: "a"}, {Current: "b"}, {Current: "a"}, {}} {
		want(t, sw, target)
		if got := answers(t, sw, "u"); got != target.Current {
			t.Errorf("%q answers, want %q", got, target.Current)
		}
	}
	if n := testutil.ToFloat64(sw.metrics.switches); n != 4 {
		t.Errorf("%v switches are counted, want 4", n)
	}
}

// TestNoRequestSeesAModelClosed is invariant 9: however requests and swaps interleave, none fails.
func TestNoRequestSeesAModelClosed(t *testing.T) {
	s := &shelf{}
	sw, _ := newTestSwitch(t, s)
	prompt, err := iot.ContentFree(iot.Words, 8)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var g errgroup.Group
	var requests atomic.Int64
	for i := range 16 {
		g.Go(func() error {
			for ctx.Err() == nil {
				m, release, err := sw.Hold(ctx, fmt.Sprint("user ", i))
				if err != nil {
					return err
				}
				who, err := m.Identity(ctx)
				for range 3 {
					shares, failed := m.Rank(ctx, prompt)
					if err = errors.Join(err, failed); err != nil {
						return err
					}
					if w := (&weights{adapter: who.Adapter}); shares[3] != policy.LogSoftmax(w.scores(8))[3] {
						return fmt.Errorf("an answer of %q is not what that adapter gives", who.Adapter)
					}
				}
				release()
				release() // once more does no harm
				requests.Add(1)
			}
			return nil
		})
	}
	for i := range 200 {
		want(t, sw, Target{Current: fmt.Sprint("adapter ", i), Candidate: fmt.Sprint("candidate ", i), Share: .5})
	}
	cancel()
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if requests.Load() < 200 {
		t.Errorf("only %d requests went on beside 200 swaps", requests.Load())
	}
}

// TestARequestIsAnsweredByOneAdapter although another serves before it has been explained.
func TestARequestIsAnsweredByOneAdapter(t *testing.T) {
	s := &shelf{}
	var sw *Switch
	var once sync.Once
	s.asked = func(adapter string) {
		if adapter == "old" {
			once.Do(func() { want(t, sw, Target{Current: "new"}) })
		}
	}
	sw, _ = newTestSwitch(t, s)
	want(t, sw, Target{Current: "old"})
	m := newMaskable()
	r, _ := newTestReasoner(t, m.part, func(o *Options) { o.Graph, o.Models, o.MaskModel, o.MaskTimeout = m, sw, true, time.Minute })
	_, d, err := r.Recommend(t.Context(), Request{User: "u"})
	if err != nil {
		t.Fatal(err)
	}
	if d.Model == nil || d.Model.Adapter != "old" || d.Thought.Masking == nil || d.Thought.Masking.By != event.Reasoned || d.Thought.Masking.Measured != 6 {
		t.Errorf("answered by %+v, masked %+v; want all of it by the adapter that it began with", d.Model, d.Thought.Masking)
	}
	if got := answers(t, sw, "u"); got != "new" {
		t.Errorf("the next request is answered by %q, want the new adapter", got)
	}
}

// TestAModelIsOpenAsLongAsItIsHeld and no longer.
func TestAModelIsOpenAsLongAsItIsHeld(t *testing.T) {
	s := &shelf{}
	sw, _ := newTestSwitch(t, s)
	want(t, sw, Target{Current: "a"})
	m, release, err := sw.Hold(t.Context(), "u")
	if err != nil {
		t.Fatal(err)
	}
	want(t, sw, Target{Current: "b"})
	held := m.(*weights)
	if held.closed.Load() {
		t.Fatal("a model was closed that a request holds")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := sw.Close(ctx); !errors.Is(err, context.Canceled) || held.closed.Load() {
		t.Errorf("closing gave up with %v, the held model closed: %v; want it to wait for the request", err, held.closed.Load())
	}
	if _, _, err := sw.Hold(t.Context(), "u"); err == nil {
		t.Error("a closed Switch gave a model")
	}
	release()
	if err := sw.Close(t.Context()); err != nil || !held.closed.Load() {
		t.Errorf("%v, closed: %v; want the model closed with its last request", err, held.closed.Load())
	}
}

func TestRollOutServesAShare(t *testing.T) {
	sw, _ := newTestSwitch(t, &shelf{})
	want(t, sw, Target{Current: "old", Candidate: "new", Share: .2})
	got := map[string]int{}
	var theirs []string
	for i := range 2000 {
		user := fmt.Sprint("user ", i)
		got[answers(t, sw, user)]++
		if policy.InRollOut("new", user, .2) {
			theirs = append(theirs, user)
		}
	}
	if got["new"] != len(theirs) || got["new"] < 320 || got["new"] > 480 || got["old"] != 2000-got["new"] {
		t.Errorf("%v of 2000 users, want about 400 served by the new adapter", got)
	}
	want(t, sw, Target{Current: "old"}) // rolled back
	if adapter := answers(t, sw, theirs[0]); adapter != "old" {
		t.Errorf("after the roll-back %q answers", adapter)
	}
}

// TestRollBackNeedsNoLoad: what is loaded serves before Want returns, whatever else is going on.
func TestRollBackNeedsNoLoad(t *testing.T) {
	s := &shelf{}
	sw, _ := newTestSwitch(t, s)
	want(t, sw, Target{Current: "old", Candidate: "new", Share: 1})
	s.begun, s.proceed = make(chan string, 1), make(chan struct{})
	sw.Want(Target{Current: "other", Candidate: "new", Share: 1})
	<-s.begun
	sw.Want(Target{Current: "old"})
	if got := answers(t, sw, "u"); got != "old" {
		t.Errorf("%q answers right after the roll-back", got)
	}
	await(t, sw, func(st SwitchStatus) bool { return st.Settled() && st.Loading == "" })
}
