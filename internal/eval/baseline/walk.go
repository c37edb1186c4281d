package baseline

import (
	"context"
	"math"

	"github.com/r2rec/r2rec/internal/eval"
)

// walk scores a candidate by the paths user -> item -> neighbour -> candidate, which is what itemknn, chain and usercf
// have in common; they differ in the weights of the steps:
//
//	score(c) = target(|c|) · Σ over neighbours v who like c of weight(v) · vote(age of v -> c)
//	weight(v) = neighbour(Σ over shared items i of item(place of i, |i|))
type walk struct {
	*graph
	item      func(place, degree int) float64 // an item of the user's history
	neighbour func(n neighbour) float64
	vote      func(age float64) float64 // a neighbour's like of the candidate
	target    func(degree int) float64  // the candidate; its degree is at least 1

	// Of the case that is asked; empty between cases.
	neighbours []neighbour // by user
	reached    []int32     // the users who are neighbours
}

// neighbour is another user who shares items with the one who is asked for.
type neighbour struct {
	sum        float64 // of the weights of the paths to it
	shared     int     // items
	own, other int     // degrees of the user who is asked for and of this one
	weight     float64 // what walk.neighbour makes of the others
}

// newItemKNN never computes a cosine by itself: a neighbour who likes an item of the history and the candidate is one of
// the users who like both, and adds one to the numerator.
func newItemKNN(historyHalfLife float64) *walk {
	return &walk{
		graph: newGraph(),
		item: func(place, degree int) float64 {
			return halved(float64(place), historyHalfLife) / math.Sqrt(float64(degree))
		},
		neighbour: func(n neighbour) float64 { return n.sum },
		vote:      func(float64) float64 { return 1 },
		target:    func(degree int) float64 { return 1 / math.Sqrt(float64(degree)) },
	}
}

// The powers of the degrees in chain: how much less a popular item, a busy neighbour and a popular candidate tell.
const (
	itemPower      = 0.8
	neighbourPower = 0.5
	targetPower    = 0.4
	leastShared    = 2 // items, for another user to be a neighbour
)

func newChain(halfLife, historyHalfLife float64) *walk {
	return &walk{
		graph: newGraph(),
		item: func(place, degree int) float64 {
			return halved(float64(place), historyHalfLife) * math.Pow(float64(degree), -itemPower)
		},
		neighbour: func(n neighbour) float64 {
			if n.shared < leastShared {
				return 0
			}
			return n.sum * math.Pow(float64(n.other), -neighbourPower)
		},
		vote:   func(age float64) float64 { return halved(age, halfLife) },
		target: func(degree int) float64 { return math.Pow(float64(degree), -targetPower) },
	}
}

func newUserCF(halfLife float64) *walk {
	return &walk{
		graph: newGraph(),
		item:  func(int, int) float64 { return 1 },
		neighbour: func(n neighbour) float64 {
			return float64(n.shared) * float64(n.shared) / (float64(n.own) * float64(n.other))
		},
		vote:   func(age float64) float64 { return halved(age, halfLife) },
		target: func(int) float64 { return 1 },
	}
}

// Scores takes time in proportion to the likes of the history's items and of the candidates.
func (w *walk) Scores(ctx context.Context, c eval.Case) ([]float64, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	scores := make([]float64, len(c.Candidates))
	user, known := w.users[c.User]
	if !known {
		return scores, nil
	}
	w.reach(user)
	for i, candidate := range c.Candidates {
		edges := listOf(candidate, w.items, w.byItem)
		if len(edges) == 0 {
			continue
		}
		sum := 0.0
		for _, e := range edges {
			if weight := w.neighbours[e.node].weight; weight > 0 {
				sum += weight * w.vote(w.age(e))
			}
		}
		scores[i] = sum * w.target(len(edges))
	}
	for _, v := range w.reached {
		w.neighbours[v] = neighbour{}
	}
	w.reached = w.reached[:0]
	return scores, nil
}

// reach finds the neighbours of a user and their weights.
func (w *walk) reach(user int32) {
	if missing := len(w.byUser) - len(w.neighbours); missing > 0 {
		w.neighbours = append(w.neighbours, make([]neighbour, missing)...)
	}
	history := w.byUser[user]
	for j := len(history) - 1; j >= 0; j-- {
		edges := w.byItem[history[j].node]
		weight := w.item(len(history)-1-j, len(edges))
		for _, e := range edges {
			if e.node == user {
				continue
			}
			n := &w.neighbours[e.node]
			if n.shared == 0 {
				w.reached = append(w.reached, e.node)
			}
			n.shared++
			n.sum += weight
		}
	}
	for _, v := range w.reached {
		n := &w.neighbours[v]
		n.own, n.other = len(history), len(w.byUser[v])
		n.weight = w.neighbour(*n)
	}
}
