package reasoner

import (
	"context"
	"errors"
	"fmt"
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
	// Forgotten tells before when a user is forgotten; 0: the user is not. Default: nobody is.
	Forgotten func(ctx context.Context, user string) (event.Time, error)
}

// ErrForgotten says that a recommendation was made from what is forgotten by now.
var ErrForgotten = errors.New("the user was forgotten while the recommendation was made")

// unconfirmed is how long a recommendation lasts of which it is not known yet whether its user was forgotten meanwhile.
const unconfirmed = time.Minute

// Put replaces what apps read of the user. Where the user was forgotten since the recommendation was begun, it leaves
// nothing and returns ErrForgotten: whoever forgets writes that down before deleting what apps read, so either that
// deletes what is written here, or it is found here. What Put leaves if it is cut off in the middle is gone a minute later.
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
	if s.Forgotten != nil {
		first = min(first, unconfirmed)
	}
	_, err = s.Client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, recKey, doc, first)
		p.Del(ctx, topKey)
		p.ZAdd(ctx, topKey, top...)
		p.Expire(ctx, topKey, first)
		return nil
	})
	if err == nil && s.Forgotten != nil {
		err = s.confirm(ctx, rec, recKey, topKey)
	}
	if err != nil {
		return fmt.Errorf("store the recommendation of %q: %w", rec.UserID, err)
	}
	return nil
}

// confirm makes what was written last, or deletes it.
func (s RedisStore) confirm(ctx context.Context, rec event.Recommendation, recKey, topKey string) error {
	before, err := s.Forgotten(ctx, rec.UserID)
	if err != nil {
		return err
	}
	forgotten := rec.GeneratedAt < before
	_, err = s.Client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		if forgotten {
			p.Del(ctx, recKey, topKey)
		} else {
			p.Expire(ctx, recKey, s.TTL)
			p.Expire(ctx, topKey, s.TTL)
		}
		return nil
	})
	if err == nil && forgotten {
		return ErrForgotten
	}
	return err
}

// Get returns what apps read of the user; ok is false where there is nothing (any more).
func (s RedisStore) Get(ctx context.Context, user string) (rec event.Recommendation, ok bool, err error) {
	doc, err := s.Client.Get(ctx, event.RecommendationKey(s.Prefix, user)).Bytes()
	if errors.Is(err, redis.Nil) {
		return rec, false, nil
	}
	if err == nil {
		rec, err = event.DecodeRecommendation(doc)
	}
	if err != nil {
		return rec, false, fmt.Errorf("read the recommendation of %q: %w", user, err)
	}
	return rec, true, nil
}
