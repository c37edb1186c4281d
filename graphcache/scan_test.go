package graphcache

import (
	"context"
	"errors"
	"slices"
	"strings"
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

// moving changes what a Cluster's node says of its slots, from the nth time on.
type moving struct {
	from, asked int
	says        string
}

func (*moving) DialHook(next redis.DialHook) redis.DialHook { return next }
func (m *moving) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if nodes, ok := cmd.(*redis.StringCmd); ok && cmd.FullName() == "cluster nodes" {
			if m.asked++; m.asked >= m.from {
				nodes.SetVal(strings.Replace(nodes.Val(), "connected 0-16383", "connected "+m.says, 1))
			}
		}
		return err
	}
}
func (*moving) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// A Cluster that moves slots while its keys are scanned may hide some: then a forget is not done, and says that it may be
// tried again; so it is when a slot is on its way before or after.
func TestForgettingWhileAClusterMovesSlots(t *testing.T) {
	for name, tc := range map[string]struct {
		moving
		done bool
	}{
		"as they were":            {moving{from: 1, says: "0-16383"}, true},
		"in parts":                {moving{from: 1, says: "0-99 100 101-16383"}, true},
		"on their way":            {moving{from: 1, says: "0-16383 [93->-292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f]"}, false},
		"coming in at the end":    {moving{from: 2, says: "0-16383 [93-<-292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f]"}, false},
		"changed meanwhile":       {moving{from: 2, says: "0-99 100-16383"}, false},
		"with one nobody knows":   {moving{from: 1, says: "0-16000"}, false},
		"with one that came then": {moving{from: 2, says: "0-16000"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{embeddedtest.Redis(t)}})
			defer cluster.Close()
			cluster.OnNewNode(func(node *redis.Client) { node.AddHook(&tc.moving) })
			c, err := New(cluster, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := c.ApplyInteractions(t.Context(), event.Span{Topic: "interactions", End: 1}, likes("gone", "x")); err != nil {
				t.Fatal(err)
			}
			err = c.ApplyUsers(t.Context(), event.Span{Topic: "users", End: 1}, []event.User{{UserID: "gone", ForgetBefore: 20_001 * day}})
			var own interface{ Retriable() bool }
			if tc.done && err != nil || !tc.done && (!errors.Is(err, errMoved) || !errors.As(err, &own) || !own.Retriable()) {
				t.Errorf("error %v, want that it is done: %v", err, tc.done)
			}
		})
	}
}
