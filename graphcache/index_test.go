package graphcache

import (
	"math/rand/v2"
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

// Ids that follow one another, or a power of two apart, are spread like any others, whatever the process' multiplier is.
func TestIndexSpreadsSequences(t *testing.T) {
	defer func(m uint64) { multiplier = m }(multiplier)
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		multiplier = r.Uint64() | 1
		for _, step := range []int64{1, 64, 1 << 20} {
			x := index{size: 6000}
			steps := 0
			for i := range int64(6000) {
				id := i * step
				x.add(strconv.FormatInt(id, 10), int32(i))
				for at := mixed(id) >> x.numbers.shift; x.numbers.keys[at] != id || x.numbers.values[at] != int32(i)+1; at = (at + 1) & uint64(len(x.numbers.keys)-1) {
					steps++
				}
			}
			if steps > 6000 { // random places would take a quarter of that
				t.Fatalf("multiplier %#x, ids %d apart: %d steps to find 6000 of them", multiplier, step, steps)
			}
		}
	}
}
