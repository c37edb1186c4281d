package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama/learn"
	"github.com/r2rec/r2rec/internal/lm"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/internal/lm/loader"
	"github.com/r2rec/r2rec/internal/lm/proof"
)

// Adapters of the benchmark: enough learning that each answers otherwise, and canaries to prove it by.
const (
	swapSteps    = 4
	swapBatch    = 8
	swapRate     = 1e-2
	swapCanaries = 20
)

// embedded is the engine within this program.
func (c benchSwapCommand) embedded(ctx context.Context, dir string, shown *stages, contexts []event.Context) (s *swapSubject, err error) {
	trainable, err := engine.Open(engine.Options{Path: c.Base, Trainable: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, trainable.Close()) }()
	base, err := engine.Open(engine.Options{Path: c.Base})
	if err != nil {
		return nil, err
	}
	s = &swapSubject{name: "embedded", model: nameOf(base), engine: loader.Embedded{Base: base}, concurrency: processors(), close: base.Close}
	paths := map[string]string{}
	for i := range c.Adapters {
		shown.set("teaching adapters", i, c.Adapters)
		a, err := c.teach(ctx, trainable, filepath.Join(dir, fmt.Sprintf("%d.gguf", i)), uint64(i+1), contexts)
		if err != nil {
			return nil, errors.Join(err, base.Close())
		}
		paths[a.digest] = a.Path
		s.adapters = append(s.adapters, a)
	}
	s.apart = func(_ context.Context, digest string) (proof.Ranker, func() error, error) {
		m, err := engine.Open(engine.Options{Path: c.Base, Adapter: paths[digest]})
		if err != nil {
			return nil, nil, err
		}
		return m, m.Close, nil
	}
	return s, nil
}

// teach makes an adapter that prefers what a random direction of the evidence says, another for each seed.
func (c benchSwapCommand) teach(ctx context.Context, base *engine.Model, path string, seed uint64, contexts []event.Context) (a swapAdapter, err error) {
	who, err := base.Identity(ctx)
	if err != nil {
		return a, err
	}
	l, err := base.NewAdapter(engine.AdapterOptions{Seed: seed, Note: "made to be swapped", Learn: learn.Options{Optimiser: learn.AdamW{Rate: swapRate}, Workers: processors()}})
	if err != nil {
		return a, err
	}
	r := rand.New(rand.NewPCG(seed, 0x73776170))
	var taste [iot.MaxDigits]float64
	for k := range taste {
		taste[k] = r.NormFloat64()
	}
	for range swapSteps {
		var batch []lm.Lesson
		for range swapBatch {
			p, err := iot.Build(who.PromptVersion, contexts[r.IntN(len(contexts))], r.Uint64())
			if err != nil {
				return a, err
			}
			batch = append(batch, lm.Lesson{Prompt: p, Chosen: preferred(p, taste)})
		}
		if _, err := l.Learn(ctx, batch); err != nil {
			return a, err
		}
	}
	if err := gguf.WriteFile(path, l.Write); err != nil {
		return a, err
	}
	var asks []proof.Ask
	for range min(2*swapCanaries, len(contexts)) {
		asks = append(asks, proof.Ask{Context: contexts[r.IntN(len(contexts))], Seed: r.Uint64() >> 11})
	}
	a.Path = path
	if a.Canaries, err = proof.Choose(ctx, who.PromptVersion, asks, base, l, swapCanaries, nil); err != nil {
		return a, err
	}
	with, err := base.WithAdapter(path)
	if err != nil {
		return a, err
	}
	who, err = with.Identity(ctx)
	a.digest = who.Adapter
	return a, errors.Join(err, with.Close())
}

// preferred is the candidate whose digits lie farthest in a direction.
func preferred(p iot.Prompt, taste [iot.MaxDigits]float64) (best int) {
	most := 0.
	for j, line := range p.Content.Candidates {
		var worth float64
		for k, d := range line.Digits {
			worth += taste[k] * float64(d)
		}
		if j == 0 || worth > most {
			best, most = p.Order[j], worth
		}
	}
	return best
}
