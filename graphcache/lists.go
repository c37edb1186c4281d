package graphcache

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/internal/parallel"
	"github.com/r2rec/r2rec/internal/rdb"
)

// node is a list as it was read: its newest edges, newest first, and its length, the edges that were not asked for
// included. Edges of one millisecond and kind stand in falling order of their ids.
//
// The ids of a batch share memory, which one of them keeps alive: who keeps an id for long clones it.
type node struct {
	edges  []Edge
	degree int64
}

// batch is one pipelined round trip that reads lists and whatever else is queued in it. Lists are read by DUMP while
// the server is known to answer it, else by range; what comes back is the same.
type batch struct {
	redis.Pipeliner
	c      *Cache
	dumped bool
	lists  []*listRead
	space  *space // nil: what is read may be kept
}

// taker makes nodes out of the server's answers.
type taker struct {
	decoder  rdb.Decoder
	integers []rdb.Integer // of one list
	entries  []rdb.Raw     // likewise
	edges    []Edge        // room for those of many
	contacts []contact     // likewise
	space    *space
}

// listRead is a list being read in a batch.
type listRead struct {
	key    string
	newest int
	dump   *redis.StringCmd // else:
	edges  *redis.ZSliceCmd
	degree *redis.IntCmd
	read   node

	known *index   // where set, an audience is read instead of a node:
	heard audience // once the batch is sent
}

// node is what was read, once the batch is sent. A list that does not exist is an empty one.
func (r *listRead) node() node { return r.read }

func (c *Cache) batch() *batch {
	return &batch{Pipeliner: c.rdb.Pipeline(), c: c, dumped: c.dumps.Load()}
}

// list queues the reading of the newest edges of a list, of all of them where newest is below 1.
func (b *batch) list(ctx context.Context, key string, newest int) *listRead {
	r := &listRead{key: key, newest: newest}
	if b.dumped {
		r.dump = b.Dump(ctx, key)
	} else {
		r.byRange(ctx, b)
	}
	b.lists = append(b.lists, r)
	return r
}

// audience is list for who of the known stands in it.
func (b *batch) audience(ctx context.Context, key string, newest int, known *index) *listRead {
	r := b.list(ctx, key, newest)
	r.known = known
	return r
}

func (r *listRead) byRange(ctx context.Context, p redis.Pipeliner) {
	r.dump = nil
	r.edges, r.degree = p.ZRevRangeWithScores(ctx, r.key, 0, int64(max(r.newest, 0))-1), p.ZCard(ctx, r.key)
}

// send reads everything that is queued and says in how many round trips: none for an empty batch, one, or a second one
// for lists whose DUMP was refused or not understood. Where that second one succeeds, lists are read by range from then
// on: the server, or what stands before it, is another than at the start.
func (b *batch) send(ctx context.Context) (trips int, err error) {
	if b.Len() == 0 {
		return 0, nil
	}
	if err := exec(ctx, b); err != nil {
		return 1, err
	}
	missed, why := takeAll(b.lists, b.space)
	if len(missed) == 0 {
		return 1, nil
	}
	again := b.c.rdb.Pipeline()
	for _, r := range missed {
		r.byRange(ctx, again)
	}
	if err := exec(ctx, again); err != nil {
		return 2, err
	}
	if _, err := takeAll(missed, b.space); err != nil {
		return 2, err
	}
	if b.c.dumps.CompareAndSwap(true, false) {
		b.c.opt.Logger.Warn("lists are read by range from now on, which is several times slower: a DUMP could not be used",
			"error", why, "key", missed[0].key)
	}
	return 2, nil
}

// exec sends a pipeline. An absent key is no error, and neither is a DUMP that the server refuses.
func exec(ctx context.Context, p redis.Pipeliner) error {
	cmds, err := p.Exec(ctx)
	var reply redis.Error
	if err != nil && !errors.As(err, &reply) {
		return err
	}
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && !errors.Is(err, redis.Nil) && (cmd.Name() != "dump" || !refused(err)) {
			return err
		}
	}
	return nil
}

// refused tells whether the server answered that it will not do this, now or later.
func refused(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply) && !retriableReply(reply.Error())
}

// takeAtOnce is how many lists are worth another goroutine: some 0.1 ms of work.
const takeAtOnce = 32

