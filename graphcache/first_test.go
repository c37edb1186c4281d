package graphcache

import (
	"cmp"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestFirstAreThoseThatSortingPutsFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfNDistinct(rapid.IntRange(0, 500), 0, 300, rapid.ID[int]).Draw(t, "all")
		if rapid.Bool().Draw(t, "sorted") { // the worst case of a naive pivot
			slices.Sort(all)
		}
		n := rapid.IntRange(0, 310).Draw(t, "n")
		want := slices.Sorted(slices.Values(all))
		want = want[:min(n, len(want))]
		if got := first(slices.Clone(all), n, cmp.Compare); !slices.Equal(got, want) {
			t.Fatalf("the first %d of %v are %v, want %v", n, all, got, want)
		}
	})
}
