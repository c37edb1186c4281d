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
}

// Put replaces what apps read of the user.
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
	_, err = s.Client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, recKey, doc, s.TTL)
		p.Del(ctx, topKey)
		p.ZAdd(ctx, topKey, top...)
		p.Expire(ctx, topKey, s.TTL)
		return nil
	})
	if err != nil {
		return fmt.Errorf("store the recommendation of %q: %w", rec.UserID, err)
	}
	return nil
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
