package embeddedtest

import (
	"context"
	"strings"
	"testing"
	"time"

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
