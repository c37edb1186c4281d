package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/r2rec/r2rec/consumer"
	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/dataset"
	"github.com/r2rec/r2rec/internal/embedded"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/factors"
	"github.com/r2rec/r2rec/internal/web"
	"github.com/r2rec/r2rec/reasoner"
	"golang.org/x/sync/errgroup"
)

type demoCommand struct {
	Listen            string `help:"Address of the page, host:port; port 0 takes a free one. Anything but loopback should have --token." default:"127.0.0.1:8080" env:"R2REC_LISTEN"`
	accessFlags       `embed:""`
	Data              string        `help:"Data set to replay, as for r2rec import; without it the bundled MovieLens latest-small." type:"path"`
	Live              int           `help:"Interactions kept back from the history and replayed live." default:"2000"`
	Rate              float64       `help:"Interactions a second in the live replay." default:"4"`
	HalfLife          time.Duration `help:"Time in which a choice loses half its weight; two years fit MovieLens." default:"17520h"`
	modelFlags        `embed:""`
	recommendFlags    `embed:"" set:"explore_share=0.5"`
	visitFlags        `embed:""`
	AttributionWindow time.Duration `help:"Time after a list was first shown in which a click counts for it." default:"15s" group:"Simulation"`
	RoundEvery        int           `help:"Decisions to learn from with which a round of learning begins; 0: there are no rounds." default:"300" group:"Simulation"`
}

// Help is shown by r2rec demo --help.
func (demoCommand) Help() string {
	return `Starts an embedded Kafka broker and an embedded Redis in this process, streams a real data set through the
whole path (Kafka, consumer, graph, reasoner), and shows on a local page what happens. Its history is replayed
at full speed, the last part of it slowly, as live traffic: that is simulated, and the page says so. What you
click there is real: it goes through Kafka and changes the next list.
A small language model that travels with the program reasons, or one of an Ollama server (--ollama). Ctrl-C leaves
nothing behind.

It learns, too: simulated users visit, and click only what the real ones chose next (half of what each did is kept back
for that). Their clicks become rewards, a round learns an adapter from them every few minutes, a gate judges it, and what
passes is rolled out to a share of the users. All of it is on the page, with what is simulated, and faster than in
earnest. --visits 0 simulates nobody.`
}

func (demoCommand) endless() bool { return true }

