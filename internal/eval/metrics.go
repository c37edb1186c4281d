package eval

import "math"

// Metric is what one case is worth, given the rank of its positive: 1 is the first, and a tie lies between two places.
type Metric func(rank float64) float64

// Hit is 1 if the positive is among the first k, else 0: its mean is HR@k. A positive that shares the k-th place with
// others ranks behind it, and is no hit.
func Hit(k int) Metric {
	return func(rank float64) float64 {
		if rank <= float64(k) {
			return 1
		}
		return 0
	}
}

// Gain is the normalised discounted gain of the first k, 1 / log2(1 + rank), or 0 behind them: its mean is NDCG@k, for
// there is one right answer.
func Gain(k int) Metric {
	return func(rank float64) float64 {
		if rank <= float64(k) {
			return 1 / math.Log2(1+rank)
		}
		return 0
	}
}

// Reciprocal is 1 / rank: its mean is MRR.
func Reciprocal(rank float64) float64 { return 1 / rank }

// Each gives the metric of every rank.
func (m Metric) Each(ranks []float64) []float64 {
	values := make([]float64, len(ranks))
	for i, rank := range ranks {
		values[i] = m(rank)
	}
	return values
}

// Mean gives the mean of the metric over the ranks; NaN where there are none.
func (m Metric) Mean(ranks []float64) float64 { return mean(m.Each(ranks)) }

// Metrics are the means over a list of ranks; NaN where it is empty.
type Metrics struct {
	N     int // cases
	HR1   float64
	HR5   float64
	NDCG5 float64
	MRR   float64
}

// Measure computes the metrics of ranks, one a case.
func Measure(ranks []float64) Metrics {
	return Metrics{
		N:     len(ranks),
		HR1:   Hit(1).Mean(ranks),
		HR5:   Hit(5).Mean(ranks),
		NDCG5: Gain(5).Mean(ranks),
		MRR:   Metric(Reciprocal).Mean(ranks),
	}
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}
