package graphcache

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/r2rec/r2rec/internal/event"
)

// listKind is one of the kinds of sorted sets that interactions are joined into.
type listKind uint64

const (
	userEdges    listKind = iota
	itemEdges             // of an item
	settledItems          // a user's purchases and hides
	recentItems           // of a group, chosen last
)

// entry is one member that a batch raises in one list.
type entry struct {
	place  uint64 // where the list is: its group, its kind, and some of the hash of its node
	node   string // whose list it is; "" of recent items
	member string
	score  int64
}

// Parts of a place, from the most significant bit: 6 bits of group, 2 of kind, 56 of the node's hash.
const (
	groupShift = 58
	kindShift  = 56
)

func newEntry(k listKind, node string, hash uint64, member string, score int64) entry {
	return entry{(hash%groups)<<groupShift | uint64(k)<<kindShift | hash>>8, node, member, score}
}

func (e *entry) group() int     { return int(e.place >> groupShift) }
func (e *entry) kind() listKind { return listKind(e.place >> kindShift & 3) }

// sameList tells whether two entries stand in one list.
func (e *entry) sameList(o *entry) bool { return e.place == o.place && e.node == o.node }

// byList orders entries list by list, those of a list by Redis' own order, the newest first.
func byList(a, b entry) int {
	switch {
	case a.place != b.place:
		return cmp.Compare(a.place, b.place)
	case a.node != b.node: // one hash in 2^56 nodes
		return cmp.Compare(a.node, b.node)
	case a.score != b.score:
		return cmp.Compare(b.score, a.score)
	}
	return cmp.Compare(b.member, a.member)
}

// each gives all interactions of some batches.
func each(batches [][]event.Interaction) iter.Seq[*event.Interaction] {
	return func(yield func(*event.Interaction) bool) {
		for _, batch := range batches {
			for i := range batch {
				if !yield(&batch[i]) {
					return
				}
			}
		}
	}
}

// entries are what batches raise, list by list, but for what is older than its user's forget_before.
func (c *Cache) entries(batches [][]event.Interaction, forgotten map[string]event.Time) []entry {
	n := 0
	for _, batch := range batches {
		n += len(batch)
	}
	es := make([]entry, 0, 4*n)
	for in := range each(batches) {
		k, ok := c.opt.Policy.Kind(*in)
		if !ok || in.Timestamp < forgotten[in.UserID] {
			continue
		}
		s, user, item := score(in.Timestamp, k), hash(in.UserID), hash(in.ItemID)
		es = append(es, newEntry(userEdges, in.UserID, user, in.ItemID, s), newEntry(itemEdges, in.ItemID, item, in.UserID, s))
		if k.settled() {
			es = append(es, newEntry(settledItems, in.UserID, user, in.ItemID, s))
		}
		if k.Positive() {
			es = append(es, newEntry(recentItems, "", item%groups, in.ItemID, s))
		}
	}
	slices.SortFunc(es, byList)
	return es
}

// keepNewest moves the bound newest members of a list, each with its highest score, to the front of the list's entries, and
// returns them, newest first.
func keepNewest(list []entry, bound int) []entry {
	kept := list[:0]
next:
	for _, e := range list {
		if len(kept) == bound {
			break
		}
		for i := range kept {
			if kept[i].member == e.member {
				continue next
			}
		}
		kept = append(kept, e)
	}
	return kept
}

// rule is what holds for all lists of a kind.
type rule struct {
	begins        string // what their keys begin with, after the group's tag
	bound, maxNew int    // how many entries are kept, and how many may come in before the list is trimmed
}

func (c *Cache) rules() [4]rule {
	return [...]rule{
		userEdges:    {"u:", c.opt.Bound, c.opt.MaxNew},
		itemEdges:    {"i:", c.opt.Bound, c.opt.MaxNew},
		settledItems: {"x:", c.opt.SettledBound, c.opt.SettledBound},
		recentItems:  {"recent", c.opt.RecentBound, c.opt.RecentBound},
	}
}

