package graphcache

import (
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"strings"
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
	all := &factors.Edges{}
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
	return all, nil
}

// factorParts is in how many parts factors are kept: a million items of 16 dimensions take 1.2 MB a part.
const factorParts = 64

// How long parts stay that no name points to: of a publication that was cut off, and of factors that a reader may still be
// fetching.
const (
	unpublishedFor = 24 * time.Hour
	replacedFor    = time.Hour
)

func (c *Cache) factorsKey() string { return c.opt.Prefix + "factors" }

func (c *Cache) factorPartKey(name string, part int) string {
	return c.opt.Prefix + "{factors:" + strconv.Itoa(part) + "}:" + name
}

// PublishFactors puts factors into Redis, for everybody who refreshes. Readers see all of the former ones or all of these:
// the parts are written first, under a new name, and then the name that they are found by. What is left of a publication
// that was cut off expires.
func (c *Cache) PublishFactors(ctx context.Context, m *factors.Model) error {
	const doing = "publish factors"
	name := rand.Text()
	for k, part := range m.Parts(name, factorParts) {
		if err := c.rdb.Set(ctx, c.factorPartKey(name, k), part, unpublishedFor).Err(); err != nil {
			return wrap(doing, err)
		}
	}
	former, err := c.rdb.SetArgs(ctx, c.factorsKey(), name, redis.SetArgs{Get: true}).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return wrap(doing, err)
	}
	_, err = c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for k := range factorParts {
			p.Persist(ctx, c.factorPartKey(name, k))
			if former != "" {
				p.Expire(ctx, c.factorPartKey(former, k), replacedFor)
			}
		}
		return nil
	})
	return wrap(doing, err)
}

// RefreshFactors reads the factors that were published last; snapshots use them from then on. Where these are in use it
// costs one round trip: call it before the first Snapshot and every few seconds. What cannot be read leaves those that are
// in use; what is there and cannot be used is not read again.
func (c *Cache) RefreshFactors(ctx context.Context) error {
	const doing = "read factors"
	name, err := c.rdb.Get(ctx, c.factorsKey()).Result()
	if errors.Is(err, redis.Nil) {
		c.factors.Store(nil)
		return nil
	}
	if err != nil {
		return wrap(doing, err)
	}
	now := c.factors.Load()
	if now != nil && now.name == name {
		return now.unfit
	}
	parts := make([][]byte, factorParts)
	for k := range parts {
		parts[k], err = c.rdb.Get(ctx, c.factorPartKey(name, k)).Bytes()
		if errors.Is(err, redis.Nil) {
			err = errors.New("a part is missing: learn them again with r2rec factors")
			return &lasting{wrap(doing, err)}
		}
		if err != nil {
			return wrap(doing, err)
		}
	}
	next := &named{name: name}
	if next.factors, err = factors.Join(name, parts); err != nil {
		next.unfit = &lasting{wrap(doing, err)}
		if now != nil {
			next.factors = now.factors
		}
	}
	c.factors.Store(next)
	if next.unfit == nil {
		t := next.factors.Training()
		c.opt.Logger.Info("latent factors rank from now on", "name", strings.ToLower(name), "items", t.Items, "users", t.Users, "edges", t.Edges)
	}
	return next.unfit
}
