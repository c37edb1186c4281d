package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/r2rec/r2rec/consumer"
	"github.com/r2rec/r2rec/internal/web"
)

type serveCommand struct {
	Listen         string `help:"Address to listen on, host:port. Anything but loopback should have --token." default:"127.0.0.1:8080" env:"R2REC_LISTEN"`
	accessFlags    `embed:""`
	Consume        bool `help:"Apply Kafka's events in this process too: one process for everything." env:"R2REC_CONSUME"`
	kafkaFlags     `embed:""`
	redisFlags     `embed:""`
	joinFlags      `embed:""`
	memberFlags    `embed:""`
	modelFlags     `embed:""`
	recommendFlags `embed:""`
	followFlags    `embed:""`
	rollOutFlags   `embed:""`
}

// accessFlags say who may ask a server, and by which names.
type accessFlags struct {
	Token     string `help:"Bearer token asked of everybody; better given in the environment." env:"R2REC_TOKEN"`
	hostFlags `embed:""`
}

func (f accessFlags) check() error {
	if strings.ContainsFunc(f.Token, func(r rune) bool { return r < '!' || r > '~' }) {
		return misuse("--token: it has a blank or a character beyond ASCII, which browsers cannot send; want printing ASCII")
	}
	return f.hostFlags.check()
}

// hostFlags say by which names a process is asked.
type hostFlags struct {
	AllowedHost []string `help:"Host names to answer to besides loopback's, where browsers or probes reach the server by name." env:"R2REC_ALLOWED_HOSTS"`
}

func (f hostFlags) check() error {
	for _, h := range f.AllowedHost {
		if err := web.CheckHost(h); err != nil {
			return misuse("--allowed-host %q: %w", h, err)
		}
	}
	return nil
}

// Help is shown by r2rec serve --help.
func (serveCommand) Help() string {
	return `GET /v1/users/USER/recommendations answers with what is stored, or makes it (fresh=true: always).
With shown=true the answer declares that it is shown, and can earn rewards.
POST /v1/events takes events and publishes them to Kafka. /openapi.json describes all of it, / shows it.

A small language model that travels with the program ranks beside the graph. r2rec lm tune fits an adapter for it on
your own data; an Ollama server can run a larger one. Where the model is slow, down or talks nonsense, the graph's
ranking is served and marked so.

With --adapters the server follows the log of promotions in Kafka: a new adapter is fetched, loaded beside the one that
serves, proven to be what was trained, and switched to without a failed request, within about a second (through an Ollama
within minutes: the proof is tens to hundreds of calls). One that cannot be had or proven changes nothing; GET /v1/adapters and /readyz say why. POST /v1/adapters/rollback goes back.
Roll-outs are completed, or go back, by what users of both adapters earned, and the page shows it, with the uplift over
the users who stay on the graph's ranking.

  r2rec serve --consume
  r2rec serve --consume --adapter films.gguf
  r2rec serve --consume --adapters s3://bucket/adapters?region=eu-west-1
  r2rec serve --consume --ollama http://127.0.0.1:11434 --model smollm2:135m
  r2rec serve --consume --ollama http://127.0.0.1:11434 --model SmolLM2.gguf --adapters /srv/adapters

With --consume it does what r2rec consume does, rewards included; r2rec consume --help tells how they come about.`
}

func (serveCommand) endless() bool { return true }

func (c serveCommand) Run(p *process) error {
	collectSeldom()
	ln, err := listen("--listen", c.Listen)
	if err != nil {
		return err
	}
	defer ln.Close()
	if err := errors.Join(c.accessFlags.check(), c.followFlags.check(c.modelFlags), c.rollOutFlags.check(), c.modelFlags.check(), c.recommendFlags.check(), c.redisFlags.check()); err != nil {
		return err
	}
	var join consumer.JoinerOptions
	if c.Consume {
		if err := c.memberFlags.check(); err != nil {
			return err
		}
		if join, err = c.joinFlags.options(c.redisFlags, c.member()); err != nil {
			return err
		}
		join.Showable = max(join.Showable, c.TTL)
	}
	model, noModel, err := c.followFlags.model(p, c.modelFlags)
	if err != nil {
		return err
	}
	on, err := connect(p, c.kafkaFlags, c.redisFlags)
	if err != nil {
		return err
	}
	defer on.close()
	if model == nil && c.Adapters == "" {
		p.log.Warn("the graph ranks: there is no model", "why", noModel)
	}
	reg := newRegistry()
	follow, done, err := c.followFlags.open(p, on.kafka, model, c.modelFlags)
	if err != nil {
		return err
	}
	defer done()
	var learning *loopParts
	if follow != nil {
		learning = c.learning()
	}
	s, err := newService(p, serviceParts{
		kafka: on.kafka, rdb: on.rdb, graph: on.graph, model: model, noModel: noModel, adapters: follow, rollOuts: c.rollOutFlags, rollOutsAt: rollOutsAt, registry: reg,
		redis: c.redisFlags, modelFlags: c.modelFlags, recommend: c.recommendFlags,
		access: c.accessFlags, consume: c.Consume, consumer: consumer.Options{Member: c.member()}, join: join,
		loop: learning,
	})
	if err != nil {
		return err
	}
	defer s.close()
	if c.Consume {
		c.warnForgetKey(p)
		warnTopics(p, on.kafka, c.Lateness)
	}
	p.log.Info("serving", "url", "http://"+ln.Addr().String(), "kafka", on.kafka.Brokers(), "redis", addressOf(on.rdb), "consume", c.Consume)
	return s.run(p.ctx, ln)
}

// learning is what a server shows of the loop, and does for it.
func (c serveCommand) learning() *loopParts {
	parts := &loopParts{every: rewardsAt, back: 24 * time.Hour, elsewhere: "Rounds of learning are run by r2rec train."}
	if c.Consume {
		parts.rule = rewardRule(c.AttributionWindow, c.Lateness)
	}
	return parts
}

// How often a server looks at the rewards, of a roll-out and of all.
const (
	rollOutsAt = 5 * time.Second
	rewardsAt  = 2 * time.Second
)

// listen refuses what cannot work before anything is started.
func listen(flag, address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, misuse("%s %q: want host:port, such as 127.0.0.1:8080: %w", flag, address, err)
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "localhost" && host != "" {
		return nil, misuse("%s %q: the host must be an address of this machine, such as 127.0.0.1", flag, address)
	}
	ln, err := net.Listen("tcp", address)
	switch {
	case err == nil:
		return ln, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s %s: %w: is another r2rec running? choose another port", flag, address, err)
	}
	return nil, fmt.Errorf("%s %s: %w: want an address of this machine, and a port on which this user may listen", flag, address, err)
}