// joins are the transactions, one a group, that join batches into the graph. The commands hold pointers to keys, members
// and scores: an interface needs no memory of its own for them.
func (c *Cache) joins(batches [][]event.Interaction, forgotten map[string]event.Time) []transaction {
	txs, tags := make([]transaction, groups), make([]string, groups)
	for g := range txs {
		txs[g].group, tags[g] = g, c.tag(g)
	}
	rules := c.rules()
	var beyond [len(rules)]any // the bounds, as the last rank that is trimmed
	for k, r := range rules {
		beyond[k] = -(r.bound + 1)
	}
	es := c.entries(batches, forgotten)
	keys := make([]string, 0, len(es))
	args := make([]any, 0, 7*len(es)) // of all commands, one after the other
	for len(es) > 0 {
		n := 1
		for n < len(es) && es[n].sameList(&es[0]) {
			n++
		}
		list := es[:n]
		es = es[n:]
		t, k := &txs[list[0].group()], list[0].kind()
		keys = append(keys, tags[t.group]+rules[k].begins+list[0].node)
		key := &keys[len(keys)-1]
		for some := range slices.Chunk(keepNewest(list, rules[k].bound), rules[k].maxNew) {
			add := len(args)
			args = append(args, "zadd", key, "gt")
			for i := range some {
				args = append(args, &some[i].score, &some[i].member)
			}
			trim := len(args)
			args = append(args, "zremrangebyrank", key, 0, beyond[k])
			t.cmds = append(t.cmds, args[add:trim:trim], args[trim:len(args):len(args)])
		}
	}
	return txs
}

// ApplyInteractions joins a batch into the graph and advances the watermarks to span.End. Interactions older than
// their user's forget_before are ignored. It returns *event.BehindError where the store lost writes, *Error where Redis
// failed; applying a batch again is harmless, and an empty one only compares the watermarks with span.Start.
//
// It takes one round trip, and one before it, for who is forgotten, once somebody is. Batches of different partitions that come while others
// are under way travel together; each has its own result, but for a failure of Redis, which is everybody's.
func (c *Cache) ApplyInteractions(ctx context.Context, span event.Span, batch []event.Interaction) error {
	if span.Start == span.End {
		return c.check(ctx, span)
	}
	err := c.convoys.do(ctx, span, batch, c.travel)
	if err != nil && err == ctx.Err() {
		return wrap("apply "+span.String(), err)
	}
	return err
}

// travel applies batches of different partitions together, and again where users were forgotten meanwhile.
func (c *Cache) travel(ctx context.Context, parts []*part) {
	batches, spans := make([][]event.Interaction, len(parts)), make([]event.Span, len(parts))
	for i, p := range parts {
		batches[i], spans[i] = p.batch, p.span
	}
	var errs []error
	told := false
	for range attempts {
		errs = c.travelOnce(ctx, batches, spans)
		if !slices.ContainsFunc(errs, func(err error) bool { return errors.Is(err, errForgotMeanwhile) }) {
			break
		}
		told = true
	}
	var left [][]event.Interaction
	for i, p := range parts {
		if errs[i] != nil && (told || p.ctx.Err() != nil) {
			left = append(left, batches[i])
		}
	}
	err := c.sweep(ctx, left)
	for i, p := range parts {
		if p.err = errs[i]; p.err != nil && err != nil {
			p.err = errors.Join(p.err, err)
		}
	}
}

// attempts at a batch before its reader is told to come again.
const attempts = 3

func (c *Cache) travelOnce(ctx context.Context, batches [][]event.Interaction, spans []event.Span) []error {
	forgotten, epochs, err := c.forgottenBy(ctx, batches)
	if err != nil {
		return slices.Repeat([]error{err}, len(spans))
	}
	txs := c.joins(batches, forgotten)
	for g := range txs {
		c.advance(&txs[g], epochs[g], spans...)
	}
	errs := c.settle(ctx, spans, txs)
	if slices.ContainsFunc(errs, func(err error) bool { return errors.Is(err, errForgotMeanwhile) }) {
		c.calm.Store(false)
	}
	if err := c.forgetAgain(ctx, batches, forgotten); err != nil {
		for i := range errs {
			errs[i] = cmp.Or(errs[i], err)
		}
	}
	return errs
}

// Join joins interactions that come from no partition into the graph: what ApplyInteractions does, without watermarks.
// For who has the events at hand and can join them again, such as an evaluation.
func (c *Cache) Join(ctx context.Context, batch []event.Interaction) error {
	batches := [][]event.Interaction{batch}
	forgotten, err := c.forgotten(ctx, usersOf(batches...))
	if err != nil {
		return err
	}
	txs := slices.DeleteFunc(c.joins(batches, forgotten), func(t transaction) bool { return len(t.cmds) == 0 })
	if len(txs) == 0 {
		return nil
	}
	if _, err := c.run(ctx, txs); err != nil {
		return wrapf(err, "join %d interactions", len(batch))
	}
	// Without a watermark there is no epoch that would hold it back, so it looks whether a forget came meanwhile.
	if forgotten, err = c.forgotten(ctx, usersOf(batches...)); err != nil {
		return err
	}
	return c.forgetAgain(ctx, batches, forgotten)
}
