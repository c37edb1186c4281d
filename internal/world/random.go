package world

import (
	"math/rand/v2"
	"time"

	"github.com/r2rec/r2rec/internal/event"
)

const day = 24 * time.Hour

// Random draws Options from broad distributions: what is learned from many such worlds has to hold in all of them, and so
// perhaps in the real one. Each world has 10,000 to 40,000 events, and takes some 0.3 s to make.
func Random(seed uint64) Options {
	rng := rand.New(rand.NewPCG(seed, 0x0d0))
	span := time.Duration(logUniform(rng, 20, 4000) * float64(day))
	o := Options{
		Users: int(logUniform(rng, 200, 900)), Items: int(logUniform(rng, 500, 5000)), Events: int(logUniform(rng, 10_000, 40_000)),
		Start: event.Time(uniform(rng, 800, 1700) * 1e9), Span: span,
		Factors: int(logUniform(rng, 2, 12)), Sharpness: uniform(rng, 1.5, 5), Differ: uniform(rng, 0, .5), Mood: uniform(rng, 0, 1),
		Zipf: uniform(rng, .7, 2.2), Head: logUniform(rng, .001, .05),
		Newcomers: uniform(rng, 0, .7), Floor: logUniform(rng, .003, 1), Hype: uniform(rng, 0, 2), Fashion: uniform(rng, 0, .6),
		Season:   part(rng, span, .03, .5),
		Activity: uniform(rng, .5, 1.2), Growth: uniform(rng, .7, 2),
		Stay: part(rng, span, .01, .5), Session: logUniform(rng, 1.5, 60), Sittings: uniform(rng, 0, .9),
		Shelf: int(logUniform(rng, 4, 60)), Order: logUniform(rng, .05, 2), Follow: uniform(rng, 0, .4),
		Rated: rng.IntN(4) > 0, Positive: uniform(rng, .4, .9), Opinion: uniform(rng, .2, .6), Quality: uniform(rng, 0, .3),
		Categories: 3 + rng.IntN(10), Informative: uniform(rng, .3, .95), Uncategorised: uniform(rng, 0, .05),
	}
	o.Browse = uniform(rng, .1, .95) * (1 - o.Follow)
	o.Drift = sometimes(rng, .8, part(rng, span, .1, 2))
	o.Rise = sometimes(rng, .5, part(rng, span, .001, .05))
	o.Fade = sometimes(rng, .8, part(rng, span, .02, 1))
	o.Pause = sometimes(rng, .9, time.Duration(logUniform(rng, 2, 300)*float64(time.Second)))
	if rng.IntN(10) == 0 {
		o.Categories = 0
	}
	return o
}

func uniform(rng *rand.Rand, low, high float64) float64 {
	return low + float64((high-low)*rng.Float64())
}

func logUniform(rng *rand.Rand, low, high float64) float64 {
	return low * exp(float64(log(high/low)*rng.Float64()))
}

// part draws a part of a duration, in whole seconds.
func part(rng *rand.Rand, of time.Duration, low, high float64) time.Duration {
	return time.Duration(logUniform(rng, low, high) * float64(of)).Truncate(time.Second)
}

func sometimes(rng *rand.Rand, share float64, d time.Duration) time.Duration {
	if rng.Float64() < share {
		return d
	}
	return 0
}
