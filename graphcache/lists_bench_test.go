package graphcache

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
)

// BenchmarkLists reads 228 lists of 128 edges, about what the evidence for one user needs, in one round trip from the
// real server, decoding included, in each way there is. Beside the median and the 99th percentile stand the microseconds
// that the server counts for a list, all its commands together.
func BenchmarkLists(b *testing.B) {
	const lists, edges = 228, 128
	rdb := client(b, embeddedtest.RealRedis(b))
	ctx := b.Context()
	before := rdb.ConfigGet(ctx, "rdbcompression").Val()["rdbcompression"]
	b.Cleanup(func() {
		if err := rdb.ConfigSet(context.WithoutCancel(ctx), "rdbcompression", before).Err(); err != nil {
			b.Error(err)
		}
	})
	for _, ids := range []string{"%d", "user-%06d"} {
		rnd := rand.New(rand.NewPCG(1, 2))
		keys := make([]string, lists)
		for i := range keys {
			keys[i] = fmt.Sprintf("list %s %d", ids, i)
			at := int64(1.7e12)
			for _, id := range rnd.Perm(10_000)[:edges] {
				at += rnd.Int64N(1e8)
				rdb.ZAdd(ctx, keys[i], redis.Z{Member: fmt.Sprintf(ids, id), Score: float64(at*8 + rnd.Int64N(8))})
			}
		}
		for _, way := range []struct {
			lists       Lists
			newest      int
			compression string
		}{
			{ListsRange, 0, "no"}, {ListsRange, 32, "no"}, {ListsDump, 0, "no"}, {ListsDump, 32, "no"}, {ListsDump, 0, "yes"},
		} {
			name := fmt.Sprintf("ids=%s/by=%s/newest=%d", ids, way.lists, way.newest)
			if way.lists == ListsDump {
				name += "/rdbcompression=" + way.compression
			}
			b.Run(name, func(b *testing.B) {
				c, log := reader(b, rdb, way.lists)
				if err := rdb.ConfigSet(ctx, "rdbcompression", way.compression).Err(); err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				var took []time.Duration
				used := serverTime(b, rdb)
				for b.Loop() {
					start := time.Now()
					if _, trips, err := readAll(ctx, c, way.newest, keys...); err != nil || trips != 1 {
						b.Fatal(trips, err, log)
					}
					took = append(took, time.Since(start))
				}
				used = serverTime(b, rdb) - used
				slices.Sort(took)
				b.ReportMetric(took[len(took)/2].Seconds()*1e3, "p50-ms")
				b.ReportMetric(took[len(took)*99/100].Seconds()*1e3, "p99-ms")
				b.ReportMetric(used.Seconds()*1e6/float64(len(took)*lists), "server-µs/list")
			})
		}
	}
}

// serverTime is what the server has spent on commands that read lists.
func serverTime(b *testing.B, rdb redis.UniversalClient) (sum time.Duration) {
	info, err := rdb.Info(b.Context(), "commandstats").Result()
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(info) { // cmdstat_dump:calls=3,usec=12,...
		name, rest, _ := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":")
		if name != "dump" && name != "zrevrange" && name != "zcard" {
			continue
		}
		_, rest, _ = strings.Cut(rest, "usec=")
		usec, _, _ := strings.Cut(rest, ",")
		n, err := strconv.ParseInt(usec, 10, 64)
		if err != nil {
			b.Fatalf("%q: %v", line, err)
		}
		sum += time.Duration(n) * time.Microsecond
	}
	return sum
}
