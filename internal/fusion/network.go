package fusion

import (
	"math"
	"math/rand/v2"
)

// block is how many hidden units are computed at once, with one register each. Layers are filled up to a multiple of it
// with units of weight 0, whose gradient is 0 as well, so that they stay out of every result.
const block = 6

// network is linear·x + Σ out_u tanh(hidden_u·x), over the columns x of one candidate.
//
// The hidden layer lies in memory block by block: the weight of unit u for column k is hidden[(u/6·columns + k)·6 + u%6],
// so that the six units of a block read theirs in one go.
type network struct {
	all    []float64 // every weight; the others are parts of it
	hidden []float64 // units × columns, in blocks
	out    []float64 // one a unit
	linear []float64 // one a column; 0 for the columns that are the same for all candidates, which cannot change a share
	units  int       // a multiple of block
}

// newNetwork makes a network of zeros with room for a number of hidden units.
func newNetwork(hidden int) *network {
	units := (hidden + block - 1) / block * block
	n := &network{all: make([]float64, units*columns+units+columns), units: units}
	n.hidden = n.all[:units*columns]
	n.out = n.all[units*columns : units*columns+units]
	n.linear = n.all[units*columns+units:]
	return n
}

// at is the index of a hidden weight.
func at(unit, column int) int { return (unit/block*columns+column)*block + unit%block }

// randomise draws the weights that a fit of the first units starts from. The biases and the linear path start at 0.
func (n *network) randomise(units int, rng *rand.Rand) {
	for u := range units {
		for k := range columns - 1 {
			n.hidden[at(u, k)] = rng.NormFloat64() / math.Sqrt(columns-1)
		}
		n.out[u] = rng.NormFloat64() / 10
	}
}

// score gives the score of a row and leaves the activations of the hidden units, one each, in act.
func (n *network) score(row, act []float64) float64 {
	s := 0.0
	for k, w := range n.linear {
		s += w * row[k]
	}
	for u := 0; u < n.units; u += block {
		h := activate(n.hidden[u*columns:], row)
		copy(act[u:u+block], h[:])
		for q, w := range n.out[u : u+block] {
			s += w * h[q]
		}
	}
	return s
}

// activate gives the activations of the block of units whose weights come first.
func activate(weights, row []float64) [block]float64 {
	var h0, h1, h2, h3, h4, h5 float64
	weights = weights[:columns*block]
	for k, v := range row[:columns] {
		w := (*[block]float64)(weights[k*block:])
		h0 += v * w[0]
		h1 += v * w[1]
		h2 += v * w[2]
		h3 += v * w[3]
		h4 += v * w[4]
		h5 += v * w[5]
	}
	return [block]float64{tanh(h0), tanh(h1), tanh(h2), tanh(h3), tanh(h4), tanh(h5)}
}

// scratch is what a gradient needs for one list; it grows to the longest.
type scratch struct {
	scores []float64
	act    []float64 // activations, then the gradient of what they were computed from; rows × units
}

func (s *scratch) fit(rows, units int) {
	if cap(s.scores) < rows {
		s.scores = make([]float64, rows)
	}
	if cap(s.act) < rows*units {
		s.act = make([]float64, rows*units)
	}
	s.scores, s.act = s.scores[:rows], s.act[:rows*units]
}

// backpropagate adds scale times the gradient of the loss of one list to grad, a network like n, and gives the loss:
// minus the log of the chosen row's share.
func (n *network) backpropagate(rows []float64, chosen int, scale float64, grad *network, s *scratch) float64 {
	s.fit(len(rows)/columns, n.units)
	top := math.Inf(-1)
	for i := range s.scores {
		s.scores[i] = n.score(rows[i*columns:(i+1)*columns], s.act[i*n.units:(i+1)*n.units])
		top = max(top, s.scores[i])
	}
	total := 0.0
	for _, v := range s.scores {
		total += math.Exp(v - top)
	}
	loss := math.Log(total) + top - s.scores[chosen]

	for i, v := range s.scores {
		g := math.Exp(v-top) / total // the share, less 1 where it was chosen: the gradient of the score
		if i == chosen {
			g--
		}
		g *= scale
		row, act := rows[i*columns:(i+1)*columns], s.act[i*n.units:(i+1)*n.units]
		for k, v := range row[:perCandidate] {
			grad.linear[k] += g * v
		}
		for u, h := range act {
			grad.out[u] += g * h
			act[u] = g * n.out[u] * (1 - h*h)
		}
	}
	for u := 0; u < n.units; u += block {
		n.addOuter(rows, s.act[u:], grad.hidden[u*columns:(u+block)*columns])
	}
	return loss
}

// addOuter adds, for the block of units whose gradients come first in each row of act, the sum over rows of gradient
// times column.
func (n *network) addOuter(rows, act, grad []float64) {
	count := len(rows) / columns
	for k := range columns {
		w := (*[block]float64)(grad[k*block:])
		g0, g1, g2, g3, g4, g5 := w[0], w[1], w[2], w[3], w[4], w[5]
		for i := range count {
			v, a := rows[i*columns+k], (*[block]float64)(act[i*n.units:])
			g0 += v * a[0]
			g1 += v * a[1]
			g2 += v * a[2]
			g3 += v * a[3]
			g4 += v * a[4]
			g5 += v * a[5]
		}
		w[0], w[1], w[2], w[3], w[4], w[5] = g0, g1, g2, g3, g4, g5
	}
}

// tanh is the rational approximation that Eigen uses (13th over 6th degree), within 3e-7 of math.Tanh and several times
// as fast. Beyond the bound it stays at its value there, less than 1.
func tanh(x float64) float64 {
	const bound = 7.90531110763549805
	if x > bound {
		x = bound
	} else if x < -bound {
		x = -bound
	}
	x2 := x * x
	p := -2.76076847742355e-16*x2 + 2.00018790482477e-13
	p = p*x2 - 8.60467152213735e-11
	p = p*x2 + 5.12229709037114e-08
	p = p*x2 + 1.48572235717979e-05
	p = p*x2 + 6.37261928875436e-04
	p = p*x2 + 4.89352455891786e-03
	q := 1.19825839466702e-06*x2 + 1.18534705686654e-04
	q = q*x2 + 2.26843463243900e-03
	q = q*x2 + 4.89352518554385e-03
	return x * p / q
}
