package consumer

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
)

// BenchmarkJoiner joins a backlog: decisions over 20 candidates as large as real ones, each with five impressions and a
// click that names it or not, for 2,000 users in three partitions. It runs on the servers that the environment names, else
// on embedded ones.
func BenchmarkJoiner(b *testing.B) {
	const decisions, shown = 6000, 5
	k, r := broker.Settings{Brokers: []string{embeddedtest.Kafka(b)}}, &redis.UniversalOptions{Addrs: []string{embeddedtest.Redis(b)}}
	if os.Getenv(embeddedtest.EnvKafka) != "" && os.Getenv(embeddedtest.EnvRedis) != "" {
		k, r = embeddedtest.RealKafka(b), embeddedtest.RealRedis(b)
	}
	c := newJoinCluster(b, k, r)
	begun := time.Now().Add(-2 * time.Hour).UnixMilli()
	all := make([]logs, partitions)
	var records []*kgo.Record
	var size int
	for n := range decisions {
		p, user, at := n%partitions, fmt.Sprint("user-", n%2000), begun+int64(n)
		d := event.Decision{DecisionID: fmt.Sprintf("%024d", n), UserID: user, Timestamp: event.Time(at), Source: event.Graph, Surface: "home", Temperature: 1}
		d.Thought.By = event.Graph
		for i := range 20 {
			item := fmt.Sprint("item-", i)
			d.Context.Candidates = append(d.Context.Candidates, event.Candidate{ItemID: item, Title: "A title as films have them (1999)", Categories: []string{"Drama", "Crime"},
				Origin: event.FromChains, Evidence: event.Evidence{Chains: 1.2345678, LikeMinded: .3456789, Similar: 4.567891, Recent: [3]float64{.5, 1.25, 3.75}, Popularity: 77}})
			d.Scores = append(d.Scores, event.Score{Graph: .05, Final: -2.995732})
		}
		for i := range 48 {
			d.Context.Chains = append(d.Context.Chains, event.Chain{Via: fmt.Sprint("item-", 100+i), Neighbour: fmt.Sprint("user-", 900+i), ItemID: fmt.Sprint("item-", i%20),
				Weight: .0123456, Shared: 3, NeighbourAt: event.Time(at)})
		}
		for i := range shown {
			d.Slate = append(d.Slate, event.Slot{Position: i + 1, ItemID: fmt.Sprint("item-", i), Probability: 1})
		}
		raw := must(event.Encode(d))
		size += len(raw)
		records = append(records, c.record(c.join.Decisions, p, user, at, raw))
		did := func(what event.Type, item, ms int, decision string) {
			in := event.Interaction{EventID: fmt.Sprint(n, what, item), UserID: user, ItemID: fmt.Sprint("item-", item), Type: what,
				Timestamp: event.Time(at + int64(ms)), DecisionID: decision, Surface: "home"}
			records = append(records, c.record(c.join.Interactions, p, user, at+int64(ms), must(event.Encode(in))))
			all[p].interactions = append(all[p].interactions, recorded[event.Interaction]{})
		}
		for i := range shown {
			did(event.Impression, i, 1, d.DecisionID)
		}
		did(event.Click, n%shown, 2, []string{d.DecisionID, ""}[n%2])
		all[p].decisions = append(all[p].decisions, recorded[event.Decision]{})
	}
	c.produce(records...)
	settled := c.settled(b, all)
	for n := 0; b.Loop(); n++ {
		if err := embeddedtest.Flush(b.Context(), c.rdb); err != nil {
			b.Fatal(err)
		}
		r := startJoiner(b, JoinerOptions{Member: Member{Brokers: c.brokers, Group: fmt.Sprint(c.group, n), Transport: c.transport}, Topics: c.join, Store: c.graph()})
		c.eventually("everything is final", settled)
		r.stop()
	}
	took := b.Elapsed().Seconds() / float64(b.N)
	b.ReportMetric(decisions*shown/took, "rewards/s")
	b.ReportMetric(float64(decisions*(shown+2))/took, "records/s")
	b.ReportMetric(float64(size)/decisions, "bytes/decision")
}
