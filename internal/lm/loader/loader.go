// Package loader makes adapters ready to be served: it fetches one by its digest, has an engine put it beside the base
// model that runs, shows by its canaries that it is what was trained (package proof), and warms it up.
//
// What it promises: an adapter that is for another base, readout, prompt version or tokenizer, that is to think before its
// answers where models here do not, or the reverse, that cannot be read, that changes nothing, or that the engine does not
// really serve, is refused with an error that says which of these; its method Refused() bool answers true. Any other error
// may be gone the next time.
//
// What it leaves to others: where adapters are kept (Fetch), when to load and when to switch (reasoner.Switch), and how a
// model server takes an adapter (an Engine; Embedded is that of the models that run within this program).
package loader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm/proof"
)

// File is an adapter that was fetched: a GGUF file whose SHA-256 is the digest that was asked for, and the prompts by
// which it is proven.
type File struct {
	Path     string
	Canaries []proof.Canary
	Think    int          // tokens of the thought before its answers, at most, with which it was judged; 0: it answered at once
	Read     func() error // is called when the engine needs the file no more; nil: it stays
}

// Engine runs a base model, and adapters beside it.
type Engine interface {
	// Bare is the base model.
	Bare(ctx context.Context) (Model, error)
	// Adapt puts the adapter of a file beside everything that runs. The error is one of Refuse where the adapter is what
	// is wrong.
	Adapt(ctx context.Context, digest, path string) (Model, error)
}

// Model is the base model with an adapter, or without.
type Model interface {
	// Identity names base and adapter, and the version of the prompts.
	Identity(ctx context.Context) (event.Model, error)
	// Rank returns the log share of each candidate, in the order of the prompt's context.
	Rank(ctx context.Context, p iot.Prompt) ([]float64, error)
	// Sides answer canaries as trainers do, which is not calibrated: the bare base, and this model.
	Sides() (base, adapter proof.Ranker)
	// Close lets go of this model; others of the same engine go on.
	Close() error
}

// Loader loads adapters into one engine.
type Loader struct {
	Engine Engine
	Fetch  func(ctx context.Context, digest string) (File, error)
}

// Load fetches an adapter and has the engine run it; an empty digest is the bare base model.
func (l Loader) Load(ctx context.Context, digest string) (*Loaded, error) {
	if digest == "" {
		m, err := l.Engine.Bare(ctx)
		if err != nil {
			return nil, fmt.Errorf("run the base model: %w", err)
		}
		return &Loaded{Model: m}, nil
	}
	f, err := l.Fetch(ctx, digest)
	if err != nil {
		return nil, fmt.Errorf("fetch adapter %s: %w", digest, err)
	}
	m, err := l.Engine.Adapt(ctx, digest, f.Path)
	if f.Read != nil {
		err = errors.Join(err, f.Read())
	}
	if err != nil {
		if m != nil {
			err = errors.Join(err, m.Close())
		}
		return nil, err
	}
	who, err := m.Identity(ctx)
	if err == nil && who.Think != f.Think {
		err = Refuse(fmt.Errorf("adapter %s is in the log as one that %s, and the model %s here: serve with --think %d, or roll it back", digest, thinks(f.Think), thinks(who.Think), f.Think))
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return &Loaded{Model: m, adapter: digest, canaries: f.Canaries}, nil
}

// thinks says whether a model thinks, after its subject.
func thinks(tokens int) string {
	if tokens == 0 {
		return "answers at once"
	}
	return fmt.Sprintf("thinks for up to %d tokens", tokens)
}

// Loaded is a model that runs.
type Loaded struct {
	Model
	adapter  string
	canaries []proof.Canary
	report   proof.Report
}

// Prove compares what the engine answers to the canaries, each within a time, with what the trainer measured. The base
// model needs no proof.
func (m *Loaded) Prove(ctx context.Context, each time.Duration) error {
	if m.adapter == "" {
		return nil
	}
	who, err := m.Identity(ctx)
	if err != nil {
		return err
	}
	base, adapter := m.Sides()
	if m.report, err = proof.Prove(ctx, who.PromptVersion, m.canaries, base, adapter, each); err != nil {
		return err
	}
	return m.report.Err()
}

// Think has the model say why before it answers, if its identity says that it does (reasoner.Thinker).
func (m *Loaded) Think(ctx context.Context, c event.Context, p iot.Prompt) (iot.Reply, []float64, error) {
	t, ok := m.Model.(thinker)
	if !ok {
		return iot.Reply{}, nil, errors.New("think: the engine runs models that answer at once")
	}
	return t.Think(ctx, c, p)
}

type thinker interface {
	Think(ctx context.Context, c event.Context, p iot.Prompt) (iot.Reply, []float64, error)
}

// Report is what Prove found.
func (m *Loaded) Report() proof.Report { return m.report }

// warmPrompts are as many as a model is warmed up with.
const warmPrompts = 3

// Warm asks a few prompts. An answer that ranks nothing is one as well: a bare base that nobody taught has no better, and
// yet must be able to take the place of an adapter. Each has its time.
func (m *Loaded) Warm(ctx context.Context, each time.Duration) error {
	who, err := m.Identity(ctx)
	if err != nil {
		return err
	}
	for i := range warmPrompts {
		var p iot.Prompt
		if i < len(m.canaries) {
			p, err = iot.Build(who.PromptVersion, m.canaries[i].Context, m.canaries[i].Seed)
		} else {
			p, err = iot.ContentFree(who.PromptVersion, iot.MaxCandidates)
		}
		if err != nil {
			return err
		}
		var nonsense interface{ Nonsense() bool }
		if err := m.answer(ctx, who.Think > 0, i, p, each); err != nil && !(errors.As(err, &nonsense) && nonsense.Nonsense()) {
			return err
		}
	}
	return nil
}

// answer asks as a request would, and forgets the answer. Where there is no canary, there is nothing to think about.
func (m *Loaded) answer(ctx context.Context, thinks bool, canary int, p iot.Prompt, most time.Duration) (err error) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	if thinks && canary < len(m.canaries) {
		_, _, err = m.Think(ctx, m.canaries[canary].Context, p)
	} else {
		_, err = m.Rank(ctx, p)
	}
	return err
}

// Refuse says that an adapter must not be served, whatever is tried again.
func Refuse(err error) error { return refusal{err} }

type refusal struct{ error }

// Refused tells callers that know only the method that there is no use in trying again.
func (refusal) Refused() bool   { return true }
func (r refusal) Unwrap() error { return r.error }
