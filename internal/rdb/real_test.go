package rdb

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
)

var record = flag.Bool("record", false, "dump the sets of testdata anew from the real server")

// real is a client of the real server, for a test that changes rdbcompression and sends payloads: the server checks
// those, which it does not do otherwise and would crash by a wrong one. Both settings are put back at the end.
func real(t testing.TB) redis.UniversalClient {
	t.Helper()
	c, ctx := redis.NewUniversalClient(embeddedtest.RealRedis(t)), t.Context()
	t.Cleanup(func() { c.Close() })
	for _, name := range []string{"rdbcompression", "sanitize-dump-payload"} {
		before, err := c.ConfigGet(ctx, name).Result()
		must(t, err)
		t.Cleanup(func() { must(t, c.ConfigSet(context.WithoutCancel(ctx), name, before[name]).Err()) })
	}
	must(t, c.ConfigSet(ctx, "sanitize-dump-payload", "yes").Err())
	return c
}

// ranged is what the server itself says is in a set, lowest score first. The scores come as text, so that none is
// rounded on its way.
func ranged(t rapid.TB, c redis.UniversalClient, key string) []Entry {
	zs, err := c.ZRangeWithScores(context.Background(), key, 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	var entries []Entry
	for _, z := range zs {
		entries = append(entries, Entry{z.Member.(string), z.Score})
	}
	return entries
}

// sorted is entries in the order of a sorted set.
func sorted(entries []Entry) []Entry {
	entries = slices.Clone(entries)
	slices.SortFunc(entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Score, b.Score), strings.Compare(a.Member, b.Member))
	})
	return entries
}

func decode(t rapid.TB, payload string) []Entry {
	t.Helper()
	entries, err := new(Decoder).SortedSet(nil, payload)
	if err != nil {
		t.Fatalf("%v: %.200q", err, payload)
	}
	return entries
}

func must(t rapid.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var (
	// members cover every width of integer, what only looks like one, and every length of string.
	members = rapid.OneOf(
		rapid.Map(rapid.Int64(), func(n int64) string { return fmt.Sprint(n) }),
		rapid.Map(rapid.Int64Range(-5000, 5000), func(n int64) string { return fmt.Sprint(n) }),
		rapid.SampledFrom([]string{"", "0", "-0", "007", "+1", "1.0", "-1", " 1", "127", "128", "4095", "4096", "-4096", "-4097", "32767",
			"-32768", "32768", "8388607", "-8388608", "8388608", "2147483647", "-2147483648", "2147483648", "9223372036854775807",
			"-9223372036854775808", "9223372036854775808", "inf", "nan"}),
		rapid.StringN(0, 40, -1),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 100), func(b []byte) string { return string(b) }),
		rapid.Map(rapid.IntRange(60, 300), func(n int) string { return strings.Repeat("ü", n/2) + fmt.Sprint(n) }),
	)
	scores = rapid.OneOf(
		rapid.Map(rapid.Int64Range(0, 1<<53), func(n int64) float64 { return float64(n) }),
		rapid.Map(rapid.Int64Range(-5000, 5000), func(n int64) float64 { return float64(n) }),
		rapid.SampledFrom([]float64{0, math.Inf(1), math.Inf(-1), 1 << 60, -1 << 63, 1e300, math.SmallestNonzeroFloat64}),
		rapid.Float64(),
	)
)

// drawSet draws a set that the server keeps compact, or one that it does not.
func drawSet(t *rapid.T) []Entry {
	names := rapid.SliceOfNDistinct(members, 1, 100, rapid.ID).Draw(t, "members")
	for i := range rapid.SampledFrom([]int{0, 0, 100, 300}).Draw(t, "more") {
		names = append(names, fmt.Sprint("more-", i))
	}
	entries := make([]Entry, len(names))
	for i, m := range names {
		entries[i] = Entry{m, scores.Draw(t, "score")}
	}
	return entries
}

// TestDumpTellsWhatZRangeTells compares both ways of reading the same set.
func TestDumpTellsWhatZRangeTells(t *testing.T) {
	c, ctx := real(t), t.Context()
	rapid.Check(t, func(rt *rapid.T) {
		entries := drawSet(rt)
		zs := make([]redis.Z, len(entries))
		for i, e := range entries {
			zs[i] = redis.Z{Member: e.Member, Score: e.Score}
		}
		must(rt, c.ConfigSet(ctx, "rdbcompression", rapid.SampledFrom([]string{"yes", "no"}).Draw(rt, "rdbcompression")).Err())
		must(rt, c.Del(ctx, "set").Err())
		must(rt, c.ZAdd(ctx, "set", zs...).Err())
		payload, err := c.Dump(ctx, "set").Result()
		must(rt, err)
		if got, want := sorted(decode(rt, payload)), sorted(ranged(rt, c, "set")); !slices.Equal(got, want) {
			rt.Fatalf("DUMP tells %s\nZRANGE tells %s", show(got), show(want))
		}
	})
}

