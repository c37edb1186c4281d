package world

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/r2rec/r2rec/internal/event"
)

func TestHostileOptions(t *testing.T) {
	for want, change := range map[string]func(*Options){
		"Users 0":                          func(o *Options) { o.Users = 0 },
		"Users -1":                         func(o *Options) { o.Users = -1 },
		"Items 9223372036854":              func(o *Options) { o.Items = math.MaxInt },
		"Events 299: want 300":             func(o *Options) { o.Events = 299 },
		"Events 1000001":                   func(o *Options) { o.Events = 1_000_001 },
		"Factors 0":                        func(o *Options) { o.Factors = 0 },
		"Factors 65":                       func(o *Options) { o.Factors = 65 },
		"Shelf 0":                          func(o *Options) { o.Shelf = 0 },
		"Categories 1000":                  func(o *Options) { o.Categories = 1000 },
		"Sharpness NaN":                    func(o *Options) { o.Sharpness = math.NaN() },
		"Sharpness -1":                     func(o *Options) { o.Sharpness = -1 },
		"Mood +Inf":                        func(o *Options) { o.Mood = math.Inf(1) },
		"Zipf 6":                           func(o *Options) { o.Zipf = 6 },
		"Growth 0":                         func(o *Options) { o.Growth = 0 },
		"Session 0.5":                      func(o *Options) { o.Session = .5 },
		"Browse + Follow 1.2":              func(o *Options) { o.Browse, o.Follow = .6, .6 },
		"Opinion + Quality 1.1":            func(o *Options) { o.Opinion, o.Quality = .9, .2 },
		"Positive 1.5":                     func(o *Options) { o.Positive = 1.5 },
		"Span 0s":                          func(o *Options) { o.Span = 0 },
		"Span -1h":                         func(o *Options) { o.Span = -time.Hour },
		"Span 2562047h":                    func(o *Options) { o.Span = math.MaxInt64 },
		"Start 0":                          func(o *Options) { o.Start = 0 },
		"Start 253402300799999":            func(o *Options) { o.Start = event.Latest },
		"Start -9223372036854775":          func(o *Options) { o.Start = math.MinInt64 },
		"Start 92233720368547758":          func(o *Options) { o.Start = math.MaxInt64 },
		"Drift 1ns":                        func(o *Options) { o.Drift = 1 },
		"Season -1s":                       func(o *Options) { o.Season = -time.Second },
		"Fade 2562047h":                    func(o *Options) { o.Fade = math.MaxInt64 },
		"Items 20000 times Events 1000000": func(o *Options) { o.Items, o.Events = maxItems, maxEvents },
		"Users 20000 with Factors 64": func(o *Options) {
			o.Users, o.Factors, o.Events, o.Drift = maxUsers, maxFactors, maxUsers, o.Span/200
		},
		"Pause 1ms": func(o *Options) { o.Pause = time.Millisecond },
	} {
		o := Plain()
		change(&o)
		if _, err := New(1, o); err == nil || !strings.Contains(err.Error(), "make a world: "+want) {
			t.Errorf("%v, want it to say %q", err, want)
		}
	}
	if _, err := New(1, Options{}); err == nil {
		t.Error("options without anything make a world")
	}
}

