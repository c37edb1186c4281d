package graphcache

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/redis/go-redis/v9"
)

func benchBatch(n int) []event.Interaction {
	rng := rand.New(rand.NewPCG(1, 2))
	user, item := rand.NewZipf(rng, 1.1, 100, 99_999), rand.NewZipf(rng, 1.1, 20, 19_999)
	batch := make([]event.Interaction, n)
	for i := range batch {
		batch[i] = event.Interaction{UserID: fmt.Sprint("u", user.Uint64()), ItemID: fmt.Sprint("i", item.Uint64()), Type: event.Click, Timestamp: event.Time(1.7e12 + i)}
	}
	return batch
}

// BenchmarkJoins is what making the commands of a batch costs, without a server.
func BenchmarkJoins(b *testing.B) {
	c, err := New(nil, Options{})
	if err != nil {
		b.Fatal(err)
	}
	batch := [][]event.Interaction{benchBatch(2000)}
	b.ReportAllocs()
	for b.Loop() {
		c.joins(batch, nil)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*2000), "ns/event")
}

// BenchmarkApplyInteractions applies batches of 2000; with R2REC_TEST_REDIS set to a real server, whose part is most of it.
func BenchmarkApplyInteractions(b *testing.B) {
	opt := &redis.UniversalOptions{}
	if os.Getenv(embeddedtest.EnvRedis) != "" {
		opt = embeddedtest.RealRedis(b)
	} else {
		opt.Addrs = []string{embeddedtest.Redis(b)}
	}
	rdb := redis.NewUniversalClient(opt)
	defer rdb.Close()
	c, err := New(rdb, Options{})
	if err != nil {
		b.Fatal(err)
	}
	batch := benchBatch(2000)
	span := event.Span{Topic: "interactions"}
	b.ReportAllocs()
	for b.Loop() {
		span.Start, span.End = span.End, span.End+int64(len(batch))
		for i := range batch {
			batch[i].Timestamp += event.Time(len(batch))
		}
		if err := c.ApplyInteractions(b.Context(), span, batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch)), "ns/event")
}
