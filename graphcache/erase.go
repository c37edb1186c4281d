package graphcache

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/internal/event"
)

// What one command of an erasure does at most: a fraction of a millisecond.
const (
	erasedAtOnce = 256 // users in one list
	listsAtOnce  = 16  // for few users
	fewUsers     = 8   // up to so many, asking every list for each of them is faster than reading the lists
)

// erasure is one batch of forgets on its way through one graph. Its work is many commands, none of which may be lost
// unnoticed: each adds one to a count in its group, and is refused where the count is not what it left; so the last
// command of a group, which moves the watermark, succeeds only if all before it are still there.
type erasure struct {
	c      *Cache
	span   event.Span
	users  []event.User
	beside bool // the graph does not keep the watermarks of the span

	field, token string // of the count
	steps        [groups]int
}

// besideField begins the fields of erasures that are beside. They have counts of their own: who keeps the watermarks of the
// same partition, such as a rebuild, may forget the same users at the same time, and neither has to wait for the other.
const besideField = "beside:"

func (c *Cache) erasure(span event.Span, users []event.User, beside bool) *erasure {
	e := &erasure{c: c, span: span, users: users, beside: beside, field: watermarkField(span.Topic, span.Partition), token: rand.Text()}
	if beside {
		e.field = besideField + e.field
	}
	return e
}

// state is the count of a group, made unmistakable.
func (e *erasure) state(g int) string { return e.token + ":" + strconv.Itoa(e.steps[g]) }

// beginErasure sets a group's count and raises the times before which users are forgotten, which are max-registers: ARGV holds
// field, state, then pairs of a user's keyed hash and time.
const beginErasure = `
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
for i = 3, #ARGV, 2 do
  local at = tonumber(redis.call('HGET', KEYS[2], ARGV[i]) or '0')
  if at < tonumber(ARGV[i+1]) then redis.call('HSET', KEYS[2], ARGV[i], ARGV[i+1]) end
end
return 1`

// begin writes who is forgotten, so that writers see it before anybody looks for edges.
func (e *erasure) begin(ctx context.Context) error {
	if !e.beside { // not to scan in vain
		lowest, ok, err := e.c.Watermark(ctx, e.span.Topic, e.span.Partition)
		if err != nil {
			return err
		}
		if ok && lowest < e.span.Start {
			return &event.BehindError{Topic: e.span.Topic, Partition: e.span.Partition, Lowest: lowest, Assumed: e.span.Start}
		}
	}
	var args [groups][]any
	for g := range args {
		args[g] = []any{e.field, e.state(g)}
	}
	for _, u := range e.users {
		g := group(u.UserID)
		args[g] = append(args[g], e.c.tombstone(u.UserID), int64(u.ForgetBefore))
	}
	_, err := e.c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for g := range args {
			if len(args[g]) == 2 {
				p.HSet(ctx, e.c.erasingKey(g), args[g]...)
				continue
			}
			p.Eval(ctx, beginErasure, []string{e.c.erasingKey(g), e.c.forgetKey(g)}, args[g]...)
		}
		return nil
	})
	if err != nil {
		return wrap("write who is forgotten", err)
	}
	_, err = e.c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error { // batches under way ask again, see epochs
		for g := range groups {
			p.HIncrBy(ctx, e.c.erasingKey(g), epochField, 1)
		}
		return nil
	})
	return wrap("begin a new epoch of forgets", err)
}

// outside removes what is kept of the users beside the graph: what apps read, and, by the joiner's hand, their part of
// the join.
func (e *erasure) outside(ctx context.Context) error {
	for users := range slices.Chunk(e.users, erasedAtOnce) {
		_, err := e.c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, u := range users {
				p.Del(ctx, event.RecommendationKey(e.c.opt.Prefix, u.UserID), event.TopKey(e.c.opt.Prefix, u.UserID))
			}
			return nil
		})
		if err != nil {
			return wrap("delete what apps read of forgotten users", err)
		}
	}
	return e.c.mark(ctx, e.users)
}

// unlinkUsers removes users from items' lists where their edge is older than they are to be forgotten, if the group's
// count is still the one in ARGV[2], and sets it to ARGV[3]; ARGV goes on with pairs of user and score.
const unlinkUsers = `
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
for k = 2, #KEYS do
  for i = 4, #ARGV, 2 do
    local s = redis.call('ZSCORE', KEYS[k], ARGV[i])
    if s and tonumber(s) < tonumber(ARGV[i+1]) then redis.call('ZREM', KEYS[k], ARGV[i]) end
  end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1`

// lists are lists of one group, and the pairs of user and score that are to leave them.
type lists struct {
	group int
	keys  []string
	pairs []any
}

