package graphcache

import (
	"math"
	"testing"

	"github.com/r2rec/r2rec/internal/event"
	"pgregory.net/rapid"
)

func TestFadeIsHalvingByEachHalfLife(t *testing.T) {
	const second, hour = 1000, 3_600_000
	ages := rapid.OneOf(
		rapid.Int64Range(0, 3*second), rapid.Int64Range(0, 100*hour), rapid.Int64Range(0, fadable-1),
		rapid.Int64Range(fadable-3, fadable+3), rapid.Int64Range(fadable, 1<<50),
		rapid.Map(rapid.Int64Range(1, longs<<midBits-1), func(n int64) int64 { return n<<shortBits - n&1 }), // where short parts begin and end
		rapid.Map(rapid.Int64Range(2, 2*longs-1), func(n int64) int64 { return n/2<<(midBits+shortBits) - n&1 }),
	)
	rapid.Check(t, func(t *rapid.T) {
		age := event.Time(ages.Draw(t, "age"))
		var got faded
		got.fade(age)
		for k, h := range event.HalfLives {
			x := float64(age) / float64(h.Milliseconds())
			want := math.Exp2(-x)
			if x >= mostHalvings {
				want = 0
			}
			if math.Abs(got[k]-want) > 1e-15*(1+x)*want { // x is rounded, too
				t.Fatalf("%d ms fade to %v by half-life %v, want %v", age, got[k], h, want)
			}
		}
	})
}

func BenchmarkFade(b *testing.B) {
	var f faded
	sum := 0.0
	for i := range b.N {
		f.fade(event.Time(i%1000) * 1_234_567_890 / 10)
		sum += f[0] + f[1] + f[2]
	}
	_ = sum
}
