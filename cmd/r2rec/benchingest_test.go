package main

import (
	"bufio"
	"bytes"
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/graphtest"
	"github.com/redis/go-redis/v9"
)

// ingestFlags are flags that make bench ingest quick; the broker is embedded.
func ingestFlags(addr string, more ...string) []string {
	return append(strings.Fields("bench ingest --kafka= --redis redis://"+addr+" --events 3000 --users 300 --items 100 --views 0.1 --partitions 2 --runs 1 --seconds 2 --rate 400 --json"), more...)
}

// It measures, by comparing three graphs that have to be equal, and leaves no key behind.
func TestBenchIngest(t *testing.T) {
	const always = "acknowledged_p50_ms cpu_us_per_event events_per_second limit_events_per_second ratio_to_limit ratio_to_replay"
	check := func(t *testing.T, addr, want string) {
		rdb := redis.NewClient(&redis.Options{Addr: addr})
		defer rdb.Close()
		if err := rdb.Set(t.Context(), "bystander", 1, 0).Err(); err != nil {
			t.Fatal(err)
		}
		figures := bench(t, ingestFlags(addr, "--prefix", "bench-test:")...)
		if got := metrics(figures); got != want {
			t.Errorf("metrics %s, want %s", got, want)
		}
		for ratio, to := range map[string]string{"ratio_to_limit": "limit_events_per_second", "ratio_to_replay": "replay_events_per_second"} {
			if got, want := figures[ratio].Value, figures["events_per_second"].Value/figures[to].Value; math.Abs(got/want-1) > 1e-9 {
				t.Errorf("%s of one run is %v, want %v", ratio, got, want)
			}
		}
		if f := figures["visible_p50_ms"]; f.Samples != 400 || f.Value > figures["visible_p99_ms"].Value {
			t.Errorf("%+v: want the 400 samples of the second second, at most the p99", f)
		}
		if keys := rdb.Keys(t.Context(), "bench-test:*").Val(); len(keys) > 0 || rdb.Exists(t.Context(), "bystander").Val() != 1 {
			t.Errorf("keys are left: %q, or a bystander is gone", keys)
		}
	}
	t.Run("embedded", func(t *testing.T) {
		check(t, embeddedtest.Redis(t), always+" replay_events_per_second visible_p50_ms visible_p99_ms")
	})
	t.Run("real", func(t *testing.T) {
		check(t, embeddedtest.OwnRedis(t).Options().Addrs[0], strings.Replace(always, " ratio_to_limit", " limit_redis_cpu_us_per_event ratio_to_limit", 1)+
			" redis_cpu_us_per_event replay_events_per_second replay_redis_cpu_us_per_event visible_p50_ms visible_p99_ms")
	})
}

