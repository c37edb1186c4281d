package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/lm/loader"
	"github.com/r2rec/r2rec/internal/lm/proof"
	"github.com/r2rec/r2rec/reasoner"
	"golang.org/x/sync/errgroup"
)

type benchSwapCommand struct {
	measuredBase `embed:""`

	Seconds  int `help:"How long clients ask, at least: each goes on until it had some answers after the last swap." default:"60" group:"Work"`
	Clients  int `help:"Clients, each of which asks again as soon as it has its answer." default:"32" group:"Work"`
	Swaps    int `help:"Swaps in that time, evenly apart." default:"20" group:"Work"`
	Adapters int `help:"Adapters to swap between, and the bare base model." default:"4" group:"Work"`
	Contexts int `help:"Users to ask for." default:"200" group:"Work"`
	Events   int `help:"Interactions of the bundled data set that make the graph from which the contexts are read; 0: all." default:"30000" group:"Work"`

	swapOllama `embed:""`

	JSON bool `help:"Figures for machines, one JSON object a line." group:"Results"`
}

// Help is shown by `r2rec bench swap --help`.
func (benchSwapCommand) Help() string {
	return `Makes a few adapters that truly differ, by some steps of learning, and has clients ask for recommendations while the
adapters are swapped under them: loaded beside the one that serves, proven, warmed up, switched.

failed_requests had no answer by a model. mixed_requests had one that the adapter which they name does not give for that
very prompt: each answer is computed again afterwards, by a model that was opened apart; compared_requests are those of which
the engine told enough for that. stall_p99_ms is the latency of
requests that were under way between a promotion and half a second after the switch. swap_ms is the time in between.

  r2rec bench swap
  r2rec bench swap --seconds 10 --swaps 5 --json
  r2rec bench swap --ollama http://127.0.0.1:11434`
}

// swapSubject is an engine under test, and adapters for it.
type swapSubject struct {
	name     string
	model    string // base model, in words
	engine   loader.Engine
	adapters []swapAdapter
	// apart gives the answers of an adapter, or of the base model, by a model that has nothing to do with those that
	// serve; done lets go of it. One that is a proof.Partial tells which of its answers the engine is surely told: only
	// these are compared, among each other.
	apart func(ctx context.Context, digest string) (r proof.Ranker, done func() error, err error)
	// tolerance is how far two answers of one adapter to one prompt may differ, in nats. 0: not at all.
	tolerance float64
	// concurrency is how many prompts are with the model at once.
	concurrency int
	close       func() error
}

// swapAdapter is an adapter as a store would give it.
type swapAdapter struct {
	digest string
	loader.File
}

func (c benchSwapCommand) Run(p *process) (err error) {
	if err := checkCounts(count{"--seconds", c.Seconds, 1}, count{"--clients", c.Clients, 1}, count{"--swaps", c.Swaps, 1}, count{"--adapters", c.Adapters, 1},
		count{"--contexts", c.Contexts, 1}, count{"--events", c.Events, 0}); err != nil {
		return wrong(err)
	}
	shown := &stages{p: p}
	defer shown.close()
	contexts, err := benchContexts(p, shown, c.Events, c.Contexts)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "r2rec-bench-swap-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	out := &benchReport{command: "bench swap", machine: thisMachine()}
	var all swapTotals
	if c.Ollama == "" {
		out.missing("ollama", "--ollama names no server")
	}
	for _, open := range c.subjects() {
		s, err := open(p.ctx, dir, shown, contexts)
		if err != nil {
			return err
		}
		measured, err := c.measure(p, shown, s, contexts)
		if err = errors.Join(err, s.close()); err != nil {
			return err
		}
		all.add(s, measured)
	}
	if err := p.ctx.Err(); err != nil {
		return err
	}
	shown.close()
	all.report(out, c.Clients)
	return out.write(p.stdout, c.JSON)
}

// subjectMaker opens an engine and makes adapters for it, their files in dir.
type subjectMaker func(ctx context.Context, dir string, shown *stages, contexts []event.Context) (*swapSubject, error)

// subjects are the engines to measure, one after the other.
func (c benchSwapCommand) subjects() []subjectMaker {
	all := []subjectMaker{c.embedded}
	if c.Ollama != "" {
		all = append(all, c.onServer)
	}
	return all
}

// swapMeasured is what one engine did.
type swapMeasured struct {
	requests []swapRequest
	swaps    []swapWindow
	verified
}

// swapRequest is one request, and its answer.
type swapRequest struct {
	begun, ended time.Time
	context      int
	seed         uint64
	adapter      string
	shares       []float64 // by the model; nil: it failed
}

// swapWindow is one swap.
type swapWindow struct {
	wanted, served time.Time
}

// afterSwap is how long after a switch requests may still feel it, and calmAnswers how many a client has at least that begin
// later than that after the last one, on whatever machine.
const (
	afterSwap   = 500 * time.Millisecond
	calmAnswers = 5
)

