package graphcache

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// beginGeneration gives the next number to who builds with the token in ARGV[1], and answers it; the same, asked again.
const beginGeneration = `
local n, all = tonumber(redis.call('HGET', KEYS[1], 'last') or '0'), redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if all[i+1] == 'building ' .. ARGV[1] then return tonumber(all[i]) end
  n = math.max(n, tonumber(all[i]) or 0)
end
n = math.max(n, tonumber(redis.call('HGET', KEYS[1], 'current') or '0')) + 1
redis.call('HSET', KEYS[1], 'last', n, tostring(n), 'building ' .. ARGV[1])
return n`

// Begin makes a new generation, empty, for who builds it to fill and to Switch to. The token names the builder; another one's
// does not switch. Whoever else is building is not asked: hold a lease.
func (g *Generations) Begin(ctx context.Context, token string) (*Cache, error) {
	n, err := g.first.rdb.Eval(ctx, beginGeneration, []string{g.first.pointerKey()}, token).Int()
	if err != nil {
		return nil, wrap("begin a generation of the graph", err)
	}
	c := g.first.generation(n)
	_, _, err = c.writeBounds(ctx)
	return c, err
}

// switchGeneration makes generation ARGV[1] current if it is in the state ARGV[2]; the one before is ARGV[3] from then on. It
// answers the number of the one before, the same when it is asked again, or -1.
const switchGeneration = `
local at = redis.call('HGET', KEYS[1], 'current') or '0'
if at == ARGV[1] then return tonumber(redis.call('HGET', KEYS[1], 'before') or '-1') end
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return -1 end
redis.call('HSET', KEYS[1], 'current', ARGV[1], 'before', at, at, ARGV[3])
redis.call('HDEL', KEYS[1], ARGV[1])
return tonumber(at)`

// NotYoursError says that a generation is not, or not any more, in the state that was assumed. Nothing was changed.
type NotYoursError struct{ Number int }

func (e *NotYoursError) Error() string {
	return fmt.Sprintf("graphcache: generation %d cannot be switched to: another rebuild took over, or redis was flushed or restored meanwhile. Nothing was switched; rebuild again", e.Number)
}

// Retriable is false.
func (*NotYoursError) Retriable() bool { return false }

// Switch makes the generation that the token builds current, from one moment to the next, and returns the number of the
// one before, which is Kept or Old from now on. *NotYoursError: it did not, and nothing has changed. Asked again, it
// answers as before.
func (g *Generations) Switch(ctx context.Context, n int, token string, keep bool) (before int, err error) {
	to := Old
	if keep {
		to = Kept
	}
	return g.change(ctx, n, Building+" "+token, to)
}

// Back makes a generation current that was kept. Consumers bring it up to date by themselves: they go back to where its
// watermarks stand. The one before is kept.
func (g *Generations) Back(ctx context.Context, n int) (before int, err error) {
	return g.change(ctx, n, Kept, Kept)
}

func (g *Generations) change(ctx context.Context, n int, from, to string) (before int, err error) {
	before, err = g.first.rdb.Eval(ctx, switchGeneration, []string{g.first.pointerKey()}, n, from, to).Int()
	switch {
	case err != nil:
		return 0, wrapf(err, "switch to generation %d", n)
	case before < 0:
		return 0, &NotYoursError{n}
	}
	g.enter(n)
	return before, nil
}

// dropGeneration has a generation deleted, unless it is current.
const dropGeneration = `
if (redis.call('HGET', KEYS[1], 'current') or '0') == ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], 'old')
return 1`

