package learn_test

import (
	"math"
	"slices"
	"testing"

	"github.com/r2rec/r2rec/internal/llama/learn"
)

func TestTrapezoid(t *testing.T) {
	usual := learn.Trapezoid(500, 20, .3, .03)
	for name, c := range map[string]struct {
		schedule learn.Schedule
		step     int
		want     float64
	}{
		"the first step":               {usual, 0, 1. / 20},
		"within the warm-up":           {usual, 9, .5},
		"the last of the warm-up":      {usual, 19, 1},
		"flat":                         {usual, 100, 1},
		"the last flat one":            {usual, 150, 1},
		"half way down":                {usual, 325, (1 + .03) / 2},
		"the last step":                {usual, 499, .03 + .97/350},
		"the end":                      {usual, 500, .03},
		"beyond the end":               {usual, 5000, .03},
		"no warm-up":                   {learn.Trapezoid(10, 0, .5, 0), 0, 1},
		"flat to the end":              {learn.Trapezoid(10, 0, 1, 0), 9, 1},
		"flat beyond the end":          {learn.Trapezoid(10, 0, 1, 0), 11, 1},
		"falling from the first":       {learn.Trapezoid(10, 0, 0, 0), 5, .5},
		"falling while it still warms": {learn.Trapezoid(10, 10, 0, 0), 8, .2},
		"constant":                     {learn.Constant, 12345, 1},
	} {
		if got := c.schedule(c.step); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestOrder(t *testing.T) {
	const count, epochs = 17, 4
	o := learn.NewOrder(5, count)
	var all []int
	for n := range count * epochs {
		all = append(all, o.At(n))
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
		if got := o.At(n); got != all[n] {
			t.Errorf("place %d has example %d, had %d before", n, got, all[n])
		}
		if got := learn.NewOrder(5, count).At(n); got != all[n] {
			t.Errorf("place %d has example %d in a new order of the same seed, %d in the old one", n, got, all[n])
		}
	}
	other := learn.NewOrder(6, count)
	differ := false
	for n := range count {
		differ = differ || other.At(n) != all[n]
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
