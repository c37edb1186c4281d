package main

import (
	"net"
	"time"

	"github.com/r2rec/r2rec/consumer"
	"github.com/r2rec/r2rec/internal/web"
	"golang.org/x/sync/errgroup"
)

type consumeCommand struct {
	Monitor     string `help:"Address to answer /healthz, /readyz and /metrics on, host:port, such as 127.0.0.1:9090; empty: none." env:"R2REC_MONITOR" placeholder:"HOST:PORT"`
	hostFlags   `embed:""`
	kafkaFlags  `embed:""`
	redisFlags  `embed:""`
	joinFlags   `embed:""`
	memberFlags `embed:""`
}

// memberFlags say how a process takes part in reading Kafka.
type memberFlags struct {
	OnGap          consumer.GapPolicy `help:"Where Kafka no longer holds events the graph needs: stop, or earliest to accept the loss and go on." enum:"stop,earliest" default:"stop" env:"R2REC_ON_GAP" group:"Consuming"`
	Group          string             `help:"Consumer group; its members share the partitions." default:"r2rec" env:"R2REC_GROUP" group:"Consuming"`
	SessionTimeout time.Duration      `help:"Time after which others take over the partitions of a process that was killed or hangs. Brokers bound it: 6s is the least by default (group.min.session.timeout.ms)." default:"10s" env:"R2REC_SESSION_TIMEOUT" group:"Consuming"`
}

// check finds what is wrong with the flags before anything is reached.
func (f memberFlags) check() error {
	if f.Group == "" {
		return misuse("--group is empty: want a name, such as r2rec")
	}
	if f.SessionTimeout < leastSession {
		return misuse("--session-timeout %v: want at least %v", f.SessionTimeout, leastSession)
	}
	return nil
}

// leastSession has room for heartbeats.
const leastSession = 100 * time.Millisecond

func (f memberFlags) member() consumer.Member {
	return consumer.Member{Group: f.Group, OnGap: f.OnGap, SessionTimeout: f.SessionTimeout, HeartbeatInterval: min(time.Second, f.SessionTimeout/3)}
}

// Help is shown by `r2rec consume --help`.
func (consumeCommand) Help() string {
	return `Graph: it reads the topics interactions, items and users and applies them to the graph. Start as many as there are
partitions. Where to begin is told by the watermarks in Redis, not by committed offsets: a Redis that was
flushed or restored is filled again from Kafka, without anybody's doing. What cannot be applied goes to the
topic deadletters, with the reason.

With --monitor it answers those who watch over processes: a readiness probe, and Prometheus.

` + joinHelp
}

func (consumeCommand) endless() bool { return true }

func (c consumeCommand) Run(p *process) error {
	if err := c.memberFlags.check(); err != nil {
		return err
	}
	if c.Monitor != "" { // the environment may have hosts for servers
		if err := c.hostFlags.check(); err != nil {
			return err
		}
	}
	join, err := c.joinFlags.options(c.redisFlags, c.member())
	if err != nil {
		return err
	}
	var ln net.Listener
	if c.Monitor != "" {
		if ln, err = listen("--monitor", c.Monitor); err != nil {
			return err
		}
		defer ln.Close()
	}
	s, err := connect(p, c.kafkaFlags, c.redisFlags)
	if err != nil {
		return err
	}
	defer s.close()
	reg := newRegistry()
	cons, err := newConsumer(p, s.kafka, s.graph, reg, consumer.Options{Member: c.member()})
	if err != nil {
		return err
	}
	joiner, err := newJoiner(p, s.kafka, s.graph, reg, join)
	if err != nil {
		return err
	}
	c.warnForgetKey(p)
	warnTopics(p, s.kafka, c.Lateness)
	p.log.Info("consuming", "kafka", s.kafka.Brokers(), "redis", addressOf(s.rdb), "group", c.Group, "edges_per_node", s.graph.Bound())
	g, ctx := errgroup.WithContext(p.ctx)
	g.Go(func() error { return cons.Run(ctx) })
	g.Go(func() error { return joiner.Run(ctx) })
	if ln != nil {
		health := newChecker(append(storesHealth(s, cons), consumersHealth(cons, joiner)...)...)
		p.log.Info("watched over", "url", "http://"+ln.Addr().String()+"/readyz")
		g.Go(func() error { health.run(ctx); return nil })
		g.Go(func() error {
			return web.Monitor(ctx, ln, web.MonitorOptions{Health: health, Gatherer: reg, Logger: p.log, AllowedHosts: c.AllowedHost})
		})
	}
	return g.Wait()
}
