// Package embedded runs a Kafka broker and a Redis server inside this process, on loopback: for the one-command start
// and for tests.
//
// Both speak their real protocols over real sockets, so that the same clients reach them and servers on other machines.
// They keep everything in memory and write nothing to disk. Close returns when no port is open, no connection is left and
// no timer runs.
//
// They are not for production: one broker without replicas, and a Redis without persistence, cluster, OBJECT ENCODING,
// CONFIG and INFO server. Neither asks for a password, hence only loopback.
package embedded

import (
	"context"
	"log/slog"
	"time"
)

// Options say where to listen. The zero value is a working default.
type Options struct {
	KafkaPort int              // on 127.0.0.1; 0 takes a free one
	RedisPort int              // on 127.0.0.1; 0 takes a free one
	Now       func() time.Time // the clock by which Redis keys expire; nil: time.Now
	Logger    *slog.Logger     // hears of the broker's troubles; nil: nobody does
}

// Servers are a running broker and a running Redis.
type Servers struct {
	KafkaAddr string // host:port
	RedisAddr string // host:port

	kafka *Kafka
	redis *Redis
}

// Start runs both servers until Close. They answer when Start returns. ctx bounds the start only.
func Start(ctx context.Context, o Options) (*Servers, error) {
	kafka, err := StartKafka(ctx, o)
	if err != nil {
		return nil, err
	}
	redis, err := StartRedis(ctx, o)
	if err != nil {
		kafka.Close()
		return nil, err
	}
	return &Servers{KafkaAddr: kafka.Addr, RedisAddr: redis.Addr, kafka: kafka, redis: redis}, nil
}

// Close stops both servers and drops their data. More than one call does no harm.
func (s *Servers) Close() {
	s.kafka.Close()
	s.redis.Close()
}