func (c demoCommand) Run(p *process) error {
	begun := time.Now()
	if !(c.Rate > 0 && c.Rate <= 1000) {
		return misuse("--rate %v: want more than 0 and at most 1000 interactions a second", c.Rate)
	}
	if err := errors.Join(c.accessFlags.check(), c.visitFlags.check(), c.modelFlags.check(), c.recommendFlags.check(), wrong(checkCounts(count{"--round-every", c.RoundEvery, 0}))); err != nil {
		return err
	}
	if c.Live < 0 {
		return misuse("--live %d: want 0 or more interactions", c.Live)
	}
	all, err := openDataset(c.Data)
	if err != nil {
		return err
	}
	if _, total := all.Len(); c.Live >= total {
		return misuse("--live %d: the data set has %d interactions, and some have to be history", c.Live, total)
	}
	ln, err := listen("--listen", c.Listen)
	if err != nil {
		return err
	}
	defer ln.Close()
	servers, err := embedded.Start(p.ctx, embedded.Options{Logger: p.log})
	if err != nil {
		return err
	}
	defer servers.Close()

	kf := kafkaFlags{Kafka: []string{servers.KafkaAddr}, Partitions: 4}
	rf := redisFlags{Redis: "redis://" + servers.RedisAddr, Prefix: "r2:", HalfLife: c.HalfLife,
		Positive: graphcache.DefaultPolicy.PositiveRating, Negative: graphcache.DefaultPolicy.NegativeRating}
	kc, err := connectKafka(p, kf)
	if err != nil {
		return err
	}
	defer kc.Close()
	rdb, err := rf.client(p.ctx)
	if err != nil {
		return err
	}
	defer rdb.Close()
	graph, err := rf.graph(rdb, p)
	if err != nil {
		return err
	}
	model, noModel, err := c.modelFlags.open(p)
	if err != nil {
		return err
	}
	if model == nil {
		fmt.Fprintf(p.stdout, "No model, so the graph ranks: %s.\n", noModel)
	} else if who, err := model.Identity(p.ctx); err != nil {
		fmt.Fprintf(p.stdout, "The graph ranks until the model answers: %v.\n", err)
	} else {
		fmt.Fprintf(p.stdout, "%s reasons, %s.\n", who.Name, c.shown())
	}
	join, err := joinFlags{AttributionWindow: c.AttributionWindow, Lateness: demoLateness, ShowableFor: c.TTL}.options(rf, consumer.Member{Group: "r2rec"})
	if err != nil {
		return err
	}
	learning := &loopParts{rule: rewardRule(c.AttributionWindow, demoLateness), every: demoLook, back: time.Hour, needed: c.RoundEvery}
	learner, why, err := c.learner(p, kc, model)
	if err != nil {
		return err
	}
	learning.note, learning.elsewhere = c.note(), why
	var follow *adapterParts
	if learner != nil {
		follow = learner.adapters
		defer func() {
			if err := learner.close(); err != nil {
				p.log.Warn("what was learned did not close cleanly", "error", err)
			}
		}()
	}
	var applied atomic.Int64
	progress := make(chan struct{}, 1)
	s, err := newService(p, serviceParts{
		kafka: kc, rdb: rdb, graph: graph, model: model, noModel: noModel, adapters: follow, rollOutsAt: demoLook, rollOutTest: demoTest,
		rollOuts: rollOutFlags{RollOutTolerance: demoTolerance, RollOutLimit: demoLimit}, registry: prometheus.NewRegistry(),
		redis: rf, modelFlags: c.modelFlags, recommend: c.recommendFlags, access: c.accessFlags, consume: true, join: join, loop: learning, decisions: demoDecisions,
		applied: func(batch []event.Interaction) {
			applied.Add(int64(len(batch)))
			select {
			case progress <- struct{}{}:
			default:
			}
		},
	})
	if err != nil {
		return err
	}
	defer s.close()

	url := "http://" + ln.Addr().String()
	history, rest := all.EndingAt(begun).CutLast(c.Live)
	var kept *dataset.Dataset // for visits
	if c.Visits > 0 {
		history, kept = history.CutUsers(visitShare)
	}
	fmt.Fprintf(p.stdout, "Replaying %s through embedded Kafka and Redis; its times are moved so that it ends now.\nPage: %s\n", all.Name(), url)
	if c.Data == "" {
		fmt.Fprintln(p.stdout, dataset.BundledNotice)
	}
	g, ctx := errgroup.WithContext(p.ctx)
	g.Go(func() error { return s.run(ctx, ln) })
	g.Go(func() error {
		if err := c.replayHistory(ctx, p, s, history, &applied, progress); err != nil {
			return err
		}
		if err := graph.RefreshTrends(ctx); err != nil {
			return err
		}
		if err := c.learnFactors(ctx, p, graph); err != nil {
			return err
		}
		if err := c.firstRecommendation(ctx, p, s, rest, begun); err != nil {
			return err
		}
		fmt.Fprintf(p.stdout, "\nSee the loop at work: %s   (Ctrl-C ends it and leaves nothing behind)\n", url)
		g.Go(func() error { return c.visit(ctx, s, kept, rf.Positive) })
		if learner != nil {
			g.Go(func() error { return learner.run(ctx, p, s) })
		}
		return c.replayLive(ctx, s, rest)
	})
	return g.Wait()
}

// learner is what the demo learns with, nil: nothing; why says so.
func (c demoCommand) learner(p *process, kc *broker.Client, model reasoner.Model) (l *demoLoop, why string, err error) {
	if c.RoundEvery == 0 {
		return nil, "No rounds of learning are wanted (--round-every 0).", nil
	}
	return newDemoLoop(p, kc, model, c.modelFlags)
}

// note says by which rules the demo's loop runs, and what is usual.
func (c demoCommand) note() string {
	s := fmt.Sprintf("All of it is faster here than in earnest. Lists are drawn for %.3g %% of the users (usual are 10 %%), so that there is something to learn; %.3g %% stay on the graph's ranking. %s",
		100*c.ExploreShare, 100*c.ControlShare, rewardRule(c.AttributionWindow, demoLateness))
	if c.RoundEvery > 0 {
		s += fmt.Sprintf(" A round begins with %d decisions that explored, half of them for its gate, which asks whether it could see a difference of %g. What passes goes to %.3g %% of the users first, and back unless rewards show within %s that it is not worse by more than %g.",
			c.RoundEvery, demoDetect, 100*demoShare, sayTime(demoLimit), demoTolerance)
	}
	return s
}

