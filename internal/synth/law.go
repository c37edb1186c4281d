package synth

import (
	"fmt"
	"math"
)

// Law is the Zipf-Mandelbrot law: of n nodes, the one of rank r, 0 being the first, has a share of the edges in proportion
// to (r + Head·n)^-Exponent. Exponent 0 gives all the same; Head keeps the first few from having everything.
type Law struct {
	Exponent float64 // from 0 to 2
	Head     float64 // above 0, a share of the nodes
}

// DrawnItems is how the edges of a Graph come to lie over its items: nobody draws an item twice, so that what is drawn by
// ItemLaw is less uneven than that. Fitted to graphs of 0.4 and 20 million edges, whose items' lists it gives within 2 %.
var DrawnItems = Law{Exponent: .7, Head: .0001}

// The laws of a graph that says nothing else. With 20 edges a user on average the median is 11 and the most 860, and the
// tenth of the users with the most edges has 44 % of them; the hundredth of the items with the most edges has 17 %.
var (
	UserLaw = Law{Exponent: .7, Head: .001}
	ItemLaw = Law{Exponent: .8, Head: .0001}
)

func (l Law) validate() error {
	if !(l.Exponent >= 0 && l.Exponent <= 2 && l.Head > 0 && l.Head <= 1) {
		return fmt.Errorf("synth: a law of exponent %v and head %v: want an exponent from 0 to 2 and a head above 0, at most 1", l.Exponent, l.Head)
	}
	return nil
}

func (l Law) weight(rank, n float64) float64 { return math.Pow(rank+l.Head*n, -l.Exponent) }

// Class is a number of nodes with as many edges each.
type Class struct {
	Degree int64
	Nodes  int64
}

// Spread gives total edges to n nodes by the law, the nodes with the most edges first: exactly as many edges, none to a
// node more than most, and at least one to each where there are as many. Nodes without edges are left out.
func (l Law) Spread(n, total, most int64) ([]Class, error) {
	if err := l.validate(); err != nil {
		return nil, err
	}
	if n < 1 || total < 0 || most < 1 || float64(total) > float64(n)*float64(most) {
		return nil, fmt.Errorf("synth: %d edges do not fit %d nodes of at most %d", total, n, most)
	}
	blocks := l.blocks(n)
	least := int64(0)
	if total >= n {
		least = 1
	}
	degree := func(factor float64, b block) int64 {
		return max(least, int64(math.Min(float64(most), factor*b.weight)))
	}
	sum := func(factor float64) (s int64) {
		for _, b := range blocks {
			s += b.nodes * degree(factor, b)
		}
		return s
	}
	low, high := 0.0, 1.0
	for sum(high) <= total && sum(high) < n*most {
		high *= 2
	}
	for range 200 {
		if mid := (low + high) / 2; sum(mid) <= total {
			low = mid
		} else {
			high = mid
		}
	}
	left := total - sum(low)
	var out []Class
	add := func(d, nodes int64) {
		switch {
		case d == 0 || nodes == 0:
		case len(out) > 0 && out[len(out)-1].Degree == d:
			out[len(out)-1].Nodes += nodes
		default:
			out = append(out, Class{d, nodes})
		}
	}
	for _, b := range blocks { // what rounding left over goes to the first, one each
		d, more := degree(low, b), int64(0)
		if d < most {
			more = min(left, b.nodes)
		}
		left -= more
		add(d+1, more)
		add(d, b.nodes-more)
	}
	return out, nil
}

// block is a stretch of ranks that have nearly the same weight, and are given the same.
type block struct {
	nodes  int64
	weight float64
}

func (l Law) blocks(n int64) []block {
	var out []block
	for r := int64(0); r < n; {
		nodes := min(n-r, max(1, r/1000))
		out = append(out, block{nodes, l.weight(float64(r)+float64(nodes-1)/2, float64(n))})
		r += nodes
	}
	return out
}
