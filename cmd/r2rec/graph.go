package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/segmentio/kafka-go"
)

type graphCommand struct {
	User string `help:"Show this user's neighbourhood instead: edges, newest first, and who else chose the same." placeholder:"ID" xor:"node" group:"Neighbourhood"`
	Item string `help:"Show this item's neighbourhood instead: who chose it, and what else they did." placeholder:"ID" xor:"node" group:"Neighbourhood"`
	Show int    `help:"How many edges of a neighbourhood to show." default:"20" group:"Neighbourhood"`

	Quick bool `help:"Ask for nothing but the counts: no memory, and no ends of Kafka's partitions."`
	JSON  bool `help:"One JSON object, for machines."`

	kafkaFlags `embed:""`
	redisFlags `embed:""`
}

// Help is shown by `r2rec graph --help`.
func (graphCommand) Help() string {
	return `Counts nodes and edges by reading every list's length, some seconds for a million nodes, and shows how the lengths are
distributed, what memory the graph takes, and how far each partition of Kafka is applied. A list keeps the newest edges up
to its bound, so that an item's list can hold fewer edges than users chose it.

  r2rec graph
  r2rec graph --user 671
  r2rec graph --item 6565 --show 5 --json

Memory is estimated from a sample of the keys. The lag needs Kafka; without it, that is said, and all else is shown.`
}

// askKafkaWithin is how long a graph's survey waits for Kafka, which it can do without.
const askKafkaWithin = 5 * time.Second

// graphReport is what `r2rec graph --json` prints.
type graphReport struct {
	Generation int `json:"generation"` // of the graph that serves; see r2rec rebuild
	graphcache.Survey
	UsedMemory int64   `json:"used_memory,omitempty"` // of all servers, other data included
	Partitions []apply `json:"partitions"`
	KafkaError string  `json:"kafka_error,omitempty"` // why there is no lag
}

// apply is how far a partition is applied.
type apply struct {
	graphcache.Mark
	End *int64 `json:"end,omitempty"` // the offset that the next record will get
	Lag *int64 `json:"lag,omitempty"` // records not yet applied, counted in offsets
}

// Run shows the graph.
func (c graphCommand) Run(p *process) error {
	if err := checkCounts(count{"--show", c.Show, 1}); err != nil {
		return err
	}
	rdb, generations, err := connectGraph(p, c.redisFlags)
	if err != nil {
		return err
	}
	defer rdb.Close()
	graph, err := generations.Current(p.ctx)
	if err != nil {
		return err
	}
	switch {
	case c.User != "":
		n, err := graph.AroundUser(p.ctx, c.User, c.Show)
		if err != nil {
			return err
		}
		return c.print(p.stdout, n, func(w io.Writer) error { return printAroundUser(w, n) })
	case c.Item != "":
		n, err := graph.AroundItem(p.ctx, c.Item, c.Show)
		if err != nil {
			return err
		}
		return c.print(p.stdout, n, func(w io.Writer) error { return printAroundItem(w, n) })
	}
	r := graphReport{Generation: graph.Generation(), Partitions: []apply{}}
	shown := &stages{p: p}
	defer shown.close()
	r.Survey, err = graph.Survey(p.ctx, graphcache.SurveyOptions{Memory: !c.Quick, Progress: func(done, total int) { shown.set("looking at keys", done, total) }})
	if err != nil {
		return err
	}
	marks, err := graph.Marks(p.ctx)
	if err != nil {
		return err
	}
	for _, m := range marks {
		r.Partitions = append(r.Partitions, apply{Mark: m})
	}
	if !c.Quick {
		if used, err := allocated(p.ctx, rdb); err == nil { // a server that does not tell has its lists counted all the same
			r.UsedMemory = used
		}
		shown.set("asking Kafka", 0, 1)
		if err := c.lag(p.ctx, r.Partitions); err != nil {
			r.KafkaError = err.Error()
		}
	}
	shown.close()
	return c.print(p.stdout, r, func(w io.Writer) error { return r.print(w) })
}

func (c graphCommand) print(w io.Writer, v any, text func(w io.Writer) error) error {
	if c.JSON {
		return json.NewEncoder(w).Encode(v)
	}
	return text(w)
}

// lag asks Kafka where the partitions end.
func (c graphCommand) lag(ctx context.Context, parts []apply) error {
	kc, err := c.kafkaFlags.client()
	if err != nil {
		return err
	}
	defer kc.Close()
	ctx, cancel := context.WithTimeout(ctx, askKafkaWithin)
	defer cancel()
	ends := map[string]map[int]int64{}
	var gone []string
	for i := range parts {
		m := &parts[i]
		if ends[m.Topic] == nil {
			ends[m.Topic] = map[int]int64{}
			offsets, err := kc.Offsets(ctx, strings.TrimPrefix(m.Topic, kc.Topic("")))
			switch {
			case errors.Is(err, kafka.UnknownTopicOrPartition):
				gone = append(gone, m.Topic)
			case err != nil:
				return err
			}
			for _, o := range offsets {
				ends[m.Topic][o.Partition] = o.Last
			}
		}
		if end, ok := ends[m.Topic][m.Partition]; ok {
			lag := end - m.Lowest
			m.End, m.Lag = &end, &lag
		}
	}
	if len(gone) > 0 {
		return fmt.Errorf("%s at %s: no such topic", strings.Join(gone, ", "), strings.Join(kc.Brokers(), ", "))
	}
	return nil
}