// unlink removes the users from the lists of all items. For many users it reads the lists, and changes only those that
// name one of them; who is added to a list after it was read is removed by who adds, see forgetAgain.
func (e *erasure) unlink(ctx context.Context) error {
	limits := make(map[string]int64, len(e.users))
	for _, u := range e.users {
		limits[u.UserID] = max(limits[u.UserID], score(u.ForgetBefore, 0))
	}
	return e.c.scanNodes(ctx, itemKind, nil, func(_ redis.UniversalClient, page []nodeKey) error {
		if len(limits) <= fewUsers {
			return e.unlinkFrom(ctx, e.all(page, limits))
		}
		naming, err := e.naming(ctx, page, limits)
		if err != nil {
			return err
		}
		return e.unlinkFrom(ctx, naming)
	})
}

// all lists of a page, with all users.
func (e *erasure) all(page []nodeKey, limits map[string]int64) (out []lists) {
	var pairs []any
	for user, limit := range limits {
		pairs = append(pairs, user, limit)
	}
	var keys [groups][]string
	for _, n := range page {
		g := group(n.id)
		keys[g] = append(keys[g], n.key)
	}
	for g := range keys {
		for some := range slices.Chunk(keys[g], listsAtOnce) {
			out = append(out, lists{g, some, pairs})
		}
	}
	return out
}

// naming are the lists of a page that hold an edge to be removed, each with the users of such edges.
func (e *erasure) naming(ctx context.Context, page []nodeKey, limits map[string]int64) (out []lists, err error) {
	b := e.c.batch()
	reads := make([]*listRead, len(page))
	for i, n := range page {
		reads[i] = b.list(ctx, n.key, 0)
	}
	if _, err := b.send(ctx); err != nil {
		return nil, wrap("read items' lists", err)
	}
	for i, n := range page {
		var pairs []any
		for _, edge := range reads[i].node().edges {
			if limit, ok := limits[edge.ID]; ok && score(edge.At, edge.Kind) < limit {
				pairs = append(pairs, edge.ID, limit)
			}
		}
		for some := range slices.Chunk(pairs, 2*erasedAtOnce) {
			out = append(out, lists{group(n.id), []string{n.key}, some})
		}
	}
	return out, nil
}

// unlinkFrom removes users from lists, a command for each part.
func (e *erasure) unlinkFrom(ctx context.Context, parts []lists) error {
	if len(parts) == 0 {
		return nil
	}
	cmds := make([]*redis.Cmd, len(parts))
	_, err := e.c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, part := range parts {
			args := make([]any, 0, 3+len(part.pairs))
			args = append(args, e.field, e.state(part.group))
			e.steps[part.group]++
			args = append(append(args, e.state(part.group)), part.pairs...)
			cmds[i] = p.Eval(ctx, unlinkUsers, append([]string{e.c.erasingKey(part.group)}, part.keys...), args...)
		}
		return nil
	})
	if err != nil {
		return wrap("remove forgotten users from items' lists", err)
	}
	for _, cmd := range cmds {
		if cmd.Val() == int64(0) {
			return e.lost(ctx)
		}
	}
	return nil
}

// errLostErasure says that a part of an erasure is gone, or that somebody else has begun the same one.
var errLostErasure = errors.New("redis lost a part of what was removed, or another consumer forgets the same users: it has to be done again")

// lost is what an erasure ends with whose writes are gone.
func (e *erasure) lost(ctx context.Context) error {
	if !e.beside {
		if err := e.c.check(ctx, e.span); err != nil {
			return err
		}
	}
	return wrapf(errLostErasure, "forget the users of %s", e.span)
}

// endErasure ends the erasure of a group, if its count is still the one in ARGV[2].
const endErasure = `
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
return 1`

// advanceErasure is endErasure that moves the group's watermark, as advance does: ARGV goes on with first, start, end.
const advanceErasure = `
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
local at = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or ARGV[3])
if at < tonumber(ARGV[4]) then return 0 end
if at < tonumber(ARGV[5]) then redis.call('HSET', KEYS[2], ARGV[1], ARGV[5]) end
redis.call('HDEL', KEYS[1], ARGV[1])
return 1`

// finish removes the users' own lists, and moves the watermarks.
func (e *erasure) finish(ctx context.Context) error {
	c := e.c
	txs := make([]transaction, groups)
	for _, u := range e.users {
		t, limit := &txs[group(u.UserID)], exclusive(score(u.ForgetBefore, 0))
		t.add("zremrangebyscore", c.userKey(u.UserID), "-inf", limit)
		t.add("zremrangebyscore", c.settledKey(u.UserID), "-inf", limit)
	}
	for g := range txs {
		t := &txs[g]
		t.group = g
		if e.beside {
			t.add("eval", endErasure, 1, c.erasingKey(g), e.field, e.state(g))
		} else {
			t.add("eval", advanceErasure, 2, c.erasingKey(g), c.watermarkKey(g), e.field, e.state(g), e.span.First, e.span.Start, e.span.End)
		}
	}
	replies, err := c.run(ctx, txs)
	if err != nil {
		err = wrap("forget the users of "+e.span.String(), err)
		if !e.beside && !err.(*Error).Retriable() { // as settle does
			err = errors.Join(err, c.lower(ctx, e.span))
		}
		return err
	}
	for _, r := range replies {
		if r[len(r)-1] == int64(0) {
			return e.lost(ctx)
		}
	}
	return nil
}