// Drop deletes all keys of a generation that is not current, and returns how many it found. It begins with the watermarks: what
// is left of a generation is never taken for a whole one. Between pages of 1000 keys it pauses, so that others get their
// turn. It may be done again, after whatever ended it.
func (g *Generations) Drop(ctx context.Context, n int, pause time.Duration) (deleted int64, err error) {
	doing := fmt.Sprintf("delete generation %d", n)
	ok, err := g.first.rdb.Eval(ctx, dropGeneration, []string{g.first.pointerKey()}, n).Int()
	if err != nil {
		return 0, wrap(doing, err)
	}
	if ok == 0 {
		return 0, &lasting{fmt.Errorf("graphcache: %s: it is the current one", doing)}
	}
	c := g.first.generation(n)
	cmds, err := c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range groups {
			p.Unlink(ctx, c.watermarkKey(i))
		}
		return nil
	})
	if err != nil {
		return 0, wrap(doing, err)
	}
	for _, cmd := range cmds {
		deleted += cmd.(*redis.IntCmd).Val()
	}
	for { // until nobody's late write is left
		found, err := c.dropOnce(ctx, pause)
		deleted += found
		if err != nil {
			return deleted, err
		}
		if found == 0 {
			break
		}
	}
	for _, key := range []string{c.boundsKey(), c.pointerKey()} {
		if err := c.rdb.HDel(ctx, key, strconv.Itoa(n)).Err(); err != nil {
			return deleted, wrap(doing, err)
		}
	}
	return deleted, nil
}

// dropOnce deletes what one scan finds.
func (c *Cache) dropOnce(ctx context.Context, pause time.Duration) (deleted int64, err error) {
	err = ScanKeys(ctx, c.rdb, EscapeGlob(c.graph)+"{*}:*", func(_ redis.UniversalClient, page []string) error {
		var keys [groups][]string
		for _, key := range page {
			if i, ok := groupOf(key[len(c.graph):]); ok {
				keys[i] = append(keys[i], key)
			}
		}
		cmds, err := c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, some := range keys {
				if len(some) > 0 {
					p.Unlink(ctx, some...)
				}
			}
			return nil
		})
		if err != nil {
			return wrap("delete keys of a generation", err)
		}
		for _, cmd := range cmds {
			deleted += cmd.(*redis.IntCmd).Val()
		}
		return wait(ctx, pause)
	})
	return deleted, err
}

func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// groupOf is the group that a key belongs to, of which rest is what follows the prefix; false: it is no key of a group.
func groupOf(rest string) (int, bool) {
	tag, _, ok := strings.Cut(rest, "}:")
	if !ok || !strings.HasPrefix(tag, "{") {
		return 0, false
	}
	n, err := strconv.Atoi(tag[1:])
	return n, err == nil && n >= 0 && n < groups && tag[1:] == strconv.Itoa(n)
}

// Leftovers returns the numbers of generations that have keys and are neither current nor kept: those that a rebuild left
// which was killed. It scans all keys. Whoever builds now is among them: hold a lease.
func (g *Generations) Leftovers(ctx context.Context) ([]int, error) {
	all, err := g.List(ctx)
	if err != nil {
		return nil, err
	}
	stay, left := map[int]bool{all[0].Number: true}, map[int]bool{}
	for _, one := range all[1:] {
		if one.State == Kept {
			stay[one.Number] = true
		} else {
			left[one.Number] = true
		}
	}
	prefix := g.first.opt.Prefix
	err = ScanKeys(ctx, g.first.rdb, EscapeGlob(prefix)+"*{*}:*", func(_ redis.UniversalClient, page []string) error {
		for _, key := range page {
			n, rest := 0, key[len(prefix):]
			if number, after, ok := strings.Cut(rest, ":"); ok && !strings.HasPrefix(rest, "{") {
				if n, err = strconv.Atoi(number); err != nil || n < 1 || number != strconv.Itoa(n) {
					continue
				}
				rest = after
			}
			if _, ok := groupOf(rest); ok && !stay[n] {
				left[n] = true
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(left)), nil
}

// Room is how much memory the servers use, and how much they may use.
type Room struct {
	Used int64 `json:"used_bytes"`
	Max  int64 `json:"max_bytes"` // 0: no limit is set, or the servers do not tell
}

// Room asks all masters for their memory.
func (g *Generations) Room(ctx context.Context) (r Room, err error) {
	var mu sync.Mutex
	err = g.first.masters(ctx, func(ctx context.Context, rdb redis.UniversalClient) error {
		info, err := rdb.Info(ctx, "memory").Result()
		switch {
		case refused(err):
			return nil
		case err != nil:
			return wrap("ask redis for its memory", err)
		}
		told := fields(info)
		field := func(name string) int64 {
			n, _ := strconv.ParseInt(told[name], 10, 64) // a server that does not tell: 0
			return n
		}
		mu.Lock()
		defer mu.Unlock()
		r.Used += field("used_memory")
		r.Max += field("maxmemory")
		return nil
	})
	return r, err
}
