package graphcache

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/redis/go-redis/v9"
)

// advance moves watermarks of up to 32 partitions from start to end: ARGV holds the group's epoch of forgets or nothing, then
// all fields, all firsts, all starts and all ends. It leaves one alone where the stored value is below the start; a group
// that has none holds what a reader that knows nothing would begin with: the log's first offset. The answer has bit i set
// where the watermark of the partition at i is not below its start. It moves none, and says so, in another epoch.
var advance = redis.NewScript(`
if ARGV[1] ~= '' and (redis.call('HGET', KEYS[2], 'epoch') or '0') ~= ARGV[1] then return '` + anotherEpoch + `' end
local n = (#ARGV - 1) / 4
local at, moved, fine = redis.call('HMGET', KEYS[1], unpack(ARGV, 2, n + 1)), {}, 0
for i = 1, n do
  local have = tonumber(at[i] or ARGV[n+1+i])
  if have >= tonumber(ARGV[2*n+1+i]) then
    fine = fine + 2^(i-1)
    if have < tonumber(ARGV[3*n+1+i]) then
      moved[#moved+1] = ARGV[i+1]
      moved[#moved+1] = ARGV[3*n+1+i]
    end
  end
end
if #moved > 0 then redis.call('HSET', KEYS[1], unpack(moved)) end
return fine`)

const anotherEpoch = "another epoch"

// errForgotMeanwhile says that a forget began while a batch was on its way: whom the batch names may have been forgotten
// since it was asked for, and it has to ask again.
var errForgotMeanwhile = errors.New("users were forgotten in the middle of it: it has to be done again")

// advance adds the command that moves the group's watermarks if the group is in this epoch of forgets, in any where it is "".
// It names the script by its digest; run sees to it that the server knows it, and where it did not does the transactions
// again: which harms none that this is in, as all else in them are joins.
func (c *Cache) advance(t *transaction, epoch string, spans ...event.Span) {
	cmd := make([]any, 0, 6+4*len(spans))
	cmd = append(cmd, "evalsha", advance.Hash(), 2, c.watermarkKey(t.group), c.erasingKey(t.group), epoch)
	for _, s := range spans {
		cmd = append(cmd, watermarkField(s.Topic, s.Partition))
	}
	for _, s := range spans {
		cmd = append(cmd, s.First)
	}
	for _, s := range spans {
		cmd = append(cmd, s.Start)
	}
	for _, s := range spans {
		cmd = append(cmd, s.End)
	}
	t.add(cmd...)
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

// lower takes the watermarks back to the starts of batches that failed; too low a watermark only costs a replay. However many
// they are, it holds up whoever ends for takeBackWithin at most.
func (c *Cache) lower(ctx context.Context, spans ...event.Span) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeBackWithin) // also on the way out
	defer cancel()
	_, err := c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, s := range spans {
			for g := range groups {
				p.Eval(ctx, takeBack, []string{c.watermarkKey(g)}, watermarkField(s.Topic, s.Partition), s.Start)
			}
		}
		return nil
	})
	return wrapf(err, "take the watermarks of %v back", spans)
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

// settle runs the transactions of batches, each of which ends in a command that advances its group's watermarks and
// answers as the script advance does. It returns the result of each batch.
func (c *Cache) settle(ctx context.Context, spans []event.Span, txs []transaction) []error {
	errs := make([]error, len(spans))
	replies, err := c.run(ctx, txs)
	if err != nil {
		// A command that fails inside a transaction (a key of another type) does not keep its watermarks from
		// advancing: take them back, so that nobody takes the batches for applied.
		var lowered error
		if !wrap("apply", err).(*Error).Retriable() {
			lowered = c.lower(ctx, spans...)
		}
		for i, s := range spans {
			errs[i] = wrap("apply "+s.String(), err)
			if lowered != nil {
				errs[i] = errors.Join(errs[i], lowered)
			}
		}
		return errs
	}
	fine, meanwhile := int64(-1), false
	for _, r := range replies {
		last := r[len(r)-1]
		if last == anotherEpoch {
			meanwhile = true
			continue
		}
		bits, _ := last.(int64) // anything else says nothing good
		fine &= bits
	}
	for i, s := range spans {
		switch {
		case fine>>i&1 == 0:
			errs[i] = c.behind(ctx, s)
		case meanwhile:
			errs[i] = wrap("apply "+s.String(), errForgotMeanwhile)
		}
	}
	return errs
}

// behind says how far the store is behind of where the reader stands.
func (c *Cache) behind(ctx context.Context, s event.Span) error {
	lowest, _, err := c.Watermark(ctx, s.Topic, s.Partition)
	if err != nil {
		return err
	}
	return &event.BehindError{Topic: s.Topic, Partition: s.Partition, Lowest: lowest, Assumed: s.Start}
}
