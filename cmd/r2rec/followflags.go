package main

import (
	"errors"
	"fmt"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/internal/lm/loader"
	"github.com/r2rec/r2rec/reasoner"
)

// followFlags say whose promotions a server follows.
type followFlags struct {
	Adapters string `help:"Follow the log of adapters, whose files are in this store: a folder, file:///folder, s3://bucket, gs://bucket or azblob://container. Empty: the model stays as it is." env:"R2REC_ADAPTERS" placeholder:"URL" group:"Model"`
}

func (f followFlags) check(m modelFlags) error {
	switch {
	case f.Adapters == "":
		return nil
	case m.Adapter != "":
		return errors.New("--adapters excludes --adapter: which adapter serves is what the log says")
	case m.NoModel:
		return errors.New("--adapters excludes --no-model: adapters change a model")
	}
	return nil
}

// open reaches log and store; nil where nothing is to be followed. done lets go of both.
func (f followFlags) open(p *process, kc *broker.Client, model reasoner.Model) (parts *adapterParts, done func(), err error) {
	if f.Adapters == "" {
		return nil, func() {}, nil
	}
	e, err := beside(model)
	if err != nil {
		return nil, nil, err
	}
	store, err := adapters.OpenStore(p.ctx, f.Adapters)
	if err != nil {
		return nil, nil, fmt.Errorf("--adapters: %w", err)
	}
	log, err := adapters.NewLog(kc.NewWriter(broker.Adapters), p.log)
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	return &adapterParts{log: log, store: store, engine: e}, func() {
		if err := errors.Join(log.Close(), store.Close()); err != nil {
			p.log.Warn("the log of adapters did not close cleanly", "error", err)
		}
	}, nil
}

// beside is what puts adapters beside a model.
func beside(model reasoner.Model) (loader.Engine, error) {
	if m, ok := model.(*engine.Model); ok {
		return loader.Embedded{Base: m}, nil
	}
	return nil, errors.New("--adapters is for the model that runs within this program: leave out --ollama")
}
