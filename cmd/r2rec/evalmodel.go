package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/llama/lora"
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
	return installed{m, i}, nil
}

func (f evalModel) install(ctx context.Context, i *ollama.Installer) (*ollama.Model, error) {
	if f.Adapter == "" {
		if f.Readout != "" && f.Readout != i.Readout() {
			return nil, fmt.Errorf("--readout %s: on a server the bare base is read by %s; one is read by %s with an --adapter that learned it", f.Readout, i.Readout(), f.Readout)
		}
		return i.Bare(ctx)
	}
	digest, says, err := adapterSays(f.Adapter)
	if err != nil {
		return nil, err
	}
	switch {
	case f.Readout != "" && says.Readout != "" && f.Readout != says.Readout:
		return nil, fmt.Errorf("--readout %s: --adapter %s learned to be read by %s", f.Readout, f.Adapter, says.Readout)
	case f.Prompt != 0 && says.PromptVersion != 0 && f.Prompt != says.PromptVersion:
		return nil, fmt.Errorf("--prompt %d: --adapter %s learned to read prompts of version %d", f.Prompt, f.Adapter, says.PromptVersion)
	}
	return i.Adapt(ctx, digest, f.Adapter)
}

// adapterSays is what an adapter says of itself, and its digest. Of what is no adapter it is nothing: who opens it says what is wrong.
func adapterSays(path string) (digest string, says lora.Manifest, err error) {
	file, err := gguf.Open(path)
	if err != nil {
		return "", says, err
	}
	if a, err := lora.FromGGUF(file); err == nil {
		says = a.Manifest
	}
	return file.Digest(), says, file.Close()
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
