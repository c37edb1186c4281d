package graphcache

import (
	"context"
	"errors"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/redis/go-redis/v9"
)

// Stands tells whether a recommendation may still be given, in one round trip: it wraps event.ErrForgotten where it was made
// from what is forgotten by now, and event.ErrOutdated where the user has bought or hidden one of its items, or one is not to
// be had any more. Other errors are of Redis.
func (g *Generations) Stands(ctx context.Context, rec event.Recommendation) error {
	ids := make([]string, len(rec.Items))
	for i, it := range rec.Items {
		ids[i] = it.ItemID
	}
	for {
		c := g.current.Load()
		var at, before *redis.StringCmd
		var settled []*redis.FloatCmd
		var reads itemReads
		_, err := c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			at, before = p.HGet(ctx, c.pointerKey(), "current"), p.HGet(ctx, c.forgetKey(group(rec.UserID)), c.tombstone(rec.UserID))
			for _, id := range ids {
				settled = append(settled, p.ZScore(ctx, c.settledKey(rec.UserID), id))
			}
			reads = c.queueItems(ctx, p, ids)
			return nil
		})
		if err != nil && !errors.Is(err, redis.Nil) {
			return wrapf(err, "read whether what was recommended to user %q still stands", rec.UserID)
		}
		now, err := pointed(at)
		if err != nil {
			return err
		}
		if now != c.opt.Generation {
			g.enter(now)
			continue
		}
		if ms, err := before.Int64(); err != nil && !errors.Is(err, redis.Nil) {
			return wrapf(err, "read whether user %q is forgotten", rec.UserID)
		} else if rec.GeneratedAt < event.Time(ms) {
			return event.ErrForgotten
		}
		for _, cmd := range settled {
			if cmd.Err() == nil {
				return event.ErrOutdated
			}
		}
		items, err := reads.items()
		if err != nil {
			return err
		}
		for _, id := range ids {
			if it, ok := items[id]; !ok || !it.IsAvailable() {
				return event.ErrOutdated
			}
		}
		return nil
	}
}

// unread deletes what apps read of the users who bought or hid something in a batch: it may hold that. Stands finds what is
// stored meanwhile.
func (g *Generations) unread(ctx context.Context, batch []event.Interaction) error {
	users := map[string]bool{}
	for _, in := range batch {
		if k, ok := g.first.opt.Policy.Kind(in); ok && k.settled() {
			users[in.UserID] = true
		}
	}
	if len(users) == 0 {
		return nil
	}
	_, err := g.first.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for user := range users {
			p.Del(ctx, event.RecommendationKey(g.first.opt.Prefix, user), event.TopKey(g.first.opt.Prefix, user))
		}
		return nil
	})
	return wrap("delete what apps read of users who bought or hid something", err)
}
