package world

import (
	"testing"
)

// Everything that a world holds keeps the contracts.
func TestWorldsAreValid(t *testing.T) {
	for seed := range uint64(20) {
		w, err := New(seed, Random(seed))
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range w.Items() {
			if err := it.Validate(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		for in := range w.Interactions() {
			if err := in.Validate(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
	}
}
