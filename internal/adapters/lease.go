package adapters

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
)

// ErrLeased says that somebody else holds the lease.
var ErrLeased = errors.New("somebody else holds the lease")

// ErrLost is the cause that ends Lease.Lost's context where the lease was lost, not released.
var ErrLost = errors.New("the lease was lost")

// Lease keeps others from beginning the same work while it is held. It only saves work: a holder that was paused for
// longer than the lease goes on for a moment without it, beside whoever has it by then, and the log of adapters decides
// between the two.
type Lease struct {
	client redis.UniversalClient
	key    string
	token  string
	ttl    time.Duration
	log    *slog.Logger

	lost context.Context
	lose context.CancelCauseFunc
	done chan struct{} // closed when the renewing has ended
}

// LeaseOptions say which lease.
type LeaseOptions struct {
	Client redis.UniversalClient
	Key    string        // such as "r2:train", private
	TTL    time.Duration // how long it lasts without a renewal; renewed three times as often. At least 10 ms
	Logger *slog.Logger
}

// The lease is changed only by who holds it. One that Redis has lost, flushed or restored, is nobody else's and is set again.
var (
	renewIfMine = redis.NewScript(`
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`)
	releaseIfMine = redis.NewScript(`if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`)
)

// TakeLease takes the lease, or returns an error that is ErrLeased and says how long it will last at least. It is renewed
// until Release, or until ctx ends, which is no release.
func TakeLease(ctx context.Context, o LeaseOptions) (*Lease, error) {
	if o.TTL < 10*time.Millisecond {
		return nil, fmt.Errorf("take the lease %s for %v: want 10ms or more", o.Key, o.TTL)
	}
	l := &Lease{client: o.Client, key: o.Key, token: rand.Text(), ttl: o.TTL, log: o.Logger, done: make(chan struct{})}
	expiry := time.NewTimer(o.TTL) // counted from before the server does
	mine, err := o.Client.SetNX(ctx, o.Key, l.token, o.TTL).Result()
	if err != nil {
		return nil, fmt.Errorf("take the lease %s: %w", o.Key, err)
	}
	if !mine { // unless an attempt did set it, whose answer was lost
		held, err := o.Client.Get(ctx, o.Key).Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return nil, fmt.Errorf("take the lease %s: %w", o.Key, err)
		}
		mine = held == l.token
	}
	if !mine {
		left, err := o.Client.PTTL(ctx, o.Key).Result()
		if err != nil {
			return nil, fmt.Errorf("take the lease %s: %w", o.Key, err)
		}
		return nil, fmt.Errorf("take the lease %s: %w, for %v at least unless it is released", o.Key, ErrLeased, max(0, left))
	}
	l.lost, l.lose = context.WithCancelCause(ctx)
	go l.renew(expiry)
	return l, nil
}

// Lost ends when the lease is not held any more: lost to somebody else or to time (its cause is ErrLost), released, or
// with the context that it was taken in. Work that the lease protects runs in it.
func (l *Lease) Lost() context.Context { return l.lost }

// releaseWithin bounds a release: a lease that is not given back ends by itself.
const releaseWithin = 10 * time.Second

// Release gives the lease back, if it is still held, or gives up after 10 s. It may be called twice.
func (l *Lease) Release(ctx context.Context) error {
	l.lose(context.Canceled)
	<-l.done
	ctx, cancel := context.WithTimeout(ctx, releaseWithin)
	defer cancel()
	if err := releaseIfMine.Run(ctx, l.client, []string{l.key}, l.token).Err(); err != nil {
		return fmt.Errorf("release the lease %s: %w", l.key, err)
	}
	return nil
}

// renew prolongs the lease until it is lost. expiry fires when the server may have ended it.
func (l *Lease) renew(expiry *time.Timer) {
	defer close(l.done)
	defer func() { expiry.Stop() }()
	tick := time.NewTicker(l.ttl / 3)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-l.lost.Done():
			return
		case <-expiry.C:
			l.lose(fmt.Errorf("%w: %s was not renewed for %v", ErrLost, l.key, l.ttl))
			return
		case <-tick.C:
		}
		next := time.NewTimer(l.ttl)
		mine, err := l.prolong()
		switch {
		case err == nil && !mine:
			next.Stop()
			l.lose(fmt.Errorf("%w: %s is held by somebody else", ErrLost, l.key))
			return
		case err == nil:
			expiry.Stop()
			expiry, failing = next, false
		default:
			next.Stop()
			if !failing && l.lost.Err() == nil {
				l.log.Warn("the lease is not renewed", "lease", l.key, "error", err)
			}
			failing = true
		}
	}
}

func (l *Lease) prolong() (mine bool, err error) {
	ctx, cancel := context.WithTimeout(l.lost, l.ttl/3)
	defer cancel()
	n, err := renewIfMine.Run(ctx, l.client, []string{l.key}, l.token, l.ttl.Milliseconds()).Int()
	return n == 1, err
}
