package embeddedtest

import (
	"os"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"

	"github.com/r2rec/r2rec/internal/broker"
)

// The embedded Redis stands in for the real one here: what counts is that no two tests share a database.
func TestRealRedisGivesEachTestADatabaseOfItsOwn(t *testing.T) {
	addr := Redis(t)
	t.Setenv(EnvRedis, addr)
	leases := redis.NewClient(&redis.Options{Addr: addr})
	defer leases.Close()

	t.Run("pair", func(t *testing.T) {
		dirty := redis.NewClient(&redis.Options{Addr: addr, DB: 1})
		defer dirty.Close()
		dirty.Set(t.Context(), "left behind", 1, 0)

		one, two := RealRedis(t), RealRedis(t)
		if one.DB == two.DB || one.DB == 0 || two.DB == 0 {
			t.Fatalf("databases %d and %d, want two different ones, not 0", one.DB, two.DB)
		}
		c := redis.NewUniversalClient(one)
		defer c.Close()
		if n := c.DBSize(t.Context()).Val(); n != 0 {
			t.Errorf("database %d holds %d keys at the start", one.DB, n)
		}
		c.Set(t.Context(), "mine", 1, 0)
	})
	for db := range databases + 1 {
		c := redis.NewClient(&redis.Options{Addr: addr, DB: db})
		if keys := c.Keys(t.Context(), "*").Val(); len(keys) != 0 {
			t.Errorf("database %d holds %q after the tests", db, keys)
		}
		c.Close()
	}
}

func TestRealKafkaDeletesItsTopics(t *testing.T) {
	addr := Kafka(t)
	t.Setenv(EnvKafka, addr)
	topics := func() []string {
		transport := &kafka.Transport{}
		defer transport.CloseIdleConnections()
		meta, err := (&kafka.Client{Addr: kafka.TCP(addr), Transport: transport}).Metadata(t.Context(), &kafka.MetadataRequest{})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, topic := range meta.Topics {
			names = append(names, topic.Name)
		}
		return names
	}
	ensure := func(s broker.Settings) {
		c, err := broker.New(s)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.EnsureTopics(t.Context(), broker.Topics{Partitions: 1}); err != nil {
			t.Fatal(err)
		}
	}
	ensure(broker.Settings{Brokers: []string{addr}, TopicPrefix: "others-"})
	others := topics()
	t.Run("test", func(t *testing.T) {
		ensure(RealKafka(t))
		if got, want := len(topics()), 2*len(broker.AllTopics); got != want {
			t.Errorf("%d topics during the test, want %d", got, want)
		}
	})
	if got := topics(); !slices.Equal(got, others) {
		t.Errorf("topics after the test: %q, want %q", got, others)
	}
}

func TestEachRunsOnWhatIsNamed(t *testing.T) {
	t.Setenv(EnvKafka, Kafka(t))
	t.Setenv(EnvRedis, Redis(t))
	t.Setenv(EnvCluster, os.Getenv(EnvRedis)) // in which each master is asked, and the embedded Redis says that it is the only one
	var ran []string
	note := func(t *testing.T) { ran = append(ran, t.Name()[len("TestEachRunsOnWhatIsNamed/"):]) }
	t.Run("kafka", func(t *testing.T) { EachKafka(t, func(t *testing.T, _ broker.Settings) { note(t) }) })
	t.Run("redis", func(t *testing.T) { EachRedis(t, func(t *testing.T, _ *redis.UniversalOptions) { note(t) }) })
	t.Run("both", func(t *testing.T) {
		Each(t, func(t *testing.T, _ broker.Settings, _ *redis.UniversalOptions) { note(t) })
	})
	want := []string{"kafka/embedded", "kafka/real", "redis/embedded", "redis/real", "redis/cluster", "both/embedded", "both/real", "both/cluster"}
	if !slices.Equal(ran, want) {
		t.Errorf("ran %q, want %q", ran, want)
	}
}
