package graphcache

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/internal/event"
)

// Traces is what Redis holds of one user. Of a user who is forgotten, only what is older than Before counts as a trace;
// Before itself stands under a keyed hash of the id.
type Traces struct {
	Edges     int64      `json:"edges"`                  // in the user's own list
	Settled   int64      `json:"settled"`                // in the register of purchases and hides
	Lists     int64      `json:"lists"`                  // of items that name the user
	Later     int64      `json:"later"`                  // of all three, what is not older than Before, and stays
	Documents int64      `json:"documents"`              // of the two that apps read, recommendation and ranking
	Joins     int64      `json:"joins"`                  // partitions of the join that name the user: something waits for its reward, or was asked for
	Newest    event.Time `json:"newest,omitzero"`        // time of the newest edge of all that were found; 0: there is none
	Before    event.Time `json:"forget_before,omitzero"` // everything older is forgotten; 0: nothing is
}

// None tells whether there is nothing, of what is not later.
func (t Traces) None() bool {
	return t.Edges == 0 && t.Settled == 0 && t.Lists == 0 && t.Documents == 0 && t.Joins == 0
}

// Traces looks for a user everywhere. It reads one score of every item's list: about a second for a million items.
func (c *Cache) Traces(ctx context.Context, user string) (Traces, error) {
	t, err := c.tracesInGraph(ctx, user)
	if err != nil {
		return Traces{}, err
	}
	return t, c.tracesOutside(ctx, user, &t)
}

// tracesInGraph looks through this generation of the graph.
func (c *Cache) tracesInGraph(ctx context.Context, user string) (t Traces, err error) {
	saw := func(z float64, traces *int64) {
		at := edge("", z).At
		if t.Newest = max(t.Newest, at); t.Before > 0 && at >= t.Before {
			traces = &t.Later
		}
		*traces++
	}
	var own, settled *redis.ZSliceCmd
	var before *redis.StringCmd
	_, err = c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		own, settled = p.ZRangeWithScores(ctx, c.userKey(user), 0, -1), p.ZRangeWithScores(ctx, c.settledKey(user), 0, -1)
		before = p.HGet(ctx, c.forgetKey(group(user)), c.tombstone(user))
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return t, wrapf(err, "look for user %q", user)
	}
	if s := before.Val(); s != "" {
		ms, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return t, wrapf(err, "read %s", c.forgetKey(group(user)))
		}
		t.Before = event.Time(ms)
	}
	for _, z := range own.Val() {
		saw(z.Score, &t.Edges)
	}
	for _, z := range settled.Val() {
		saw(z.Score, &t.Settled)
	}
	found := map[string]bool{} // a scan can meet a key twice
	err = c.scanNodes(ctx, itemKind, nil, func(_ redis.UniversalClient, page []nodeKey) error {
		cmds := make([]*redis.FloatCmd, len(page))
		_, err := c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, n := range page {
				cmds[i] = p.ZScore(ctx, n.key, user)
			}
			return nil
		})
		if err != nil && !errors.Is(err, redis.Nil) {
			return wrapf(err, "look for user %q in items' lists", user)
		}
		for i, cmd := range cmds {
			switch err := cmd.Err(); {
			case err == nil && !found[page[i].key]:
				found[page[i].key] = true
				saw(cmd.Val(), &t.Lists)
			case err == nil:
			case !errors.Is(err, redis.Nil):
				return wrapf(err, "look for user %q in %s", user, page[i].key)
			}
		}
		return nil
	})
	return t, err
}

// tracesOutside looks at what is kept beside the graph.
func (c *Cache) tracesOutside(ctx context.Context, user string, t *Traces) error {
	n, err := c.rdb.Exists(ctx, event.RecommendationKey(c.opt.Prefix, user), event.TopKey(c.opt.Prefix, user)).Result()
	if err != nil {
		return wrapf(err, "look for what apps read of user %q", user)
	}
	t.Documents = n
	return c.eachJoin(ctx, func(rdb redis.UniversalClient, keys joinKeys) error {
		cmds, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			p.HExists(ctx, keys.users, user)
			p.SIsMember(ctx, keys.asked, user)
			return nil
		})
		if slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return cmd.(*redis.BoolCmd).Val() }) {
			t.Joins++
		}
		return wrapf(err, "look for user %q in %s and %s", user, keys.users, keys.asked)
	})
}
