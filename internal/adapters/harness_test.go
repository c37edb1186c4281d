package adapters_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/r2rec/r2rec/internal/broker"
)

// deleteBefore deletes the records below an offset, as a retention would.
func deleteBefore(t testing.TB, k broker.Settings, offset int64) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(k.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	partition := kmsg.NewDeleteRecordsRequestTopicPartition()
	partition.Offset = offset
	topic := kmsg.NewDeleteRecordsRequestTopic()
	topic.Topic = k.TopicPrefix + broker.Adapters
	topic.Partitions = append(topic.Partitions, partition)
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.Topics = append(req.Topics, topic)
	for _, shard := range client.RequestSharded(bounded(t), req) {
		err := shard.Err
		if err == nil {
			err = kerr.ErrorForCode(shard.Resp.(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0].ErrorCode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// lineCounter counts log lines by their level.
type lineCounter struct {
	mu   sync.Mutex
	seen map[slog.Level]int
	told chan struct{}
}

func (h *lineCounter) Enabled(context.Context, slog.Level) bool { return true }
func (h *lineCounter) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *lineCounter) WithGroup(string) slog.Handler            { return h }

func (h *lineCounter) Handle(_ context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.seen == nil {
		h.seen = map[slog.Level]int{}
	}
	h.seen[r.Level]++
	if h.told != nil {
		close(h.told)
		h.told = nil
	}
	return nil
}

func (h *lineCounter) count(level slog.Level) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seen[level]
}

// wait waits until there are n lines of the level.
func (h *lineCounter) wait(t testing.TB, level slog.Level, n int) {
	t.Helper()
	ctx := bounded(t)
	for {
		h.mu.Lock()
		if h.seen[level] >= n {
			h.mu.Unlock()
			return
		}
		if h.told == nil {
			h.told = make(chan struct{})
		}
		told := h.told
		h.mu.Unlock()
		select {
		case <-told:
		case <-ctx.Done():
			t.Fatalf("no %d lines of level %v in time", n, level)
		}
	}
}
