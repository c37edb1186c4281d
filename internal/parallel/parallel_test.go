package parallel

import (
	"sync"
	"testing"
)

func TestPartsAreEverythingOnce(t *testing.T) {
	for _, n := range []int{0, 1, 9, 10, 11, 1000} {
		var mu sync.Mutex
		seen, calls := make([]int, n), 0
		Parts(n, 10, func(from, to int) {
			mu.Lock()
			defer mu.Unlock()
			calls++
			if to-from < min(n, 10) {
				t.Errorf("of %d, a part from %d to %d, want 10 or more", n, from, to)
			}
			for i := from; i < to; i++ {
				seen[i]++
			}
		})
		for i, times := range seen {
			if times != 1 {
				t.Errorf("of %d, %d is seen %d times", n, i, times)
			}
		}
		if calls < 1 {
			t.Errorf("of %d, no part", n)
		}
	}
}
