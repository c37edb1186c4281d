package graphcache

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
)

// mortal is a hook that lets nothing through any more once the process is dead.
type mortal struct {
	dies func(redis.Cmder) bool // the first command of a pipeline that the process does not live to send
	dead bool
}

var errDead = errors.New("the process is dead")

func (m *mortal) DialHook(next redis.DialHook) redis.DialHook { return next }

func (m *mortal) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if m.dead {
			cmd.SetErr(errDead)
			return errDead
		}
		return next(ctx, cmd)
	}
}

func (m *mortal) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		m.dead = m.dead || m.dies(cmds[0])
		if !m.dead {
			return next(ctx, cmds)
		}
		for _, cmd := range cmds {
			cmd.SetErr(errDead)
		}
		return errDead
	}
}

// A user is forgotten between any two transactions of a batch that names them, and the process that wrote the batch is
// killed before it asks once more who is forgotten. Whoever goes on from the watermark leaves nothing of the user.
func TestForgetDuringABatchOfAProcessThatDies(t *testing.T) {
	embeddedtest.EachRedis(t, func(t *testing.T, opt *redis.UniversalOptions) {
		ctx := t.Context()
		alive := redis.NewUniversalClient(opt)
		defer alive.Close()
		c, err := New(alive, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := advance.Load(ctx, c.rdb).Err(); err != nil { // else the first batch travels twice
			t.Fatal(err)
		}
		for n := range groups {
			user, at := fmt.Sprint("u", n), int64(n)
			rdb := redis.NewUniversalClient(opt)
			calls := 0
			rdb.AddHook(&mortal{dies: func(first redis.Cmder) bool { return calls == groups && first.Name() == "hget" }}) // asks once more
			doomed, err := New(rdb, c.opt)
			if err != nil {
				t.Fatal(err)
			}
			doomed.between = func() {
				if calls == n {
					err := c.ApplyUsers(ctx, event.Span{Topic: "users", Start: at, End: at + 1}, []event.User{{UserID: user, ForgetBefore: 20_001 * day}})
					if err != nil {
						t.Error(err)
					}
				}
				calls++
			}
			span := event.Span{Topic: "interactions", Start: at, End: at + 1}
			if err := doomed.ApplyInteractions(ctx, span, likes(user, "a", "b", "c")); !errors.Is(err, errDead) {
				t.Fatalf("killed with its work done: %v, want %v", err, errDead)
			}
			rdb.Close()

			lowest, _, err := c.Watermark(ctx, "interactions", 0)
			if err != nil {
				t.Fatal(err)
			}
			if lowest < span.End { // else nobody would read the batch again
				if err := c.ApplyInteractions(ctx, span, likes(user, "a", "b", "c")); err != nil {
					t.Fatal(err)
				}
			}
			for _, key := range []string{c.itemKey("a"), c.itemKey("b"), c.itemKey("c")} {
				if c.rdb.ZScore(ctx, key, user).Err() == nil {
					t.Fatalf("forgotten before transaction %d, the user still stands in %s", n, key)
				}
			}
			if c.rdb.Exists(ctx, c.userKey(user)).Val() != 0 {
				t.Fatalf("forgotten before transaction %d, the user still has edges", n)
			}
		}
	})
}
