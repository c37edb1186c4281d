package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/lm/loader"
	"github.com/r2rec/r2rec/internal/policy"
	"github.com/r2rec/r2rec/internal/web"
	"github.com/r2rec/r2rec/reasoner"
	"github.com/r2rec/r2rec/rltrainer"
	"golang.org/x/sync/errgroup"
)

// adapterParts are what a follower stands on.
type adapterParts struct {
	log    *adapters.Log
	store  *adapters.Store
	engine loader.Engine
}

// follower has a server serve what the log of adapters says.
type follower struct {
	p     *process
	parts adapterParts
	shown adapters.Projection // of the log, for who only wants to look
	dir   string              // for files on their way into the engine
	base  event.Model         // the bare one
	sw    *reasoner.Switch

	mu     sync.Mutex
	state  adapters.State
	read   bool  // the log, to its end, at least once
	broken error // why it is not followed any more
}

// newFollower serves the bare base model until run has read the log.
func newFollower(p *process, parts adapterParts, shown adapters.Projection, reg prometheus.Registerer) (_ *follower, err error) {
	f := &follower{p: p, parts: parts, shown: shown}
	if f.dir, err = os.MkdirTemp("", "r2rec-adapters-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(f.dir))
		}
	}()
	l := loader.Loader{Engine: parts.engine, Fetch: f.fetch}
	first, err := l.Load(p.ctx, "")
	if err != nil {
		return nil, err
	}
	if f.base, err = first.Identity(p.ctx); err == nil {
		f.sw, err = reasoner.NewSwitch(reasoner.SwitchOptions{Loader: switchLoader{l}, First: first, Now: time.Now, Logger: p.log, Registerer: reg})
	}
	if err != nil {
		return nil, errors.Join(err, first.Close())
	}
	return f, nil
}

// switchLoader is a loader as a Switch takes it.
type switchLoader struct{ loader.Loader }

func (l switchLoader) Load(ctx context.Context, adapter string) (reasoner.Loaded, error) {
	m, err := l.Loader.Load(ctx, adapter)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// fetch brings an adapter's file from the store.
func (f *follower) fetch(ctx context.Context, digest string) (loader.File, error) {
	path, m, err := f.parts.store.Fetch(ctx, digest, f.dir)
	if err != nil {
		return loader.File{}, err
	}
	f.mu.Lock()
	record, _ := f.state.Record(digest)
	f.mu.Unlock()
	return loader.File{Path: path, Canaries: m.Canaries, Think: record.Think, Read: func() error { return os.Remove(path) }}, nil
}

// wants tells whether the log wants an adapter for a user, whether this process has it or not; of a log that was not read yet
// nothing is known, and it may.
func (f *follower) wants(user, adapter string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.read {
		return true
	}
	if of, ok := rltrainer.RollOutOf(f.state); ok && policy.InRollOut(of.Candidate, user, of.Share) {
		return adapter == of.Candidate
	}
	return adapter == f.state.Current
}

// run follows the log until ctx ends. Where the log itself is broken, what serves goes on serving.
func (f *follower) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return f.sw.Run(ctx) })
	g.Go(func() error {
		err := f.parts.log.Follow(ctx, func(s adapters.State) error {
			f.saw(s)
			if _, err := f.shown.Write(ctx, s); err != nil && ctx.Err() == nil { // the next record writes it again
				f.p.log.Warn("the log of adapters is not projected into Redis", "error", err)
			}
			return nil
		})
		if ctx.Err() == nil {
			f.p.log.Error("the log of adapters is not followed any more: what serves goes on", "error", err)
			f.mu.Lock()
			f.broken = err
			f.mu.Unlock()
		}
		return nil
	})
	return g.Wait()
}

// saw takes over a state of the log, unless it is older than what is known.
func (f *follower) saw(s adapters.State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.read && s.Offset < f.state.Offset {
		return
	}
	if !f.read {
		f.p.log.Info("following the log of adapters", "records", len(s.Entries), "current", adapters.Name(s.Current), "serving", adapters.Name(f.sw.Status().Serving.Current))
	}
	f.state, f.read = s, true
	f.sw.Want(reasoner.Target{Current: s.Current, Candidate: s.Candidate, Share: s.Share})
}

// close lets go of all models; requests have ended.
func (f *follower) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	return errors.Join(f.sw.Close(ctx), os.RemoveAll(f.dir))
}

