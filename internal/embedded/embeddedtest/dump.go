package embeddedtest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Dump reads every key of a Redis, of all masters of a Cluster, with its value as text. It is for asking whether
// something is nowhere.
func Dump(t testing.TB, rdb redis.UniversalClient) map[string]string {
	t.Helper()
	var mu sync.Mutex
	all := map[string]string{}
	node := func(ctx context.Context, rdb *redis.Client) error {
		keys, err := rdb.Keys(ctx, "*").Result()
		if err != nil {
			return err
		}
		for _, key := range keys {
			value, err := valueOf(ctx, rdb, key)
			if err != nil {
				return fmt.Errorf("read %q: %w", key, err)
			}
			mu.Lock()
			all[key] = value
			mu.Unlock()
		}
		return nil
	}
	var err error
	switch rdb := rdb.(type) {
	case *redis.ClusterClient:
		err = rdb.ForEachMaster(t.Context(), node)
	case *redis.Client:
		err = node(t.Context(), rdb)
	default:
		err = fmt.Errorf("a %T is not known", rdb)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func valueOf(ctx context.Context, rdb *redis.Client, key string) (string, error) {
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
