package main

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/r2rec/r2rec/consumer"
)

type consumeCommand struct {
	kafkaFlags `embed:""`
	redisFlags `embed:""`
	OnGap      consumer.GapPolicy `help:"Where Kafka no longer holds events the graph needs: stop, or earliest to accept the loss and go on." enum:"stop,earliest" default:"stop" env:"R2REC_ON_GAP"`
	Group      string             `help:"Consumer group; its members share the partitions." default:"r2rec" env:"R2REC_GROUP"`
}

// Help is shown by `r2rec consume --help`.
func (consumeCommand) Help() string {
	return `Reads the topics interactions, items and users and applies them to the graph. Start as many as there are
partitions. Where to begin is told by the watermarks in Redis, not by committed offsets: a Redis that was
flushed or restored is filled again from Kafka, without anybody's doing. What cannot be applied goes to the
topic deadletters, with the reason.`
}

func (c consumeCommand) Run(p *process) error {
	s, err := connect(p, c.kafkaFlags, c.redisFlags)
	if err != nil {
		return err
	}
	defer s.close()
	cons, err := newConsumer(p, s.kafka, s.graph, prometheus.NewRegistry(), consumer.Options{Member: consumer.Member{Group: c.Group, OnGap: c.OnGap}})
	if err != nil {
		return err
	}
	p.log.Info("consuming", "kafka", s.kafka.Brokers(), "redis", s.rdb.Options().Addr, "group", c.Group, "edges_per_node", s.graph.Bound())
	return cons.Run(p.ctx)
}
