package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/internal/lm/loader"
	"github.com/r2rec/r2rec/internal/lm/ollama"
	"github.com/r2rec/r2rec/reasoner"
)

// followFlags say whose promotions a server follows.
type followFlags struct {
	Adapters      string          `help:"Follow the log of adapters, whose files are in this store: a folder, file:///folder, s3://bucket, gs://bucket or azblob://container. Empty: the model stays as it is." env:"R2REC_ADAPTERS" placeholder:"URL" group:"Model"`
	OllamaReload  ollama.OnReload `help:"With --adapters and --ollama: while the server loads a model that it has not got in memory, requests get the graph's ranking (graph), or wait for it until --model-timeout (wait)." enum:"graph,wait" default:"graph" env:"R2REC_OLLAMA_RELOAD" group:"Model"`
	OllamaPrefix  string          `help:"With --adapters and --ollama: begins the names of the models that are made there. Programs that follow different logs on one server need different ones." default:"r2rec" env:"R2REC_OLLAMA_PREFIX" group:"Model"`
	OllamaMerge   bool            `help:"With --adapters and --ollama: merge adapters into the weights, also where the server takes them as layers." env:"R2REC_OLLAMA_MERGE" group:"Model"`
	OllamaThreads int             `help:"With --adapters and --ollama: threads that compute an answer there; 0: the server's choice. One is best for a model of a few million weights." env:"R2REC_OLLAMA_THREADS" group:"Model"`
}

func (f followFlags) check(m modelFlags) error {
	switch {
	case f.Adapters == "":
		return nil
	case m.Adapter != "":
		return misuse("--adapters excludes --adapter: which adapter serves is what the log says")
	case m.NoModel:
		return misuse("--adapters excludes --no-model: adapters change a model")
	case m.Ollama != "" && m.Model == "":
		return misuse("--adapters with --ollama needs --model FILE: the GGUF file of the base model, as adapters for it are learned on it")
	case f.OllamaThreads < 0:
		return misuse("--ollama-threads %d: want 0 or more", f.OllamaThreads)
	}
	return nil
}

// model opens the model that stays, or that adapters are put beside; nil where a server runs it (see open).
func (f followFlags) model(p *process, m modelFlags) (reasoner.Model, string, error) {
	if f.Adapters != "" && m.Ollama != "" {
		return nil, "", nil
	}
	return m.open(p)
}

// open reaches log and store; nil where nothing is to be followed. done lets go of both.
func (f followFlags) open(p *process, kc *broker.Client, model reasoner.Model, m modelFlags) (parts *adapterParts, done func(), err error) {
	if f.Adapters == "" {
		return nil, func() {}, nil
	}
	e, closeEngine, err := f.engine(p, model, m)
	if err != nil {
		return nil, nil, err
	}
	store, err := adapters.OpenStore(p.ctx, f.Adapters)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("--adapters: %w", err), closeEngine())
	}
	log, err := adapters.NewLog(kc.NewWriter(broker.Adapters), p.log)
	if err != nil {
		return nil, nil, errors.Join(err, store.Close(), closeEngine())
	}
	return &adapterParts{log: log, store: store, engine: e}, func() {
		if err := errors.Join(log.Close(), store.Close(), closeEngine()); err != nil {
			p.log.Warn("the log of adapters did not close cleanly", "error", err)
		}
	}, nil
}

// engine puts adapters beside a model that runs within this program, or makes models of them on an Ollama server.
func (f followFlags) engine(p *process, model reasoner.Model, m modelFlags) (e loader.Engine, done func() error, err error) {
	if embedded, ok := model.(*engine.Model); ok {
		return loader.Embedded{Base: embedded}, func() error { return nil }, nil
	}
	ask := m.asks()
	ask.Threads = f.OllamaThreads
	i, err := ollama.NewInstaller(ollama.InstallOptions{
		BaseURL: m.Ollama, Base: m.Model, Prefix: f.OllamaPrefix, Merged: f.OllamaMerge, OnReload: f.OllamaReload,
		Ask: ask, Now: time.Now, Logger: p.log,
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("--model: %w; with --ollama and --adapters it names the GGUF file of the base model", err)
	}
	if err != nil {
		return nil, nil, err
	}
	return onOllama{i}, i.Close, nil
}

// onOllama runs models on an Ollama server.
type onOllama struct{ *ollama.Installer }

// Bare implements loader.Engine.
func (o onOllama) Bare(ctx context.Context) (loader.Model, error) {
	m, err := o.Installer.Bare(ctx)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// Adapt implements loader.Engine.
func (o onOllama) Adapt(ctx context.Context, digest, path string) (loader.Model, error) {
	m, err := o.Installer.Adapt(ctx, digest, path)
	if err != nil {
		return nil, err
	}
	return m, nil
}
