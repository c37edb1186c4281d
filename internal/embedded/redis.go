package embedded

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// tick is how often the clock of Redis moves. A key lives its TTL, shorter or longer by at most one tick. Every move
// looks at every key, so it is not made finer than people notice.
const tick = 200 * time.Millisecond

// Redis is a running server.
type Redis struct {
	Addr string // host:port

	server *miniredis.Miniredis
	once   sync.Once
	stop   chan struct{}
	done   chan struct{}
}

// StartRedis runs a server until Close. Its keys expire by o.Now, which is looked at five times a second; a clock that
// goes back expires nothing. ctx bounds the start only.
func StartRedis(ctx context.Context, o Options) (*Redis, error) {
	now := o.Now
	if now == nil {
		now = time.Now
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start the embedded Redis: %w", err)
	}
	server := miniredis.NewMiniRedis()
	if err := server.StartAddr(fmt.Sprintf("127.0.0.1:%d", o.RedisPort)); err != nil {
		return nil, fmt.Errorf("start the embedded Redis on 127.0.0.1:%d: %w", o.RedisPort, err)
	}
	r := &Redis{Addr: server.Addr(), server: server, stop: make(chan struct{}), done: make(chan struct{})}
	last := now()
	server.SetTime(last)
	go r.moveClock(now, last)
	return r, nil
}

// moveClock tells the server the time until Close: it does not look at a clock by itself.
func (r *Redis) moveClock(now func() time.Time, last time.Time) {
	defer close(r.done)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-ticker.C:
			t := now()
			r.server.SetTime(t)
			if t.After(last) {
				r.server.FastForward(t.Sub(last))
			}
			last = t
		}
	}
}

// Close stops the server, ends every connection and drops the data.
func (r *Redis) Close() {
	r.once.Do(func() { close(r.stop) })
	<-r.done
	r.server.Close()
}
