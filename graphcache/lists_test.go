package graphcache

import (
	"bytes"
	gocmp "cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
)

// reader is a cache on rdb that reads lists in one way, and what it logs.
func reader(t testing.TB, rdb redis.UniversalClient, lists Lists) (*Cache, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	c, err := New(rdb, Options{Lists: lists, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return c, &log
}

func client(t testing.TB, opt *redis.UniversalOptions) redis.UniversalClient {
	rdb := redis.NewUniversalClient(opt)
	t.Cleanup(func() { rdb.Close() })
	return rdb
}

// readAll reads the newest edges of lists, and says in how many round trips.
func readAll(ctx context.Context, c *Cache, newest int, keys ...string) ([]node, int, error) {
	b := c.batch()
	reads := make([]*listRead, len(keys))
	for i, key := range keys {
		reads[i] = b.list(ctx, key, newest)
	}
	trips, err := b.send(ctx)
	if err != nil {
		return nil, trips, err
	}
	nodes := make([]node, len(keys))
	for i, r := range reads {
		nodes[i] = r.node()
	}
	return nodes, trips, nil
}

func diff(a, b []node) string {
	return cmp.Diff(a, b, cmp.AllowUnexported(node{}), cmp.Transformer("full", func(es []Edge) string { return fmt.Sprintf("%+v", es) }))
}

// TestListsReadAlikeBothWays has lists that are absent, full of ties, longer than the bound, and with ids that the
// server stores as integers, or not compactly.
func TestListsReadAlikeBothWays(t *testing.T) {
	embeddedtest.EachRedis(t, func(t *testing.T, opt *redis.UniversalOptions) {
		rdb, ctx := client(t, opt), t.Context()
		byRange, _ := reader(t, rdb, ListsRange)
		id := rapid.OneOf(rapid.Map(rapid.IntRange(-300, 100_000), func(n int) string { return fmt.Sprint(n) }),
			rapid.StringN(1, 80, -1), rapid.Map(rapid.IntRange(0, 99), func(n int) string { return fmt.Sprint("user-", n) }))
		rapid.Check(t, func(rt *rapid.T) {
			if err := embeddedtest.Flush(ctx, rdb); err != nil {
				rt.Fatal(err)
			}
			keys, lists := []string{"absent"}, [][]Edge{nil}
			for i := range rapid.IntRange(1, 4).Draw(rt, "lists") {
				key := fmt.Sprint("list ", i)
				keys = append(keys, key)
				ids := rapid.SliceOfNDistinct(id, 1, 100, rapid.ID).Draw(rt, "ids")
				for n := range rapid.SampledFrom([]int{0, 0, 100, 400}).Draw(rt, "more") {
					ids = append(ids, fmt.Sprint("more-", n))
				}
				var list []Edge
				for _, m := range ids {
					s := score(rapid.SampledFrom([]event.Time{1, 1.7e12, 1.7e12 + 1, 1 << 49}).Draw(rt, "at"), Kind(rapid.IntRange(0, 7).Draw(rt, "kind")))
					rdb.ZAdd(ctx, key, redis.Z{Member: m, Score: float64(s)})
					list = append(list, edge(m, float64(s)))
				}
				slices.SortFunc(list, func(a, b Edge) int {
					return gocmp.Or(gocmp.Compare(score(b.At, b.Kind), score(a.At, a.Kind)), gocmp.Compare(b.ID, a.ID))
				})
				lists = append(lists, list)
			}
			dumped, _ := reader(t, rdb, ListsDump)
			for _, newest := range []int{0, 1, 32, 1000} {
				want := make([]node, len(lists))
				for i, list := range lists {
					want[i] = node{list, int64(len(list))}
					if newest > 0 {
						want[i].edges = list[:min(newest, len(list))]
					}
				}
				for _, c := range []*Cache{byRange, dumped} {
					got, _, err := readAll(ctx, c, newest, keys...)
					if err != nil {
						rt.Fatal(err)
					}
					if d := diff(want, got); d != "" {
						rt.Fatalf("Lists %q, the newest %d (-want +got):\n%s", c.opt.Lists, newest, d)
					}
				}
			}
		})
	})
}

func TestConfigureFindsOutAboutDump(t *testing.T) {
	embeddedtest.EachRedis(t, func(t *testing.T, opt *redis.UniversalOptions) {
		rdb, ctx := client(t, opt), t.Context()
		dumps := !strings.HasSuffix(t.Name(), "/embedded")
		for lists, want := range map[Lists]bool{ListsAuto: dumps, "": dumps, ListsRange: false, ListsDump: true} {
			c, log := reader(t, rdb, lists)
			if err := c.Configure(ctx); err != nil {
				t.Fatal(err)
			}
			if got := c.dumps.Load(); got != want {
				t.Errorf("Lists %q: dumps is %v, want %v; log: %s", lists, got, want, log)
			}
		}
		if n := rdb.DBSize(ctx).Val(); n != 0 {
			t.Errorf("%d keys are left over", n)
		}
		if _, err := New(rdb, Options{Lists: "other"}); err == nil {
			t.Error("New takes an unknown Lists")
		}
	})
}

func TestConfigureReadsItsProbe(t *testing.T) {
	opt, ctx := embeddedtest.RealRedis(t), t.Context()
	rdb := client(t, opt)
	rdb.ZAdd(ctx, "list", redis.Z{Member: "1079", Score: 9})
	other := rdb.Dump(ctx, "list").Val()
	c, log := reader(t, rdb, ListsAuto)
	rdb.AddHook(damage{c.tag(0) + "probe", func(s *redis.StringCmd) { s.SetVal(other) }})
	if err := c.Configure(ctx); err != nil || c.dumps.Load() {
		t.Errorf("a DUMP of something else: error %v, dumps is %v; log: %s", err, c.dumps.Load(), log)
	}
}

// A Redis that is full when a process starts does not make it read slowly for the rest of its life.
func TestConfigureInAFullRedis(t *testing.T) {
	rdb := client(t, &redis.UniversalOptions{Addrs: []string{embeddedtest.OwnRedis(t, "--maxmemory", "1kb").Addr}})
	c, log := reader(t, rdb, ListsAuto)
	if err := c.Configure(t.Context()); err != nil || !c.dumps.Load() || !strings.Contains(log.String(), "OOM") {
		t.Errorf("a full Redis: error %v, dumps is %v; log: %s", err, c.dumps.Load(), log)
	}
}

// told answers for the server what rdbcompression is, which other tests change meanwhile.
type told string

func (told) DialHook(next redis.DialHook) redis.DialHook { return next }
func (told) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (s told) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if m, ok := cmd.(*redis.MapStringStringCmd); ok && cmd.Args()[2] == "rdbcompression" {
			m.SetVal(map[string]string{"rdbcompression": string(s)})
			return nil
		}
		return next(ctx, cmd)
	}
}