// takeAll makes the nodes out of the server's answers, and returns the lists of which it cannot, and why not for the first.
func takeAll(lists []*listRead, space *space) (missed []*listRead, why error) {
	errs := make([]error, len(lists))
	parallel.Parts(len(lists), takeAtOnce, func(from, to int) {
		// Like every other answer of the server, a DUMP is trusted as it comes over the connection: its checksum is for what
		// was on a disk, and a fifth of the decoding.
		t := taker{space: space, decoder: rdb.Decoder{SkipChecksum: true}}
		for i, r := range lists[from:to] {
			errs[from+i] = t.take(r)
		}
	})
	for i, err := range errs {
		if err == nil {
			continue
		}
		if why == nil {
			why = err
		}
		missed = append(missed, lists[i])
	}
	return missed, why
}

func (t *taker) take(r *listRead) (err error) {
	if r.dump == nil {
		zs := r.edges.Val()
		r.read = node{edges: t.edgeRoom(len(zs)), degree: r.degree.Val()}
		for i, z := range zs {
			r.read.edges[i] = edge(z.Member.(string), z.Score)
		}
		if r.known != nil {
			r.heard = r.known.audience(r.read)
		}
		return nil
	}
	payload, err := r.dump.Result()
	switch {
	case errors.Is(err, redis.Nil):
		return nil
	case err != nil:
		return err
	}
	var ok bool
	if t.integers, ok = t.decoder.Integers(t.integers[:0], payload); ok && rising(t.integers) {
		t.takeIntegers(r)
		return nil
	}
	if t.entries, err = t.decoder.RawSet(t.entries[:0], payload); err != nil {
		return err
	}
	if !inOrder(t.entries) { // not compact: an encoding of its own order
		slices.SortFunc(t.entries, func(a, b rdb.Raw) int { return byScore(&a, &b) })
	}
	n := len(t.entries)
	if r.known != nil {
		r.heard = audience{edges: t.contactRoom(r.kept(n)), degree: int64(n)}
		for i := range r.heard.edges {
			e := &t.entries[n-1-i]
			r.heard.edges[i] = contact{score: int64(e.Score), who: r.known.ofRaw(e)}
		}
		return nil
	}
	r.read = node{edges: t.edgeRoom(r.kept(n)), degree: int64(n)}
	for i := range r.read.edges {
		e := &t.entries[n-1-i]
		r.read.edges[i] = edge(t.decoder.Member(e), e.Score)
	}
	return nil
}

// takeIntegers is take for what nearly all lists are where ids are numbers.
func (t *taker) takeIntegers(r *listRead) {
	n := len(t.integers)
	if r.known != nil {
		r.heard = audience{edges: t.contactRoom(r.kept(n)), degree: int64(n)}
		for i := range r.heard.edges {
			e := &t.integers[n-1-i]
			r.heard.edges[i] = contact{score: e.Score, who: r.known.ofNumber(e.Member)}
		}
		return
	}
	r.read = node{edges: t.edgeRoom(r.kept(n)), degree: int64(n)}
	for i := range r.read.edges {
		e := &t.integers[n-1-i]
		r.read.edges[i] = edgeOf(t.decoder.Member(&rdb.Raw{Number: e.Member, Integer: true}), e.Score)
	}
}

// kept is how many of a list's edges were asked for.
func (r *listRead) kept(length int) int {
	if r.newest > 0 {
		return min(length, r.newest)
	}
	return length
}

// rising tells whether no two entries share a score: those that do stand in the order of their members' text.
func rising(entries []rdb.Integer) bool {
	for i := 1; i < len(entries); i++ {
		if entries[i-1].Score >= entries[i].Score {
			return false
		}
	}
	return true
}

func inOrder(entries []rdb.Raw) bool {
	for i := 1; i < len(entries); i++ {
		a, b := &entries[i-1], &entries[i]
		if !(a.Score < b.Score) && byScore(a, b) > 0 {
			return false
		}
	}
	return true
}

// byScore is the order of a sorted set.
func byScore(a, b *rdb.Raw) int {
	if a.Score != b.Score {
		return cmp.Compare(a.Score, b.Score)
	}
	var x, y [maxMember]byte // enough for most
	return bytes.Compare(a.Append(x[:0]), b.Append(y[:0]))
}
