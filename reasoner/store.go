package reasoner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/redis/go-redis/v9"
)

// RedisStore keeps, for every user, the document and the ranking that apps read, written in one transaction: nobody
// sees one without the other.
type RedisStore struct {
	Client redis.UniversalClient
	Prefix string        // of the keys, "r2:" as a rule
	TTL    time.Duration // after which a recommendation is gone
	// Stands tells whether items that were recommended to a user at an instant may still be: an error that wraps
	// event.ErrForgotten or event.ErrOutdated says why not. Default: they may.
	Stands func(ctx context.Context, user string, made event.Time, items []string) error
}

// unconfirmed is how long a recommendation lasts of which it is not known yet whether it still stands, and one that a fault
// had a part in.
const unconfirmed = time.Minute

// Made is what is stored of a decision.
type Made struct {
	Recommendation event.Recommendation
	Ranking        map[string]float64 // share by item, of all candidates
	Faulty         bool               // made without something that will be there again: it is kept for a minute
}

// put writes document and ranking unless a newer document is there: ARGV holds the document, its time to live in ms, when it
// was made, what time is believed to be newer at most, then pairs of score and item. It answers whether it wrote.
var put = redis.NewScript(`
local there = redis.call('GET', KEYS[1])
if there then
  local readable, doc = pcall(cjson.decode, there)
  local at = readable and type(doc) == 'table' and doc.generated_at
  if type(at) == 'string' and at > ARGV[3] and at <= ARGV[4] then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('DEL', KEYS[2])
redis.call('ZADD', KEYS[2], unpack(ARGV, 5))
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1`)

// keep gives the document in ARGV[1], if it is still there, and its ranking a time to live in ms; 0 deletes them.
var keep = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1`)

// newerBy is by how much a stored document may be younger than one that is to take its place, to be left there instead: lists
// are not made for longer, and the clock that it goes by is wrong.
const newerBy = time.Minute

// Put replaces what apps read of the user, unless that was made later. Where the recommendation does not stand any more, it
// leaves nothing and returns why: whoever forgets a user, or joins what the user bought or hid, writes that down before
// deleting what apps read, so either that deletes what is written here, or it is found here. What Put leaves if it is cut
// off in the middle is gone a minute later.
func (s RedisStore) Put(ctx context.Context, m Made) error {
	rec := m.Recommendation
	doc, err := event.Encode(rec)
	if err != nil {
		return fmt.Errorf("encode the recommendation of %q: %w", rec.UserID, err)
	}
	last := s.TTL
	if m.Faulty {
		last = min(last, unconfirmed)
	}
	first := last
	if s.Stands != nil {
		first = min(first, unconfirmed)
	}
	keys := []string{event.RecommendationKey(s.Prefix, rec.UserID), event.TopKey(s.Prefix, rec.UserID)}
	args := []any{doc, first.Milliseconds(), rec.GeneratedAt.String(), event.At(rec.GeneratedAt.Std().Add(newerBy)).String()}
	for item, score := range m.Ranking {
		args = append(args, score, item)
	}
	wrote, err := put.Run(ctx, s.Client, keys, args...).Bool()
	switch {
	case err == nil && !wrote:
		err = event.ErrOutdated
	case err == nil && s.Stands != nil:
		err = s.confirm(ctx, m, keys, doc, last)
	}
	if err != nil {
		return fmt.Errorf("store the recommendation of %q: %w", rec.UserID, err)
	}
	return nil
}

// confirm makes what was written last, or deletes it.
func (s RedisStore) confirm(ctx context.Context, m Made, keys []string, doc []byte, last time.Duration) error {
	fallen := s.Stands(ctx, m.Recommendation.UserID, m.Recommendation.GeneratedAt, slices.Collect(maps.Keys(m.Ranking)))
	switch {
	case fallen == nil:
	case hasFallen(fallen):
		last = 0
	default:
		return fallen
	}
	return cmp.Or(keep.Run(ctx, s.Client, keys, doc, last.Milliseconds()).Err(), fallen)
}

// hasFallen tells whether an error says that a recommendation does not stand any more.
func hasFallen(err error) bool {
	return errors.Is(err, event.ErrForgotten) || errors.Is(err, event.ErrOutdated)
}

// Get returns what apps read of the user; ok is false where there is nothing (any more), nothing that still stands, nothing that
// this version can read, or fewer than k items although more were ranked.
func (s RedisStore) Get(ctx context.Context, user string, k int) (rec event.Recommendation, ok bool, err error) {
	var stored *redis.StringCmd
	var ranked *redis.IntCmd
	_, err = s.Client.Pipelined(ctx, func(p redis.Pipeliner) error {
		stored, ranked = p.Get(ctx, event.RecommendationKey(s.Prefix, user)), p.ZCard(ctx, event.TopKey(s.Prefix, user))
		return nil
	})
	doc, _ := stored.Bytes()
	if errors.Is(err, redis.Nil) {
		return rec, false, nil
	}
	if err == nil {
		if rec, err = event.DecodeRecommendation(doc); err != nil {
			return event.Recommendation{}, false, nil // the next one takes its place
		}
		if len(rec.Items) < k && int64(len(rec.Items)) < ranked.Val() { // made for somebody who asked for fewer
			return event.Recommendation{}, false, nil
		}
		if s.Stands != nil {
			items := make([]string, len(rec.Items))
			for i, it := range rec.Items {
				items[i] = it.ItemID
			}
			err = s.Stands(ctx, user, rec.GeneratedAt, items)
		}
	}
	switch {
	case hasFallen(err):
		return event.Recommendation{}, false, nil
	case err != nil:
		return rec, false, fmt.Errorf("read the recommendation of %q: %w", user, err)
	}
	return rec, true, nil
}
