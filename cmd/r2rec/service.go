package main

import (
	"context"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/r2rec/r2rec/consumer"
	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/ope"
	"github.com/r2rec/r2rec/internal/web"
	"github.com/r2rec/r2rec/reasoner"
	"github.com/r2rec/r2rec/rltrainer"
	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"
)

// serviceParts is what serve and demo have connected before the service starts.
type serviceParts struct {
	kafka       *broker.Client
	rdb         redis.UniversalClient
	graph       *graphcache.Generations
	model       reasoner.Model        // nil: the graph ranks, or adapters are followed
	noModel     string                // why it is nil
	adapters    *adapterParts         // nil: the model stays as it is
	rollOuts    rollOutFlags          // with adapters: when a roll-out ends
	rollOutsAt  time.Duration         // between two looks at its rewards
	rollOutTest ope.SequentialOptions // by which it ends, what the flags say left out
	registry    *prometheus.Registry
	redis       redisFlags
	modelFlags  modelFlags
	recommend   recommendFlags
	access      accessFlags
	consume     bool
	consumer    consumer.Options
	join        consumer.JoinerOptions
	loop        *loopParts                      // nil: what is learned is not followed
	decisions   int                             // newest that are kept in memory; 0: the server's default
	applied     func(batch []event.Interaction) // hears of applied interactions; nil: nobody
}

// service is the HTTP server with everything behind it.
type service struct {
	p        *process
	parts    serviceParts
	reasoner *reasoner.Reasoner
	consumer *consumer.Consumer // nil: another process consumes
	follower *follower          // nil: no log of adapters is followed
	joiner   *consumer.Joiner   // likewise
	loop     *loop              // nil: what is learned is not followed
	feed     *web.Feed
	explore  *explorer
	events   publisher
	server   *web.Server
	health   *checker
	forgets  *recordsSince[event.User]
	closers  []func() error
}

func newService(p *process, parts serviceParts) (_ *service, err error) {
	s := &service{p: p, parts: parts, feed: web.NewFeed()}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	explore := newExplorer(parts.graph)
	s.explore = explore
	if parts.consume {
		opt := parts.consumer
		opt.OnApplied = func(_ event.Span, batch []event.Interaction) {
			seen := s.server.NotForgotten(batch)
			explore.active.saw(seen)
			s.feed.Applied(seen)
			if parts.applied != nil {
				parts.applied(batch)
			}
		}
		if s.consumer, err = newConsumer(p, parts.kafka, parts.graph, parts.registry, opt); err != nil {
			return nil, err
		}
		if s.joiner, err = newJoiner(p, parts.kafka, parts.graph, parts.registry, parts.join); err != nil {
			return nil, err
		}
	}
	models := only(parts.model)
	if parts.adapters != nil {
		if s.follower, err = newFollower(p, *parts.adapters, adapters.Projection{Client: parts.rdb, Prefix: parts.redis.Prefix}, parts.registry); err != nil {
			return nil, err
		}
		models = s.follower.sw
		s.closers = append(s.closers, s.follower.close)
	}
	var done func() error
	s.reasoner, done, err = newReasoner(p, parts.kafka, parts.rdb, parts.graph, models, parts.redis, parts.modelFlags, parts.recommend,
		parts.registry, false)
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, done)
	if parts.loop != nil {
		s.loop = newLoop(s, *parts.loop)
	}
	events, users := parts.kafka.NewBoundedWriter(broker.Interactions), parts.kafka.NewBoundedWriter(broker.Users)
	s.closers = append(s.closers, events.Close, users.Close)
	s.events = publisher{events, users, parts.graph.ForgetBefore}
	s.health = s.newHealth()
	// What is in memory is younger than this process, but a decision's time may lie a little before its record's.
	s.forgets = usersSince(parts.kafka, event.At(time.Now()))
	s.forgets.every = forgetsAt
	var judges reasoner.Models
	if s.follower != nil || parts.modelFlags.embedded() {
		judges = models
	}
	opt := web.Options{
		Recommender: recommender{s.reasoner, reasoner.RedisStore{Client: parts.rdb, Prefix: parts.redis.Prefix, Stands: parts.graph.Stands}, judges, s.follower},
		Publisher:   s.events, Explorer: explore, Health: s.health, Feed: s.feed,
		Logger: p.log, Now: time.Now, Registerer: parts.registry, Gatherer: parts.registry,
		Token: parts.access.Token, AllowedHosts: parts.access.AllowedHost, MaxK: reasoner.MaxK,
		RecommendTimeout: parts.modelFlags.ModelTimeout + parts.modelFlags.MaskTimeout + 10*time.Second,
		Decisions:        parts.decisions,
	}
	if s.follower != nil {
		opt.Adapters = s.follower
	}
	if s.loop != nil {
		opt.Loop = s.loop
	}
	s.server, err = web.New(opt)
	return s, err
}

func (s *service) newHealth() *checker {
	probes := append(storesHealth(stores{s.parts.kafka, s.parts.rdb, s.parts.graph}, s.consumer), probe{"model", func(ctx context.Context) (web.State, string) {
		var m event.Model
		var err error
		switch {
		case s.follower != nil:
			if m, err = s.follower.identity(ctx); err == nil {
				err = s.follower.reachable(ctx)
			}
		case s.parts.model == nil && s.parts.modelFlags.NoModel:
			return web.OK, "the graph ranks: " + s.parts.noModel
		case s.parts.model == nil:
			return web.Degraded, "the graph ranks: " + s.parts.noModel
		default:
			m, err = s.parts.model.Identity(ctx)
		}
		if err == nil {
			err = failing(s.reasoner.Trouble(), time.Now())
		}
		return working(err, web.Degraded, m.Name)
	}})
	if s.follower != nil {
		probes = append(probes, probe{"adapter", s.follower.health})
	}
	if s.consumer != nil {
		probes = append(probes, consumersHealth(s.consumer, s.joiner)...)
	}
	return newChecker(probes...)
}

