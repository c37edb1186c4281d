package main

import (
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

// logged hears of each line that is logged.
type logged chan string

func (l logged) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

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
	said, found := make(logged, 100), make(chan error, 1)
	wrong := errors.New("wrong")
	go func() {
		found <- read.next(t.Context(), slog.New(slog.NewTextHandler(said, nil)), func(r event.Reward) error {
			if r.UserID == "u" {
				return wrong
			}
			return nil
		})
	}()
	if line := <-said; !strings.Contains(line, "a topic cannot be read, trying again") || !strings.Contains(line, "topic=rewards") {
		t.Errorf("said %s", line)
	}
	if err := c.EnsureTopics(t.Context(), broker.Topics{Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	if line := <-said; !strings.Contains(line, "a topic can be read again") {
		t.Errorf("said %s", line)
	}
	w := c.NewWriter(broker.Rewards)
	at := event.At(time.Now())
	reward := event.Reward{DecisionID: "d", UserID: "u", ItemID: "a", Position: 1, Examination: 1, Attribution: event.ByNothing, Source: event.Graph, DecidedAt: at, Timestamp: at}
	if err := errors.Join(w.WriteMessages(t.Context(), message(t, "u", reward)), w.Close()); err != nil {
		t.Fatal(err)
	}
	if err := <-found; !errors.Is(err, wrong) {
		t.Errorf("it ended with %v, want what was made of the reward", err)
	}
	if len(said) > 0 {
		t.Errorf("said again: %s", <-said)
	}
}
