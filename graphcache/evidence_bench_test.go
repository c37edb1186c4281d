package graphcache

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/r2rec/r2rec/internal/dataset"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
)

// films joins the bundled MovieLens data into the graph, and returns the users in the order of their first event and the
// item of each event.
func films(b *testing.B, c *Cache) (users, items []string) {
	b.Helper()
	ctx := b.Context()
	data, err := dataset.Bundled()
	if err != nil {
		b.Fatal(err)
	}
	known := map[string]bool{}
	var batch []event.Interaction
	for in, err := range data.Interactions() {
		if err != nil {
			b.Fatal(err)
		}
		if !known[in.UserID] {
			known[in.UserID] = true
			users = append(users, in.UserID)
		}
		items = append(items, in.ItemID)
		batch = append(batch, in)
	}
	for chunk := range slices.Chunk(batch, 5000) {
		if err := c.Join(ctx, chunk); err != nil {
			b.Fatal(err)
		}
	}
	var entries []event.Item
	for it, err := range data.Items() {
		if err != nil {
			b.Fatal(err)
		}
		entries = append(entries, it)
	}
	if err := c.ApplyItems(ctx, event.Span{Topic: "items", End: int64(len(entries))}, entries); err != nil {
		b.Fatal(err)
	}
	return users, items
}

// BenchmarkEvidence asks the full MovieLens graph in the real server for what a ranking is made from: the evidence of 20
// given items, drawn as often as they were rated; the same with chains; and 20 candidates found among 60 or 200. Users are
// drawn evenly. The network that may choose among the found is not part of it.
func BenchmarkEvidence(b *testing.B) {
	rdb, ctx := client(b, embeddedtest.RealRedis(b)), b.Context()
	loader, _ := reader(b, rdb, ListsDump)
	users, items := films(b, loader)
	for _, lists := range []Lists{ListsDump, ListsRange} {
		for _, history := range []int{32, 128} {
			for _, itemList := range []int{32, 128} {
				for _, ask := range []struct {
					name                string
					given, chains, pool int
				}{{"given", 20, 0, 60}, {"given+chains", 20, 20, 60}, {"found-of-60", 0, 20, 60}, {"found-of-200", 0, 20, 200}} {
					b.Run(fmt.Sprintf("by=%s/history=%d/list=%d/%s", lists, history, itemList, ask.name), func(b *testing.B) {
						c, log := reader(b, rdb, lists)
						c.opt.Read.History, c.opt.Read.ItemList, c.opt.Read.Pool = history, itemList, ask.pool
						if err := c.RefreshTrends(ctx); err != nil {
							b.Fatal(err)
						}
						rnd := rand.New(rand.NewPCG(1, 2))
						b.ReportAllocs()
						var took []time.Duration
						for b.Loop() {
							q := Query{User: users[rnd.IntN(len(users))], Candidates: 20, Trending: 3, Explore: 2, Chains: ask.chains, History: 10, Rand: rnd}
							for range ask.given {
								q.Items = append(q.Items, items[rnd.IntN(len(items))])
							}
							start := time.Now()
							s, err := c.Snapshot(ctx, q)
							took = append(took, time.Since(start))
							if err != nil || s.RoundTrips > 4 || len(s.Context.Candidates) != 20 {
								b.Fatalf("%d candidates after %d round trips, error %v; log: %s", len(s.Context.Candidates), s.RoundTrips, err, log)
							}
						}
						slices.Sort(took)
						b.ReportMetric(took[len(took)/2].Seconds()*1e3, "p50-ms")
						b.ReportMetric(took[len(took)*99/100].Seconds()*1e3, "p99-ms")
					})
				}
			}
		}
	}
}
