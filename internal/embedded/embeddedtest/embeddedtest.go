// Package embeddedtest gives tests a Kafka and a Redis: embedded ones always, real ones where the environment names them;
// and a Redis Cluster, a real Ollama and a real model file, which only the environment gives. A conformance suite is
// written once, as a function of an address, and run on all by EachKafka, EachRedis or Each.
//
//	R2REC_TEST_KAFKA          host:port of a real Kafka
//	R2REC_TEST_REDIS          host:port of a real Redis with at least 16 databases
//	R2REC_TEST_REDIS_CLUSTER  host:port of a node of a Redis Cluster, which needs R2REC_TEST_REDIS beside it
//	R2REC_TEST_REDIS_SERVER   path of redis-server, for tests that start one of their own
//	R2REC_TEST_OLLAMA         URL of a real Ollama
//	R2REC_TEST_MODEL_FILE     path of SmolLM2-135M-Instruct.Q4_1.gguf
//	R2REC_REQUIRE_REAL        1: a suite whose real server is not named fails, where otherwise that part is skipped
//
// Tests may run in parallel, within a package and across packages, on the same real servers: each gets topics with a
// prefix of its own, deleted afterwards, and a Redis database of its own, emptied before and after. A test may therefore
// FLUSHDB, but never FLUSHALL. A cluster has no databases: there tests take turns. Nothing that is not a test may import
// this package.
package embeddedtest

import (
	"crypto/rand"
	"fmt"
	"os"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded"
)

// The environment that names the real servers.
const (
	EnvKafka     = "R2REC_TEST_KAFKA"
	EnvRedis     = "R2REC_TEST_REDIS"
	EnvCluster   = "R2REC_TEST_REDIS_CLUSTER"
	EnvServer    = "R2REC_TEST_REDIS_SERVER"
	EnvOllama    = "R2REC_TEST_OLLAMA"
	EnvModelFile = "R2REC_TEST_MODEL_FILE"
	EnvRequire   = "R2REC_REQUIRE_REAL"
)

// Kafka runs an embedded broker for the length of the test and returns its address.
func Kafka(t testing.TB) string {
	t.Helper()
	k, err := embedded.StartKafka(t.Context(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k.Addr
}

// Redis runs an embedded Redis for the length of the test and returns its address.
func Redis(t testing.TB) string {
	t.Helper()
	r, err := embedded.StartRedis(t.Context(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r.Addr
}

// EachKafka runs f as the subtest "embedded" and, where R2REC_TEST_KAFKA is set, as "real". The settings carry a topic
// prefix that no other test has.
func EachKafka(t *testing.T, f func(t *testing.T, kafka broker.Settings)) {
	t.Helper()
	t.Run("embedded", func(t *testing.T) { f(t, embeddedKafka(t)) })
	t.Run("real", func(t *testing.T) { f(t, RealKafka(t)) })
}

// EachRedis runs f as the subtest "embedded" and, where they are named, on a real Redis as "real" and on a Redis Cluster as
// "cluster". The options are for redis.NewUniversalClient; what they lead to is empty and nobody else's meanwhile.
func EachRedis(t *testing.T, f func(t *testing.T, redis *redis.UniversalOptions)) {
	t.Helper()
	t.Run("embedded", func(t *testing.T) { f(t, embeddedRedis(t)) })
	t.Run("real", func(t *testing.T) { f(t, RealRedis(t)) })
	t.Run("cluster", func(t *testing.T) { f(t, RealCluster(t)) })
}

// Each runs f as the subtest "embedded" and, where the real servers are named, as "real", and with a Redis Cluster as
// "cluster".
func Each(t *testing.T, f func(t *testing.T, kafka broker.Settings, redis *redis.UniversalOptions)) {
	t.Helper()
	EachSingle(t, f)
	t.Run("cluster", func(t *testing.T) { f(t, RealKafka(t), RealCluster(t)) })
}

// EachSingle is Each without a cluster: for a long suite, where shorter ones show that all it does with Redis works on a
// cluster, too.
func EachSingle(t *testing.T, f func(t *testing.T, kafka broker.Settings, redis *redis.UniversalOptions)) {
	t.Helper()
	t.Run("embedded", func(t *testing.T) { f(t, embeddedKafka(t), embeddedRedis(t)) })
	t.Run("real", func(t *testing.T) { f(t, RealKafka(t), RealRedis(t)) })
}

func embeddedRedis(t testing.TB) *redis.UniversalOptions {
	return &redis.UniversalOptions{Addrs: []string{Redis(t)}}
}

func embeddedKafka(t testing.TB) broker.Settings {
	return broker.Settings{Brokers: []string{Kafka(t)}, TopicPrefix: uniquePrefix()}
}

func uniquePrefix() string { return "test-" + rand.Text() + "-" }

// RealOllama is the URL of a real Ollama. It skips the test where there is none, or fails it where R2REC_REQUIRE_REAL=1.
func RealOllama(t testing.TB) string {
	t.Helper()
	return realServer(t, EnvOllama)
}

// RealModel is the path of a real model. It skips the test where there is none, or fails it where R2REC_REQUIRE_REAL=1.
func RealModel(t testing.TB) string {
	t.Helper()
	return realServer(t, EnvModelFile)
}

// realServer is the address of a real server, or the path of a real file. Without one it skips the test, or fails it where R2REC_REQUIRE_REAL=1.
func realServer(t testing.TB, name string) string {
	t.Helper()
	addr := os.Getenv(name)
	if addr != "" {
		return addr
	}
	why := fmt.Sprintf("%s is not set: nothing real to test against; deploy/dev/up provides it", name)
	if os.Getenv(EnvRequire) == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
	return ""
}
