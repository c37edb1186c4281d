package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/factors"
	"github.com/r2rec/r2rec/internal/synth"
)

func redisURL(o *redis.UniversalOptions) string {
	return fmt.Sprintf("redis://%s/%d", strings.Join(o.Addrs, ","), o.DB)
}

// refused runs a command that has to fail, and returns what it says.
func refused(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(t.Context(), args, &out, &errs); code == 0 {
		t.Fatalf("r2rec %s: succeeded, want an error", strings.Join(args, " "))
	}
	return errs.String()
}

func TestBenchRetrieve(t *testing.T) {
	embeddedtest.EachRedis(t, func(t *testing.T, o *redis.UniversalOptions) {
		c := redis.NewUniversalClient(o)
		defer c.Close()
		args := append(strings.Fields("bench retrieve --users 300 --items 200 --edges 3000 --requests 20 --clients 3 --json --redis"), redisURL(o))
		keep := append(args, "--keep")

		figures := bench(t, keep...)
		for _, metric := range strings.Fields("p50_ms p99_ms requests_per_second p50_3_ms p99_3_ms requests_per_second_3 round_trips_max built_edges_per_second") {
			if figures[metric].Value <= 0 {
				t.Errorf("%s is %v", metric, figures[metric].Value)
			}
		}
		if got := figures["candidates_mean"].Value; got < 19 {
			t.Errorf("%v candidates on average, want 20 of nearly everybody", got)
		}
		if got := figures["round_trips_max"].Value; got > 4 {
			t.Errorf("%v round trips, want 4 at most", got)
		}
		if n := c.ZCard(t.Context(), "r2bench:{0}:recent").Val(); n == 0 {
			t.Error("--keep kept no graph")
		}
		if _, built := bench(t, keep...)["built_edges_per_second"]; built {
			t.Error("a graph that was kept is built again")
		}
		if said := refused(t, append(keep, "--seed", "2")...); !strings.Contains(said, "holds another graph, of 300 users") {
			t.Errorf("another graph's keys: %s", said)
		}
		bench(t, args...)
		if n := c.DBSize(t.Context()).Val(); n != 0 {
			t.Errorf("without --keep %d keys are left", n)
		}
		c.Set(t.Context(), "r2bench:rec:{1}", "of an app", 0)
		if said := refused(t, args...); !strings.Contains(said, `"r2bench:rec:{1}"`) || !strings.Contains(said, "--prefix") {
			t.Errorf("somebody else's keys: %s", said)
		}
		if c.Exists(t.Context(), "r2bench:rec:{1}").Val() != 1 {
			t.Error("somebody else's key is gone")
		}
	})
}

func TestBenchMemory(t *testing.T) {
	addr := embeddedtest.OwnRedis(t, "--appendonly", "no").Addr
	args := append(strings.Fields("bench memory --users 2000 --items 300 --edges 30000 --json --redis"), "redis://"+addr)
	figures := bench(t, args...)
	for _, ids := range []string{"", "_short", "_uuid"} {
		if ratio := figures["ratio_to_bare"+ids].Value; ratio < 1 || ratio > 1.15 {
			t.Errorf("ratio_to_bare%s is %v, want 1 to 1.15", ids, ratio)
		}
	}
	// Two entries of a score of 10 bytes each are the least that an edge can take.
	if figures["bytes_per_edge"].Value < 20 || figures["bytes_per_edge_uuid"].Value < figures["bytes_per_edge_short"].Value+24 {
		t.Errorf("%v bytes an edge, %v with ids of 12 bytes, %v with ids of 36", figures["bytes_per_edge"].Value, figures["bytes_per_edge_short"].Value, figures["bytes_per_edge_uuid"].Value)
	}
	c := redis.NewClient(&redis.Options{Addr: addr})
	defer c.Close()
	if n := c.DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("%d keys are left", n)
	}
	c.Set(t.Context(), "other", 1, 0)
	if said := refused(t, args...); !strings.Contains(said, "it holds keys") {
		t.Errorf("a Redis that is not empty: %s", said)
	}
}

