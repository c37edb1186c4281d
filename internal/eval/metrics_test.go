package eval

import (
	"math"
	"testing"
)

func near(a, b float64) bool {
	return a == b || math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) < 1e-12
}

func TestMetricsByHand(t *testing.T) {
	for _, c := range []struct {
		rank                 float64
		hr1, hr5, ndcg5, mrr float64
	}{
		{1, 1, 1, 1, 1},
		{1.5, 0, 1, 1 / math.Log2(2.5), 1 / 1.5}, // shares the first place: no hit
		{2, 0, 1, 1 / math.Log2(3), 0.5},
		{3, 0, 1, 0.5, 1.0 / 3},
		{5, 0, 1, 1 / math.Log2(6), 0.2},
		{5.5, 0, 0, 0, 1 / 5.5},
		{20, 0, 0, 0, 0.05},
	} {
		got := Measure([]float64{c.rank})
		if got.N != 1 || got.HR1 != c.hr1 || got.HR5 != c.hr5 || !near(got.NDCG5, c.ndcg5) || !near(got.MRR, c.mrr) {
			t.Errorf("rank %v: %+v, want %+v", c.rank, got, c)
		}
	}
	got := Measure([]float64{1, 3, 1.5, 20})
	if got.N != 4 || got.HR1 != 0.25 || got.HR5 != 0.75 || !near(got.NDCG5, (1.5+1/math.Log2(2.5))/4) || !near(got.MRR, (1+1.0/3+1/1.5+0.05)/4) {
		t.Errorf("means: %+v", got)
	}
	if got := Measure(nil); got.N != 0 || !math.IsNaN(got.HR1) || !math.IsNaN(got.MRR) {
		t.Errorf("of nothing: %+v, want NaN", got)
	}
}

func TestHitAndGainOfOtherSizes(t *testing.T) {
	if Hit(10)(10) != 1 || Hit(10)(10.5) != 0 || Gain(10)(7) != 1.0/3 || Gain(10)(11) != 0 || Hit(500)(math.Inf(1)) != 0 {
		t.Error("the first k are not the first k")
	}
}