// TestServerTakesWhatIsDecoded lets the server judge payloads of all types, older ones too, that the tests encode.
func TestServerTakesWhatIsDecoded(t *testing.T) {
	c, ctx := real(t), t.Context()
	long := rapid.Map(rapid.IntRange(300, 20_000), func(n int) string { return strings.Repeat("long ", n/5) + fmt.Sprint(n) })
	rapid.Check(t, func(rt *rapid.T) {
		entries := drawSet(rt)
		if rapid.Bool().Draw(rt, "with a long one") {
			entries = append(entries, Entry{long.Draw(rt, "long"), 1})
		}
		entries = sorted(entries)
		for name, encode := range encodings {
			payload := encode(entries)
			if err := c.RestoreReplace(ctx, "set", 0, payload).Err(); err != nil {
				rt.Fatalf("RESTORE of %s: %v", name, err)
			}
			want := ranged(rt, c, "set")
			if got := decode(rt, payload); !slices.Equal(got, want) {
				rt.Fatalf("%s is decoded as %s\nthe server reads %s", name, show(got), show(want))
			}
			again, err := c.Dump(ctx, "set").Result()
			must(rt, err)
			if got := sorted(decode(rt, again)); !slices.Equal(got, sorted(want)) {
				rt.Fatalf("%s, dumped by the server, is decoded as %s\nwant %s", name, show(got), show(want))
			}
		}
	})
}

// recorded are sets whose dumps stand in testdata, with whether the server compressed them.
var recorded = map[string]struct {
	compressed string
	entries    func() []Entry
}{
	"films":      {"no", func() []Entry { return numbered(1000, 16, "%d") }},
	"users":      {"no", func() []Entry { return numbered(7, 12, "user-%d") }},
	"compressed": {"yes", func() []Entry { return numbered(7, 60, "user-%d") }},
	"skiplist":   {"no", func() []Entry { return append(numbered(0, 6, "%d"), Entry{strings.Repeat("long ", 15), 2.5}) }},
	"skiplist-compressed": {"yes", func() []Entry {
		return []Entry{{strings.Repeat("long ", 15), 2.5}, {"127", -1}, {"-129", 1}, {"70000", 2}, {"ü", math.Inf(-1)}}
	}},
	"numbers": {"no", func() (es []Entry) {
		for i, n := range []int64{0, 127, 128, -1, 4095, -4096, 4096, 32767, -32768, 8388607, -8388608, 1 << 30, -1 << 31, 1 << 40, math.MinInt64, math.MaxInt64} {
			es = append(es, Entry{fmt.Sprint(n), float64(i)})
		}
		return append(es, Entry{"-0", 0.5}, Entry{"007", -1e300}, Entry{"9223372036854775808", math.Inf(1)})
	}},
}

// numbered has scores as the graph has them.
func numbered(from, n int, format string) (es []Entry) {
	for i := range n {
		es = append(es, Entry{fmt.Sprintf(format, from+37*i), float64(int64(1_700_000_000_000+86_400_000*i)*8 + 1)})
	}
	return es
}

func TestRecordedDumps(t *testing.T) {
	if *record {
		c, ctx := real(t), t.Context()
		for name, set := range recorded {
			must(t, c.ConfigSet(ctx, "rdbcompression", set.compressed).Err())
			for _, e := range set.entries() {
				must(t, c.ZAdd(ctx, name, redis.Z{Member: e.Member, Score: e.Score}).Err())
			}
			payload, err := c.Dump(ctx, name).Result()
			must(t, err)
			must(t, os.WriteFile(filepath.Join("testdata", name+".dump"), []byte(payload), 0o644))
		}
	}
	for name, set := range recorded {
		payload, err := os.ReadFile(filepath.Join("testdata", name+".dump"))
		if err != nil {
			t.Error(err)
			continue
		}
		if got, want := sorted(decode(t, string(payload))), sorted(set.entries()); !slices.Equal(got, want) {
			t.Errorf("%s is decoded as %s\nwant %s", name, show(got), show(want))
		}
	}
}
