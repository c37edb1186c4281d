package graphcache

import (
	"context"
	"strconv"
	"strings"
	"sync"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/redis/go-redis/v9"
)

// remember raises the time before which a user is forgotten: a max-register.
const remember = `
local at = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0')
if at < tonumber(ARGV[2]) then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
return 1`

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

func (w *watch) read(ctx context.Context) (map[string]event.Time, error) {
	pipe := w.c.rdb.Pipeline()
	w.ask(ctx, pipe)
	if pipe.Len() > 0 {
		_, _ = pipe.Exec(ctx) // its error is the first of the commands', which answer looks at
	}
	return w.answer()
}

func usersOf(batches ...[]event.Interaction) map[string]bool {
	users := map[string]bool{}
	for in := range each(batches) {
		users[in.UserID] = true
	}
	return users
}

// forgetAgain looks at who was asked for once more, after the batches were written, whether one of their users was
// forgotten meanwhile, and removes what they, or an earlier attempt at them, may have written. A forget writes its
// tombstone before it looks for edges: so either it finds the batches' edges, or this finds its tombstone.
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
// It scans the keys of the graph once a batch, because a trimmed list no longer tells which items point back.
func (c *Cache) ApplyUsers(ctx context.Context, span event.Span, batch []event.User) error {
	if span.Start == span.End {
		return c.check(ctx, span)
	}
	txs := make([]transaction, groups)
	for g := range txs {
		txs[g].group = g
	}
	if len(batch) > 0 {
		var err error
		if txs, err = c.erase(ctx, batch); err != nil {
			return err
		}
	}
	for g := range txs {
		c.advance(&txs[g], span)
	}
	return c.settle(ctx, []event.Span{span}, txs)[0]
}

// erase writes the tombstones, so that writers see them, and returns the transactions, one a group, that write them
// again (the store may have been restored meanwhile) and remove the users' edges and recommendations.
func (c *Cache) erase(ctx context.Context, users []event.User) ([]transaction, error) {
	txs := make([]transaction, groups)
	for g := range txs {
		txs[g].group = g
	}
	limits := make([]any, 0, 2*len(users))
	_, err := c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, u := range users {
			g := group(u.UserID)
			limit := score(u.ForgetBefore, 0)
			mark := []any{"eval", remember, 1, c.forgetKey(g), c.tombstone(u.UserID), int64(u.ForgetBefore)}
			p.Do(ctx, mark...)
			t := &txs[g]
			t.cmds = append(t.cmds, mark)
			t.add("zremrangebyscore", c.userKey(u.UserID), "-inf", exclusive(limit))
			t.add("zremrangebyscore", c.settledKey(u.UserID), "-inf", exclusive(limit))
			p.Del(ctx, event.RecommendationKey(c.opt.Prefix, u.UserID), event.TopKey(c.opt.Prefix, u.UserID))
			limits = append(limits, u.UserID, limit)
		}
		return nil
	})
	if err != nil {
		return nil, wrap("write who is forgotten", err)
	}
	if err := c.mark(ctx, users); err != nil {
		return nil, err
	}
	err = c.scan(ctx, "i:", func(key, item string) error {
		t := &txs[group(item)]
		t.add(append([]any{"eval", unlink, 1, key}, limits...)...)
		return nil
	})
	return txs, err
}

// scan calls f with the key and the id of every node whose key, after its tag, begins with kind. Keys that come or go
// meanwhile may be missed or seen twice.
func (c *Cache) scan(ctx context.Context, kind string, f func(key, id string) error) error {
	return c.scanKeys(ctx, globEscaper.Replace(c.opt.Prefix)+"{*}:"+kind+"*", func(_ redis.UniversalClient, key string) error {
		_, id, ok := strings.Cut(key[len(c.opt.Prefix):], "}:"+kind)
		if !ok || key != c.tag(group(id))+kind+id {
			return nil // an app's key that looks like ours
		}
		return f(key, id)
	})
}

// scanKeys calls f, never twice at a time, with every key that matches the pattern, and the server it is on. Keys that come
// or go meanwhile may be missed or seen twice.
func (c *Cache) scanKeys(ctx context.Context, pattern string, f func(rdb redis.UniversalClient, key string) error) error {
	var mu sync.Mutex // a Cluster's masters are scanned side by side
	return wrap("scan "+pattern, c.masters(ctx, func(ctx context.Context, rdb redis.UniversalClient) error {
		it := rdb.Scan(ctx, 0, pattern, 1000).Iterator()
		for it.Next(ctx) {
			mu.Lock()
			err := f(rdb, it.Val())
			mu.Unlock()
			if err != nil {
				return err
			}
		}
		return it.Err()
	}))
}

var globEscaper = strings.NewReplacer("*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`, `\`, `\\`)
