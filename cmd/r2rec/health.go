package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/r2rec/r2rec/consumer"
	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/web"
	"github.com/r2rec/r2rec/reasoner"
)

// probe asks one part how it is: its state, and a word on it.
type probe struct {
	name string
	ask  func(ctx context.Context) (web.State, string)
}

// checker asks the parts every few seconds and remembers since when they are as they are.
type checker struct {
	probes []probe

	mu    sync.Mutex
	known []web.Component
}

const (
	probeEvery   = 2 * time.Second
	probeTimeout = 1500 * time.Millisecond
)

// newChecker takes every part for down until it was asked.
func newChecker(probes ...probe) *checker {
	c := &checker{probes: probes}
	for _, p := range probes {
		c.known = append(c.known, web.Component{Name: p.name, State: web.Down, Detail: "not asked yet", Since: event.At(time.Now())})
	}
	return c
}

func (c *checker) Check(context.Context) []web.Component {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.known)
}

// run asks until ctx ends.
func (c *checker) run(ctx context.Context) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		c.ask(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (c *checker) ask(ctx context.Context) {
	now := make([]web.Component, len(c.probes))
	var wg sync.WaitGroup
	for i, p := range c.probes {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, probeTimeout)
			defer cancel()
			state, detail := p.ask(ctx)
			now[i] = web.Component{Name: p.name, State: state, Detail: detail, Since: event.At(time.Now())}
		})
	}
	wg.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, old := range c.known {
		if old.State == now[i].State {
			now[i].Since = old.Since
		}
	}
	c.known = now
}

// working turns an error into a state: none is OK, any other is bad.
func working(err error, bad web.State, detail string) (web.State, string) {
	if err != nil {
		return bad, err.Error()
	}
	return web.OK, detail
}

// failing is why a model counts as not working that did not rank the newest list; nil: it did, or that is long ago.
func failing(t reasoner.Trouble, now time.Time) error {
	if t.Lists == 0 || now.Sub(t.Last) > forgiven {
		return nil
	}
	return fmt.Errorf("%s: the graph ranked the last %d lists instead, since %s: %w", t.Why, t.Lists, t.Since.UTC().Format(time.TimeOnly), t.Err)
}

// forgiven is how long nobody asks a model until a failure is no longer held against it.
const forgiven = 5 * time.Minute

// slowRedis is what people notice: a list is read in a handful of round trips.
const slowRedis = 300 * time.Millisecond

// redisHealth tells whether Redis is there, takes events, and is quick about it.
func redisHealth(ctx context.Context, graph *graphcache.Generations, address string) (web.State, string) {
	asked := time.Now()
	if err := graph.Ping(ctx); err != nil {
		return web.Down, err.Error()
	}
	if took := time.Since(asked); took > slowRedis {
		return web.Degraded, fmt.Sprintf("%s is slow: it took %v to answer a ping", address, took.Round(time.Millisecond))
	}
	return working(graph.Writable(ctx), web.Degraded, address)
}

// storesHealth are the probes of the two servers that a process stands on; cons, if there is one, knows more of Kafka.
func storesHealth(on stores, cons *consumer.Consumer) []probe {
	return []probe{
		{"kafka", func(ctx context.Context) (web.State, string) {
			if cons != nil {
				if h := cons.Health(); h.Group.Error != "" {
					return web.Down, h.Group.Doing + ": " + h.Group.Error
				}
			}
			return working(on.kafka.WaitReady(ctx, probeTimeout, nil), web.Down, strings.Join(on.kafka.Brokers(), ", "))
		}},
		{"redis", func(ctx context.Context) (web.State, string) { return redisHealth(ctx, on.graph, addressOf(on.rdb)) }},
	}
}

// consumersHealth are the probes of what reads Kafka in a process.
func consumersHealth(cons *consumer.Consumer, joiner *consumer.Joiner) []probe {
	return []probe{{"consumer", healthOf(cons.Health, "events behind")}, {"rewards", healthOf(joiner.Health, "records wait for what belongs to them")}}
}
