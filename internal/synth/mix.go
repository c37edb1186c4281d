package synth

import (
	"fmt"

	"github.com/r2rec/r2rec/internal/event"
)

// Mix says how often interactions of each type are.
type Mix []Share

// Share is a type's part of all interactions.
type Share struct {
	Type event.Type
	Of   float64 // positive; in proportion to the others
}

// Shop is the mix of an online shop: clicks, carts, favourites and purchases as in the 100,150,807 events of Taobao's public
// UserBehavior data, and one in a thousand that speaks against an item.
var Shop = Mix{{event.Click, 89.6}, {event.Cart, 5.5}, {event.Like, 2.9}, {event.Purchase, 2.0}, {event.Dislike, .05}, {event.Hide, .05}}

func (m Mix) summed() ([]float64, error) {
	sums := make([]float64, len(m))
	total := 0.0
	for i, s := range m {
		if !(s.Of > 0) || s.Type == event.Rating {
			return nil, fmt.Errorf("synth: Mix has a share of %v of %q, must be positive, and of no ratings", s.Of, s.Type)
		}
		total += s.Of
		sums[i] = total
	}
	if len(m) == 0 {
		return nil, fmt.Errorf("synth: Mix is empty")
	}
	return sums, nil
}
