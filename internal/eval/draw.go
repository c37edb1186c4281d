package eval

import (
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/r2rec/r2rec/internal/event"
)

// The protocol's terms of a case: how much a user must have liked before, and how many items it is asked against.
const (
	earlierLikes = 5
	negatives    = 19
)

// drawTries bounds the search for a case's negatives; a case for which it fails is left out.
const drawTries = 4000

// Draw draws about n cases to fit a ranker with from the events before a time, as the protocol draws those to measure
// it with: a like by a user with at least five earlier ones (in the order of the stream, so that some may be of the same
// moment), of an item that was seen before, though not touched by the user, against 19 items that were seen before and
// that the user does not touch before that time. In every second case they are drawn in proportion to their likes, else
// uniformly. Later likes are taken more often, in proportion to their place among all. Where there are few likes, fewer
// than n cases come. They come in the order of time. Refused records are left out.
func Draw(events Stream, before event.Time, n int, seed uint64) ([]Case, error) {
	var past []event.Interaction
	for in, err := range events {
		if err == nil && in.Timestamp >= before {
			break
		}
		if err == nil {
			past = append(past, in)
		}
	}
	eligible, touched := eligibleLikes(past)
	if len(eligible) == 0 {
		return nil, fmt.Errorf("draw cases to fit with: none of the %d events before %s is a like by a user with %d earlier ones; choose a later time",
			len(past), before, earlierLikes)
	}
	rng := rand.New(rand.NewPCG(seed, 0xd4a3))
	seen := map[string]bool{}
	var items, likes []string // what was seen, once each, and the item of every like
	next := 0
	var cases []Case
	for place, i := range eligible {
		in := past[i]
		for ; past[next].Timestamp < in.Timestamp; next++ {
			e := past[next]
			if !seen[e.ItemID] {
				seen[e.ItemID] = true
				items = append(items, e.ItemID)
			}
			if IsPositive(e) {
				likes = append(likes, e.ItemID)
			}
		}
		total := float64(len(eligible))
		if rng.Float64() >= 2*float64(n)/total*float64(place+1)/total || !seen[in.ItemID] {
			continue
		}
		pool := items
		if rng.IntN(2) == 0 {
			pool = likes
		}
		drawn := map[string]bool{in.ItemID: true}
		c := Case{ID: "fit-" + strconv.Itoa(place), User: in.UserID, At: in.Timestamp, Candidates: []string{in.ItemID}, Positive: in.ItemID}
		for tries := 0; len(drawn) <= negatives && tries < drawTries && len(pool) > 0; tries++ {
			x := pool[rng.IntN(len(pool))]
			if !drawn[x] && !touched[touch{in.UserID, x}] {
				drawn[x] = true
				c.Candidates = append(c.Candidates, x)
			}
		}
		if len(drawn) <= negatives {
			continue
		}
		rng.Shuffle(len(c.Candidates), func(i, j int) { c.Candidates[i], c.Candidates[j] = c.Candidates[j], c.Candidates[i] })
		cases = append(cases, c)
	}
	return cases, nil
}

type touch struct{ user, item string }

// eligibleLikes are the events that a case can be made of, and everything that was touched.
func eligibleLikes(events []event.Interaction) (eligible []int, touched map[touch]bool) {
	touched = map[touch]bool{}
	likes := map[string]int{}
	for i, in := range events {
		at := touch{in.UserID, in.ItemID}
		positive := IsPositive(in)
		if positive && likes[in.UserID] >= earlierLikes && !touched[at] {
			eligible = append(eligible, i)
		}
		touched[at] = true
		if positive {
			likes[in.UserID]++
		}
	}
	return eligible, touched
}
