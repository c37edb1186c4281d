package embeddedtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"

	"github.com/r2rec/r2rec/internal/broker"
)

// RealKafka gives the real Kafka and a topic prefix that no other test has; topics with that prefix are deleted when the
// test ends. It skips the test where there is no real Kafka, or fails it where R2REC_REQUIRE_REAL=1.
func RealKafka(t testing.TB) broker.Settings {
	t.Helper()
	s := broker.Settings{Brokers: []string{realServer(t, EnvKafka)}, TopicPrefix: uniquePrefix()}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupLimit)
		defer cancel()
		if err := deleteTopics(ctx, s); err != nil {
			t.Errorf("delete the topics %s*: %v", s.TopicPrefix, err)
		}
	})
	return s
}

const cleanupLimit = 30 * time.Second

func deleteTopics(ctx context.Context, s broker.Settings) error {
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(s.Brokers...), Transport: transport}
	meta, err := client.Metadata(ctx, &kafka.MetadataRequest{})
	if err != nil {
		return err
	}
	var names []string
	for _, topic := range meta.Topics {
		if strings.HasPrefix(topic.Name, s.TopicPrefix) {
			names = append(names, topic.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	res, err := client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: names})
	if err != nil {
		return err
	}
	for _, err := range res.Errors {
		if err != nil {
			return err
		}
	}
	return nil
}

// A real Redis has 16 databases. Database 0 holds the leases of the others: keys that their holder renews, so that a
// test process that was killed does not keep a database for long.
const (
	databases  = 15
	lease      = 30 * time.Second
	renewEvery = 10 * time.Second
	leaseKey   = "r2rec:test:database:%d"
	waitPause  = 100 * time.Millisecond
	waitLimit  = 2 * time.Minute
)

// RealRedis gives a database of the real Redis, empty and used by nobody else until the test ends. It skips the test
// where there is no real Redis, or fails it where R2REC_REQUIRE_REAL=1.
func RealRedis(t testing.TB) *redis.Options {
	t.Helper()
	addr := realServer(t, EnvRedis)
	leases := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { leases.Close() })

	token := rand.Text()
	db, err := takeDatabase(t.Context(), leases, token)
	if err != nil {
		t.Fatalf("take a database of the Redis at %s: %v", addr, err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go renew(leases, db, token, stop, done)
	t.Cleanup(func() {
		close(stop)
		<-done
		ctx, cancel := context.WithTimeout(context.Background(), cleanupLimit)
		defer cancel()
		if err := flush(ctx, addr, db); err != nil {
			t.Errorf("empty database %d of the Redis at %s: %v", db, addr, err)
		}
		if err := releaseIfMine.Run(ctx, leases, []string{fmt.Sprintf(leaseKey, db)}, token).Err(); err != nil {
			t.Errorf("give back database %d of the Redis at %s: %v", db, addr, err)
		}
	})
	if err := flush(t.Context(), addr, db); err != nil {
		t.Fatalf("empty database %d of the Redis at %s: %v", db, addr, err)
	}
	return &redis.Options{Addr: addr, DB: db}
}

// takeDatabase waits until a database is free.
func takeDatabase(ctx context.Context, leases *redis.Client, token string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	for {
		for db := 1; db <= databases; db++ {
			mine, err := leases.SetNX(ctx, fmt.Sprintf(leaseKey, db), token, lease).Result()
			if err != nil {
				return 0, err
			}
			if mine {
				return db, nil
			}
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("all %d are in use: %w", databases, ctx.Err())
		case <-time.After(waitPause):
		}
	}
}

func renew(leases *redis.Client, db int, token string, stop, done chan struct{}) {
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
			_ = renewIfMine.Run(ctx, leases, []string{fmt.Sprintf(leaseKey, db)}, token, lease.Milliseconds()).Err()
			cancel()
		}
	}
}

var (
	renewIfMine   = redis.NewScript(`if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0`)
	releaseIfMine = redis.NewScript(`if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`)
)

func flush(ctx context.Context, addr string, db int) error {
	c := redis.NewClient(&redis.Options{Addr: addr, DB: db})
	defer c.Close()
	return c.FlushDB(ctx).Err()
}
