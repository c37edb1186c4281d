//go:build unix

package graphcache

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/redis/go-redis/v9"
)

func TestWhatKeepsRedisFromTakingEvents(t *testing.T) {
	server := embeddedtest.OwnRedis(t)
	rdb, ctx := client(t, server.Options()), t.Context()
	var log bytes.Buffer
	c, err := New(rdb, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	set := func(args ...string) {
		t.Helper()
		for i := 0; i < len(args); i += 2 {
			if err := rdb.ConfigSet(ctx, args[i], args[i+1]).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	takes := func(want string) {
		t.Helper()
		if err := c.Writable(ctx); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	takes("")
	set("maxmemory", "1")
	takes("Redis is full, and events wait in Kafka until it has more memory (maxmemory): it uses ")
	if err := c.Configure(ctx); err != nil {
		t.Errorf("a full Redis can be used to read: %v", err)
	}
	set("maxmemory", "100mb")
	takes("")
	rdb.SlaveOf(ctx, "127.0.0.1", "1")
	takes("read-only replica: connect to its master, unless it is about to become one (127.0.0.1:1)")
	rdb.SlaveOf(ctx, "no", "one")

	set("maxmemory-policy", "allkeys-lru")
	if err := c.Configure(ctx); err == nil || !strings.Contains(err.Error(), "CONFIG SET maxmemory-policy noeviction") {
		t.Errorf("a Redis that drops lists is taken: %v", err)
	}
	set("maxmemory", "0")
	if err := c.Configure(ctx); err != nil {
		t.Errorf("without a limit nothing is dropped: %v", err)
	}
	if strings.Contains(log.String(), "before their time") {
		t.Errorf("it warns for nothing: %s", log.String())
	}
	set("maxmemory", "100mb", "maxmemory-policy", "volatile-lru")
	if err := c.Configure(ctx); err != nil || !strings.Contains(log.String(), "before their time") {
		t.Errorf("%v, and the log says %s", err, log.String())
	}
	server.Stop()
	if err := c.Writable(ctx); err == nil || !strings.Contains(err.Error(), "Redis cannot be reached") {
		t.Errorf("stopped: %v", err)
	}
}

// A server that does not tell is not taken for one that refuses.
func TestWritableWhereNothingIsTold(t *testing.T) {
	embeddedtest.EachRedis(t, func(t *testing.T, opt *redis.UniversalOptions) {
		c, err := New(client(t, opt), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Writable(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