// The graph is filled as a consumer fills it, with what plan is told of: its prediction has to hold within a tenth.
func TestPlanPredictsTheSize(t *testing.T) {
	for name, c := range map[string]struct {
		users, items, edges int
		ids                 synth.IDs
		bound               int
		flags               string
	}{
		"numbers":    {5000, 400, 60_000, synth.Numbers, 128, ""},
		"uuids":      {4000, 3000, 30_000, synth.UUIDs, 128, "--user-id-bytes uuid --item-id-bytes uuid"},
		"short":      {1000, 2000, 60_000, synth.Short, 128, "--user-id-bytes 12 --item-id-bytes 12"},
		"long lists": {500, 400, 60_000, synth.Short, 256, "--user-id-bytes 12 --item-id-bytes 12"},
	} {
		t.Run(name, func(t *testing.T) {
			at := &redis.Options{Addr: embeddedtest.OwnRedis(t, "--appendonly", "no", "--zset-max-listpack-entries", fmt.Sprint(2*c.bound)).Addr}
			rdb, onlooker := redis.NewClient(at), redis.NewClient(at)
			defer rdb.Close()
			defer onlooker.Close()
			cache, err := graphcache.New(rdb, graphcache.Options{Bound: c.bound})
			if err != nil {
				t.Fatal(err)
			}
			stream, err := synth.New(synth.Options{Users: c.users, Items: c.items, Edges: c.edges, IDs: c.ids})
			if err != nil {
				t.Fatal(err)
			}
			m := memory{Cache: cache, rdb: rdb, shown: &stages{p: &process{stderr: &bytes.Buffer{}}}}
			if err := m.fill(t.Context(), stream, c.edges); err != nil {
				t.Fatal(err)
			}
			if err := m.stock(t.Context(), stream); err != nil {
				t.Fatal(err)
			}
			edges, err := cache.FactorEdges(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			vectors, err := factors.Fit(t.Context(), edges, factors.Options{Sweeps: 1})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the former ones stay for a while
				if err := cache.PublishFactors(t.Context(), vectors); err != nil {
					t.Fatal(err)
				}
			}
			rdb.Close() // its buffers are not the graph's
			got, err := usedMemory(t.Context(), onlooker)
			if err != nil {
				t.Fatal(err)
			}
			plan := planned(t, fmt.Sprintf("--users %d --items %d --edges %d --recommended 0 --title-bytes 19 --category-bytes 8 --partitions 9 --bound %d %s", c.users, c.items, c.edges, c.bound, c.flags))
			if off := float64(plan.Bytes)/float64(got) - 1; math.Abs(off) > .1 {
				t.Errorf("predicted %d bytes, redis has %d: %+.1f %%", plan.Bytes, got, 100*off)
			} else {
				t.Logf("predicted %d bytes, redis has %d: %+.1f %%", plan.Bytes, got, 100*off)
			}
		})
	}
}

func planned(t *testing.T, flags string) (r planReport) {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(t.Context(), append([]string{"plan", "--json"}, strings.Fields(flags)...), &out, &errs); code != 0 {
		t.Fatalf("r2rec plan %s: exit code %d, %s", flags, code, errs.String())
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestPlanSaysWhatToSet(t *testing.T) {
	one := planned(t, "--users 1000000 --items 100000 --edges 20000000")
	three := planned(t, "--users 1000000 --items 100000 --edges 20000000 --masters 3")
	if one.MaxMemory <= one.Bytes {
		t.Errorf("maxmemory %d leaves no room over %d", one.MaxMemory, one.Bytes)
	}
	if three.Bytes <= one.Bytes || three.MaxMemory >= one.MaxMemory/2 {
		t.Errorf("three masters: %d bytes, each %d; one server %d and %d", three.Bytes, three.MaxMemory, one.Bytes, one.MaxMemory)
	}
	var sum int64
	for _, p := range one.Parts {
		sum += p.Bytes
	}
	if sum != one.Bytes {
		t.Errorf("parts sum up to %d of %d", sum, one.Bytes)
	}
	var out, errs bytes.Buffer
	if run(t.Context(), strings.Fields("plan --users 1000 --items 100 --edges 20000"), &out, &errs); !strings.Contains(out.String(), "maxmemory-policy noeviction") {
		t.Errorf("the table does not say what to set: %s%s", out.String(), errs.String())
	}
	for flags, want := range map[string]string{
		"--users 0 --items 10 --edges 10":                        "Users is 0",
		"--users 10 --items 10 --edges 1000":                     "1000 edges do not fit",
		"--users 10 --items 10 --edges 10 --user-id-bytes 65":    "want number, uuid or 1 to 64",
		"--users 10 --items 10 --edges 10 --bound 0":             "Bound is 0",
		"--users 10 --items 10 --edges 10 --recommended 2":       "--recommended 2",
		"--users 10 --items 10 --edges 10 --purchases=-1":        "Settled is -1",
		"--users 10 --items 10 --edges 10 --item-skew 9":         "exponent",
		"--users 10 --items 10 --edges 10 --item-id-bytes roman": "want number, uuid",
	} {
		if said := refused(t, append([]string{"plan"}, strings.Fields(flags)...)...); !strings.Contains(said, want) {
			t.Errorf("plan %s: %s; want it to say %q", flags, said, want)
		}
	}
}
