package graphcache

import (
	"context"
	"errors"
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
	return c.watch(of).read(ctx)
}

// watch is a question that is asked more than once: which of some users are forgotten.
type watch struct {
	c             *Cache
	users, fields [groups][]string // and their keyed hashes
	cmds          [groups]*redis.SliceCmd
	epochs        [groups]string // of forgets, as they were before the question was asked first, see read
}

func (c *Cache) watch(of map[string]bool) *watch {
	w := &watch{c: c}
	tombstone := c.tombstones()
	for user := range of {
		g := group(user)
		w.users[g] = append(w.users[g], user)
		w.fields[g] = append(w.fields[g], tombstone(user))
	}
	return w
}

// ask adds the question to a pipeline.
func (w *watch) ask(ctx context.Context, p redis.Pipeliner) {
	for g := range groups {
		if len(w.fields[g]) > 0 {
			w.cmds[g] = p.HMGet(ctx, w.c.forgetKey(g), w.fields[g]...)
		}
	}
}

// answer is that to the question asked last: the time before which users are forgotten; those who are not are left out.
func (w *watch) answer() (map[string]event.Time, error) {
	found := map[string]event.Time{}
	for g, cmd := range w.cmds {
		if cmd == nil {
			continue
		}
		if err := cmd.Err(); err != nil {
			return nil, wrap("read who is forgotten", err)
		}
		for i, v := range cmd.Val() {
			if v == nil {
				continue
			}
			ms, err := strconv.ParseInt(v.(string), 10, 64)
			if err != nil {
				return nil, wrapf(err, "read %s", w.c.forgetKey(g))
			}
			found[w.users[g][i]] = event.Time(ms)
		}
	}
	return found, nil
}

// read asks for each group's epoch of forgets, and then the question. A forget writes its tombstones, then moves every
// group into a new epoch, and only then looks for edges. So for a user who is not found to be forgotten here, whatever is
// written to a group in the epoch of before is written before the forget looks.
func (w *watch) read(ctx context.Context) (map[string]event.Time, error) {
	pipe := w.c.rdb.Pipeline()
	var epochs [groups]*redis.StringCmd
	for g := range groups {
		epochs[g] = pipe.HGet(ctx, w.c.erasingKey(g), epochField)
	}
	if _, ok := w.c.rdb.(*redis.ClusterClient); ok { // whose nodes answer side by side
		_, _ = pipe.Exec(ctx) // its commands are looked at below
		pipe = w.c.rdb.Pipeline()
	}
	w.ask(ctx, pipe)
	_, _ = pipe.Exec(ctx) // its error is the first of the commands', which are looked at
	for g, cmd := range epochs {
		switch err := cmd.Err(); {
		case errors.Is(err, redis.Nil):
			w.epochs[g] = "0"
		case err != nil:
			return nil, wrap("read who is forgotten", err)
		default:
			w.epochs[g] = cmd.Val()
		}
	}
	return w.answer()
}

// epochField of the hash r2:{g}:erasing; the others name partitions, with a slash.
const epochField = "epoch"

func usersOf(batches ...[]event.Interaction) map[string]bool {
	users := map[string]bool{}
	for in := range each(batches) {
		users[in.UserID] = true
	}
	return users
}

// forgetAgain looks at who was asked for once more, after the batches were written, whether one of their users was
// forgotten meanwhile, and removes what they, or an earlier attempt at them, may have written. A forget writes its
// tombstone before it looks for edges: so either it finds the batches' edges, or this finds its tombstone. Whoever dies
// before this has not moved the watermarks of all groups: another epoch keeps them where they are.
func (c *Cache) forgetAgain(ctx context.Context, batches [][]event.Interaction, who *watch) error {
	now, err := who.answer()
	if err != nil || len(now) == 0 {
		return err
	}
	var txs [groups]transaction
	for in := range each(batches) {
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
			c.advance(&txs[g], "", span)
		}
		return c.settle(ctx, []event.Span{span}, txs)[0]
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
