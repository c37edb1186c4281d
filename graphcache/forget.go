package graphcache

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/redis/go-redis/v9"
)

// unlink removes users from an item's list where their edge is older than they are to be forgotten: ARGV holds pairs of
// user and score.
const unlink = `
for i = 1, #ARGV, 2 do
  local s = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if s and tonumber(s) < tonumber(ARGV[i+1]) then redis.call('ZREM', KEYS[1], ARGV[i]) end
end
return 1`

// epochs of forgets, one a group. A forget writes its tombstones, then moves every group into a new epoch, and only then
// looks for edges. So for a user who is not found to be forgotten after the epochs were read, whatever is written to a group
// in that epoch is written before the forget looks.
type epochs [groups]string

// noEpoch is that of a group in which nobody was ever forgotten.
const noEpoch = "0"

// calmEpochs are those of a graph in which nobody was ever forgotten.
var calmEpochs = epochs(slices.Repeat([]string{noEpoch}, groups))

// forgotten reads the time before which users are forgotten; those who are not are left out.
func (c *Cache) forgotten(ctx context.Context, of map[string]bool) (map[string]event.Time, error) {
	found, _, err := c.readForgotten(ctx, of)
	return found, err
}

// forgottenBy is readForgotten for the users of some batches. While nobody was ever forgotten it asks nobody: who writes in
// these epochs is told if that is no longer so.
func (c *Cache) forgottenBy(ctx context.Context, batches [][]event.Interaction) (map[string]event.Time, *epochs, error) {
	if c.calm.Load() {
		return nil, &calmEpochs, nil
	}
	found, at, err := c.readForgotten(ctx, usersOf(batches...))
	if err == nil && *at == calmEpochs {
		c.calm.Store(true)
	}
	return found, at, err
}

// readForgotten reads the epochs, and then the time before which users are forgotten; those who are not are left out.
func (c *Cache) readForgotten(ctx context.Context, of map[string]bool) (map[string]event.Time, *epochs, error) {
	var users, fields [groups][]string // and their keyed hashes
	tombstone := c.tombstones()
	for user := range of {
		g := group(user)
		users[g] = append(users[g], user)
		fields[g] = append(fields[g], tombstone(user))
	}
	pipe := c.rdb.Pipeline()
	var at [groups]*redis.StringCmd
	for g := range groups {
		at[g] = pipe.HGet(ctx, c.erasingKey(g), epochField)
	}
	if _, ok := c.rdb.(*redis.ClusterClient); ok { // whose nodes answer side by side
		_, _ = pipe.Exec(ctx) // its commands are looked at below
		pipe = c.rdb.Pipeline()
	}
	var times [groups]*redis.SliceCmd
	for g := range groups {
		if len(fields[g]) > 0 {
			times[g] = pipe.HMGet(ctx, c.forgetKey(g), fields[g]...)
		}
	}
	_, _ = pipe.Exec(ctx) // its error is the first of the commands', which are looked at
	read, found := epochs{}, map[string]event.Time{}
	for g := range groups {
		switch err := at[g].Err(); {
		case errors.Is(err, redis.Nil):
			read[g] = noEpoch
		case err != nil:
			return nil, nil, wrap("read who is forgotten", err)
		default:
			read[g] = at[g].Val()
		}
		if times[g] == nil {
			continue
		}
		if err := times[g].Err(); err != nil {
			return nil, nil, wrap("read who is forgotten", err)
		}
		for i, v := range times[g].Val() {
			if v == nil {
				continue
			}
			ms, err := strconv.ParseInt(v.(string), 10, 64)
			if err != nil {
				return nil, nil, wrapf(err, "read %s", c.forgetKey(g))
			}
			found[users[g][i]] = event.Time(ms)
		}
	}
	return found, &read, nil
}

// epochField of the hash r2:{g}:erasing; the others name partitions, with a slash, see also besideField.
const epochField = "epoch"

func usersOf(batches ...[]event.Interaction) map[string]bool {
	users := map[string]bool{}
	for in := range each(batches) {
		users[in.UserID] = true
	}
	return users
}

