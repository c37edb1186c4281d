package embeddedtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// A real Redis has 16 databases. Database 0 holds the leases of the others, and of the cluster: keys that their holder
// renews, so that a test process that was killed does not keep what it had for long.
const (
	databases  = 15
	lease      = 30 * time.Second
	renewEvery = 10 * time.Second
	leaseKey   = "r2rec:test:database:%d"
	clusterKey = "r2rec:test:cluster:%s"
	waitPause  = 100 * time.Millisecond
	waitMargin = 5 * time.Second // before the tests' own time is over
)

// RealRedis gives a database of the real Redis, empty and used by nobody else until the test ends. It skips the test
// where there is no real Redis, or fails it where R2REC_REQUIRE_REAL=1.
func RealRedis(t testing.TB) *redis.UniversalOptions {
	t.Helper()
	addr := realServer(t, EnvRedis)
	keys := make([]string, databases)
	for i := range keys {
		keys[i] = fmt.Sprintf(leaseKey, i+1)
	}
	return &redis.UniversalOptions{Addrs: []string{addr}, DB: 1 + borrow(t, addr, keys, func(i int) redis.UniversalClient {
		return redis.NewClient(&redis.Options{Addr: addr, DB: i + 1})
	})}
}

// RealCluster gives the Redis Cluster, empty and used by nobody else until the test ends. It skips the test where there is
// none, or fails it where R2REC_REQUIRE_REAL=1.
func RealCluster(t testing.TB) *redis.UniversalOptions {
	t.Helper()
	addr, leases := realServer(t, EnvCluster), realServer(t, EnvRedis)
	o := &redis.UniversalOptions{Addrs: []string{addr}, IsClusterMode: true}
	borrow(t, leases, []string{fmt.Sprintf(clusterKey, addr)}, func(int) redis.UniversalClient { return redis.NewUniversalClient(o) })
	return o
}

// borrow takes the first of some things that is free, by a key each in database 0 of the Redis at addr, empties it through
// the client that to gives, and gives it back empty when the test ends. It returns which one.
func borrow(t testing.TB, addr string, keys []string, to func(int) redis.UniversalClient) int {
	t.Helper()
	leases := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { leases.Close() })
	token := rand.Text()
	ctx, cancel := waiting(t)
	i, err := take(ctx, leases, keys, token)
	cancel()
	if err != nil {
		t.Fatalf("borrow one of %q of the Redis at %s: %v", keys, addr, err)
	}
	rdb := to(i)
	t.Cleanup(func() { rdb.Close() })
	stop, done := make(chan struct{}), make(chan struct{})
	go renew(leases, keys[i], token, stop, done)
	t.Cleanup(func() {
		close(stop)
		<-done
		ctx, cancel := context.WithTimeout(context.Background(), cleanupLimit)
		defer cancel()
		if err := Flush(ctx, rdb); err != nil {
			t.Errorf("empty %s: %v", keys[i], err)
		}
		if err := releaseIfMine.Run(ctx, leases, []string{keys[i]}, token).Err(); err != nil {
			t.Errorf("give back %s of the Redis at %s: %v", keys[i], addr, err)
		}
	})
	if err := Flush(t.Context(), rdb); err != nil {
		t.Fatalf("empty %s: %v", keys[i], err)
	}
	return i
}

// waiting is how long a test waits for what others have: as long as it can, since they may take long.
func waiting(t testing.TB) (context.Context, context.CancelFunc) {
	if timed, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		if end, ok := timed.Deadline(); ok {
			return context.WithDeadline(t.Context(), end.Add(-waitMargin))
		}
	}
	return context.WithCancel(t.Context())
}

// take waits until one of the keys is free.
func take(ctx context.Context, leases *redis.Client, keys []string, token string) (int, error) {
	for {
		for i, key := range keys {
			mine, err := leases.SetNX(ctx, key, token, lease).Result()
			if err != nil {
				return 0, err
			}
			if mine {
				return i, nil
			}
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("all are in use: %w", ctx.Err())
		case <-time.After(waitPause):
		}
	}
}

func renew(leases *redis.Client, key, token string, stop, done chan struct{}) {
	defer close(done)
	ticker := time.NewTicker(renewEvery)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
			ctx, cancel := context.WithTimeout(context.Background(), renewEvery)
			// A renewal that fails is made up for by the next: the lease is three times as long.
			_ = renewIfMine.Run(ctx, leases, []string{key}, token, lease.Milliseconds()).Err()
			cancel()
		}
	}
}

var (
	renewIfMine   = redis.NewScript(`if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0`)
	releaseIfMine = redis.NewScript(`if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`)
)

// Flush is FLUSHDB, on every master where the client's server is a cluster.
func Flush(ctx context.Context, c redis.UniversalClient) error {
	return onEach(ctx, c, func(ctx context.Context, c redis.UniversalClient) error { return c.FlushDB(ctx).Err() })
}

// Keys is KEYS, sorted, of every master where the client's server is a cluster.
func Keys(ctx context.Context, c redis.UniversalClient, pattern string) ([]string, error) {
	var mu sync.Mutex
	var all []string
	err := onEach(ctx, c, func(ctx context.Context, c redis.UniversalClient) error {
		keys, err := c.Keys(ctx, pattern).Result()
		mu.Lock()
		defer mu.Unlock()
		all = append(all, keys...)
		return err
	})
	slices.Sort(all)
	return all, err
}

func onEach(ctx context.Context, c redis.UniversalClient, f func(context.Context, redis.UniversalClient) error) error {
	if cluster, ok := c.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error { return f(ctx, master) })
	}
	return f(ctx, c)
}