func TestConfigureSaysThatCompressionCosts(t *testing.T) {
	for value, want := range map[told]bool{"yes": true, "no": false} {
		rdb := client(t, embeddedtest.RealRedis(t))
		rdb.AddHook(value)
		c, log := reader(t, rdb, ListsAuto)
		if err := c.Configure(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(log.String(), "rdbcompression"); got != want || !c.dumps.Load() {
			t.Errorf("rdbcompression %s: dumps is %v, log: %s", value, c.dumps.Load(), log)
		}
	}
}

// TestUserWithoutDump is a managed server: its users may neither DUMP nor ask for settings.
func TestUserWithoutDump(t *testing.T) {
	opt := embeddedtest.RealRedis(t)
	admin, ctx := client(t, opt), t.Context()
	limited := *opt
	limited.Username, limited.Password = fmt.Sprintf("test-%d", rand.Uint64()), "test"
	if err := admin.ACLSetUser(ctx, limited.Username, "on", ">test", "~*", "&*", "+@all", "-dump", "-config").Err(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := admin.ACLDelUser(context.WithoutCancel(ctx), limited.Username).Err(); err != nil {
			t.Error(err)
		}
	})
	rdb := client(t, &limited)
	c, log := reader(t, rdb, ListsAuto)
	if err := c.Configure(ctx); err != nil {
		t.Fatal(err)
	}
	if c.dumps.Load() || !strings.Contains(log.String(), "NOPERM") {
		t.Errorf("dumps is %v, log: %s\nwant ranges, and why", c.dumps.Load(), log)
	}
	if n := rdb.DBSize(ctx).Val(); n != 0 {
		t.Errorf("%d keys are left over", n)
	}
	rdb.ZAdd(ctx, "list", redis.Z{Member: "1079", Score: 9})
	fallsBack(t, rdb)
}

