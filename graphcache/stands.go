package graphcache

import (
	"context"
	"errors"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/redis/go-redis/v9"
)

// Stands tells whether items that were recommended to a user at an instant may still be, in one round trip: the error is
// event.ErrForgotten where that was made from what is forgotten by now, and event.ErrOutdated where the user has bought or
// hidden one of the items, or one is not to be had any more. Other errors are of Redis.
func (g *Generations) Stands(ctx context.Context, user string, made event.Time, ids []string) error {
	var before *redis.StringCmd
	var settled []*redis.FloatCmd
	var reads itemReads
	if err := g.read(ctx, func(c *Cache, p redis.Pipeliner) {
		before, settled = p.HGet(ctx, c.forgetKey(group(user)), c.tombstone(user)), nil
		for _, id := range ids {
			settled = append(settled, p.ZScore(ctx, c.settledKey(user), id))
		}
		reads = c.queueItems(ctx, p, ids)
	}); err != nil {
		return wrapf(err, "read whether what was recommended to user %q still stands", user)
	}
	if at, err := instant(before); err != nil {
		return wrapf(err, "read whether user %q is forgotten", user)
	} else if made < at {
		return event.ErrForgotten
	}
	for _, cmd := range settled {
		switch err := cmd.Err(); {
		case err == nil:
			return event.ErrOutdated
		case !errors.Is(err, redis.Nil): // of a Cluster's node: the others have answered
			return wrapf(err, "read what user %q has bought or hidden", user)
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

// ForgetBefore tells before when a user is forgotten, in one round trip; 0: the user is not.
func (g *Generations) ForgetBefore(ctx context.Context, user string) (event.Time, error) {
	var before *redis.StringCmd
	err := g.read(ctx, func(c *Cache, p redis.Pipeliner) { before = p.HGet(ctx, c.forgetKey(group(user)), c.tombstone(user)) })
	if err != nil {
		return 0, wrapf(err, "read whether user %q is forgotten", user)
	}
	at, err := instant(before)
	return at, wrapf(err, "read whether user %q is forgotten", user)
}

// instant is what a field holds; 0 where there is none.
func instant(field *redis.StringCmd) (event.Time, error) {
	ms, err := field.Int64()
	if errors.Is(err, redis.Nil) {
		return 0, nil
	}
	return event.Time(ms), err
}

// read reads in one round trip what queue asks of the generation that is current then; where another has become so, it is
// asked again.
func (g *Generations) read(ctx context.Context, queue func(*Cache, redis.Pipeliner)) error {
	for {
		c := g.current.Load()
		var at *redis.StringCmd
		_, err := c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			at = p.HGet(ctx, c.pointerKey(), "current")
			queue(c, p)
			return nil
		})
		if err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		now, err := pointed(at)
		if err != nil || now == c.opt.Generation {
			return err
		}
		g.enter(now)
	}
}

// settledBy are the users who bought or hid something in a batch.
func (g *Generations) settledBy(batch []event.Interaction) map[string]bool {
	users := map[string]bool{}
	for _, in := range batch {
		if k, ok := g.first.opt.Policy.Kind(in); ok && k.settled() {
			users[in.UserID] = true
		}
	}
	return users
}

// unread deletes what apps read of users, and asks in the same round trip which generation is current. A list that is being
// made meanwhile is looked at by who stores it, see Stands.
func (g *Generations) unread(ctx context.Context, users map[string]bool) (*Cache, error) {
	var at *redis.StringCmd
	_, err := g.first.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for user := range users {
			p.Del(ctx, event.RecommendationKey(g.first.opt.Prefix, user), event.TopKey(g.first.opt.Prefix, user))
		}
		at = p.HGet(ctx, g.first.pointerKey(), "current") // the last: where nothing else failed, the error is its own
		return nil
	})
	if err != nil && err != at.Err() {
		return nil, wrap("delete what apps read of users who bought or hid something", err)
	}
	n, err := pointed(at)
	if err != nil {
		return nil, err
	}
	return g.enter(n), nil
}
