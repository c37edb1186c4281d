package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/event"
)

type benchIngestCommand struct {
	profileFlags `embed:""`

	Redis  string   `help:"Redis to fill, as redis://user:password@host:port/db, or rediss:// with TLS. Not a Cluster. Given here alone, not in the environment or --config." explicit:"" default:"redis://127.0.0.1:6379/0" group:"Servers"`
	Prefix string   `help:"Put before every key. No key with it may exist; those that are made are deleted afterwards. Given here alone, too." explicit:"" default:"r2bench:" group:"Servers"`
	Kafka  []string `help:"Kafka brokers to begin with, host:port, without TLS. Its topics get a name of their own and are deleted afterwards. Empty: a broker within this process. Given here alone, as --redis is." explicit:"" group:"Servers"`

	Events     int     `help:"Interactions a run." default:"400000" group:"Work"`
	Users      int     `help:"Users they are of; how much each does follows a power law." default:"100000" group:"Work"`
	Items      int     `help:"Items they are about; how popular each is follows a power law." default:"20000" group:"Work"`
	Views      float64 `help:"Share of interactions that are views, which make no edge." default:"0" group:"Work"`
	Partitions int     `help:"Partitions of the topic, each read by a goroutine of its own." default:"8" group:"Work"`
	Runs       int     `help:"Times that each is measured, in turn; figures are medians." default:"5" group:"Work"`
	Seconds    int     `help:"How long events are produced to measure how soon they are in the graph." default:"10" group:"Work"`
	Rate       int     `help:"Events a second to produce there; 0: half of what was measured." default:"0" group:"Work"`
	Seed       uint64  `help:"Of the interactions." default:"1" group:"Work"`

	JSON bool `help:"Figures for machines, one JSON object a line." group:"Results"`
}

// Help is shown by `r2rec bench ingest --help`.
func (benchIngestCommand) Help() string {
	return `Publishes interactions to Kafka and times the consumer, from its first applied batch to the last, while it brings them
into the graph: read, decode, validate, apply, trim, watermarks. In turn with it, and into the same Redis:

  limit    the same interactions one by one: a ZADD GT and a trim for each list that each stands in, encoded beforehand
           and sent down a bare connection as fast as Redis takes them. No Kafka, no watermark.
  replay   the very bytes that the consumer sent, sent again in the same way. It holds less work than the limit,
           because a batch puts all that it has for one list into one command; so ratio_to_limit may be above 1.

The graphs of all three are compared; they have to be equal. Each interaction is a click (60 %), like, purchase, cart, high or
low rating, dislike or hide. Then interactions are produced at half the rate that was measured, whether or not they are
keeping up, and visible_p50_ms and visible_p99_ms are the times from the moment when one was due to be produced to that
when its edges were in the graph; the first second does not count. The producer is a part of this process.

  r2rec bench ingest --redis redis://127.0.0.1:6379/0
  r2rec bench ingest --redis redis://127.0.0.1:6379/0 --kafka 127.0.0.1:9092 --json

A broker within this process takes its part of the processor from the consumer; cpu_us_per_event holds both.`
}