// fallsBack reads the key "list", of one edge, by a DUMP that cannot be used.
func fallsBack(t *testing.T, rdb redis.UniversalClient) {
	t.Helper()
	ctx := t.Context()
	c, log := reader(t, rdb, ListsDump)
	want := []node{{}, {edges: []Edge{{ID: "1079", At: 1, Kind: 1}}, degree: 1}}
	for i, trips := range []int{2, 1, 1} {
		got, n, err := readAll(ctx, c, 0, "absent", "list")
		if err != nil {
			t.Fatalf("read %d: %v", i, err)
		}
		if d := diff(want, got); d != "" || n != trips {
			t.Errorf("read %d took %d round trips, want %d, and gives (-want +got):\n%s", i, n, trips, d)
		}
	}
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("it is logged %d times, want once: %s", n, log)
	}
}

// damage changes the answers to DUMP on their way, as another server would give them.
type damage struct {
	key    string
	change func(*redis.StringCmd)
}

func (damage) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (damage) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (d damage) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		for _, cmd := range cmds {
			if s, ok := cmd.(*redis.StringCmd); ok && cmd.Name() == "dump" && cmd.Args()[1] == d.key {
				d.change(s)
			}
		}
		for _, cmd := range cmds {
			if cmd.Err() != nil {
				return cmd.Err()
			}
		}
		return err
	}
}

func TestUselessDumpIsReadByRange(t *testing.T) {
	for name, change := range map[string]func(*redis.StringCmd){
		"flipped bit": func(s *redis.StringCmd) {
			b := []byte(s.Val())
			b[len(b)/2] ^= 4
			s.SetVal(string(b))
		},
		"another type": func(s *redis.StringCmd) { s.SetVal("\x63" + s.Val()[1:]) },
		"empty":        func(s *redis.StringCmd) { s.SetVal("") },
	} {
		t.Run(name, func(t *testing.T) {
			rdb := client(t, embeddedtest.RealRedis(t))
			rdb.ZAdd(t.Context(), "list", redis.Z{Member: "1079", Score: 9})
			rdb.AddHook(damage{"list", change})
			fallsBack(t, rdb)
		})
	}
	t.Run("none", func(t *testing.T) {
		rdb := client(t, &redis.UniversalOptions{Addrs: []string{embeddedtest.Redis(t)}})
		rdb.ZAdd(t.Context(), "list", redis.Z{Member: "1079", Score: 9})
		fallsBack(t, rdb)
	})
}

func TestErrorsThatARangeDoesNotHelp(t *testing.T) {
	embeddedtest.EachRedis(t, func(t *testing.T, opt *redis.UniversalOptions) {
		ctx := t.Context()
		rdb := client(t, opt)
		rdb.Set(ctx, "string", "a foreign writer was here", 0)
		for _, lists := range []Lists{ListsRange, ListsDump} {
			c, log := reader(t, rdb, lists)
			if _, _, err := readAll(ctx, c, 0, "absent", "string"); err == nil || !strings.HasPrefix(err.Error(), "WRONGTYPE") {
				t.Errorf("%s: a key of another type gives %v, want WRONGTYPE", lists, err)
			}
			if c.dumps.Load() != (lists == ListsDump) || log.Len() > 0 {
				t.Errorf("%s: one spoilt key changes how others are read: %s", lists, log)
			}
		}
		rdb.Del(ctx, "string")
		rdb.ZAdd(ctx, "list", redis.Z{Member: "1079", Score: 9})
		busy := client(t, opt)
		const loading = replyError("LOADING Redis is loading the dataset in memory")
		busy.AddHook(damage{"list", func(s *redis.StringCmd) { s.SetErr(loading) }})
		c, _ := reader(t, busy, ListsDump)
		if _, n, err := readAll(ctx, c, 0, "absent", "list"); !errors.Is(err, loading) || n != 1 || !c.dumps.Load() {
			t.Errorf("a server that is loading gives %v after %d round trips, want its answer after one", err, n)
		}
	})
}
