package graphcache

import (
	"math"
	"slices"
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
)

// almostNumbers are ids that are the digits of an integer, or nearly.
var almostNumbers = []string{"0", "-0", "00", "007", "7", "+7", "-7", "-", "", " 7", "7 ", "1e3", "9223372036854775807", "9223372036854775808",
	"-9223372036854775808", "-9223372036854775809", "18446744073709551623", "99999999999999999999", "7f", "٣", "user-7"}

func TestIntegerIsTheIDOfItsDigits(t *testing.T) {
	check := func(t interface{ Errorf(string, ...any) }, id string) {
		want, err := strconv.ParseInt(id, 10, 64)
		canonical := err == nil && strconv.FormatInt(want, 10) == id
		if n, ok := integer(id); ok != canonical || ok && n != want {
			t.Errorf("%q gives %d, %v; want %d, %v", id, n, ok, want, canonical)
		}
	}
	for _, id := range almostNumbers {
		check(t, id)
	}
	rapid.Check(t, func(rt *rapid.T) {
		check(rt, rapid.OneOf(rapid.Map(rapid.Int64(), func(n int64) string { return strconv.FormatInt(n, 10) }),
			rapid.StringMatching(`[-+]?[0-9]{0,21}`), rapid.String()).Draw(rt, "id"))
	})
}

// TestAudienceIsTheListByNumber: whatever the encoding in Redis and the way to read it, an audience says of the same edges,
// in the same order, who stands at the other end.
func TestAudienceIsTheListByNumber(t *testing.T) {
	embeddedtest.EachRedis(t, func(t *testing.T, opt *redis.UniversalOptions) {
		rdb, ctx := client(t, opt), t.Context()
		id := rapid.OneOf(rapid.SampledFrom(almostNumbers), rapid.Map(rapid.Int64Range(-300, 1<<33), func(n int64) string { return strconv.FormatInt(n, 10) }),
			rapid.StringN(0, 80, -1))
		rapid.Check(t, func(rt *rapid.T) {
			if err := embeddedtest.Flush(ctx, rdb); err != nil {
				rt.Fatal(err)
			}
			ids := rapid.SliceOfNDistinct(id, 1, 60, rapid.ID).Draw(rt, "ids")
			for n := range rapid.SampledFrom([]int{0, 0, 300}).Draw(rt, "more") { // as a skip list
				ids = append(ids, strconv.Itoa(math.MaxInt32-150+n))
			}
			ids = slices.Compact(slices.Sorted(slices.Values(ids)))
			var members []redis.Z
			known, number := index{}, map[string]int32{}
			for _, m := range ids {
				at := rapid.SampledFrom([]event.Time{1, 1.7e12, 1.7e12 + 1}).Draw(rt, "at")
				members = append(members, redis.Z{Member: m, Score: float64(score(at, Kind(rapid.IntRange(0, 7).Draw(rt, "kind"))))})
				number[m] = stranger
				if rapid.Bool().Draw(rt, "known") {
					number[m] = int32(len(number))
					known.add(m, number[m])
				}
			}
			if err := rdb.ZAdd(ctx, "list", members...).Err(); err != nil {
				rt.Fatal(err)
			}
			for _, lists := range []Lists{ListsRange, ListsDump} {
				c, _ := reader(t, rdb, lists)
				for _, newest := range []int{0, 20} {
					b := c.batch()
					list, heard, absent := b.list(ctx, "list", newest), b.audience(ctx, "list", newest, &known), b.audience(ctx, "absent", newest, &known)
					if _, err := b.send(ctx); err != nil {
						rt.Fatal(err)
					}
					want := make([]contact, len(list.node().edges))
					for i, e := range list.node().edges {
						want[i] = contact{e.Score(), number[e.ID]}
					}
					if got := heard.heard; !slices.Equal(got.edges, want) || got.degree != list.node().degree {
						rt.Fatalf("Lists %q, the newest %d: %v of %d, want %v of %d", lists, newest, got.edges, got.degree, want, list.node().degree)
					}
					if got := absent.heard; len(got.edges) != 0 || got.degree != 0 {
						rt.Fatalf("Lists %q: an absent list reads as %v", lists, got)
					}
				}
			}
		})
	})
}