// demoDecisions are kept in memory for the page: those of a few minutes of visits.
const demoDecisions = 2000

// visit has simulated users visit, where any are wanted.
func (c demoCommand) visit(ctx context.Context, s *service, kept *dataset.Dataset, positive float64) error {
	if kept == nil {
		return nil
	}
	v := newVisitors(c.visitFlags, kept, positive)
	v.told = s.loop.simulated
	v.visit = func(ctx context.Context, user string) { v.visiting(ctx, s, user) }
	return v.run(ctx)
}

// replayHistory publishes the history and waits until the graph has all of it.
func (c demoCommand) replayHistory(ctx context.Context, p *process, s *service, d *dataset.Dataset, applied *atomic.Int64, progress <-chan struct{}) error {
	items, interactions := s.parts.kafka.NewWriter(broker.Items), s.parts.kafka.NewWriter(broker.Interactions)
	defer items.Close()
	defer interactions.Close()
	_, total := d.Len()
	bar := newBar(p, total, "replaying history")
	defer bar.Close()
	told := func() {
		n := min(applied.Load(), int64(total))
		_ = bar.Set64(n) // a bar that cannot be drawn stops nothing
		s.feed.SetPhase(web.Phase{Name: web.Replaying, Text: d.Name(), Done: n, Total: int64(total)})
	}
	begun := time.Now()
	sent, err := dataset.Publish(ctx, d, items, interactions, dataset.PublishOptions{Progress: func(int, int) { told() }, Rejected: p.leftOut})
	if err != nil {
		return err
	}
	for applied.Load() < int64(sent.Interactions) {
		select {
		case <-progress:
			told()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	all, err := toTheEnd(ctx, s.parts.kafka, s.parts.graph, broker.Items) // the catalogue comes on partitions of its own
	if err == nil {
		err = poll(ctx, func() (bool, error) { return all(ctx) })
	}
	if err != nil {
		return err
	}
	_ = bar.Clear()
	seconds := time.Since(begun).Seconds()
	_, err = fmt.Fprintf(p.stdout, "%d items and %d interactions through Kafka into the graph in %.1f s (%.0f interactions/s)\n",
		sent.Items, sent.Interactions, seconds, float64(sent.Interactions)/seconds)
	return err
}

// learnFactors learns latent factors from the history: once, which is enough for as long as a demo lasts.
func (c demoCommand) learnFactors(ctx context.Context, p *process, graph *graphcache.Generations) error {
	shown := &stages{p: p}
	r, err := learnFactors(ctx, graph, factors.Options{Seed: 1}, shown.set)
	shown.close() // before anything is printed
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(p.stdout, "Latent factors of %d items learned in %.1f s (r2rec factors)\n", r.Items, r.LearnSeconds); err != nil {
		return err
	}
	return graph.RefreshFactors(ctx)
}

// firstRecommendation shows, in the terminal, a list for a user who comes next in the replay.
func (c demoCommand) firstRecommendation(ctx context.Context, p *process, s *service, rest *dataset.Dataset, begun time.Time) error {
	user := "1"
	for in, err := range rest.Interactions() {
		if err == nil {
			user = in.UserID
			break
		}
	}
	rec, d, err := s.reasoner.Recommend(ctx, reasoner.Request{User: user, Surface: "terminal"})
	if err != nil {
		return err
	}
	s.server.Decided(rec, d)
	fmt.Fprintf(p.stdout, "First recommendation %.1f s after the start.\n\n", time.Since(begun).Seconds())
	return printRecommendation(p.stdout, rec, d)
}

// replayLive publishes what was kept back, slowly, until it is out or ctx ends.
func (c demoCommand) replayLive(ctx context.Context, s *service, rest *dataset.Dataset) error {
	interactions := s.parts.kafka.NewWriter(broker.Interactions)
	defer interactions.Close()
	tick := time.NewTicker(time.Duration(float64(time.Second) / c.Rate))
	defer tick.Stop()
	tell := func(phase web.PhaseName, done, total int) {
		s.feed.SetPhase(web.Phase{Name: phase, Text: rest.Name(), Done: int64(done), Total: int64(total)})
	}
	_, total := rest.Len()
	tell(web.Replaying, 0, total)
	if err := dataset.Replay(ctx, rest, interactions, tick.C, func(done, total int) { tell(web.Replaying, done, total) }, s.p.leftOut); err != nil {
		return err
	}
	tell(web.Live, total, total)
	return nil
}
