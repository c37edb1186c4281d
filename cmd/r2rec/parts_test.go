package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
)

// Topics that somebody else made are warned about, each setting once; those that r2rec made are not.
func TestTopicsThatNobodyDecidedAboutAreWarnedAbout(t *testing.T) {
	embeddedtest.EachKafka(t, func(t *testing.T, s broker.Settings) {
		warned := func(prefix string, make ...string) string {
			t.Helper()
			s := s
			s.TopicPrefix += prefix
			c, err := broker.New(s)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			admin := &kafka.Client{Addr: kafka.TCP(s.Brokers...), Transport: c.Transport}
			for _, topic := range make {
				res, err := admin.CreateTopics(t.Context(), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: c.Topic(topic), NumPartitions: 1, ReplicationFactor: 1}}})
				if err == nil {
					err = res.Errors[c.Topic(topic)]
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if err := c.EnsureTopics(t.Context(), broker.Topics{Partitions: 1}); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			warnTopics(&process{ctx: t.Context(), log: slog.New(slog.NewTextHandler(&log, nil))}, c, 5*time.Minute)
			return log.String()
		}
		if got := warned("ours-"); got != "" {
			t.Errorf("topics that r2rec made: %s", got)
		}
		got := warned("theirs-", broker.Interactions, broker.Items, broker.Decisions)
		for setting, n := range map[string]int{" retention.ms": 1, " delete.retention.ms": 1, "message.timestamp.after.max.ms": 2} {
			if strings.Count(got, setting) != n {
				t.Errorf("%q is named %d times, want %d:\n%s", setting, strings.Count(got, setting), n, got)
			}
		}
	})
}
