package graphcache

import (
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// TestIndexIsAMap, of more ids than it was told of, integers and texts, few of them strangers to the sieve.
func TestIndexIsAMap(t *testing.T) {
	id := rapid.OneOf(rapid.Map(rapid.Int64Range(-40, 400), func(n int64) string { return strconv.FormatInt(n, 10) }),
		rapid.Map(rapid.Int64(), func(n int64) string { return strconv.FormatInt(n, 10) }), rapid.SampledFrom(almostNumbers))
	rapid.Check(t, func(t *rapid.T) {
		x, want := index{size: rapid.IntRange(0, 20).Draw(t, "size")}, map[string]int32{}
		for _, id := range rapid.SliceOfNDistinct(id, 0, 200, rapid.ID).Draw(t, "ids") {
			if got := x.of(id); got != stranger {
				t.Fatalf("%q, which is not in it, has number %d", id, got)
			}
			want[id] = int32(len(want))
			x.add(id, want[id])
		}
		for id, k := range want {
			if got := x.of(id); got != k {
				t.Fatalf("%q has number %d, want %d", id, got, k)
			}
		}
		for n := range int64(1000) {
			id := strconv.FormatInt(n-100, 10)
			k, known := want[id]
			if got := x.of(id); known && got != k || !known && got != stranger {
				t.Fatalf("%q has number %d, want %d, %v", id, got, k, known)
			}
		}
	})
}
