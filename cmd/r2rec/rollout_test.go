package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/policy"
	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"
)

// earn publishes what slot 1 of n decisions earned during a roll-out: 1, with a chance by the adapter that the user has.
func (p *trainer) earn(c *broker.Client, current, candidate string, with, without float64) {
	const n = 6000
	p.Helper()
	draw := rand.New(rand.NewPCG(4, 4))
	var batch []kafka.Message
	for i := range n {
		user := fmt.Sprint("u", i%700)
		r := event.Reward{DecisionID: candidate[:8] + fmt.Sprint(i), UserID: user, ItemID: "a", Position: 1, Examination: 1, Attribution: event.ByNothing, Source: event.Reasoned, Adapter: current,
			DecidedAt: event.At(time.Now()), Timestamp: event.At(time.Now())}
		chance := without
		if policy.InRollOut(candidate, user, .5) {
			r.Adapter, chance = candidate, with
		}
		if draw.Float64() < chance {
			r.Value, r.Type, r.EventID, r.Attribution = 1, event.Click, fmt.Sprint("c", i), event.ByDecision
		}
		batch = append(batch, message(p.T, user, r))
	}
	w := c.NewWriter(broker.Rewards)
	if err := errors.Join(w.WriteMessages(p.Context(), batch...), w.Close()); err != nil {
		p.Fatal(err)
	}
}

// A roll-out ends by what its users earn, forward or back, whether somebody watches it or only looks in.
func TestRollOutsEndByTheirRewards(t *testing.T) {
	t.Parallel()
	embeddedtest.EachSingle(t, func(t *testing.T, k broker.Settings, r *redis.UniversalOptions) {
		p := newTrainer(newPlace(t, k, r))
		c, err := broker.New(p.kafka)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		who, err := p.base.Identity(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		watch := rollOuts{rollOutFlags: rollOutFlags{RollOutLimit: time.Hour}, kafka: c, log: p.log, every: 20 * time.Millisecond, now: time.Now, to: slog.New(slog.DiscardHandler)}
		state := func() adapters.State {
			s, err := p.log.State(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		promote := func(adapter, parent string) {
			t.Helper()
			s, counts, err := p.log.Append(t.Context(), event.Promotion{Kind: event.Promote, Adapter: adapter, Parent: parent, Base: who.Digest, Readout: who.Readout, Prompt: who.PromptVersion,
				Share: .5, Reason: "test", Timestamp: event.At(time.Now())})
			if err != nil || !counts {
				t.Fatalf("%v, %+v", err, s.Entries)
			}
		}

		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- watch.run(ctx) }()
		better := p.make(1, true)
		promote(better, "")
		p.earn(c, "", better, .6, .2)
		p.eventually("the better adapter goes to all", func() (bool, string) {
			s := state()
			return s.Current == better && s.Candidate == "", fmt.Sprintf("%+v", s)
		})
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the watching ended with %v", err)
		}

		worse := p.make(2, true)
		promote(worse, better)
		if err := watch.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := state(); s.Candidate != worse {
			t.Errorf("without a reward the roll-out has ended: %+v", s)
		}
		p.earn(c, better, worse, .1, .5)
		if err := watch.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := state(); s.Current != better || s.Candidate != "" {
			t.Errorf("the worse adapter stays: %+v", s)
		}
	})
}
