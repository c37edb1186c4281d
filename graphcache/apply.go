package graphcache

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"

	"github.com/r2rec/r2rec/internal/event"
)

// list is what a batch adds to one sorted set: the newest score of each member.
type list map[string]int64

func (l list) raise(member string, score int64) {
	if old, ok := l[member]; !ok || score > old {
		l[member] = score
	}
}

// member of a sorted set; the order is Redis' own, by score and then by bytes.
type member struct {
	id    string
	score int64
}

// newest returns the bound newest members, newest first.
func (l list) newest(bound int) []member {
	ms := make([]member, 0, len(l))
	for id, s := range l {
		ms = append(ms, member{id, s})
	}
	slices.SortFunc(ms, func(a, b member) int {
		if c := cmp.Compare(b.score, a.score); c != 0 {
			return c
		}
		return cmp.Compare(b.id, a.id)
	})
	return ms[:min(bound, len(ms))]
}

// raise adds the commands that join l into a bounded sorted set, never letting it grow more than maxNew over the bound.
func (t *transaction) raise(key string, l list, bound, maxNew int) {
	for ms := range slices.Chunk(l.newest(bound), maxNew) {
		cmd := make([]any, 0, 3+2*len(ms))
		cmd = append(cmd, "zadd", key, "gt")
		for _, m := range ms {
			cmd = append(cmd, m.score, m.id)
		}
		t.cmds = append(t.cmds, cmd)
		t.add("zremrangebyrank", key, 0, -(bound + 1))
	}
}

// change is what a batch does to one group.
type change struct {
	nodes   map[string]list // key of a user's or an item's edges
	settled map[string]list // key of a user's purchases and hides
	recent  list
}

func (ch *change) at(m *map[string]list, key string) list {
	if *m == nil {
		*m = map[string]list{}
	}
	l := (*m)[key]
	if l == nil {
		l = list{}
		(*m)[key] = l
	}
	return l
}

// ApplyInteractions joins a batch into the graph and advances the watermarks to span.End. Interactions older than
// their user's forget_before are ignored. It returns *event.BehindError where the store lost writes, *Error where Redis
// failed; applying a batch again is harmless, and an empty one only compares the watermarks with span.Start.
func (c *Cache) ApplyInteractions(ctx context.Context, span event.Span, batch []event.Interaction) error {
	if span.Start == span.End {
		return c.check(ctx, span)
	}
	txs, err := c.joins(ctx, batch)
	if err != nil {
		return err
	}
	for g := range txs {
		c.advance(&txs[g], span)
	}
	if err := c.settle(ctx, span, txs); err != nil {
		return err
	}
	return c.forgetAgain(ctx, batch)
}

// Join joins interactions that come from no partition into the graph: what ApplyInteractions does, without watermarks.
// For who has the events at hand and can join them again, such as an evaluation.
func (c *Cache) Join(ctx context.Context, batch []event.Interaction) error {
	txs, err := c.joins(ctx, batch)
	if err != nil {
		return err
	}
	txs = slices.DeleteFunc(txs, func(t transaction) bool { return len(t.cmds) == 0 })
	if len(txs) == 0 {
		return nil
	}
	if _, err := c.run(ctx, txs); err != nil {
		return wrapf(err, "join %d interactions", len(batch))
	}
	return c.forgetAgain(ctx, batch)
}

// joins are the transactions, one a group, that join a batch into the graph.
func (c *Cache) joins(ctx context.Context, batch []event.Interaction) ([]transaction, error) {
	forgotten, err := c.forgotten(ctx, usersOf(batch))
	if err != nil {
		return nil, err
	}
	var changes [groups]change
	for _, in := range batch {
		k, ok := c.opt.Policy.Kind(in)
		if !ok || in.Timestamp < forgotten[in.UserID] {
			continue
		}
		s := score(in.Timestamp, k)
		user, item := &changes[group(in.UserID)], &changes[group(in.ItemID)]
		user.at(&user.nodes, c.userKey(in.UserID)).raise(in.ItemID, s)
		item.at(&item.nodes, c.itemKey(in.ItemID)).raise(in.UserID, s)
		if k.settled() {
			user.at(&user.settled, c.settledKey(in.UserID)).raise(in.ItemID, s)
		}
		if k.Positive() {
			if item.recent == nil {
				item.recent = list{}
			}
			item.recent.raise(in.ItemID, s)
		}
	}
	txs := make([]transaction, groups)
	for g := range txs {
		t, ch := &txs[g], &changes[g]
		t.group = g
		for key, l := range ch.nodes {
			t.raise(key, l, c.opt.Bound, c.opt.MaxNew)
		}
		for key, l := range ch.settled {
			t.raise(key, l, c.opt.SettledBound, c.opt.SettledBound)
		}
		if ch.recent != nil {
			t.raise(c.recentKey(g), ch.recent, c.opt.RecentBound, c.opt.RecentBound)
		}
	}
	return txs, nil
}

// applyItems stores catalogue records unless the watermark tells that later ones are in: ARGV holds field, first,
// start, end, then pairs of id and document, an empty document deleting.
const applyItems = `
local at = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or ARGV[2])
if at < tonumber(ARGV[3]) then return 0 end
if at >= tonumber(ARGV[4]) then return 1 end
for i = 5, #ARGV, 2 do
  if ARGV[i+1] == '' then redis.call('HDEL', KEYS[2], ARGV[i]) else redis.call('HSET', KEYS[2], ARGV[i], ARGV[i+1]) end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
return 1`

// ApplyItems puts catalogue records, in offset order, into the catalogue: a later one replaces an earlier one, and a
// deleted item leaves. Errors are those of ApplyInteractions.
func (c *Cache) ApplyItems(ctx context.Context, span event.Span, batch []event.Item) error {
	if span.Start == span.End {
		return c.check(ctx, span)
	}
	txs := make([]transaction, groups)
	for g := range txs {
		txs[g].group = g
		txs[g].add("eval", applyItems, 2, c.watermarkKey(g), c.catalogueKey(g),
			watermarkField(span.Topic, span.Partition), span.First, span.Start, span.End)
	}
	for _, it := range batch {
		doc := ""
		if !it.Deleted {
			b, err := json.Marshal(it)
			if err != nil {
				return wrapf(err, "encode item %q", it.ItemID)
			}
			doc = string(b)
		}
		cmd := &txs[group(it.ItemID)].cmds[0]
		*cmd = append(*cmd, it.ItemID, doc)
	}
	return c.settle(ctx, span, txs)
}
