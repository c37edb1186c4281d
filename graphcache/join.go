package graphcache

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/redis/go-redis/v9"
)

// joinTTL is how long the state of a join outlives its last use. All keys of a partition expire together: a joiner that
// was away for longer begins again with what Kafka has.
const joinTTL = 7 * 24 * time.Hour

// joinKeys are the keys of one partition of the join: they share a Cluster slot and change in one transaction.
type joinKeys struct{ head, users, due, asked string }

func (c *Cache) joinKeys(topic string, partition int) joinKeys {
	tag := c.opt.Prefix + "{join:" + watermarkField(topic, partition) + "}:"
	return joinKeysOf(tag)
}

func joinKeysOf(tag string) joinKeys {
	return joinKeys{head: tag + "head", users: tag + "users", due: tag + "due", asked: tag + "asked"}
}

func (k joinKeys) list() []string { return []string{k.head, k.users, k.due, k.asked} }

// loadJoin answers version, head, whether more are due, then pairs of a user and the user's state: ARGV holds the time
// before which users are due, how many of them, the time to live in ms, and the users asked for. Of these, who has no part
// is written down until the next commit, in a partition that has a head from now on: markJoin looks there.
const loadJoin = `
redis.call('HSETNX', KEYS[1], 'version', '0')
local out = {redis.call('HGET', KEYS[1], 'version') or '0', redis.call('HGET', KEYS[1], 'head') or '', '0'}
local most, seen = tonumber(ARGV[2]), {}
local function add(user)
  if seen[user] then return end
  local state = redis.call('HGET', KEYS[2], user)
  if state then seen[user] = true; out[#out+1] = user; out[#out+1] = state end
end
local due = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', '(' .. ARGV[1], 'LIMIT', 0, most + 1)
if #due > most then out[3] = '1' end
for i = 1, math.min(#due, most) do add(due[i]) end
for i = 4, #ARGV do
  add(ARGV[i])
  if not seen[ARGV[i]] then redis.call('SADD', KEYS[4], ARGV[i]) end
end
for i = 1, #KEYS do redis.call('PEXPIRE', KEYS[i], ARGV[3]) end
return out`

// LoadJoin reads the state that consumer.Joiner keeps of a partition: version, head, the parts of the users named and of
// at most most users that are due before due, all as of one moment; then who of them is to be forgotten.
func (c *Cache) LoadJoin(ctx context.Context, topic string, partition int, users []string, due event.Time, most int) (event.JoinState, error) {
	doing := "read the join of " + watermarkField(topic, partition)
	args := make([]any, 0, 3+len(users))
	args = append(args, int64(due), most, joinTTL.Milliseconds())
	for _, u := range users {
		args = append(args, u)
	}
	reply, err := c.rdb.Eval(ctx, loadJoin, c.joinKeys(topic, partition).list(), args...).StringSlice()
	if err != nil {
		return event.JoinState{}, wrap(doing, err)
	}
	if len(reply) < 3 || len(reply)%2 != 1 {
		return event.JoinState{}, &lasting{fmt.Errorf("graphcache: %s: the answer has %d parts", doing, len(reply))}
	}
	state := event.JoinState{More: reply[2] == "1"}
	if state.Version, err = strconv.ParseInt(reply[0], 10, 64); err != nil {
		return event.JoinState{}, &lasting{fmt.Errorf("graphcache: %s: version: %w", doing, err)}
	}
	if reply[1] != "" {
		state.Head = []byte(reply[1])
	}
	asked := make(map[string]bool, len(users)+len(reply)/2)
	for _, u := range users {
		asked[u] = true
	}
	for i := 3; i < len(reply); i += 2 {
		asked[reply[i]] = true
		state.Users = append(state.Users, event.JoinUser{UserID: reply[i], State: []byte(reply[i+1])})
	}
	// After the parts: whoever is forgotten later changes the version that the batch is committed on (see mark).
	state.Forgotten, err = c.forgotten(ctx, asked)
	return state, err
}

// lasting is an error that asking again does not mend.
type lasting struct{ error }

func (e *lasting) Unwrap() error { return e.error }

// Retriable is false.
func (*lasting) Retriable() bool { return false }

// commitJoin writes if the version is still the one in ARGV[1]; ARGV goes on with head, time to live in ms, and triples
// of user, state and due, an empty state deleting.
const commitJoin = `
if (redis.call('HGET', KEYS[1], 'version') or '0') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'head', ARGV[2])
redis.call('HINCRBY', KEYS[1], 'version', 1)
for i = 4, #ARGV, 3 do
  if ARGV[i+1] == '' then
    redis.call('HDEL', KEYS[2], ARGV[i])
    redis.call('ZREM', KEYS[3], ARGV[i])
  else
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i+1])
    redis.call('ZADD', KEYS[3], ARGV[i+2], ARGV[i])
  end
end
redis.call('DEL', KEYS[4])
for i = 1, #KEYS do redis.call('PEXPIRE', KEYS[i], ARGV[3]) end
return 1`

// CommitJoin writes head and the users' parts and raises the version, all or nothing, if the version still is this one;
// false: it is not.
func (c *Cache) CommitJoin(ctx context.Context, topic string, partition int, version int64, head []byte, users []event.JoinUser) (bool, error) {
	args := make([]any, 0, 3+3*len(users))
	args = append(args, version, head, joinTTL.Milliseconds())
	for _, u := range users {
		args = append(args, u.UserID, u.State, int64(u.Due))
	}
	done, err := c.rdb.Eval(ctx, commitJoin, c.joinKeys(topic, partition).list(), args...).Int()
	return done == 1, wrapf(err, "write the join of %s with %d users", watermarkField(topic, partition), len(users))
}

// markJoin makes users due at once who have a part in a partition of the join, and raises its version for them and for who
// may be about to get their first, so that a batch that did not see yet that they are to be forgotten is not written.
const markJoin = `
local marked = 0
for i = 1, #ARGV do
  if redis.call('HEXISTS', KEYS[2], ARGV[i]) == 1 then
    redis.call('ZADD', KEYS[3], 0, ARGV[i])
    marked = 1
  elseif redis.call('SREM', KEYS[4], ARGV[i]) == 1 then
    marked = 1
  end
end
if marked == 1 then redis.call('HINCRBY', KEYS[1], 'version', 1) end
return marked`

// mark has the joiner look at the parts of users who are to be forgotten, after their tombstones were written. Only it
// can tell what of a part is older than forget_before.
func (c *Cache) mark(ctx context.Context, users []event.User) error {
	return c.eachJoin(ctx, func(rdb redis.UniversalClient, keys joinKeys) error {
		for some := range slices.Chunk(users, erasedAtOnce) {
			args := make([]any, len(some))
			for i, u := range some {
				args[i] = u.UserID
			}
			if err := rdb.Eval(ctx, markJoin, keys.list(), args...).Err(); err != nil {
				return wrap("have users forgotten in "+keys.users, err)
			}
		}
		return nil
	})
}

// eachJoin calls f with the keys of every partition of the join that was loaded, and the server they are on.
func (c *Cache) eachJoin(ctx context.Context, f func(rdb redis.UniversalClient, keys joinKeys) error) error {
	return ScanKeys(ctx, c.rdb, EscapeGlob(c.opt.Prefix)+"{join:*}:head", func(rdb redis.UniversalClient, page []string) error {
		for _, key := range page {
			if err := f(rdb, joinKeysOf(strings.TrimSuffix(key, "head"))); err != nil {
				return err
			}
		}
		return nil
	})
}
