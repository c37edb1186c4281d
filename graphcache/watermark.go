package graphcache

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/redis/go-redis/v9"
)

// advance moves a watermark from ARGV start to ARGV end. It answers 0, and moves nothing, where the stored one is below
// the start; a group that has none holds what a reader that knows nothing would begin with: the log's first offset.
var advance = redis.NewScript(`
local at = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or ARGV[2])
if at < tonumber(ARGV[3]) then return 0 end
if at < tonumber(ARGV[4]) then redis.call('HSET', KEYS[1], ARGV[1], ARGV[4]) end
return 1`)

// advance adds the command that moves the group's watermark. It names the script by its digest; run sees to it that the
// server knows it, and where it did not does the transactions again: which harms none that this is in, as all else in
// them are joins.
func (c *Cache) advance(t *transaction, s event.Span) {
	t.add("evalsha", advance.Hash(), 1, c.watermarkKey(t.group), watermarkField(s.Topic, s.Partition), s.First, s.Start, s.End)
}

// Watermark returns the lowest watermark of a partition over all groups: everything below it is applied. ok is false
// where no group has one; a group without one among others that have counts as 0.
func (c *Cache) Watermark(ctx context.Context, topic string, partition int) (lowest int64, ok bool, err error) {
	field := watermarkField(topic, partition)
	cmds := make([]*redis.StringCmd, groups)
	_, err = c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for g := range cmds {
			cmds[g] = p.HGet(ctx, c.watermarkKey(g), field)
		}
		return nil
	})
	if err != nil && err != redis.Nil {
		return 0, false, wrap("read the watermarks of "+field, err)
	}
	for g, cmd := range cmds {
		at, err := cmd.Int64()
		switch {
		case err == redis.Nil:
			at = 0
		case err != nil:
			return 0, false, wrapf(err, "read the watermark of %s in group %d", field, g)
		default:
			ok = true
		}
		if g == 0 || at < lowest {
			lowest = at
		}
	}
	return lowest, ok, nil
}

// SetWatermark moves the partition's watermark to offset in every group, whatever it was: the reader accepts that what
// lies between is not in the graph.
func (c *Cache) SetWatermark(ctx context.Context, topic string, partition int, offset int64) error {
	field := watermarkField(topic, partition)
	_, err := c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for g := range groups {
			p.HSet(ctx, c.watermarkKey(g), field, strconv.FormatInt(offset, 10))
		}
		return nil
	})
	return wrapf(err, "set the watermarks of %s to %d", field, offset)
}

const takeBackWithin = 3 * time.Second

// takeBack moves a watermark down to ARGV offset, never up.
const takeBack = `
local at = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0')
if at > tonumber(ARGV[2]) then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
return 1`

// lower takes the watermarks back to the start of a batch that failed; too low a watermark only costs a replay.
func (c *Cache) lower(ctx context.Context, s event.Span) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeBackWithin) // also on the way out
	defer cancel()
	_, err := c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for g := range groups {
			p.Eval(ctx, takeBack, []string{c.watermarkKey(g)}, watermarkField(s.Topic, s.Partition), s.Start)
		}
		return nil
	})
	return wrapf(err, "take the watermarks of %s back", s)
}

// check compares the watermarks with where the reader stands, for an empty batch.
func (c *Cache) check(ctx context.Context, s event.Span) error {
	lowest, ok, err := c.Watermark(ctx, s.Topic, s.Partition)
	if err != nil {
		return err
	}
	if !ok && s.Start == s.First { // nothing read yet, nothing expected
		return nil
	}
	if lowest < s.Start {
		return &event.BehindError{Topic: s.Topic, Partition: s.Partition, Lowest: lowest, Assumed: s.Start}
	}
	return nil
}

// settle runs the transactions of a batch, each of which ends in the command that advances its group's watermark.
// The questions are asked afterwards.
func (c *Cache) settle(ctx context.Context, s event.Span, txs []transaction, then ...question) error {
	replies, err := c.run(ctx, txs, then...)
	if err != nil {
		err = wrap("apply "+s.String(), err)
		// A command that fails inside a transaction (a key of another type) does not keep its watermark from advancing:
		// take it back, so that nobody takes the batch for applied.
		if !err.(*Error).Retriable() {
			err = errors.Join(err, c.lower(ctx, s))
		}
		return err
	}
	for _, r := range replies {
		if r[len(r)-1] == int64(0) {
			lowest, _, err := c.Watermark(ctx, s.Topic, s.Partition)
			if err != nil {
				return err
			}
			return &event.BehindError{Topic: s.Topic, Partition: s.Partition, Lowest: lowest, Assumed: s.Start}
		}
	}
	return nil
}