func (c benchIngestCommand) check() error {
	if err := checkCounts(count{"--events", c.Events, 1}, count{"--users", c.Users, 1}, count{"--items", c.Items, 1}, count{"--partitions", c.Partitions, 1},
		count{"--runs", c.Runs, 1}, count{"--seconds", c.Seconds, 2}, count{"--rate", c.Rate, 0}); err != nil {
		return wrong(err)
	}
	switch {
	case !(c.Views >= 0 && c.Views < 1):
		return misuse("--views %v: want a share of 0 or more, and less than 1", c.Views)
	case c.Prefix == "" || strings.ContainsAny(c.Prefix, `*?[]\`):
		return misuse("--prefix %q: every key with the prefix will be deleted: want one of your own, without * ? [ ] \\", c.Prefix)
	}
	return nil
}

func (c benchIngestCommand) Run(p *process) (err error) {
	if err := c.check(); err != nil {
		return err
	}
	quiet := *p // assignments and group changes are the benchmark's own doing
	quiet.log = slog.New(atLeast{slog.LevelWarn, p.log.Handler()})
	p = &quiet
	shown := &stages{p: p}
	defer shown.close()
	store, err := openIngestStore(p.ctx, c.Redis, c.Prefix)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.close()) }()
	kafka, err := openIngestKafka(p, c.Kafka)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kafka.close()) }()

	b := &ingestBench{p: p, shown: shown, store: store, events: ingestEvents(c.Events, c.Users, c.Items, c.Views, c.Seed)}
	if b.graph, err = store.graph(p.ctx, store.rdb); err != nil {
		return err
	}
	if b.backlog, err = kafka.topics(p.ctx, c.Partitions); err != nil {
		return err
	}
	if err := b.publish(); err != nil {
		return err
	}
	if err := b.prepare(); err != nil {
		return err
	}
	m, err := b.measure(c.Runs, c.CPUProfile)
	if err != nil {
		return err
	}
	rate := float64(c.Rate)
	if c.Rate == 0 {
		rate = median(m.consumer.rates) / 2
	}
	live, err := newLiveRun(b.events, rate, time.Duration(c.Seconds)*time.Second, 20*c.Partitions)
	if err != nil {
		return err
	}
	b.events, b.alone, b.replay = nil, stream{}, stream{} // no consumer has them in its memory
	topics, err := kafka.topics(p.ctx, c.Partitions)
	if err != nil {
		return err
	}
	if err := b.live(topics, live); err != nil {
		return err
	}
	if err := p.ctx.Err(); err != nil {
		return err
	}
	shown.close()
	out := &benchReport{command: "bench ingest", machine: thisMachine()}
	c.report(out, m, live, kafka.name())
	return out.write(p.stdout, c.JSON)
}

// report adds the figures.
func (c benchIngestCommand) report(out *benchReport, m ingestMeasured, live *liveRun, broker string) {
	what := fmt.Sprintf("%d interactions of %d users and %d items from %s, %d partitions", c.Events, c.Users, c.Items, broker, c.Partitions)
	speed := func(metric string, s ingestSamples, of string) {
		out.add(figure{Metric: metric, Value: median(s.rates), Unit: "1/s", Threads: 1, Samples: len(s.rates), Best: slices.Max(s.rates),
			Of: fmt.Sprintf("%s; worst %s", of, decimal(slices.Min(s.rates)))})
	}
	speed("events_per_second", m.consumer, what)
	speed("limit_events_per_second", m.alone, fmt.Sprintf("the same one by one, %.1f commands each, encoded beforehand, one connection", float64(m.aloneCommands)/float64(c.Events)))
	speed("replay_events_per_second", m.replay, fmt.Sprintf("the %.1f commands an event that the consumer sent, again, one connection", float64(m.replayCommands)/float64(c.Events)))
	ratio := func(metric string, to ingestSamples, peer string) {
		var of []float64
		for i := range to.rates {
			of = append(of, m.consumer.rates[i]/to.rates[i])
		}
		out.add(figure{Metric: metric, Value: median(of), Unit: "ratio", Threads: 1, Samples: len(of), Peer: peer, Best: slices.Max(of), Of: "of events_per_second, run by run, to " + peer})
	}
	ratio("ratio_to_limit", m.alone, "limit_events_per_second (goal: 0.6)")
	ratio("ratio_to_replay", m.replay, "replay_events_per_second")
	cpu := func(metric string, spent []float64, of string) {
		if v := median(spent); v > 0 {
			out.add(figure{Metric: metric, Value: v, Unit: "µs", Threads: 1, Samples: len(spent), Of: of})
		}
	}
	cpu("cpu_us_per_event", m.consumer.own, "processor time of this process: reading, decoding, applying; and the broker where it is within")
	cpu("redis_cpu_us_per_event", m.consumer.redis, "processor time of Redis under the consumer")
	cpu("limit_redis_cpu_us_per_event", m.alone.redis, "the same under the limit")
	cpu("replay_redis_cpu_us_per_event", m.replay.redis, "the same under the replay")
	late := fmt.Sprintf("from due to be produced to in the graph, at %s events/s", decimal(live.rate))
	out.add(figure{Metric: "visible_p50_ms", Value: quantile(live.visible, .5), Unit: "ms", Threads: 1, Samples: len(live.visible), Of: late})
	out.add(figure{Metric: "visible_p99_ms", Value: quantile(live.visible, .99), Unit: "ms", Threads: 1, Samples: len(live.visible), Of: late + " (goal: 50 ms)"})
	out.add(figure{Metric: "acknowledged_p50_ms", Value: quantile(live.acked, .5), Unit: "ms", Threads: 1, Samples: len(live.acked), P99: quantile(live.acked, .99), P90: quantile(live.acked, .9),
		Of: "of that, until Kafka had acknowledged it to the producer"})
}

// ingestBench is what the measurements share.
type ingestBench struct {
	p       *process
	shown   *stages
	store   *ingestStore
	graph   *graphcache.Generations
	backlog *ingestTopics
	events  []event.Interaction

	alone  stream // the events one by one
	replay stream // what the consumer sent
}

// ingestSamples are the figures of one way to fill the graph, one a run.
type ingestSamples struct {
	rates      []float64 // events a second
	own, redis []float64 // processor time an event, µs; empty where nobody tells
}

type ingestMeasured struct {
	consumer, alone, replay       ingestSamples
	aloneCommands, replayCommands int
}

// prepare encodes the limit, records what the consumer sends, and sees that each of the three makes the same graph.
func (b *ingestBench) prepare() error {
	b.shown.set("comparing graphs", 0, 3)
	cache, err := b.graph.Current(b.p.ctx)
	if err != nil {
		return err
	}
	b.alone = oneByOne(cache, b.events)
	recorder, recorded, err := b.store.recording(b.p.ctx)
	if err != nil {
		return err
	}
	var first []graphcache.Entry
	for i, fill := range []func() error{
		func() error { _, err := b.consume(recorder); return err },
		func() error { return b.store.send(b.p.ctx, b.alone) },
		func() error { return b.store.send(b.p.ctx, b.replay) },
	} {
		if err := b.store.wipe(b.p.ctx); err != nil {
			return err
		}
		if err := fill(); err != nil {
			return err
		}
		if i == 0 {
			if b.replay, err = recorded(); err != nil {
				return err
			}
		}
		got, err := cache.Export(b.p.ctx)
		switch {
		case err != nil:
			return err
		case i == 0:
			first = got
		case !slices.Equal(got, first):
			return fmt.Errorf("the graph of %d edges that the consumer makes is not that of %s, which has %d", len(first), []string{"", "the limit", "the replay"}[i], len(got))
		}
		b.shown.set("comparing graphs", i+1, 3)
	}
	return nil
}

// measure times the three ways in turn.
func (b *ingestBench) measure(runs int, profile string) (m ingestMeasured, err error) {
	m.aloneCommands, m.replayCommands = b.alone.commands, b.replay.commands
	sent := func(s stream) func() (float64, error) {
		return func() (float64, error) {
			start := time.Now()
			err := b.store.send(b.p.ctx, s)
			return float64(len(b.events)) / time.Since(start).Seconds(), err
		}
	}
	for run := range runs {
		for _, one := range []struct {
			into *ingestSamples
			fill func() (float64, error)
		}{
			{&m.consumer, func() (float64, error) {
				if run > 0 {
					profile = ""
				}
				return profiled(profile, func() (float64, error) { return b.consume(b.graph) })
			}},
			{&m.alone, sent(b.alone)},
			{&m.replay, sent(b.replay)},
		} {
			b.shown.set("filling the graph", run, runs)
			if err := b.sample(one.into, one.fill); err != nil {
				return m, err
			}
		}
	}
	return m, nil
}

// sample fills an empty graph once and notes what it took.
func (b *ingestBench) sample(s *ingestSamples, fill func() (float64, error)) error {
	if err := b.store.wipe(b.p.ctx); err != nil {
		return err
	}
	redis, err := redisCPU(b.p.ctx, b.store.rdb)
	if err != nil {
		return err
	}
	own, told := cpuTime()
	rate, err := fill()
	if err != nil {
		return err
	}
	s.rates = append(s.rates, rate)
	perEvent := func(spent time.Duration) float64 { return spent.Seconds() * 1e6 / float64(len(b.events)) }
	if after, _ := cpuTime(); told {
		s.own = append(s.own, perEvent(after-own))
	}
	if after, err := redisCPU(b.p.ctx, b.store.rdb); err != nil {
		return err
	} else if after > 0 {
		s.redis = append(s.redis, perEvent(after-redis))
	}
	return nil
}

// profiled is f, profiled.
func profiled(file string, f func() (float64, error)) (v float64, err error) {
	stop, err := startProfile(file)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	return f()
}

// atLeast passes on messages of a level and above.
type atLeast struct {
	level slog.Level
	slog.Handler
}

func (h atLeast) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= h.level && h.Handler.Enabled(ctx, l)
}
func (h atLeast) WithAttrs(as []slog.Attr) slog.Handler {
	return atLeast{h.level, h.Handler.WithAttrs(as)}
}
func (h atLeast) WithGroup(name string) slog.Handler {
	return atLeast{h.level, h.Handler.WithGroup(name)}
}
