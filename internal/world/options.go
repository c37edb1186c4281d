package world

import (
	"fmt"
	"math"
	"time"

	"github.com/r2rec/r2rec/internal/event"
)

// Options say what a world is like. There are no defaults: start from those of Random or of Plain.
type Options struct {
	// Users, Items and Events are how many there are; events at most, and 1 or more a user on average.
	Users, Items, Events int
	// Start and Span are when it happens.
	Start event.Time
	Span  time.Duration

	// Factors is how many traits an item has, 1 to 64.
	Factors int
	// Sharpness is the standard deviation of the part of the utility that is taste, in nats; 0: nobody has a taste.
	Sharpness float64
	// Differ is the standard deviation of ln s(u) and of ln m(u): how much users differ in how choosy they are and in how
	// much they follow the crowd.
	Differ float64
	// Drift is the time in which a taste becomes another one; 0: tastes stay.
	Drift time.Duration
	// Mood is the standard deviation of what is added to each component of a taste for one session, where a taste's own is 1.
	Mood float64

	// Zipf is the exponent of popularity by rank, and Head the share of Items that is added to ranks: the larger, the more
	// items share the top.
	Zipf, Head float64
	// Newcomers is the share of items that appear during Span. The others appeared before, at most a Span before.
	Newcomers float64
	// Rise is the time in which a new item becomes as popular as it can, and Fade that in which it then loses half of what
	// is above Floor, the share of its popularity that never goes. 0: at once; never.
	Rise, Fade time.Duration
	Floor      float64
	// Hype is the standard deviation of an item's own ups and downs, in nats, Fashion that of what everybody's taste does to
	// popularity, and Season the time in which both become others; 0: they stay.
	Hype, Fashion float64
	Season        time.Duration

	// Activity is the standard deviation of the logarithm of how much users do.
	Activity float64
	// Growth says when users join: at the moment Span·x^(1/Growth), x uniform: 1 is evenly, 2 is more and more of them.
	Growth float64
	// Stay is how long a user comes back for, on average.
	Stay time.Duration
	// Session is how many events a session has on average, and Pause how much time lies between two of them on average; 0:
	// all are of the same moment. Times are in whole seconds.
	Session float64
	Pause   time.Duration
	// Sittings is the share of users who do everything in one session.
	Sittings float64

	// Shelf is how many items stand on one shelf, and Order how much noise is in who stands beside whom, in standard
	// deviations of what they are sorted by. Browse and Follow are the probabilities of going on on the same shelf, and with
	// its next item; together at most 1.
	Shelf          int
	Order          float64
	Browse, Follow float64

	// Rated worlds have ratings from 1 to 5, others clicks, likes and purchases, and views, dislikes and hides.
	Rated bool
	// Positive is the share of events that say that the user likes the item: a rating of 4 or more, a click, a like or a
	// purchase. Opinion is the share of the variance of opinions that taste explains, Quality that which the item explains.
	Positive, Opinion, Quality float64

	// Categories is how many there are; 0: items have none. Informative is the share of the variance of traits that
	// categories explain, and Uncategorised the share of items without any.
	Categories                 int
	Informative, Uncategorised float64
}

// Bounds of what New makes: some hundred megabytes and a minute or two at most.
const (
	maxUsers   = 20_000
	maxItems   = 20_000
	maxEvents  = 1_000_000
	maxFactors = 64
	maxKnots   = 256
	maxNats    = 50

	maxTastes  = 1 << 24 // numbers in all knots of all users' tastes
	maxWeighed = 1 << 29 // utilities, were every event a session of its own
)

const (
	shortestSpan = time.Hour
	longestSpan  = 50 * 365 * 24 * time.Hour
	longest      = time.Duration(math.MaxInt64 / 4) // of any other duration, so that none overflows when added up
)

// Plain is a small world in which everything stands still: tastes and popularity stay, there is no order among items and
// no mood. Its best ranking is by Utility.
func Plain() Options {
	return Options{
		Users: 300, Items: 500, Events: 9000, Start: 1_600_000_000_000, Span: 365 * 24 * time.Hour,
		Factors: 8, Sharpness: 2, Zipf: .8, Head: .02, Floor: 1,
		Activity: .7, Growth: 1, Stay: 100 * 24 * time.Hour, Session: 4, Pause: 2 * time.Minute, Shelf: 1,
		Rated: true, Positive: .6, Opinion: .5, Quality: .2, Categories: 12, Informative: .5,
	}
}

