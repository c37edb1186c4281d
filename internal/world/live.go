package world

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/r2rec/r2rec/internal/event"
)

// choice is one thing that a user did.
type choice struct {
	user, item int
	at         event.Time
	opinion    float64
}

// live lets every user act and turns what was chosen into interactions.
func (w *World) live(rng *rand.Rand) {
	var choices []choice
	for k := range w.users {
		choices = w.act(rng, k, choices)
	}
	slices.SortStableFunc(choices, func(a, b choice) int { return cmp.Compare(a.at, b.at) })
	w.happened = make([]event.Interaction, len(choices))
	rate := w.opt.rater(choices)
	for n, c := range choices {
		w.happened[n] = event.Interaction{
			EventID: "event-" + strconv.Itoa(n+1), UserID: w.users[c.user].id, ItemID: w.catalogue[c.item].ItemID, Timestamp: c.at,
		}
		rate(rng, c.opinion, &w.happened[n])
	}
}

// act adds what one user chooses in all sessions.
func (w *World) act(rng *rand.Rand, k int, choices []choice) []choice {
	o, u := w.opt, &w.users[k]
	had := make([]bool, len(w.items))
	last := -1
	var at event.Time
	for _, s := range u.sessions {
		s.at = max(s.at, at) // a session begins when the one before has ended
		taste := slices.Clone(u.taste.at(w.fraction(s.at)))
		for f := range taste {
			taste[f] += float64(o.Mood * normal(rng))
		}
		liked := w.ranking(rng, u, s, taste, had)
		at = s.at
		for range s.events {
			i := -1
			if last >= 0 {
				i = w.next(rng, u, s.at, taste, had, last)
			}
			for i < 0 && len(liked) > 0 {
				if !had[liked[0]] {
					i = liked[0]
				}
				liked = liked[1:]
			}
			if i < 0 {
				break
			}
			had[i], last = true, i
			choices = append(choices, choice{k, i, at / 1000 * 1000, w.opinion(rng, u, i, taste)})
			at = min(at+event.Time(exponential(rng)*float64(o.Pause.Milliseconds())), o.end())
		}
	}
	return choices
}

// ranking draws as many items as a session has events, without replacement, by the softmax of their utilities.
func (w *World) ranking(rng *rand.Rand, u *user, s session, taste []float64, had []bool) []int {
	type drawn struct {
		key  float64
		item int
	}
	best := make([]drawn, 0, s.events+1)
	for i := range w.items {
		if had[i] || s.at < w.items[i].born {
			continue
		}
		key := w.utility(u, i, s.at, taste) + gumbel(rng)
		if len(best) == s.events && key <= best[len(best)-1].key {
			continue
		}
		place, _ := slices.BinarySearchFunc(best, key, func(d drawn, key float64) int { return cmp.Compare(key, d.key) })
		best = slices.Insert(best, place, drawn{key, i})
		best = best[:min(len(best), s.events)]
	}
	items := make([]int, len(best))
	for k, d := range best {
		items[k] = d.item
	}
	return items
}

// next draws what follows from the last item's shelf; -1: nothing does.
func (w *World) next(rng *rand.Rand, u *user, t event.Time, taste []float64, had []bool, last int) int {
	x := rng.Float64()
	if x >= w.opt.Follow+w.opt.Browse {
		return -1
	}
	shelf := w.shelf(last)
	if x < w.opt.Follow {
		place := w.items[last].place - w.items[last].shelf + 1
		if place < len(shelf) && !had[shelf[place]] && t >= w.items[shelf[place]].born {
			return shelf[place]
		}
		return -1
	}
	best, most := -1, math.Inf(-1)
	for _, i := range shelf {
		if had[i] || t < w.items[i].born {
			continue
		}
		if key := w.utility(u, i, t, taste) + gumbel(rng); key > most {
			best, most = i, key
		}
	}
	return best
}

// opinion of an item: what taste and quality leave of its variance is half the user's generosity, half noise.
func (w *World) opinion(rng *rand.Rand, u *user, i int, taste []float64) float64 {
	o := w.opt
	rest := math.Sqrt(max(0, 1-o.Opinion-o.Quality) / 2)
	return float64(math.Sqrt(o.Opinion)*w.fit(i, taste)) + float64(math.Sqrt(o.Quality)*w.items[i].quality) +
		float64(rest*u.generous) + float64(rest*normal(rng))
}

// Shares of ratings of 5 among those of 4 and 5, and of 3 and of 2 or 3 among the others.
const (
	fives  = .4
	threes = .5
	twos   = .85
)

// rater fills in what is said about a choice, so that the share Positive of all choices are likes.
func (o Options) rater(choices []choice) func(*rand.Rand, float64, *event.Interaction) {
	opinions := make([]float64, len(choices))
	for n, c := range choices {
		opinions[n] = c.opinion
	}
	slices.Sort(opinions)
	above := func(share float64) float64 { // the opinion that this share of all is not below
		if n := len(opinions) - int(float64(share*float64(len(opinions)))+.5); n < len(opinions) {
			return opinions[n]
		}
		return math.Inf(1)
	}
	rest := 1 - o.Positive
	bounds := []float64{above(o.Positive + float64(rest*twos)), above(o.Positive + float64(rest*threes)), above(o.Positive), above(o.Positive * fives)}
	return func(rng *rand.Rand, opinion float64, in *event.Interaction) {
		stars := 1
		for _, b := range bounds {
			if opinion >= b {
				stars++
			}
		}
		if o.Rated {
			value := float64(stars)
			in.Type, in.Value = event.Rating, &value
			return
		}
		in.Type = pick(rng, event.View, event.View, event.Dislike, event.Dislike, event.Hide)
		if stars >= 4 {
			in.Type = pick(rng, event.Click, event.Click, event.Click, event.Like, event.Purchase)
		}
	}
}

func pick[T any](rng *rand.Rand, from ...T) T { return from[rng.IntN(len(from))] }