// run serves until ctx ends or a part fails for good; everything it started has ended when it returns.
func (s *service) run(ctx context.Context, ln net.Listener) error {
	g, ctx := errgroup.WithContext(ctx)
	if s.consumer != nil {
		g.Go(func() error { return s.consumer.Run(ctx) })
		g.Go(func() error { return s.joiner.Run(ctx) })
	}
	if s.follower != nil {
		g.Go(func() error { return s.follower.run(ctx) })
		g.Go(func() error {
			if err := s.rollOuts().run(ctx); ctx.Err() == nil {
				s.p.log.Error("roll-outs are not watched any more: they go on until r2rec is started again, or somebody ends them by r2rec adapters rollback, or promote --share 1", "error", err)
			}
			return nil
		})
	}
	if s.loop != nil {
		g.Go(func() error { return s.loop.run(ctx) })
	}
	g.Go(func() error { return s.forgets.follow(ctx, s.p.log, s.forgotten) })
	g.Go(func() error { keepFresh(ctx, s.p, s.parts.graph, freshEvery); return nil })
	g.Go(func() error { s.health.run(ctx); return nil })
	g.Go(func() error { s.explore.run(ctx); return nil })
	g.Go(func() error { s.warm(ctx); return nil })
	g.Go(func() error { return s.server.Serve(ctx, ln) })
	return g.Wait()
}

// forgetsAt is how often a server looks who is to be forgotten.
const forgetsAt = time.Second

// forgotten drops from memory what is to be forgotten: another process may have been asked, and may apply it.
func (s *service) forgotten(users []event.User) {
	for _, u := range users {
		s.server.Forgotten(u)
		s.explore.active.forget(u)
	}
}

// rollOuts ends the roll-outs that the log of adapters has under way, and has the loop tell where they stand.
func (s *service) rollOuts() rollOuts {
	r := rollOuts{rollOutFlags: s.parts.rollOuts, kafka: s.parts.kafka, log: s.parts.adapters.log, every: s.parts.rollOutsAt, now: time.Now, to: s.p.log,
		test: s.parts.rollOutTest}
	if s.loop != nil {
		r.saw = func(w *rltrainer.Watch) { s.loop.watched(w, r.RollOutLimit) }
	}
	return r
}

// warm has the model loaded and calibrated before the first request needs it, however late the model comes.
func (s *service) warm(ctx context.Context) {
	m, ok := s.parts.model.(interface {
		Warm(ctx context.Context, candidates int) error
	})
	if !ok {
		return
	}
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for m.Warm(ctx, iot.MaxCandidates) != nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *service) close() {
	for _, c := range s.closers {
		if err := c(); err != nil {
			s.p.log.Warn("a writer did not close cleanly", "error", err)
		}
	}
}

// recommender is what the server asks.
type recommender struct {
	*reasoner.Reasoner
	store  reasoner.RedisStore
	models reasoner.Models // that know at once which adapter they have; nil: there are none
	log    *follower       // of adapters; nil: none is followed
}

func (r recommender) Recommend(ctx context.Context, q web.Query) (event.Recommendation, event.Decision, error) {
	return r.Reasoner.Recommend(ctx, reasoner.Request(q))
}

func (r recommender) Cached(ctx context.Context, user string, k int) (event.Recommendation, bool, error) {
	rec, ok, err := r.store.Get(ctx, user, k)
	return rec, ok && r.current(ctx, rec), err
}

// current tells whether the adapter that ranked a recommendation is the one that ranks for its user now, or that the log wants
// and this process has not got: what another one made is better then. Where nothing is known, what is stored stays, and so
// does what a model ranked where none does here.
func (r recommender) current(ctx context.Context, rec event.Recommendation) bool {
	if rec.Source != event.Reasoned || r.models == nil {
		return true
	}
	m, release, err := r.models.Hold(ctx, rec.UserID)
	if err != nil {
		return true
	}
	defer release()
	who, err := m.Identity(ctx)
	return err != nil || who.Adapter == rec.Adapter || r.log != nil && r.log.wants(rec.UserID, rec.Adapter)
}

// publisher is where the server writes.
type publisher struct {
	interactions, users *broker.BoundedWriter
	// before tells before when a user is forgotten already; nil: who publishes knows.
	before func(ctx context.Context, user string) (event.Time, error)
}

func (p publisher) PublishInteractions(ctx context.Context, raw [][]byte, keys []string) error {
	msgs := make([]kafka.Message, len(raw))
	for i := range raw {
		msgs[i] = kafka.Message{Key: []byte(keys[i]), Value: raw[i]}
	}
	return p.interactions.WriteMessages(ctx, msgs...)
}

// Forget never asks for less than was asked for before: of a user's requests Kafka keeps the last, not the highest.
func (p publisher) Forget(ctx context.Context, u event.User) (event.User, error) {
	if p.before != nil {
		soon, cancel := context.WithTimeout(ctx, time.Second)
		before, err := p.before(soon, u.UserID)
		cancel()
		if err == nil { // where Redis is away, the request itself counts more
			u.ForgetBefore = max(u.ForgetBefore, before)
		}
	}
	raw, err := event.Encode(u)
	if err != nil {
		return u, err
	}
	return u, p.users.WriteMessages(ctx, kafka.Message{Key: []byte(u.UserID), Value: raw})
}
