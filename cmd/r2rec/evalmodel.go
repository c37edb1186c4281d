package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/lm"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/internal/lm/ollama"
	"github.com/r2rec/r2rec/rltrainer"
)

// evalled is a model that ranks, and writes.
type evalled interface {
	rltrainer.Ranker
	lm.Writer
	Identity(ctx context.Context) (event.Model, error)
	Close() error
}

// openModel opens the model here, or has a server run it.
func (f evalModel) openModel(p *process) (evalled, error) {
	if f.Ollama == "" {
		return f.engineFlags.open(engine.Options{Adapter: f.Adapter, Concurrency: 1, Threads: threads(0)})
	}
	i, err := ollama.NewInstaller(ollama.InstallOptions{BaseURL: f.Ollama, Base: f.Model, Prefix: "r2rec-eval", OnReload: ollama.ReloadWait, PromptVersion: f.Prompt,
		Ask: ollama.Options{Timeout: warmWithin}, Now: time.Now, Logger: p.log})
	if err != nil {
		return nil, err
	}
	m, err := f.install(p.ctx, i)
	if err != nil {
		return nil, errors.Join(err, i.Close())
	}
	on := installed{m, i}
	who, err := m.Identity(p.ctx)
	if err == nil && (f.Readout != "" && f.Readout != who.Readout || f.Prompt != 0 && f.Prompt != who.PromptVersion) {
		err = fmt.Errorf("--readout %s, --prompt %d: on a server this model is read by %s of prompt %d; an --adapter is read as it was learned, a base that nobody taught by letters",
			cmp.Or(f.Readout, who.Readout), cmp.Or(f.Prompt, who.PromptVersion), who.Readout, who.PromptVersion)
	}
	if err != nil {
		return nil, errors.Join(err, on.Close())
	}
	return on, nil
}

func (f evalModel) install(ctx context.Context, i *ollama.Installer) (*ollama.Model, error) {
	if f.Adapter == "" {
		return i.Bare(ctx)
	}
	file, err := gguf.Open(f.Adapter)
	if err != nil {
		return nil, err
	}
	digest := file.Digest()
	if err := file.Close(); err != nil {
		return nil, err
	}
	return i.Adapt(ctx, digest, f.Adapter)
}

// installed is a model on a server for as long as it is measured.
type installed struct {
	*ollama.Model
	on *ollama.Installer
}

// Close lets go of the model, and deletes what was made for it, also where the run was told to stop.
func (m installed) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	return errors.Join(m.Model.Close(), m.on.Uninstall(ctx), m.on.Close())
}
