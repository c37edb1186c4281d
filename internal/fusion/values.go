package fusion

import (
	"fmt"
	"math"
)

// MinValues is the number of values below which FitValues refuses: fewer cannot tell the evidence from chance.
const MinValues = 200

// Valued is a list, one of its items, and what came of showing that item, such as the reward of a click.
type Valued struct {
	List
	Item  int // index of the candidate
	Value float64
}

// ValueOptions say how to fit values. A number that is 0 stands for its default.
type ValueOptions struct {
	// Penalty is how strongly weights are drawn to 0, and values to their mean: so many lists, each with all of its columns
	// independent and of variance 1, would weigh as much. Default 30.
	Penalty float64
}

// Values says what showing an item of a list is worth on average. It never changes, so that many goroutines may use one.
type Values struct {
	weights [columns]float64 // one a column; the last, of the constant 1, is not penalised
}

// ConstantValue gives every item the same value.
func ConstantValue(v float64) *Values {
	m := new(Values)
	m.weights[biasColumn] = v
	return m
}

// Values gives the expected value of each candidate of a list, were it shown, in their order.
func (m *Values) Values(l List) []float64 {
	rows := make([]float64, len(l.Evidence)*columns)
	encode(l, nil, rows)
	out := make([]float64, len(l.Evidence))
	for i := range out {
		for k, w := range m.weights {
			out[i] += w * rows[i*columns+k]
		}
	}
	return out
}

// FitValues fits expected values to the columns that Fit sees, by ridge regression: least squares with a penalty on the
// squared weights, which has one solution. So equal values give equal models, whatever the number of threads; the order
// of the values makes a difference of rounding.
//
// It fails where there are fewer than MinValues (ErrTooFew) and where a list, a value or an option is not valid.
func FitValues(seen []Valued, o ValueOptions) (*Values, error) {
	m, err := fitValues(seen, o)
	if err != nil {
		return nil, fmt.Errorf("fit values to %d lists: %w", len(seen), err)
	}
	return m, nil
}

func fitValues(seen []Valued, o ValueOptions) (*Values, error) {
	if o.Penalty == 0 {
		o.Penalty = 30
	}
	if !(o.Penalty > 0) || math.IsInf(o.Penalty, 0) {
		return nil, fmt.Errorf("option Penalty is %v: give a number above 0, or 0 for 30", o.Penalty)
	}
	if len(seen) < MinValues {
		return nil, fmt.Errorf("%w: %d of %d needed", ErrTooFew, len(seen), MinValues)
	}
	// The normal equations: (XᵀX + penalty) weights = Xᵀy.
	var a [columns][columns]float64
	var y [columns]float64
	var rows []float64
	for i, v := range seen {
		if err := v.check(); err != nil {
			return nil, fmt.Errorf("list %d: %w", i, err)
		}
		if v.Item < 0 || v.Item >= len(v.Evidence) {
			return nil, fmt.Errorf("list %d: item is %d, the list has %d candidates", i, v.Item, len(v.Evidence))
		}
		if math.IsNaN(v.Value) || math.IsInf(v.Value, 0) {
			return nil, fmt.Errorf("list %d: value is %v: send a finite number", i, v.Value)
		}
		rows = append(rows[:0], make([]float64, len(v.Evidence)*columns)...)
		encode(v.List, nil, rows)
		row := rows[v.Item*columns : (v.Item+1)*columns]
		for j, x := range row {
			y[j] += x * v.Value
			for k := range j + 1 {
				a[j][k] += x * row[k]
			}
		}
	}
	for j := range biasColumn {
		a[j][j] += o.Penalty
	}
	m := &Values{weights: solve(&a, y)}
	for _, w := range m.weights {
		if !(math.Abs(w) <= maxWeight) {
			return nil, fmt.Errorf("a weight is %v: the values are too large", w)
		}
	}
	return m, nil
}

// solve gives x of a x = y for a symmetric positive definite a, of which the lower triangle is read and overwritten
// (Cholesky).
func solve(a *[columns][columns]float64, y [columns]float64) (x [columns]float64) {
	for j := range columns {
		for i := j; i < columns; i++ {
			s := a[i][j]
			for k := range j {
				s -= a[i][k] * a[j][k]
			}
			if i == j {
				a[i][i] = math.Sqrt(s)
			} else {
				a[i][j] = s / a[j][j]
			}
		}
	}
	for i := range columns { // forwards
		s := y[i]
		for k := range i {
			s -= a[i][k] * x[k]
		}
		x[i] = s / a[i][i]
	}
	for i := columns - 1; i >= 0; i-- { // and back
		s := x[i]
		for k := i + 1; k < columns; k++ {
			s -= a[k][i] * x[k]
		}
		x[i] = s / a[i][i]
	}
	return x
}
