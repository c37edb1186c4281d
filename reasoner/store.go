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

// unconfirmed is how long a recommendation lasts of which it is not known yet whether it still stands.
const unconfirmed = time.Minute

// Put replaces what apps read of the user. Where the recommendation does not stand any more, it leaves nothing and returns why:
// whoever forgets a user, or joins what the user bought or hid, writes that down before deleting what apps read, so either
// that deletes what is written here, or it is found here. What Put leaves if it is cut off in the middle is gone a minute later.
func (s RedisStore) Put(ctx context.Context, rec event.Recommendation, scores map[string]float64) error {
	doc, err := event.Encode(rec)
	if err != nil {
		return fmt.Errorf("encode the recommendation of %q: %w", rec.UserID, err)
	}
	top := make([]redis.Z, 0, len(scores))
	for item, score := range scores {
		top = append(top, redis.Z{Score: score, Member: item})
	}
	recKey, topKey := event.RecommendationKey(s.Prefix, rec.UserID), event.TopKey(s.Prefix, rec.UserID)
	first := s.TTL
	if s.Stands != nil {
		first = min(first, unconfirmed)
	}
	_, err = s.Client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, recKey, doc, first)
		p.Del(ctx, topKey)
		p.ZAdd(ctx, topKey, top...)
		p.Expire(ctx, topKey, first)
		return nil
	})
	if err == nil && s.Stands != nil {
		err = s.confirm(ctx, rec, slices.Collect(maps.Keys(scores)), recKey, topKey)
	}
	if err != nil {
		return fmt.Errorf("store the recommendation of %q: %w", rec.UserID, err)
	}
	return nil
}

// confirm makes what was written last, or deletes it.
func (s RedisStore) confirm(ctx context.Context, rec event.Recommendation, ranked []string, recKey, topKey string) error {
	fallen := s.Stands(ctx, rec.UserID, rec.GeneratedAt, ranked)
	if fallen != nil && !hasFallen(fallen) {
		return fallen
	}
	_, err := s.Client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		if fallen != nil {
			p.Del(ctx, recKey, topKey)
		} else {
			p.Expire(ctx, recKey, s.TTL)
			p.Expire(ctx, topKey, s.TTL)
		}
		return nil
	})
	return cmp.Or(err, fallen)
}

// hasFallen tells whether an error says that a recommendation does not stand any more.
func hasFallen(err error) bool {
	return errors.Is(err, event.ErrForgotten) || errors.Is(err, event.ErrOutdated)
}

// Get returns what apps read of the user; ok is false where there is nothing (any more), nothing that still stands, or nothing that
// this version can read.
func (s RedisStore) Get(ctx context.Context, user string) (rec event.Recommendation, ok bool, err error) {
	doc, err := s.Client.Get(ctx, event.RecommendationKey(s.Prefix, user)).Bytes()
	if errors.Is(err, redis.Nil) {
		return rec, false, nil
	}
	if err == nil {
		if rec, err = event.DecodeRecommendation(doc); err != nil {
			return event.Recommendation{}, false, nil // the next one takes its place
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
