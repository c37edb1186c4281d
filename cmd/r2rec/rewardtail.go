package main

import (
	"context"
	"time"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/segmentio/kafka-go"
)

// rewardTail reads the topic of rewards from a time on, some at a time. What it has given it does not give again; the topic
// itself may hold a reward twice.
type rewardTail struct {
	kafka *broker.Client
	since time.Time
	next  map[int]int64 // offset by partition; nil: nothing has been read
}

// tailRecords is how many records of a partition are given at once, at most.
const tailRecords = 5000

// read gives what has come since the last time. Records that break their contract are left out: whoever joins rewards wrote
// none such.
func (t *rewardTail) read(ctx context.Context) ([]event.Reward, error) {
	parts, err := t.stretches(ctx)
	if err != nil {
		return nil, err
	}
	for i := range parts {
		parts[i].Last = min(parts[i].Last, parts[i].First+tailRecords)
	}
	var out []event.Reward
	err = t.kafka.Read(ctx, broker.Rewards, parts, func(m kafka.Message) error {
		if r, err := event.DecodeReward(m.Value); err == nil {
			out = append(out, r)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	t.next = map[int]int64{}
	for _, p := range parts {
		t.next[p.Partition] = max(p.First, p.Last)
	}
	return out, nil
}

// stretches are those that have not been read.
func (t *rewardTail) stretches(ctx context.Context) ([]broker.Offsets, error) {
	if t.next == nil {
		return t.kafka.Since(ctx, broker.Rewards, t.since)
	}
	parts, err := t.kafka.Offsets(ctx, broker.Rewards)
	for i := range parts {
		p := &parts[i]
		if at, known := t.next[p.Partition]; known && at <= p.Last { // beyond it the topic was made again
			p.First = max(p.First, at)
		}
	}
	return parts, err
}

// follow gives what comes to f, every so often, until ctx ends. What cannot be read is tried again.
func (t *rewardTail) follow(ctx context.Context, p *process, every time.Duration, f func([]event.Reward)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	failing := false
	for {
		rewards, err := t.read(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !failing {
			p.log.Warn("rewards cannot be read, trying again", "error", err)
		}
		if failing = err != nil; !failing {
			f(rewards)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
