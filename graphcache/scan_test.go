package graphcache

import (
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
)

// A scan of one kind of keys gives that kind only, whatever ids look like: a pattern's star also stands for braces and
// colons.
func TestScanNodesGivesTheKindsAskedFor(t *testing.T) {
	embeddedtest.EachRedis(t, func(t *testing.T, opt *redis.UniversalOptions) {
		ctx := t.Context()
		rdb := redis.NewUniversalClient(opt)
		defer rdb.Close()
		c, err := New(rdb, Options{})
		if err != nil {
			t.Fatal(err)
		}
		users, items := []string{"a}:i:b", "plain", "}:x:", "{1}:i:c"}, []string{"c}:u:d", "simple", "}:x:y", "[i]"}
		var batch []event.Interaction
		for i := range users {
			batch = append(batch, event.Interaction{UserID: users[i], ItemID: items[i], Type: event.Purchase, Timestamp: 1})
		}
		if err := c.ApplyInteractions(ctx, event.Span{Topic: "t", End: 4}, batch); err != nil {
			t.Fatal(err)
		}
		for kinds, want := range map[string][]string{userKind: users, itemKind: items, settledKind: users, userKind + settledKind: append(slices.Clone(users), users...)} {
			var got []string
			err := c.scanNodes(ctx, kinds, nil, func(_ redis.UniversalClient, page []nodeKey) error {
				for _, n := range page {
					got = append(got, n.id)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			want = slices.Sorted(slices.Values(want))
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("kinds %q: ids %q, want %q", kinds, got, want)
			}
		}
	})
}
