package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/redis/go-redis/v9"
)

// One URL is enough: the server says whether it is one or a node of many. The embedded one stands for a server of its own,
// and for every proxy that cannot tell.
func TestRedisClientFitsTheServer(t *testing.T) {
	embeddedtest.EachRedis(t, func(t *testing.T, r *redis.UniversalOptions) {
		cluster := strings.HasSuffix(t.Name(), "/cluster")
		for _, url := range []string{"redis://%s", fmt.Sprintf("redis://%%s/%d?read_timeout=7s", r.DB), "redis://%s?protocol=2"} {
			rdb, err := redisFlags{Redis: fmt.Sprintf(url, r.Addrs[0]), Prefix: "r2:"}.client(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer rdb.Close()
			if _, ok := rdb.(*redis.ClusterClient); ok != cluster {
				t.Errorf("%s: the client is a %T", url, rdb)
			}
			if err := rdb.Set(t.Context(), "{a}:key", url, 0).Err(); err != nil {
				t.Errorf("%s: %v", url, err)
			}
			if got := addressOf(rdb); got != r.Addrs[0] {
				t.Errorf("%s: the address is %q", url, got)
			}
		}
		for url, prefix := range map[string]string{"redis://%s/3": "r2:", "redis://%s": "{mine}:"} {
			rdb, err := redisFlags{Redis: fmt.Sprintf(url, r.Addrs[0]), Prefix: prefix}.client(t.Context())
			switch {
			case err == nil:
				rdb.Close()
				if cluster {
					t.Errorf("%s with prefix %s: no error", url, prefix)
				}
			case !cluster:
				t.Errorf("%s with prefix %s: %v", url, prefix, err)
			case !strings.Contains(err.Error(), "--redis: ") && !strings.Contains(err.Error(), "--prefix"):
				t.Errorf("%s with prefix %s: the error names no flag: %v", url, prefix, err)
			}
		}
	})
}

// What the URL says of users, TLS and times holds for every node; more addresses need no answer of any.
func TestRedisClientOfManyAddresses(t *testing.T) {
	rdb, err := redisFlags{Redis: "rediss://me:hush%2F@127.0.0.1:1?addr=127.0.0.1:2&addr=other:3&read_timeout=7s", Prefix: "r2:"}.client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	opt := rdb.(*redis.ClusterClient).Options()
	if !slices.Equal(opt.Addrs, []string{"127.0.0.1:1", "127.0.0.1:2", "other:3"}) || opt.Username != "me" || opt.Password != "hush/" ||
		opt.TLSConfig == nil || opt.ReadTimeout.Seconds() != 7 || !opt.ContextTimeoutEnabled || opt.ClientName != clientName {
		t.Errorf("the options are %+v", opt)
	}
	for _, url := range []string{"redis://me:hu/sh@127.0.0.1:1?addr=127.0.0.1:2", "redis://me:hush@127.0.0.1:1?addr=127.0.0.1:2&db=1", "http://me:hush@127.0.0.1?addr=a:1", "redis://me:hush@127.0.0.1:1?speed=9"} {
		if _, err := (redisFlags{Redis: url}).client(t.Context()); err == nil || !strings.Contains(err.Error(), "--redis: ") || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v, want an error that names the flag and not the password", url, err)
		}
	}
}

func TestRedisClientEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (redisFlags{Redis: "redis://" + embeddedtest.Redis(t)}).client(ctx); err == nil {
		t.Error("asked after the end: no error")
	}
}

