package world

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/r2rec/r2rec/internal/event"
)

type user struct {
	id       string
	taste    path
	sharp    float64 // s(u)
	crowd    float64 // m(u)
	generous float64 // standard normal
	sessions []session
}

// session is when a user comes and how much is done then.
type session struct {
	at     event.Time
	events int
}

func (w *World) newUsers(rng *rand.Rand) {
	o := w.opt
	w.users = make([]user, o.Users)
	w.userIndex = make(map[string]int, o.Users)
	ids := distinct(rng, o.Users)
	activity := make([]float64, o.Users)
	total := 0.0
	for k := range w.users {
		w.users[k] = user{
			id: strconv.Itoa(ids[k]), taste: newPath(rng, o.Factors, o.apart(o.Drift)),
			sharp: o.Sharpness * lognormal(rng, o.Differ), crowd: lognormal(rng, o.Differ), generous: normal(rng),
		}
		w.userIndex[w.users[k].id] = k
		activity[k] = lognormal(rng, o.Activity)
		total += activity[k]
	}
	// Everybody's share of the events, rounded so that the sum is right.
	sum, before := 0.0, 0
	for k := range w.users {
		sum += activity[k]
		upTo := int(float64(o.Events) * sum / total)
		w.users[k].sessions = o.newSessions(rng, min(upTo, o.Events)-before)
		before = min(upTo, o.Events)
	}
}

// newSessions spreads a user's events over sessions, in the order of time.
func (o Options) newSessions(rng *rand.Rand, events int) []session {
	span := float64(o.Span.Milliseconds())
	joined := float64(span * exp(log(1-rng.Float64())/o.Growth))
	stay := min(exponential(rng)*float64(o.Stay.Milliseconds()), span-joined)
	sitting := rng.Float64() < o.Sittings
	var sessions []session
	for events > 0 {
		s := session{at: o.Start + event.Time(joined+float64(stay*rng.Float64())), events: events}
		if !sitting {
			s.events = min(events, 1+int(float64(exponential(rng)*(o.Session-1))+.5))
		}
		sessions = append(sessions, s)
		events -= s.events
	}
	slices.SortStableFunc(sessions, func(a, b session) int { return cmp.Compare(a.at, b.at) })
	return sessions
}

// fraction is a time as a share of the span.
func (w *World) fraction(t event.Time) float64 {
	return float64(t-w.opt.Start) / float64(w.opt.Span.Milliseconds())
}

// utility of an item for a user of that taste, at a time of the world.
func (w *World) utility(u *user, i int, t event.Time, taste []float64) float64 {
	if t < w.items[i].born {
		return math.Inf(-1)
	}
	step := min(int(w.fraction(t)*popularitySteps), popularitySteps-1)
	return float64(u.crowd*w.weights[step][i]) + float64(u.sharp*w.fit(i, taste))
}

// fit is how well an item suits a taste: standard normal for a random pair.
func (w *World) fit(i int, taste []float64) float64 {
	return dot(taste, w.items[i].traits) / math.Sqrt(float64(w.opt.Factors))
}
