package simulate

import (
	"math"
	"math/rand/v2"
	"testing"
)

// A user looks from the first slot on, stays at each next one with the stated probability, and clicks once.
func TestAUserLooksDownTheListAndClicksWhatIsWanted(t *testing.T) {
	items := []string{"a", "b", "c", "d"}
	wants := func(item string) func(string) float64 {
		return func(i string) float64 {
			if i == item {
				return 1
			}
			return 0
		}
	}
	rng := rand.New(rand.NewPCG(1, 1))
	const n = 20_000
	for i, item := range items {
		clicks := 0
		for range n {
			switch got := (User{Wants: wants(item), Stays: .7}).Look(items, rng); got {
			case i:
				clicks++
			case -1:
			default:
				t.Fatalf("clicked slot %d, and wanted only slot %d", got, i)
			}
		}
		want := math.Pow(.7, float64(i))
		if got := float64(clicks) / n; math.Abs(got-want) > 4*math.Sqrt(want*(1-want)/n) {
			t.Errorf("slot %d is clicked with probability %.3f, want %.3f", i, got, want)
		}
	}
	if got := (User{Wants: wants("e"), Stays: 1}).Look(items, rng); got != -1 {
		t.Errorf("clicked slot %d, and wanted nothing", got)
	}
	if got := (User{Wants: func(string) float64 { return 1 }, Stays: 0}).Look(nil, rng); got != -1 {
		t.Errorf("clicked slot %d of an empty list", got)
	}
}