// The largest and the smallest values that are allowed still make a world.
func TestExtremeOptions(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"one of each":   func(o *Options) { o.Users, o.Items, o.Events = 1, 1, 1 },
		"huge nats":     func(o *Options) { o.Sharpness, o.Hype, o.Fashion, o.Zipf = maxNats, maxNats, maxNats, 5 },
		"all different": func(o *Options) { o.Differ, o.Activity, o.Mood = 2, 3, 10 },
		"all on shelf":  func(o *Options) { o.Shelf, o.Browse = o.Items, 1 },
		"all in order":  func(o *Options) { o.Shelf, o.Follow = maxItems, 1 },
		"nobody likes":  func(o *Options) { o.Positive = 0 },
		"all like":      func(o *Options) { o.Positive = 1 },
		"short lives":   func(o *Options) { o.Stay, o.Fade, o.Rise, o.Floor = time.Second, time.Second, time.Second, 0 },
		"long lives":    func(o *Options) { o.Stay, o.Fade, o.Rise = longestSpan*4/3, longestSpan*4/3, longestSpan*4/3 },
		"restless":      func(o *Options) { o.Drift, o.Season = o.Span/maxKnots, o.Span/maxKnots },
	} {
		o := Plain()
		change(&o)
		w, err := New(1, o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for in := range w.Interactions() {
			if err := in.Validate(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if u, err := w.Utility(in.UserID, in.ItemID, in.Timestamp); err != nil || math.IsNaN(u) {
				t.Fatalf("%s: utility %v, %v", name, u, err)
			}
		}
	}
}

// Random gives options that make a world, with many likes to draw cases from.
func TestRandomWorldsCanBeMade(t *testing.T) {
	barren := 0
	for seed := range uint64(300) {
		o := Random(seed)
		if err := o.validate(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if seed%50 > 0 {
			continue
		}
		likes := map[string]int{}
		eligible := 0
		for in := range create(t, seed, o).Interactions() {
			if isLike(in) {
				likes[in.UserID]++
				if likes[in.UserID] > 5 {
					eligible++
				}
			}
		}
		if eligible < 300 {
			barren++
		}
	}
	if barren > 0 {
		t.Errorf("%d of 6 worlds have hardly a like by a user with five earlier ones", barren)
	}
}

func isLike(in event.Interaction) bool {
	switch in.Type {
	case event.Rating:
		return *in.Value >= 4
	case event.Click, event.Like, event.Purchase:
		return true
	default:
		return false
	}
}

// What the options promise can be counted in the events.
func TestOptionsDoWhatTheySay(t *testing.T) {
	with := func(change func(*Options)) *World {
		o := Plain()
		change(&o)
		return create(t, 11, o)
	}
	between := func(what string, got, low, high float64) {
		t.Helper()
		if !(got >= low && got <= high) {
			t.Errorf("%s: %.3f, want %v to %v", what, got, low, high)
		}
	}
	for _, rated := range []bool{true, false} {
		w := with(func(o *Options) { o.Rated, o.Positive = rated, .45 })
		positive, ratings := 0.0, 0.0
		for in := range w.Interactions() {
			if isLike(in) {
				positive++
			}
			if in.Type == event.Rating {
				ratings++
			}
		}
		n := float64(len(events(w)))
		between(fmt.Sprintf("share of likes, rated %v", rated), positive/n, .449, .451)
		between("share of ratings", ratings/n, map[bool]float64{true: 1}[rated], map[bool]float64{true: 1}[rated])
	}

	flat, steep := with(func(o *Options) { o.Zipf = 0 }), with(func(o *Options) { o.Zipf = 1.2 })
	between("share of the top tenth of items where popularity is flat", topTenth(flat, itemOf), .1, .25)
	between("share of the top tenth of items where it is steep", topTenth(steep, itemOf), .35, .8)
	even, skewed := with(func(o *Options) { o.Activity = 0 }), with(func(o *Options) { o.Activity = 1.2 })
	between("share of the most active tenth where all are", topTenth(even, userOf), .09, .12)
	between("share of the most active tenth where few are", topTenth(skewed, userOf), .35, .6)

	sitting := with(func(o *Options) { o.Sittings, o.Pause = 1, 0 })
	moments := map[string]bool{}
	for in := range sitting.Interactions() {
		moments[in.UserID+in.Timestamp.String()] = true
	}
	between("moments a user where all is done in one", float64(len(moments))/float64(len(sitting.Users())), .9, 1)
	short := with(func(o *Options) { o.Session = 3 })
	sessions := 0
	for _, u := range short.users {
		sessions += len(u.sessions)
	}
	between("events a session", float64(len(events(short)))/float64(sessions), 2.7, 3.3)

	in := with(func(o *Options) { o.Shelf, o.Follow, o.Sittings = 500, .5, 1 })
	between("share of choices that are the next on the shelf", following(in), .35, .5)
	between("the same where nobody goes by it", following(with(func(o *Options) { o.Shelf, o.Sittings = 500, 1 })), 0, .02)
	between("the same where the shelf is browsed", sameShelf(with(func(o *Options) { o.Shelf, o.Browse, o.Sittings = 10, .9, 1 })), .3, 1)

	still, drifting := with(func(o *Options) {}), with(func(o *Options) { o.Drift = o.Span / 4 })
	between("correlation of first and last tastes that stay", changes(still), .999, 1.001)
	between("correlation of first and last tastes that drift", changes(drifting), -.2, .2)

	fresh, old := with(func(o *Options) { o.Newcomers, o.Fade, o.Floor = 1, o.Span/20, .01 }), with(func(o *Options) { o.Newcomers = 1 })
	if a, b := meanAge(fresh), meanAge(old); a > .6*b {
		t.Errorf("what fades is chosen at a mean age of %.3f spans, what does not at %.3f", a, b)
	}

	none, some := with(func(o *Options) { o.Categories = 0 }), with(func(o *Options) { o.Uncategorised = .3 })
	between("share of items without categories where there are none", uncategorised(none), 1, 1)
	between("share of items without categories", uncategorised(some), .22, .38)
	between("likeness of items of one category where it says nothing", alike(with(func(o *Options) { o.Informative = 0 })), -.05, .05)
	between("likeness of items of one category where it says all", alike(with(func(o *Options) { o.Informative = 1 })), .25, 1)
}

func itemOf(in event.Interaction) string { return in.ItemID }
func userOf(in event.Interaction) string { return in.UserID }

// topTenth is the share of events that the largest tenth of items or users has.
func topTenth(w *World, of func(event.Interaction) string) float64 {
	count := map[string]int{}
	for in := range w.Interactions() {
		count[of(in)]++
	}
	sizes := make([]int, 0, len(count))
	total := 0
	for _, n := range count {
		sizes = append(sizes, n)
		total += n
	}
	slices.Sort(sizes)
	top := 0
	for _, n := range sizes[len(sizes)*9/10:] {
		top += n
	}
	return float64(top) / float64(total)
}

// steps calls do with each two items that a user chose one after the other.
func steps(w *World, do func(a, b item)) (n float64) {
	last := map[string]int{}
	for in := range w.Interactions() {
		i := w.itemIndex[in.ItemID]
		if before, ok := last[in.UserID]; ok {
			do(w.items[before], w.items[i])
			n++
		}
		last[in.UserID] = i
	}
	return n
}

func following(w *World) float64 {
	hits := 0.0
	n := steps(w, func(a, b item) {
		if b.place == a.place+1 {
			hits++
		}
	})
	return hits / n
}

func sameShelf(w *World) float64 {
	hits := 0.0
	n := steps(w, func(a, b item) {
		if b.shelf == a.shelf {
			hits++
		}
	})
	return hits / n
}

// changes is the correlation over all users and items of what taste makes of the utility, at the start and at the end.
func changes(w *World) float64 {
	var xy, xx, yy float64
	for _, u := range w.users {
		for i := range w.items {
			x, y := w.fit(i, u.taste.at(0)), w.fit(i, u.taste.at(1))
			xy, xx, yy = xy+x*y, xx+x*x, yy+y*y
		}
	}
	return xy / math.Sqrt(xx*yy)
}

func meanAge(w *World) float64 {
	sum, n := 0.0, 0.0
	for in := range w.Interactions() {
		sum += float64(in.Timestamp-w.items[w.itemIndex[in.ItemID]].born) / float64(w.opt.Span.Milliseconds())
		n++
	}
	return sum / n
}

func uncategorised(w *World) float64 {
	n := 0.0
	for _, it := range w.Items() {
		if len(it.Categories) == 0 {
			n++
		}
	}
	return n / float64(len(w.Items()))
}

// alike is the mean product of the traits of two items that share their first category, 1 being that of an item with itself.
func alike(w *World) float64 {
	sum, n := 0.0, 0.0
	for i, a := range w.items {
		for _, b := range w.items[:i] {
			if len(a.kinds) > 0 && len(b.kinds) > 0 && a.kinds[0] == b.kinds[0] {
				sum += dot(a.traits, b.traits) / float64(w.opt.Factors)
				n++
			}
		}
	}
	return sum / n
}