func (o Options) end() event.Time { return o.Start + event.Time(o.Span.Milliseconds()) }

// apart is the share of the span that lies between two knots of a path; 0: there is one knot.
func (o Options) apart(d time.Duration) float64 { return float64(d) / float64(o.Span) }

func (o Options) validate() error {
	for _, f := range []struct {
		name            string
		value, low, top int
	}{
		{"Users", o.Users, 1, maxUsers}, {"Items", o.Items, 1, maxItems}, {"Events", o.Events, o.Users, maxEvents},
		{"Factors", o.Factors, 1, maxFactors}, {"Shelf", o.Shelf, 1, maxItems}, {"Categories", o.Categories, 0, len(subjects)},
	} {
		if f.value < f.low || f.value > f.top {
			return fmt.Errorf("%s %d: want %d to %d", f.name, f.value, f.low, f.top)
		}
	}
	for _, f := range []struct {
		name            string
		value, low, top float64
	}{
		{"Sharpness", o.Sharpness, 0, maxNats}, {"Differ", o.Differ, 0, 2}, {"Mood", o.Mood, 0, 10}, {"Zipf", o.Zipf, 0, 5},
		{"Head", o.Head, 0, 1}, {"Newcomers", o.Newcomers, 0, 1}, {"Floor", o.Floor, 0, 1}, {"Hype", o.Hype, 0, maxNats},
		{"Fashion", o.Fashion, 0, maxNats}, {"Activity", o.Activity, 0, 3}, {"Growth", o.Growth, .1, 10},
		{"Session", o.Session, 1, maxItems}, {"Sittings", o.Sittings, 0, 1}, {"Order", o.Order, 0, 100},
		{"Browse", o.Browse, 0, 1}, {"Follow", o.Follow, 0, 1}, {"Browse + Follow", o.Browse + o.Follow, 0, 1},
		{"Positive", o.Positive, 0, 1}, {"Opinion", o.Opinion, 0, 1}, {"Quality", o.Quality, 0, 1},
		{"Opinion + Quality", o.Opinion + o.Quality, 0, 1}, {"Informative", o.Informative, 0, 1},
		{"Uncategorised", o.Uncategorised, 0, 1},
	} {
		if !(f.value >= f.low && f.value <= f.top) {
			return fmt.Errorf("%s %v: want %v to %v", f.name, f.value, f.low, f.top)
		}
	}
	if o.Span < shortestSpan || o.Span > longestSpan {
		return fmt.Errorf("Span %s: want %s to %s", o.Span, shortestSpan, longestSpan)
	}
	if o.Start < event.Earliest || o.Start > event.Latest-event.Time(o.Span.Milliseconds()) {
		return fmt.Errorf("Start %d: want Unix milliseconds from %s on, and an end by %s", o.Start, event.Earliest, event.Latest)
	}
	for _, f := range []struct {
		name       string
		value, low time.Duration
	}{
		{"Drift", o.Drift, o.Span / maxKnots}, {"Season", o.Season, o.Span / maxKnots}, {"Rise", o.Rise, time.Second},
		{"Fade", o.Fade, time.Second}, {"Stay", o.Stay, time.Second}, {"Pause", o.Pause, time.Second},
	} {
		if f.value != 0 && (f.value < f.low || f.value > longest) {
			return fmt.Errorf("%s %s: want 0, or %s and more, up to %s", f.name, f.value, f.low, longest)
		}
	}
	if n := int64(o.Users) * int64(o.Factors) * int64(knots(o.apart(o.Drift))); n > maxTastes {
		return fmt.Errorf("Users %d with Factors %d that change within Drift %s are %d numbers to keep, the limit is %d: choose fewer, or a longer Drift",
			o.Users, o.Factors, o.Drift, n, maxTastes)
	}
	if n := int64(o.Items) * int64(o.Events); n > maxWeighed {
		return fmt.Errorf("Items %d times Events %d is %d, the limit is %d: choose fewer of one of them", o.Items, o.Events, n, maxWeighed)
	}
	return nil
}
