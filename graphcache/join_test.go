package graphcache

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
)

// eachJoinStore runs f on a cache in an empty embedded Redis and, where the environment names one, in a real one.
func eachJoinStore(t *testing.T, f func(t *testing.T, c *Cache, rdb redis.UniversalClient)) {
	embeddedtest.EachRedis(t, func(t *testing.T, opt *redis.UniversalOptions) {
		rdb := redis.NewUniversalClient(opt)
		t.Cleanup(func() { rdb.Close() })
		c, err := New(rdb, Options{})
		if err != nil {
			t.Fatal(err)
		}
		f(t, c, rdb)
	})
}

func TestJoinIsWrittenOnItsVersionOnly(t *testing.T) {
	eachJoinStore(t, func(t *testing.T, c *Cache, rdb redis.UniversalClient) {
		ctx := t.Context()
		load := func(partition int, due event.Time, most int, users ...string) event.JoinState {
			t.Helper()
			s, err := c.LoadJoin(ctx, "interactions", partition, users, due, most)
			if err != nil {
				t.Fatal(err)
			}
			slices.SortFunc(s.Users, func(a, b event.JoinUser) int { return strings.Compare(a.UserID, b.UserID) })
			return s
		}
		commit := func(want bool, version int64, head string, users ...event.JoinUser) {
			t.Helper()
			if ok, err := c.CommitJoin(ctx, "interactions", 3, version, []byte(head), users); err != nil || ok != want {
				t.Fatalf("commit of %q on version %d: %v %v, want %v", head, version, ok, err, want)
			}
		}
		same := func(what string, got, want event.JoinState) {
			t.Helper()
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		same("nothing", load(3, 100, 10, "u"), event.JoinState{})
		user := func(id, state string, due event.Time) event.JoinUser {
			return event.JoinUser{UserID: id, State: []byte(state), Due: due}
		}
		stored := func(id, state string) event.JoinUser { return event.JoinUser{UserID: id, State: []byte(state)} }
		commit(true, 0, "one", user("a", "A", 10), user("b", "B", 20), user("c", "C", 30))
		commit(false, 0, "late", user("a", "X", 10))
		same("those asked for and those due, each once, and those without a part not", load(3, 20, 10, "a", "c", "z"),
			event.JoinState{Version: 1, Head: []byte("one"), Users: []event.JoinUser{stored("a", "A"), stored("c", "C")}})
		same("the earliest due, and that there are more", load(3, 100, 2),
			event.JoinState{Version: 1, Head: []byte("one"), Users: []event.JoinUser{stored("a", "A"), stored("b", "B")}, More: true})
		same("another partition", load(4, 100, 10, "a"), event.JoinState{})
		commit(true, 1, "two", user("a", "", 0), user("b", "BB", 200))
		same("deleted and changed", load(3, 100, 10, "a", "b"),
			event.JoinState{Version: 2, Head: []byte("two"), Users: []event.JoinUser{stored("b", "BB"), stored("c", "C")}})
		keys, err := embeddedtest.Keys(ctx, rdb, "*")
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			if ttl := rdb.TTL(ctx, key).Val(); ttl <= 0 || ttl > joinTTL {
				t.Errorf("%s lives for %v, want at most %v", key, ttl, joinTTL)
			}
		}
	})
}

// A batch under way that holds a user's first pending decision is not written once the user is to be forgotten, also where
// the partition never had a batch; made again, it is told. Others' batches are written.
func TestForgettingStopsAUsersFirstPart(t *testing.T) {
	eachJoinStore(t, func(t *testing.T, c *Cache, rdb redis.UniversalClient) {
		ctx := t.Context()
		users := []string{"gone", "stays", "later"}
		var loaded [3]event.JoinState
		load := func(partition int) (s event.JoinState) {
			t.Helper()
			s, err := c.LoadJoin(ctx, "interactions", partition, users[partition:partition+1], 1, 10)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		commit := func(partition int) bool {
			t.Helper()
			ok, err := c.CommitJoin(ctx, "interactions", partition, loaded[partition].Version, []byte("head"),
				[]event.JoinUser{{UserID: users[partition], State: []byte("S"), Due: 1000}})
			if err != nil {
				t.Fatal(err)
			}
			return ok
		}
		for p := range loaded {
			loaded[p] = load(p)
		}
		if !commit(2) {
			t.Error("a batch that nothing stood against was not written")
		}
		if n := rdb.Exists(ctx, c.joinKeys("interactions", 2).asked).Val(); n != 0 {
			t.Error("who was asked for outlived the batch's commit")
		}
		forget := []event.User{{UserID: "gone", ForgetBefore: 77}}
		if err := c.ApplyUsers(ctx, event.Span{Topic: "users", End: 1}, forget); err != nil {
			t.Fatal(err)
		}
		if commit(0) {
			t.Error("the first part of a user who is to be forgotten was written by a batch that could not know it")
		}
		if n := rdb.Exists(ctx, c.joinKeys("interactions", 0).asked).Val(); n != 0 {
			t.Error("the id of a user who is to be forgotten was kept")
		}
		if !commit(1) {
			t.Error("a batch without the user was not written")
		}
		loaded[0] = load(0)
		if diff := cmp.Diff(map[string]event.Time{"gone": 77}, loaded[0].Forgotten); diff != "" {
			t.Errorf("what the batch is told when it is made again (-want +got):\n%s", diff)
		}
		if !commit(0) {
			t.Error("a batch that was told was not written")
		}
	})
}

// Who is to be forgotten is due at once in every partition that has a part of the user, under a new version; others are
// left alone.
func TestForgettingMarksTheJoin(t *testing.T) {
	eachJoinStore(t, func(t *testing.T, c *Cache, _ redis.UniversalClient) {
		ctx := t.Context()
		for partition, user := range []string{"gone", "stays"} {
			if ok, err := c.CommitJoin(ctx, "interactions", partition, 0, []byte("head"), []event.JoinUser{{UserID: user, State: []byte("S"), Due: 1000}}); err != nil || !ok {
				t.Fatal(ok, err)
			}
		}
		if err := c.ApplyUsers(ctx, event.Span{Topic: "users", End: 1}, []event.User{{UserID: "gone", ForgetBefore: 77}}); err != nil {
			t.Fatal(err)
		}
		for partition, want := range []event.JoinState{
			{Version: 2, Head: []byte("head"), Users: []event.JoinUser{{UserID: "gone", State: []byte("S")}}, Forgotten: map[string]event.Time{"gone": 77}},
			{Version: 1, Head: []byte("head")},
		} {
			got, err := c.LoadJoin(ctx, "interactions", partition, nil, 1, 10)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("partition %d (-want +got):\n%s", partition, diff)
			}
		}
	})
}