// health says which adapter serves, and which does not although it is wanted, and why.
func (f *follower) health(context.Context) (web.State, string) {
	f.mu.Lock()
	read, broken := f.read, f.broken
	f.mu.Unlock()
	st := f.sw.Status()
	serves := adapters.Name(st.Serving.Current)
	if c := st.Serving.Candidate; c != "" {
		serves += fmt.Sprintf(", and %s to %.3g %% of the users", adapters.Name(c), 100*st.Serving.Share)
	}
	switch {
	case broken != nil:
		return web.Degraded, fmt.Sprintf("serving %s; the log of adapters is not followed any more: %v", serves, broken)
	case !read:
		return web.Degraded, fmt.Sprintf("serving %s; the log of adapters has not been read yet", serves)
	case len(st.Faults) > 0:
		var why []string
		for _, fault := range st.Faults {
			why = append(why, fmt.Sprintf("%s is wanted: %s", adapters.Name(fault.Adapter), fault.Reason))
		}
		return web.Degraded, fmt.Sprintf("serving %s; %s", serves, strings.Join(why, "; "))
	case !st.Settled():
		return web.OK, fmt.Sprintf("serving %s; loading %s", serves, adapters.Name(st.Loading))
	}
	return web.OK, serves
}

// identity is the model that serves most users.
func (f *follower) identity(ctx context.Context) (event.Model, error) {
	m, release, err := f.sw.Hold(ctx, "")
	if err != nil {
		return event.Model{}, err
	}
	defer release()
	return m.Identity(ctx)
}

// reachable tells whether the server that runs the models is there; within this program they always are.
func (f *follower) reachable(ctx context.Context) error {
	if e, ok := f.parts.engine.(interface {
		Check(ctx context.Context) error
	}); ok {
		return e.Check(ctx)
	}
	return nil
}

// Adapters implements web.Adapters.
func (f *follower) Adapters(context.Context) (web.AdapterState, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.read {
		return web.AdapterState{}, errors.New("the log of adapters has not been read yet")
	}
	return f.show(f.state), nil
}

// show is a state for the API, with what serves here.
func (f *follower) show(s adapters.State) web.AdapterState {
	st := f.sw.Status()
	out := web.AdapterState{Current: s.Current, Candidate: s.Candidate, Share: s.Share, Since: s.Since, Gates: s.Gates,
		Serving: web.ServingState{Current: st.Serving.Current, Candidate: st.Serving.Candidate, Share: st.Serving.Share, Loading: st.Loading}}
	for _, e := range s.Entries {
		out.Entries = append(out.Entries, web.AdapterEntry(e))
	}
	for _, fault := range st.Faults {
		out.Serving.Faults = append(out.Serving.Faults, web.AdapterFault(fault))
	}
	return out
}

// RollBack implements web.Adapters.
func (f *follower) RollBack(ctx context.Context, ask web.RollBack) (web.AdapterState, string, error) {
	s, err := f.parts.log.State(ctx)
	if err != nil {
		return web.AdapterState{}, "", err
	}
	p := event.Promotion{Kind: event.RollBack, Parent: s.Current, Base: f.base.Digest, Readout: f.base.Readout, Prompt: f.base.PromptVersion, Think: f.base.Think,
		Reason: ask.Reason, Timestamp: event.At(time.Now())}
	switch line := s.Lineage(); {
	case s.Candidate != "":
		p.Parent, p.Adapter = s.Candidate, s.Current
	case len(line) == 0 && ask.Adapter == nil:
		return web.AdapterState{}, "the bare base model is current, and nothing was before it", nil
	case len(line) > 1:
		p.Adapter = line[1]
	}
	if ask.Adapter != nil {
		p.Adapter = *ask.Adapter
	}
	if ask.From != nil && *ask.From != p.Parent {
		return web.AdapterState{}, fmt.Sprintf("from is %s, and what would be taken back by now is %s", adapters.Name(*ask.From), adapters.Name(p.Parent)), nil
	}
	if about, ok := s.Record(cmp.Or(p.Parent, p.Adapter)); ok { // the server's own model may be another, or read otherwise
		p.Base, p.Readout, p.Prompt, p.Think = about.Base, about.Readout, about.Prompt, about.Think
	}
	if err := p.Validate(); err != nil {
		return web.AdapterState{}, "", err
	}
	if void := voidIn(s, p); void != "" { // what is appended stays for ever, and each attempt would add one
		return web.AdapterState{}, void, nil
	}
	if gone := goneFor(ctx, f.parts.store, s, p.Adapter); gone != nil {
		return web.AdapterState{}, gone.Error(), nil
	}
	s, counts, err := f.parts.log.Append(ctx, p)
	if err != nil {
		return web.AdapterState{}, "", err
	}
	if !counts {
		return web.AdapterState{}, s.Entries[len(s.Entries)-1].Void, nil
	}
	f.saw(s) // at once here; others follow
	return f.show(s), "", nil
}
