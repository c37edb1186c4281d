package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/rltrainer"
	"github.com/segmentio/kafka-go"
)

// history reads decisions and rewards from Kafka.
type history struct{ kafka *broker.Client }

var _ rltrainer.History = history{}

// mark says where each partition of both topics ends.
type mark map[string][]broker.Offsets

func (h history) Mark(ctx context.Context) (rltrainer.Mark, error) {
	m := mark{}
	// Rewards first: each was written after the decision it belongs to.
	for _, topic := range []string{broker.Rewards, broker.Decisions} {
		var err error
		if m[topic], err = h.kafka.Offsets(ctx, topic); err != nil {
			return nil, err
		}
	}
	return json.Marshal(m)
}

func (h history) Rewards(ctx context.Context, since event.Time, before rltrainer.Mark, f func(event.Reward) error) (int, error) {
	return read(ctx, h.kafka, broker.Rewards, since, before, event.DecodeReward, f)
}

func (h history) Decisions(ctx context.Context, since event.Time, before rltrainer.Mark, f func(event.Decision) error) (int, error) {
	return read(ctx, h.kafka, broker.Decisions, since, before, event.DecodeDecision, f)
}

// Forgotten takes the highest time of a user's requests, as whoever applies them does.
func (h history) Forgotten(ctx context.Context) (map[string]event.Time, error) {
	requests, err := usersSince(h.kafka, 0).more(ctx)
	if err != nil {
		return nil, err
	}
	before := make(map[string]event.Time, len(requests))
	for _, u := range requests {
		before[u.UserID] = max(before[u.UserID], u.ForgetBefore)
	}
	return before, nil
}

// read decodes what a topic holds between a time and a mark.
func read[T any](ctx context.Context, kc *broker.Client, topic string, since event.Time, before rltrainer.Mark, decode func([]byte) (T, error), f func(T) error) (refused int, err error) {
	var m mark
	if err := json.Unmarshal(before, &m); err != nil {
		return 0, fmt.Errorf("where a round's input ends: %w", err)
	}
	parts, err := kc.Since(ctx, topic, since.Std())
	if err != nil {
		return 0, err
	}
	if len(parts) < len(m[topic]) {
		return 0, fmt.Errorf("%w: topic %s has %d partitions, and had %d; remove the --checkpoint, if there is one, to begin anew", rltrainer.ErrInputGone, kc.Topic(topic), len(parts), len(m[topic]))
	}
	parts = parts[:len(m[topic])] // what lies in those that came later is from after the mark
	for i, end := range m[topic] {
		parts[i].Last = min(parts[i].Last, end.Last)
	}
	err = kc.Read(ctx, topic, parts, func(msg kafka.Message) error {
		v, err := decode(msg.Value)
		if err != nil {
			refused++ // whoever joins rewards has put it among the dead letters
			return nil
		}
		return f(v)
	})
	return refused, err
}
