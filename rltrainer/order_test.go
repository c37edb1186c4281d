package rltrainer

import (
	"slices"
	"testing"
)

func TestOrder(t *testing.T) {
	const count, epochs = 17, 4
	o := newOrder(5, count)
	var all []int
	for n := range count * epochs {
		all = append(all, o.at(n))
	}
	seen := map[string]bool{}
	for e := range epochs {
		epoch := slices.Clone(all[e*count : (e+1)*count])
		seen[string(bytesOf(epoch))] = true
		slices.Sort(epoch)
		for i, v := range epoch {
			if v != i {
				t.Fatalf("epoch %d has the examples %v, must have each once", e, epoch)
			}
		}
	}
	if len(seen) != epochs {
		t.Errorf("two of %d epochs have the same order", epochs)
	}
	for n := len(all) - 1; n >= 0; n -= 5 {
		if got := o.at(n); got != all[n] {
			t.Errorf("place %d has example %d, had %d before", n, got, all[n])
		}
		if got := newOrder(5, count).at(n); got != all[n] {
			t.Errorf("place %d has example %d in a new order of the same seed, %d in the old one", n, got, all[n])
		}
	}
	other := newOrder(6, count)
	differ := false
	for n := range count {
		differ = differ || other.at(n) != all[n]
	}
	if !differ {
		t.Error("another seed gives the same order")
	}
}

func bytesOf(x []int) []byte {
	var b []byte
	for _, v := range x {
		b = append(b, byte(v))
	}
	return b
}
