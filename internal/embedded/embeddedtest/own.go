package embeddedtest

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// OwnRedis starts another server of the real Redis' program, for this test alone: what it counts of itself, such as its
// memory, is the test's. It answers on the Unix socket that the options name and keeps nothing on disk; settings stand as
// in a command line ("--maxmemory", "1mb"). It skips the test where there is no real Redis, or fails it where
// R2REC_REQUIRE_REAL=1.
func OwnRedis(t testing.TB, settings ...string) *redis.Options {
	t.Helper()
	real := redis.NewClient(&redis.Options{Addr: realServer(t, EnvRedis)})
	defer real.Close()
	info, err := real.Info(t.Context(), "server").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, program, found := strings.Cut(info, "executable:")
	program, _, _ = strings.Cut(program, "\r\n")
	if !found || program == "" {
		t.Fatalf("the Redis at %s does not say which program it is", real.Options().Addr)
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "redis.sock")
	args := append([]string{"--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "", "--appendonly", "no",
		"--zset-max-listpack-entries", "256", "--rdbcompression", "no"}, settings...)
	ctx, stop := context.WithCancel(context.Background())
	server := exec.CommandContext(ctx, program, args...)
	if err := server.Start(); err != nil {
		stop()
		t.Fatalf("start %s: %v", program, err)
	}
	t.Cleanup(func() {
		stop()
		_ = server.Wait() // killed, so it says that it was
	})
	opt := &redis.Options{Network: "unix", Addr: socket}
	c := redis.NewClient(opt)
	defer c.Close()
	ready, cancel := context.WithTimeout(t.Context(), cleanupLimit)
	defer cancel()
	for {
		if err = c.Ping(ready).Err(); err == nil {
			return opt
		}
		select {
		case <-ready.Done():
			t.Fatalf("%s %s does not answer: %v", program, strings.Join(args, " "), err)
		case <-time.After(waitPause):
		}
	}
}