// measure has clients ask while adapters are swapped, and then computes all their answers again.
func (c benchSwapCommand) measure(p *process, shown *stages, s *swapSubject, contexts []event.Context) (m swapMeasured, err error) {
	files := map[string]loader.File{}
	for _, a := range s.adapters {
		files[a.digest] = a.File
	}
	l := loader.Loader{Engine: s.engine, Fetch: func(_ context.Context, digest string) (loader.File, error) { return files[digest], nil }}
	first, err := l.Load(p.ctx, "")
	if err != nil {
		return m, err
	}
	sw, err := reasoner.NewSwitch(reasoner.SwitchOptions{Loader: switchLoader{l}, First: first, Now: time.Now})
	if err != nil {
		return m, errors.Join(err, first.Close())
	}
	r, err := reasoner.New(reasoner.Options{Graph: fixedContexts(contexts), Rank: evenly, Models: sw, Log: unkept{}, Store: unkept{}, ModelWeight: embeddedWeight,
		ModelConcurrency: s.concurrency, Now: time.Now, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		return m, errors.Join(err, first.Close())
	}
	running, stop := context.WithCancel(p.ctx)
	defer stop()
	var switching errgroup.Group
	switching.Go(func() error { return sw.Run(running) })

	begun := time.Now()
	end := begun.Add(time.Duration(c.Seconds) * time.Second)
	answers := make([][]swapRequest, c.Clients)
	calm := make(chan struct{}) // closed shortly after the last swap
	g, ctx := errgroup.WithContext(p.ctx)
	for i := range c.Clients {
		g.Go(func() error {
			after := 0
			for n := i; (time.Now().Before(end) || after < calmAnswers) && ctx.Err() == nil; n += c.Clients {
				select {
				case <-calm:
					after++
				default:
				}
				answers[i] = append(answers[i], askOnce(ctx, r, n%len(contexts)))
			}
			return ctx.Err()
		})
	}
	g.Go(func() (err error) {
		if m.swaps, err = c.swap(ctx, shown, s, sw, begun); err != nil {
			return err
		}
		time.AfterFunc(afterSwap, func() { close(calm) })
		return nil
	})
	err = g.Wait()
	stop()
	err = errors.Join(err, switching.Wait())
	closing, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), warmWithin)
	defer cancel()
	if err = errors.Join(err, sw.Close(closing)); err != nil {
		return m, err
	}
	for _, a := range answers {
		m.requests = append(m.requests, a...)
	}
	m.verified, err = verify(p.ctx, shown, s, contexts, m.requests)
	return m, err
}

// askOnce is one request of a client.
func askOnce(ctx context.Context, r *reasoner.Reasoner, i int) swapRequest {
	q := swapRequest{context: i, begun: time.Now()}
	_, d, err := r.Recommend(ctx, reasoner.Request{User: userOf(i)})
	q.ended, q.seed = time.Now(), d.Seed
	if err != nil || d.Model == nil {
		return q
	}
	q.adapter = d.Model.Adapter
	for _, score := range d.Scores {
		q.shares = append(q.shares, *score.Model)
	}
	return q
}

// swap wants one adapter after the other, the bare base model among them.
func (c benchSwapCommand) swap(ctx context.Context, shown *stages, s *swapSubject, sw *reasoner.Switch, begun time.Time) (swaps []swapWindow, err error) {
	every := time.Duration(c.Seconds) * time.Second / time.Duration(c.Swaps)
	for i := range c.Swaps {
		shown.set("swapping adapters of "+s.name, i, c.Swaps)
		select {
		case <-time.After(time.Until(begun.Add(every/2 + time.Duration(i)*every))):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		var target reasoner.Target
		if k := i % (len(s.adapters) + 1); k < len(s.adapters) {
			target.Current = s.adapters[k].digest
		}
		w := swapWindow{wanted: time.Now()}
		sw.Want(target)
		var fault string
		err := sw.Await(ctx, func(st reasoner.SwitchStatus) bool {
			for _, f := range st.Faults {
				fault = f.Reason
			}
			return st.Settled() || fault != ""
		})
		if err != nil {
			return nil, err
		}
		if fault != "" {
			return nil, fmt.Errorf("swap %d of %s: %s", i+1, s.name, fault)
		}
		w.served = time.Now()
		swaps = append(swaps, w)
	}
	return swaps, nil
}

// fixedContexts answers from memory: user i has context i.
type fixedContexts []event.Context

func userOf(i int) string { return fmt.Sprint(i) }

// Snapshot implements reasoner.Graph.
func (f fixedContexts) Snapshot(_ context.Context, q reasoner.GraphQuery) (reasoner.GraphSnapshot, error) {
	var i int
	if _, err := fmt.Sscan(q.User, &i); err != nil {
		return reasoner.GraphSnapshot{}, err
	}
	return reasoner.GraphSnapshot{Context: f[i]}, nil
}

// evenly ranks nothing: the model alone is looked at.
func evenly(c event.Context) []float64 { return make([]float64, len(c.Candidates)) }

// processors is how many prompts an embedded model reads at once.
func processors() int { return runtime.GOMAXPROCS(0) }
