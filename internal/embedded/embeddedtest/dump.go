package embeddedtest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Dump reads every key of a Redis, or of a whole Cluster, with its value as text. It is for asking whether something is
// nowhere.
func Dump(t testing.TB, rdb redis.UniversalClient) map[string]string {
	t.Helper()
	keys, err := Keys(t.Context(), rdb, "*")
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string, len(keys))
	for _, key := range keys {
		if all[key], err = valueOf(t.Context(), rdb, key); err != nil {
			t.Fatalf("read %q: %v", key, err)
		}
	}
	return all
}

func valueOf(ctx context.Context, rdb redis.UniversalClient, key string) (string, error) {
	kind, err := rdb.Type(ctx, key).Result()
	if err != nil {
		return "", err
	}
	var v any
	switch kind {
	case "none": // gone since
	case "string":
		v, err = rdb.Get(ctx, key).Result()
	case "zset":
		v, err = rdb.ZRangeWithScores(ctx, key, 0, -1).Result()
	case "hash":
		v, err = rdb.HGetAll(ctx, key).Result()
	default:
		err = fmt.Errorf("it is a %s, which this does not read", kind)
	}
	return fmt.Sprint(v), err
}

// Nowhere fails the test where a key or value of a Redis contains the text.
func Nowhere(t testing.TB, rdb redis.UniversalClient, text, when string) {
	t.Helper()
	for key, value := range Dump(t, rdb) {
		if strings.Contains(key, text) || strings.Contains(value, text) {
			t.Errorf("%s %q stands in %s: %.300s", when, text, key, value)
		}
	}
}