// What the limit and the replay send gives, sent down a bare connection, the graph of the oracle; and the replay is what
// the consumer's client sent.
func TestIngestStreamsGiveTheSameGraph(t *testing.T) {
	check := func(t *testing.T, opt *redis.Options) {
		ctx := t.Context()
		rdb := redis.NewClient(opt)
		defer rdb.Close()
		s := &ingestStore{rdb: rdb, prefix: "streams:"}
		events := ingestEvents(4000, 50, 20, .1, 3)

		generations, err := s.graph(ctx, rdb)
		if err != nil {
			t.Fatal(err)
		}
		graph, err := generations.Current(ctx)
		if err != nil {
			t.Fatal(err)
		}
		oracle := graphtest.Default
		oracle.Prefix, oracle.Bound = s.prefix, graph.Bound() // fewer where the server does not tell its settings
		want := oracle.Entries(events)
		alone := oneByOne(graph, events)
		through, recorded, err := s.recording(ctx)
		if err != nil {
			t.Fatal(err)
		}
		same := func(what string, fill func() error) {
			t.Helper()
			if err := fill(); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			got, err := graph.Export(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(graphtest.Of(got), want) {
				t.Errorf("%s: a graph of %d edges is not the oracle's of %d", what, len(got), len(want))
			}
			if err := s.wipe(ctx); err != nil {
				t.Fatal(err)
			}
		}
		same("batches", func() error {
			for start := int64(0); start < int64(len(events)); start += 1000 {
				span := event.Span{Topic: "t", Start: start, End: start + 1000}
				if err := through.ApplyInteractions(ctx, span, events[start:span.End]); err != nil {
					return err
				}
			}
			return nil
		})
		same("one by one", func() error { return s.send(ctx, alone) })
		replay, err := recorded()
		if err != nil {
			t.Fatal(err)
		}
		if replay.commands >= alone.commands || replay.commands < 4*64 {
			t.Errorf("%d commands were recorded of four batches, %d go one by one", replay.commands, alone.commands)
		}
		same("replay", func() error {
			if err := s.send(ctx, replay); err != nil {
				return err
			}
			if low, _, err := graph.Watermark(ctx, "t", 0); low != int64(len(events)) || err != nil {
				t.Errorf("after the replay the watermark is %d, %v", low, err)
			}
			return nil
		})
	}
	t.Run("embedded", func(t *testing.T) { check(t, &redis.Options{Addr: embeddedtest.Redis(t)}) })
	t.Run("real", func(t *testing.T) { check(t, embeddedtest.OwnRedis(t).Options().Simple()) })
}

func TestIngestEventsAreWhatWasAskedFor(t *testing.T) {
	events := ingestEvents(20_000, 1000, 200, .25, 1)
	if !slices.EqualFunc(events, ingestEvents(20_000, 1000, 200, .25, 1), func(a, b event.Interaction) bool {
		return a.EventID == b.EventID && a.UserID == b.UserID && a.Timestamp == b.Timestamp
	}) {
		t.Error("one seed gives two streams")
	}
	views, first, edges := 0, 0, 0
	for _, in := range events {
		if err := in.Validate(); err != nil {
			t.Fatal(err)
		}
		if in.Type == event.View {
			views++
		}
		if _, ok := graphcache.DefaultPolicy.Kind(in); ok {
			edges++
		}
		if in.ItemID == "i0" {
			first++
		}
	}
	if share := float64(views) / 20_000; math.Abs(share-.25) > .02 || edges != 20_000-views {
		t.Errorf("%v are views, want a quarter, and %d make edges: want all others", share, edges)
	}
	if first < 3*20_000/200 {
		t.Errorf("the first item has %d of 20,000 interactions: want several times its even share", first)
	}
}

func TestSkipReply(t *testing.T) {
	for reply, want := range map[string]string{
		":1\r\n": "", "+QUEUED\r\n": "", "$-1\r\n": "", "$5\r\na\r\n-b\r\n": "", "*-1\r\n": "", "*3\r\n:1\r\n$1\r\na\r\n*1\r\n:2\r\n": "",
		"-OOM full\r\n": "OOM full", "*2\r\n:1\r\n-WRONGTYPE no\r\n": "WRONGTYPE no", "?\r\n": "no reply", "*2\r\n:1\r\n": "EOF",
	} {
		r := bufio.NewReader(strings.NewReader(reply + ":7\r\n"))
		if want == "EOF" {
			r = bufio.NewReader(strings.NewReader(reply))
		}
		err := skipReply(r)
		if want == "" {
			if next, _ := r.ReadString('\n'); err != nil || next != ":7\r\n" {
				t.Errorf("%q: %v, and %q is next", reply, err, next)
			}
		} else if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error with %q", reply, err, want)
		}
	}
}

func TestBenchIngestRefuses(t *testing.T) {
	addr := embeddedtest.Redis(t)
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	defer rdb.Close()
	if err := rdb.Set(t.Context(), "taken:by someone", 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	for flags, want := range map[string]struct {
		code int
		said string
	}{
		"--prefix taken:":             {1, "--prefix taken:: there is a key \"taken:by someone\""},
		"--prefix=":                   {2, "--prefix \"\""},
		"--prefix ta*":                {2, "--prefix \"ta*\""},
		"--views 1":                   {2, "--views 1"},
		"--events 0":                  {2, "--events 0: want 1 or more"},
		"--redis redis://127.0.0.1:1": {1, "127.0.0.1:1"},
		"--kafka 127.0.0.1:1":         {1, "127.0.0.1:1"},
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), ingestFlags(addr, strings.Fields(flags)...), &out, &errs); code != want.code || !strings.Contains(errs.String(), want.said) || out.Len() > 0 {
			t.Errorf("%s: exit code %d, %q, %q; want %d and %q", flags, code, out.String(), errs.String(), want.code, want.said)
		}
	}
	if n := rdb.DBSize(t.Context()).Val(); n != 1 {
		t.Errorf("%d keys, want the one that was there", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs bytes.Buffer
	if code := run(ctx, ingestFlags(addr), &out, &errs); code != exitStopped || out.Len() > 0 || errs.Len() > 0 {
		t.Errorf("cancelled: exit code %d, %q, %q; want nothing at all", code, out.String(), errs.String())
	}
}