// forgetAgain removes what batches may have written of users who are forgotten: in an earlier attempt at them, before the
// users were. It comes after the attempt that knows of the forget, or by way of sweep. Whoever dies before it has not moved the watermarks of
// all groups in the earlier attempt, because the forget began another epoch, so the batches will be attempted again.
func (c *Cache) forgetAgain(ctx context.Context, batches [][]event.Interaction, forgotten map[string]event.Time) error {
	if len(forgotten) == 0 {
		return nil
	}
	var txs [groups]transaction
	for in := range each(batches) {
		at, ok := forgotten[in.UserID]
		if !ok || in.Timestamp >= at {
			continue
		}
		limit := score(at, 0)
		user, item := &txs[group(in.UserID)], &txs[group(in.ItemID)]
		user.add("zremrangebyscore", c.userKey(in.UserID), "-inf", exclusive(limit))
		user.add("zremrangebyscore", c.settledKey(in.UserID), "-inf", exclusive(limit))
		item.add("eval", unlink, 1, c.itemKey(in.ItemID), in.UserID, limit)
	}
	var some []transaction
	for g, t := range txs {
		if t.group = g; len(t.cmds) > 0 {
			some = append(some, t)
		}
	}
	_, err := c.run(ctx, some)
	return wrap("forget users in the middle of a batch", err)
}

// sweep removes what batches that failed may have written of users who are forgotten. Their readers may not come again, and who
// reads these partitions now may be past them: an epoch holds back a watermark, but not the data that travel with it. It
// holds up whoever ends for takeBackWithin at most.
func (c *Cache) sweep(ctx context.Context, batches [][]event.Interaction) error {
	if len(batches) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeBackWithin)
	defer cancel()
	forgotten, err := c.forgotten(ctx, usersOf(batches...))
	if err != nil {
		return err
	}
	return c.forgetAgain(ctx, batches, forgotten)
}

// ApplyUsers forgets: for every user of the batch, everything older than its ForgetBefore leaves the graph, and events
// that old are ignored from now on, also when the topic is replayed. Other nodes' lists may be short until the graph is
// rebuilt. Errors are those of ApplyInteractions.
//
// It scans the keys of the graph once a batch, because a trimmed list no longer tells which items point back. It does so
// page by page: neither its memory nor any one command grows with the graph.
func (c *Cache) ApplyUsers(ctx context.Context, span event.Span, batch []event.User) error {
	if span.Start == span.End {
		return c.check(ctx, span)
	}
	if len(batch) == 0 {
		txs := make([]transaction, groups)
		for g := range txs {
			txs[g].group = g
			c.advance(&txs[g], "", span)
		}
		return c.settle(ctx, []event.Span{span}, txs)[0]
	}
	e := c.erasure(span, batch, false)
	if err := e.begin(ctx); err != nil {
		return err
	}
	if err := e.outside(ctx); err != nil {
		return err
	}
	if err := e.unlink(ctx); err != nil {
		return err
	}
	return e.finish(ctx)
}

// Remember is ApplyUsers for a graph to which no edge has been applied yet: it writes who is forgotten, and looks for
// nothing to remove. A rebuild begins with it.
func (c *Cache) Remember(ctx context.Context, span event.Span, batch []event.User) error {
	if span.Start == span.End || len(batch) == 0 {
		return c.ApplyUsers(ctx, span, batch)
	}
	e := c.erasure(span, batch, false)
	if err := e.begin(ctx); err != nil {
		return err
	}
	return e.finish(ctx)
}

// ForgetBeside forgets the users of a batch in a graph that does not keep the watermarks of their partition: another
// generation than the current one. Doing it again is harmless.
func (c *Cache) ForgetBeside(ctx context.Context, span event.Span, batch []event.User) error {
	if len(batch) == 0 {
		return nil
	}
	e := c.erasure(span, batch, true)
	if err := e.begin(ctx); err != nil {
		return err
	}
	if err := e.unlink(ctx); err != nil {
		return err
	}
	return e.finish(ctx)
}
