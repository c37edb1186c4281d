package graphcache

import (
	"context"
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

// forgotten reads the time before which users are forgotten; those who are not are left out.
func (c *Cache) forgotten(ctx context.Context, of map[string]bool) (map[string]event.Time, error) {
	if len(of) == 0 {
		return nil, nil
	}
	var users, fields [groups][]string
	for user := range of {
		g := group(user)
		users[g] = append(users[g], user)
		fields[g] = append(fields[g], c.tombstone(user))
	}
	var cmds [groups]*redis.SliceCmd
	_, err := c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for g := range groups {
			if len(fields[g]) > 0 {
				cmds[g] = p.HMGet(ctx, c.forgetKey(g), fields[g]...)
			}
		}
		return nil
	})
	if err != nil {
		return nil, wrap("read who is forgotten", err)
	}
	found := map[string]event.Time{}
	for g, cmd := range cmds {
		if cmd == nil {
			continue
		}
		for i, v := range cmd.Val() {
			if v == nil {
				continue
			}
			ms, err := strconv.ParseInt(v.(string), 10, 64)
			if err != nil {
				return nil, wrapf(err, "read %s", c.forgetKey(g))
			}
			found[users[g][i]] = event.Time(ms)
		}
	}
	return found, nil
}

func usersOf(batch []event.Interaction) map[string]bool {
	users := map[string]bool{}
	for _, in := range batch {
		users[in.UserID] = true
	}
	return users
}

// forgetAgain looks once more, now that the batch is written, whether one of its users was forgotten meanwhile, and
// removes what the batch, or an earlier attempt at it, may have written of theirs. A forget writes its tombstone before it
// looks for edges: so either it finds this batch's edges, or this finds its tombstone.
func (c *Cache) forgetAgain(ctx context.Context, batch []event.Interaction) error {
	now, err := c.forgotten(ctx, usersOf(batch))
	if err != nil || len(now) == 0 {
		return err
	}
	var txs [groups]transaction
	for _, in := range batch {
		at, ok := now[in.UserID]
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
	_, err = c.run(ctx, some)
	return wrap("forget users in the middle of a batch", err)
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
			c.advance(&txs[g], span)
		}
		return c.settle(ctx, span, txs)
	}
	e := c.erasure(span, batch)
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
	e := c.erasure(span, batch)
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
	e := c.erasure(span, batch)
	e.beside = true
	if err := e.begin(ctx); err != nil {
		return err
	}
	if err := e.unlink(ctx); err != nil {
		return err
	}
	return e.finish(ctx)
}
