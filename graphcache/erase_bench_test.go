package graphcache

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/redis/go-redis/v9"
)

// BenchmarkForget forgets users of a graph of 100,000 items, 100,000 users and 1,000,000 edges on a real Redis. longest-ms is
// the longest command that the server worked on, by its slow log: how long everybody else had to wait for one. ping-ms is the
// slowest of another client's PINGs, one after the other: that includes what else the machine does.
//
//	go test ./graphcache -run '^$' -bench Forget -benchtime 3x
func BenchmarkForget(b *testing.B) {
	rdb := redis.NewUniversalClient(embeddedtest.RealRedis(b))
	defer rdb.Close()
	ctx := b.Context()
	c, err := New(rdb, Options{ForgetKey: []byte("bench")})
	if err == nil {
		err = c.configureLists(ctx)
	}
	if err != nil {
		b.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 1))
	const nodes, edges, at = 100_000, 1_000_000, 20_000 * day
	for done := 0; done < edges; {
		batch := make([]event.Interaction, 5000)
		for i := range batch {
			batch[i] = event.Interaction{UserID: fmt.Sprint("user-", random.IntN(nodes)), ItemID: fmt.Sprint("item-", random.IntN(nodes)),
				Type: event.Like, Timestamp: at + event.Time(done)}
			done++
		}
		if err := c.Join(ctx, batch); err != nil {
			b.Fatal(err)
		}
	}
	slow := func(name, value string) {
		if err := rdb.ConfigSet(ctx, name, value).Err(); err != nil {
			b.Fatal(err)
		}
	}
	former := rdb.ConfigGet(ctx, "slowlog-*").Val()
	defer func() {
		for name, value := range former {
			slow(name, value)
		}
	}()
	slow("slowlog-log-slower-than", "200") // microseconds
	slow("slowlog-max-len", "100000")
	b.Run("nothing", func(b *testing.B) { // how long a PING takes without any of it
		worst, stop := worstPing(ctx, rdb)
		for b.Loop() {
			_ = wait(ctx, time.Second)
		}
		stop()
		b.ReportMetric(float64((<-worst).Microseconds())/1000, "ping-ms")
	})
	next := 0
	var offset int64
	for _, n := range []int{0, 1, 100, 2000} {
		b.Run(fmt.Sprint("users=", n), func(b *testing.B) {
			rdb.Do(ctx, "slowlog", "reset")
			worst, stop := worstPing(ctx, rdb)
			for b.Loop() {
				users := make([]event.User, n)
				for i := range users {
					users[i] = event.User{UserID: fmt.Sprint("user-", next), ForgetBefore: at + edges}
					next++
				}
				if err := c.ApplyUsers(ctx, event.Span{Topic: "users", Start: offset, End: offset + 1}, users); err != nil {
					b.Fatal(err)
				}
				offset++
			}
			stop()
			b.ReportMetric(float64((<-worst).Microseconds())/1000, "ping-ms")
			var longest time.Duration
			for _, entry := range rdb.SlowLogGet(ctx, -1).Val() {
				longest = max(longest, entry.Duration)
			}
			b.ReportMetric(float64(longest.Microseconds())/1000, "longest-ms")
		})
	}
}

// worstPing sends a PING after the other until stop, and then tells how long the slowest took.
func worstPing(ctx context.Context, rdb redis.UniversalClient) (worst chan time.Duration, stop context.CancelFunc) {
	ctx, stop = context.WithCancel(ctx)
	worst = make(chan time.Duration, 1)
	go func() {
		var longest time.Duration
		for ctx.Err() == nil {
			begun := time.Now()
			if rdb.Ping(ctx).Err() == nil {
				longest = max(longest, time.Since(begun))
			}
		}
		worst <- longest
	}()
	return worst, stop
}