// TestTheGraphKeepsToItsFlags: what a process was told of bounds and ratings is what its graph does.
func TestTheGraphKeepsToItsFlags(t *testing.T) {
	rf := redisFlags{Redis: "redis://" + embeddedtest.Redis(t), Prefix: "r2:", HalfLife: graphcache.DefaultRead.HalfLife, Positive: 4, Negative: 2, Bound: 2, NoSeen: true}
	rdb, err := rf.client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	g, err := rf.graph(rdb, &process{log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Configure(t.Context()); err != nil {
		t.Fatal(err)
	}
	var log []event.Interaction
	for i, value := range []float64{5, 4, 3, 2} {
		log = append(log, event.Interaction{UserID: "u", ItemID: fmt.Sprint(value), Type: event.Rating, Value: &value, Timestamp: event.Time(1_700_000_000_000 + i)})
	}
	if err := g.ApplyInteractions(t.Context(), event.Span{Topic: "interactions", End: int64(len(log))}, log); err != nil {
		t.Fatal(err)
	}
	current, err := g.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	around, err := current.AroundUser(t.Context(), "u", 9)
	if err != nil {
		t.Fatal(err)
	}
	if len(around.Shown) != 2 || around.Shown[0].ID != "2" || around.Shown[1].ID != "4" {
		t.Errorf("the user keeps %+v, want what was rated 2 and 4: two edges, none of a rating between", around.Shown)
	}
	rf.Bound = -1
	if _, err := rf.graph(rdb, &process{}); err == nil || !strings.Contains(err.Error(), "--bound -1") {
		t.Errorf("a bound below 0 gives %v, want an error that names it", err)
	}
}

// A URL that says something else than it seems to is refused, and nothing of a password is told.
func TestRedisURLThatMisleads(t *testing.T) {
	for url, want := range map[string]string{
		"redis:6379":                           "it names no host: want redis://",
		"redis:///0":                           "it names no host: want redis://",
		"redis://:2024/secret@127.0.0.1:6379":  "not a URL (a password needs its special characters percent-encoded)",
		"redis://me:20?secret@127.0.0.1:6379":  "not a URL (a password needs its special characters percent-encoded)",
		"redis://me:se#cret@127.0.0.1:6379/12": "not a URL (a password needs its special characters percent-encoded)",
	} {
		_, err := redisFlags{Redis: url, Prefix: "r2:"}.client(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "cret") {
			t.Errorf("%s: %v, want %s", url, err, want)
		}
	}
}

// The rights that the README names are enough on one server for consume, recommend, forget, rebuild, graph and factors: it notes no
// refusal. Neither serve, train nor a Cluster is tried.
func TestRedisUserWithTheRightsOfTheReadme(t *testing.T) {
	server := embeddedtest.OwnRedis(t)
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rule, _ := strings.Cut(string(readme), "`ACL SETUSER ")
	rule, _, _ = strings.Cut(rule, "`")
	args := []any{"ACL", "SETUSER"}
	for _, part := range strings.Fields(strings.Replace(rule, "PASSWORD", "secret", 1)) {
		args = append(args, part)
	}
	p := newPlace(t, broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}}, server.Options())
	if err := p.rdb.Do(t.Context(), args...).Err(); err != nil {
		t.Fatalf("ACL SETUSER %s: %v", rule, err)
	}
	as := func(args ...string) []string {
		return append(append(args, "--redis", "redis://r2rec:secret@"+server.Addr+"/0", "--log-level", "warn"), p.kafkaArgs()...)
	}
	p.start(as("consume")...)
	p.do(append([]string{"import", writeSlice(t, 5)}, p.kafkaArgs()...)...)
	p.eventually("the graph has no edges", func() (bool, string) {
		s := p.stats()
		return s.UserEdges > 100 && s.Catalogue > 100, fmt.Sprintf("%+v", s)
	})
	p.do(as("recommend", "1", "--no-model")...)
	p.do(as("forget", "2")...)
	p.do(as("rebuild", "--grace", "0s")...)
	redisOnly := []string{"--redis", "redis://r2rec:secret@" + server.Addr + "/0"}
	p.do(append([]string{"graph"}, redisOnly...)...)
	p.do(append([]string{"factors"}, redisOnly...)...)
	refused, err := p.rdb.Do(t.Context(), "ACL", "LOG").Slice()
	if err != nil || len(refused) != 0 {
		t.Errorf("refused by the rules of the README: %v, %v", refused, err)
	}
}
