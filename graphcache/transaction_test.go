package graphcache

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
)

// noMulti is a server whose user may not call MULTI: what follows it runs by itself.
type noMulti struct{ refusal error }

func (noMulti) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (noMulti) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (m noMulti) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		var others []redis.Cmder
		for _, cmd := range cmds {
			if cmd.Name() == "multi" {
				cmd.SetErr(m.refusal)
				continue
			}
			others = append(others, cmd)
		}
		return next(ctx, others)
	}
}

// Whoever may not call MULTI is told so, and not what comes of it.
func TestARefusedMultiIsTold(t *testing.T) {
	ctx := t.Context()
	rdb := client(t, &redis.UniversalOptions{Addrs: []string{embeddedtest.Redis(t)}})
	c, err := New(rdb, Options{})
	if err != nil {
		t.Fatal(err)
	}
	rdb.AddHook(noMulti{replyError("NOPERM User r2rec has no permissions to run the 'multi' command")})
	err = c.ApplyInteractions(ctx, event.Span{Topic: "interactions", End: 1}, likes("u", "a"))
	var failed *Error
	if !errors.As(err, &failed) || failed.Retriable() || !strings.Contains(err.Error(), "'multi'") {
		t.Errorf("%v, want an Error that is not retriable and names MULTI", err)
	}
}
