package graphcache

import (
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
)

// BenchmarkMask takes one chain away from snapshots of MovieLens users, as they are read for a recommendation, and says
// what a snapshot keeps in memory for that.
func BenchmarkMask(b *testing.B) {
	c, _ := reader(b, client(b, &redis.UniversalOptions{Addrs: []string{embeddedtest.Redis(b)}}), ListsRange)
	users, _ := films(b, c)
	rnd := rand.New(rand.NewPCG(1, 2))
	heap := func() float64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	var snapshots []Snapshot
	before := heap()
	for range 30 {
		s, err := c.Snapshot(b.Context(), Query{User: users[rnd.IntN(len(users))], Candidates: 20, Chains: 48, History: 32, Rand: rnd})
		if err != nil {
			b.Fatal(err)
		}
		if len(s.Context.Chains) > 0 {
			snapshots = append(snapshots, s)
		}
	}
	kept := (heap() - before) / float64(len(snapshots)) / 1024
	for b.Loop() {
		s := &snapshots[rnd.IntN(len(snapshots))]
		if _, err := s.Without(s.Context.Chains[rnd.IntN(len(s.Context.Chains))]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(kept, "KiB/snapshot")
}
