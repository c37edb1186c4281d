package learn_test

import (
	"math"
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
