//go:build unix

package embeddedtest

import (
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestOwnRedisComesBackWithItsFilesOrOlderOnes(t *testing.T) {
	s, ctx := OwnRedis(t), t.Context()
	c := redis.NewUniversalClient(s.Options())
	defer c.Close()
	value := func(want string) {
		t.Helper()
		if got := c.Get(ctx, "key").Val(); got != want {
			t.Errorf("the key is %q, want %q", got, want)
		}
	}
	c.Set(ctx, "key", "old", 0)
	s.Stop()
	backup := s.Backup()
	s.Start()
	value("old")
	c.Set(ctx, "key", "new", 0)
	s.Kill()
	s.Start()
	value("new")
	s.Stop()
	s.Restore(backup)
	s.Start()
	value("old")
}

func TestOwnClusterIsWhole(t *testing.T) {
	own, ctx := OwnCluster(t), t.Context()
	c := redis.NewUniversalClient(own.Options())
	defer c.Close()
	for _, key := range []string{"a", "b", "c", "d", "e", "f"} {
		if err := c.Set(ctx, key, 1, 0).Err(); err != nil {
			t.Error(err)
		}
	}
	if keys, err := Keys(ctx, c, "*"); len(keys) != 6 || err != nil {
		t.Errorf("the keys are %q, %v", keys, err)
	}
}
