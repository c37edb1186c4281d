package graphcache

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/internal/factors"
)

// named are factors under the name by which Redis has them; of a name that could not be used there is the error instead.
type named struct {
	name    string
	factors *factors.Model
	unfit   error
}

// weight of an edge in learning latent factors and in folding a user in: whatever the opinion, people deal with what
// interests them. 0: it says nothing.
func (k Kind) weight() float64 {
	switch {
	case k.Positive():
		return 1
	case k == Seen:
		return .5
	case k == Dislike:
		return .25
	}
	return 0
}

// latent folds the user in.
func (w *walk) latent() factors.Taste {
	now := w.factors.Load()
	if now == nil || now.factors == nil {
		return factors.Taste{}
	}
	edges := make([]factors.Edge, 0, len(w.edges))
	for _, e := range w.edges {
		if weight := e.Kind.weight(); weight > 0 {
			edges = append(edges, factors.Edge{Item: e.ID, Weight: weight})
		}
	}
	return now.factors.Taste(edges)
}

// UseFactors ranks with these factors from now on; nil: with none.
func (c *Cache) UseFactors(m *factors.Model) { c.factors.Store(&named{factors: m}) }

// FactorEdges reads the edges of all users' and all items' lists, to learn factors from: an edge that one end has
// trimmed, the other may still have. It takes some seconds for a million nodes; edges that come or go meanwhile may be missed.
// progress, where set, is told how many keys were looked at.
func (c *Cache) FactorEdges(ctx context.Context, progress func(done, total int)) (*factors.Edges, error) {
	looked, err := c.progress(ctx, progress)
	if err != nil {
		return nil, err
	}
	all, strange := &factors.Edges{}, 0
	err = c.scanNodes(ctx, userKind+itemKind, looked, func(_ redis.UniversalClient, page []nodeKey) error {
		b := c.batch()
		reads := make([]*listRead, len(page))
		for i, n := range page {
			reads[i] = b.list(ctx, n.key, 0)
		}
		if _, err := b.send(ctx); err != nil {
			return wrap("read lists to learn factors from", err)
		}
		for i, n := range page {
			for _, e := range reads[i].node().edges {
				weight := e.Kind.weight()
				if weight == 0 {
					continue
				}
				if !factors.IsID(n.id) || !factors.IsID(e.ID) { // whoever wrote that, it was not us
					strange++
					continue
				}
				user, item := n.id, e.ID
				if n.kind == itemKind {
					user, item = item, user
				}
				if err := all.Add(user, item, weight); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if strange > 0 {
		c.opt.Logger.Warn("edges are left out of the latent factors: no user or item can have their ids, another program wrote them", "edges", strange)
	}
	return all, nil
}

// factorParts is in how many parts factors are kept: a million items of 16 dimensions take 1.2 MB a part.
const factorParts = 64

// How long parts stay that are not current: of factors that a reader may still be fetching, and of a publication that has
// not come to its end, or never will.
const (
	replacedFor    = time.Hour
	unpublishedFor = 24 * time.Hour
)

// factorsKey is a hash: current, the name of the factors that serve, and NAME of each other publication whose parts may be
// there and do not expire yet, with what it is.
func (c *Cache) factorsKey() string { return c.opt.Prefix + "factors" }

func (c *Cache) factorPartKey(name string, part int) string {
	return c.opt.Prefix + "{factors:" + strconv.Itoa(part) + "}:" + name
}

const (
	publishing = "publishing"
	replaced   = "replaced"
)

// switchFactors makes the factors ARGV[1] current. Asked again, it changes nothing.
const switchFactors = `
local former = redis.call('HGET', KEYS[1], 'current')
redis.call('HSET', KEYS[1], 'current', ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1])
if former and former ~= ARGV[1] then redis.call('HSET', KEYS[1], former, 'replaced') end
return 1`

// PublishFactors puts factors into Redis, for everybody who refreshes. Readers see all of the former ones or all of these:
// the parts are written first, under a new name, and then the name that they are found by. Parts expire by themselves until
// all are there, and are on record from then on, so that what is left of a publication that was cut off goes in any case.
func (c *Cache) PublishFactors(ctx context.Context, m *factors.Model) error {
	return wrap("publish factors", c.publishFactors(ctx, rand.Text(), m))
}

func (c *Cache) publishFactors(ctx context.Context, name string, m *factors.Model) error {
	for k, part := range m.Parts(name, factorParts) {
		if err := c.rdb.Set(ctx, c.factorPartKey(name, k), part, unpublishedFor).Err(); err != nil {
			return err
		}
	}
	if err := c.rdb.HSet(ctx, c.factorsKey(), name, publishing).Err(); err != nil {
		return err
	}
	persist := func(p redis.Pipeliner, key string) { p.Persist(ctx, key) }
	if err := c.eachFactorPart(ctx, name, persist); err != nil {
		return err
	}
	if err := c.rdb.Eval(ctx, switchFactors, []string{c.factorsKey()}, name).Err(); err != nil {
		return err
	}
	all, err := c.rdb.HGetAll(ctx, c.factorsKey()).Result()
	if err != nil {
		return err
	}
	for other, is := range all {
		if other == "current" {
			continue
		}
		stay := unpublishedFor // somebody may be about to make them current, and then keeps them
		if is == replaced {
			stay = replacedFor
		}
		if err := c.eachFactorPart(ctx, other, func(p redis.Pipeliner, key string) { p.Expire(ctx, key, stay) }); err != nil {
			return err
		}
		if err := c.rdb.HDel(ctx, c.factorsKey(), other).Err(); err != nil {
			return err
		}
	}
	return c.eachFactorPart(ctx, name, persist) // another publication may have taken them for left over
}

// eachFactorPart sends a command for each part at once.
func (c *Cache) eachFactorPart(ctx context.Context, name string, f func(p redis.Pipeliner, key string)) error {
	_, err := c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for k := range factorParts {
			f(p, c.factorPartKey(name, k))
		}
		return nil
	})
	return err
}

// RefreshFactors reads the factors that were published last; snapshots use them from then on. Where these are in use
// already it asks for their name alone: call it before the first Snapshot and every few seconds. What cannot be read leaves
// those that are in use; what is there and cannot be used is not read again.
func (c *Cache) RefreshFactors(ctx context.Context) error {
	const doing = "read factors"
	name, err := c.rdb.HGet(ctx, c.factorsKey(), "current").Result()
	if errors.Is(err, redis.Nil) {
		c.factors.Store(nil)
		return nil
	}
	if err != nil {
		return wrapf(err, "%s from %s", doing, c.factorsKey())
	}
	now := c.factors.Load()
	if now != nil && now.name == name {
		return now.unfit
	}
	var there []*redis.IntCmd
	if err := c.eachFactorPart(ctx, name, func(p redis.Pipeliner, key string) { there = append(there, p.Exists(ctx, key)) }); err != nil {
		return wrap(doing, err)
	}
	parts := make([][]byte, factorParts)
	for k := range parts {
		if there[k].Val() == 0 {
			return &lasting{wrap(doing, fmt.Errorf("part %d of %d of %q is missing: learn them again with r2rec factors", k+1, factorParts, name))}
		}
	}
	for k := range parts {
		if parts[k], err = c.rdb.Get(ctx, c.factorPartKey(name, k)).Bytes(); err != nil {
			return wrap(doing, err)
		}
	}
	next := &named{name: name}
	if next.factors, err = factors.Join(name, parts); err != nil {
		next.unfit = &lasting{wrap(doing, fmt.Errorf("%w: learn them again with r2rec factors", err))}
		if now != nil {
			next.factors = now.factors
		}
	}
	c.factors.Store(next)
	if next.unfit == nil {
		t := next.factors.Training()
		c.opt.Logger.Info("latent factors rank from now on", "name", name, "items", t.Items, "users", t.Users, "edges", t.Edges)
	}
	return next.unfit
}
