package graphcache

import (
	"math"

	"github.com/r2rec/r2rec/internal/event"
)

// The evidence halves every edge of every candidate's list by each of event.HalfLives, some 80,000 times a snapshot. Ages
// are whole milliseconds and the half-lives fixed, so that an age is cut into three parts: of the upper two, tables know
// what they halve to, and the lowest is so short that the series of the exponential function ends early. There is no
// division, and the half-lives share the cutting.
const (
	shortBits = 17 // 131 s: 2^-(131 s / 14 days) is 1 - 7.5e-5, and the fourth power of that below 2^-53
	midBits   = 10 // 37 hours
	longs     = 1 << 12
	fadable   = longs << (midBits + shortBits) // ms, 17 years; older edges are few
)

// faded is a choice halved with its age by each of event.HalfLives.
type faded [len(event.HalfLives)]float64

// What many short ages or long ones halve to, and the rate of decay a millisecond.
var (
	midFades  = fades(1<<midBits, 1<<shortBits)
	longFades = fades(longs, 1<<(midBits+shortBits))
	decay     = func() (rates faded) {
		for k, h := range event.HalfLives {
			rates[k] = math.Ln2 / float64(h.Milliseconds())
		}
		return rates
	}()
)

// fades are n ages that lie step milliseconds apart, from 0 on.
func fades(n int, step event.Time) []faded {
	table := make([]faded, n)
	for i := range table {
		for k, h := range event.HalfLives {
			table[i][k] = math.Exp2(-float64(event.Time(i)*step) / float64(h.Milliseconds()))
		}
	}
	return table
}

// fade is halve for each of the half-lives, to within 4 units in the last place.
func (f *faded) fade(age event.Time) {
	if age >= fadable {
		for k, h := range event.HalfLives {
			f[k] = halve(float64(age) / float64(h.Milliseconds()))
		}
		return
	}
	long, mid := &longFades[age>>(midBits+shortBits)], &midFades[age>>shortBits&(1<<midBits-1)]
	short := float64(age & (1<<shortBits - 1))
	for k := range f {
		y := short * decay[k]
		f[k] = long[k] * mid[k] * (1 - y*(1-y*(1./2-y*(1./6))))
	}
}
