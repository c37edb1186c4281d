package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
)

// Who waits for rewards of a topic that cannot be read is not silent about it, and goes on when it can.
func TestATopicThatCannotBeRead(t *testing.T) {
	t.Parallel()
	c, err := broker.New(broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}, TopicPrefix: "since-" + strings.ToLower(rand.Text()) + "-"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	read := rewardsSince(c, event.At(time.Now().Add(-time.Hour)))
	read.every = time.Millisecond
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	ignored := func(event.Reward) error { return nil }
	for range 3 {
		err := read.each(t.Context(), ignored)
		if err == nil {
			t.Fatal("a topic is read that there is not")
		}
		read.note(log, err)
	}
	if err := c.EnsureTopics(t.Context(), broker.Topics{Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	w := c.NewWriter(broker.Rewards)
	at := event.At(time.Now())
	reward := event.Reward{DecisionID: "d", UserID: "u", ItemID: "a", Position: 1, Examination: 1, Attribution: event.ByNothing, Source: event.Graph, DecidedAt: at, Timestamp: at}
	if err := errors.Join(w.WriteMessages(t.Context(), message(t, "u", reward)), w.Close()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // only so that what reads nothing ends
	defer cancel()
	if err := read.next(ctx, log, ignored); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(said.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "a topic cannot be read, trying again") || !strings.Contains(lines[0], "topic=rewards") || !strings.Contains(lines[1], "a topic can be read again") {
		t.Errorf("said %q, want each once", lines)
	}
	wrong := errors.New("wrong")
	read.at = nil
	if err := read.next(ctx, log, func(event.Reward) error { return wrong }); !errors.Is(err, wrong) {
		t.Errorf("it ended with %v, want what was made of the reward", err)
	}
}
