package live

import (
	"math"

	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/event"
)

// popularity counts every item's likes, up to what a list of the graph holds, and what follows from them for lists of
// candidates: the mean logarithm under a uniform draw of an item and under one in proportion to its likes.
type popularity struct {
	of            map[string]int
	items, likes  float64
	logs, weighed float64 // sums of log d over the items and of d log d
}

// most likes of an item that count; the fusion knows no more of it.
const most = 128

func (p *popularity) add(in event.Interaction) {
	d, seen := p.of[in.ItemID]
	if !seen {
		p.of[in.ItemID] = 0
		p.items++
	}
	if !eval.IsPositive(in) || d == most {
		return
	}
	p.of[in.ItemID] = d + 1
	p.likes++
	before, after := logOf(d), logOf(d+1)
	p.logs += after - before
	p.weighed += float64(d+1)*after - float64(d)*before
}

func logOf(likes int) float64 { return math.Log(float64(max(1, likes))) }

// draw tells how a list of candidates was drawn: about 0 uniformly, about 1 in proportion to their likes.
func (p *popularity) draw(candidates []string) float64 {
	if p.likes == 0 || len(candidates) == 0 {
		return 0
	}
	var mean float64
	for _, id := range candidates {
		mean += logOf(p.of[id]) / float64(len(candidates))
	}
	uniform, byLikes := p.logs/p.items, p.weighed/p.likes
	return (mean - uniform) / max(.1, byLikes-uniform)
}
