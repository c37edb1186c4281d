package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/internal/lm/proof"
	"github.com/segmentio/kafka-go"
)

// Canaries of an adapter that a person promotes: so many, sought among so many prompts.
const (
	promotedCanaries = 20
	canaryPrompts    = 100
)

// canaries measures an adapter, so that servers can prove that they serve it: on what was decided last, or, where nothing
// was yet, on made-up lists.
func (c adaptersPromoteCommand) canaries(p *process, d *adapterDesk, file string) (_ []proof.Canary, err error) {
	asks, err := newestAsks(p.ctx, d.kafka, canaryPrompts)
	if err != nil {
		return nil, fmt.Errorf("find prompts to prove the adapter by: %w", err)
	}
	if len(asks) == 0 {
		asks = madeUpAsks(canaryPrompts)
	}
	adapter, err := c.servedFlags.open(engine.Options{Adapter: file})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, adapter.Close()) }()
	who, err := adapter.Identity(p.ctx)
	if err != nil {
		return nil, err
	}
	// The bare model is read as the adapter has it read, where it does not say itself.
	base, err := engine.Open(engine.Options{Path: c.Model, Readout: engine.Readout(who.Readout), PromptVersion: who.PromptVersion})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, base.Close()) }()
	shown := &stages{p: p}
	shown.held = c.JSON
	defer shown.close()
	return proof.Choose(p.ctx, who.PromptVersion, asks, base, adapter, promotedCanaries, func(done, total int) { shown.set("measuring canaries", done, total) })
}

// newestAsks are the prompts of the newest decisions, about n of them, spread over the partitions. They are kept as long as the
// adapter: those of users who are to be forgotten are left out.
func newestAsks(ctx context.Context, kc *broker.Client, n int) (asks []proof.Ask, err error) {
	forgotten, err := history{kc}.Forgotten(ctx)
	if err != nil {
		return nil, fmt.Errorf("read who is to be forgotten: %w", err)
	}
	parts, err := kc.Offsets(ctx, broker.Decisions)
	if err != nil {
		return nil, err
	}
	each := int64(max(1, n/max(1, len(parts))))
	for i := range parts {
		parts[i].First = max(parts[i].First, parts[i].Last-each)
	}
	err = kc.Read(ctx, broker.Decisions, parts, func(m kafka.Message) error {
		if d, err := event.DecodeDecision(m.Value); err == nil && len(d.Context.Candidates) > 1 && d.Timestamp >= forgotten[d.UserID] {
			asks = append(asks, proof.Ask{Context: d.Context, Seed: d.Seed})
		}
		return nil
	})
	return asks, err
}

// madeUpAsks are n lists of nothing real, with evidence drawn at random.
func madeUpAsks(n int) []proof.Ask {
	r := rand.New(rand.NewPCG(1, 0x63616e617279))
	asks := make([]proof.Ask, n)
	for i := range asks {
		asks[i].Seed, asks[i].Context.Likes = uint64(i), 20
		for k := range iot.MaxCandidates {
			e := event.Evidence{Support: r.IntN(20), LikeMinded: r.Float64(), Similar: r.Float64(), SimilarLast: r.Float64(), Together: r.Float64(),
				Popularity: r.IntN(100), Category: r.Float64(), Latent: [2]float64{r.Float64(), r.Float64()}}
			for h := range e.Recent {
				e.LikeMindedRecent[h], e.Recent[h], e.RecentAny[h], e.After[h], e.Near[h] = r.Float64(), r.Float64(), r.Float64(), r.Float64(), r.Float64()
			}
			for h := range e.Ages {
				e.Ages[h] = 1e6 * r.Float64()
			}
			asks[i].Context.Candidates = append(asks[i].Context.Candidates, event.Candidate{ItemID: fmt.Sprint(k), Title: fmt.Sprint("Item ", k), Origin: event.FromExplore, Evidence: e})
		}
	}
	return asks
}
