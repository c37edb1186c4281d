package graphcache

import "slices"

// first returns the n first of all, in the order of compare, of which no two are the same. It changes the order of all,
// and takes time in proportion to their number: only what is returned is sorted.
func first[T any](all []T, n int, compare func(a, b T) int) []T {
	if n <= 0 {
		return nil
	}
	if n >= len(all) {
		slices.SortFunc(all, compare)
		return all
	}
	low, high := 0, len(all) // what is before low belongs to the first, what is from high on does not
	for high-low > 12 {      // quickselect (Hoare, "Find", 1961), the middle of three as pivot
		a, b, c := low, low+(high-low)/2, high-1
		if compare(all[b], all[a]) < 0 {
			a, b = b, a
		}
		if compare(all[c], all[b]) < 0 {
			b = c
			if compare(all[b], all[a]) < 0 {
				b = a
			}
		}
		all[b], all[high-1] = all[high-1], all[b]
		pivot, at := all[high-1], low
		for i := low; i < high-1; i++ {
			if compare(all[i], pivot) < 0 {
				all[i], all[at] = all[at], all[i]
				at++
			}
		}
		all[at], all[high-1] = all[high-1], all[at]
		switch {
		case at == n:
			low, high = n, n
		case at < n:
			low = at + 1
		default:
			high = at
		}
	}
	slices.SortFunc(all[low:high], compare)
	slices.SortFunc(all[:n], compare)
	return all[:n]
}
