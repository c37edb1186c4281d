package eval

import (
	"fmt"
	"math/rand/v2"
	"slices"
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
	past := until(events, before)
	d := drawing{
		events: past, names: "fit-",
		chance:  func(place, total float64) float64 { return 2 * float64(n) / total * place / total },
		popular: func(rng *rand.Rand) bool { return rng.IntN(2) == 0 },
	}
	cases, eligible := d.draw(seed)
	if eligible == 0 {
		return nil, fmt.Errorf("draw cases to fit with: none of the %d events before %s is a like by a user with %d earlier ones; choose a later time",
			len(past), before, earlierLikes)
	}
	return cases, nil
}

// DrawSince draws about n cases to measure rankers with from what happened from a time on, as Draw does but for two things: all
// likes are as likely, and the negatives are drawn uniformly or, if popular is set, in proportion to their likes, which
// makes lists that popularity says less about. The user touches none of them at any time.
func DrawSince(events Stream, since event.Time, n int, popular bool, seed uint64) ([]Case, error) {
	d := drawing{
		events: until(events, event.Latest), since: since, names: "drawn-",
		chance:  func(_, total float64) float64 { return float64(n) / total },
		popular: func(*rand.Rand) bool { return popular },
	}
	cases, _ := d.draw(seed)
	if len(cases) == 0 {
		return nil, fmt.Errorf("draw cases: of the %d events none since %s is a like by a user with %d earlier ones; choose an earlier time", len(d.events), since, earlierLikes)
	}
	return cases, nil
}

// until are the events before a time, without refused records.
func until(events Stream, before event.Time) (past []event.Interaction) {
	for in, err := range events {
		if err == nil && in.Timestamp >= before {
			break
		}
		if err == nil {
			past = append(past, in)
		}
	}
	return past
}

// drawing is how cases are drawn.
type drawing struct {
	events  []event.Interaction
	since   event.Time                         // likes before it make no case
	names   string                             // a case is called so, with its place among the eligible likes
	chance  func(place, total float64) float64 // that a like makes a case, by its place among all, from 1
	popular func(*rand.Rand) bool              // the negatives of a case are drawn in proportion to their likes
}

// draw also counts the likes that cases can be made of.
func (d drawing) draw(seed uint64) (cases []Case, likely int) {
	past := d.events
	eligible, touched := eligibleLikes(past)
	eligible = slices.DeleteFunc(eligible, func(i int) bool { return past[i].Timestamp < d.since })
	rng := rand.New(rand.NewPCG(seed, 0xd4a3))
	seen := map[string]bool{}
	var items, likes []string // what was seen, once each, and the item of every like
	next := 0
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
		if rng.Float64() >= d.chance(float64(place+1), float64(len(eligible))) || !seen[in.ItemID] {
			continue
		}
		pool := items
		if d.popular(rng) {
			pool = likes
		}
		drawn := map[string]bool{in.ItemID: true}
		c := Case{ID: d.names + strconv.Itoa(place), User: in.UserID, At: in.Timestamp, Candidates: []string{in.ItemID}, Positive: in.ItemID}
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
	return cases, len(eligible)
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
