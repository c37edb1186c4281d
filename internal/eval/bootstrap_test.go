package eval

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// sampled draws users with perUser cases each, all of which have the user's value: a coin of probability p.
func sampled(random *rand.Rand, users, perUser int, p float64) (names []string, values []float64) {
	for u := range users {
		value := 0.0
		if random.Float64() < p {
			value = 1
		}
		for range perUser {
			names = append(names, fmt.Sprint(u))
			values = append(values, value)
		}
	}
	return names, values
}

// The interval covers the truth about as often as it says, also where the cases of a user are all alike: there a
// bootstrap over cases would cover it in some 62 of 100 samples.
func TestIntervalsCoverTheTruth(t *testing.T) {
	const truth, rounds = 0.4, 400
	random := rand.New(rand.NewPCG(7, 7))
	covered := 0
	for i := range rounds {
		names, values := sampled(random, 100, 5, truth)
		interval := NewBootstrap(names, 400, uint64(i)).Mean(values)
		if interval.Low <= truth && truth <= interval.High {
			covered++
		}
	}
	if share := float64(covered) / rounds; share < 0.91 || share > 0.98 {
		t.Errorf("covered in %.3f of the samples, want .95", share)
	}
}

// Five copies of every case say nothing new: only users count.
func TestIntervalsDependOnUsersAndNotOnCases(t *testing.T) {
	names, values := sampled(rand.New(rand.NewPCG(1, 1)), 80, 1, 0.5)
	var names5 []string
	var values5 []float64
	for range 5 {
		names5, values5 = append(names5, names...), append(values5, values...)
	}
	one, five := NewBootstrap(names, 0, 3).Mean(values), NewBootstrap(names5, 0, 3).Mean(values5)
	if !near(one.Low, five.Low) || !near(one.High, five.High) {
		t.Errorf("%+v with a case a user, %+v with five", one, five)
	}
	own := make([]string, len(names5)) // as if every case were of another user
	for i := range own {
		own[i] = fmt.Sprint(i)
	}
	if narrow := NewBootstrap(own, 0, 3).Mean(values5); narrow.High-narrow.Low > 0.6*(five.High-five.Low) {
		t.Errorf("%+v of other users is not narrower than %+v", narrow, five)
	}
	// The textbook's standard error of a share.
	p := one.Mean
	if want := 2 * 1.96 * math.Sqrt(p*(1-p)/80); math.Abs((one.High-one.Low)/want-1) > 0.1 {
		t.Errorf("width %.4f, want about %.4f", one.High-one.Low, want)
	}
}

// Users with many cases weigh as much as their cases do.
func TestMeanIsOverCases(t *testing.T) {
	b := NewBootstrap([]string{"many", "many", "many", "one"}, 0, 1)
	got := b.Mean([]float64{1, 1, 1, 0})
	if got.Mean != 0.75 || got.Low != 0 || got.High != 1 {
		t.Errorf("%+v, want .75 between 0 and 1", got)
	}
}

func TestDifferenceIsPaired(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 5))
	names, z := sampled(random, 200, 2, 0.5)
	a := append([]float64(nil), z...)
	better := 0
	for i := 0; i < len(a) && better < 30; i += 2 { // 30 of 200 users are served better, the others the same
		if a[i] == 0 {
			a[i], a[i+1] = 1, 1
			better++
		}
	}
	b := NewBootstrap(names, 0, 9)
	got := b.Difference(a, z)
	if !near(got.Mean, 30.0/200) || got.Low < 0.09 || got.High > 0.21 || got.Low > got.Mean || got.High < got.Mean {
		t.Errorf("%+v, want .15 within .1 to .2: pairs have no other noise", got)
	}
	if got.P != 1.0/2001 {
		t.Errorf("p = %v, want the smallest, 1/2001", got.P)
	}
	back := b.Difference(z, a)
	if !near(back.Mean, -got.Mean) || !near(back.Low, -got.High) || !near(back.High, -got.Low) || back.P != 1 {
		t.Errorf("back: %+v, want the contrary of %+v", back, got)
	}
	if none := b.Difference(a, a); none.Mean != 0 || none.Low != 0 || none.High != 0 || none.P != 1 {
		t.Errorf("with itself: %+v", none)
	}
	if again := NewBootstrap(names, 0, 9).Difference(a, z); again != got {
		t.Errorf("%+v, again %+v", got, again)
	}
	if other := NewBootstrap(names, 0, 10).Difference(a, z); other == got {
		t.Error("the seed does not matter")
	}
}

// Under "no difference" p is about uniform: below .1 in about a tenth of the samples.
func TestPIsCalibrated(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 11))
	low := 0
	const rounds = 400
	for i := range rounds {
		names, a := sampled(random, 100, 2, 0.5)
		_, z := sampled(random, 100, 2, 0.5)
		if NewBootstrap(names, 400, uint64(i)).Difference(a, z).P < 0.1 {
			low++
		}
	}
	if share := float64(low) / rounds; share < 0.05 || share > 0.15 {
		t.Errorf("p is below .1 in %.3f of the samples", share)
	}
}

func TestOneUserHasNoInterval(t *testing.T) {
	b := NewBootstrap([]string{"u", "u"}, 0, 1)
	got := b.Difference([]float64{1, 1}, []float64{0, 1})
	if got.Mean != 0.5 || !math.IsNaN(got.Low) || !math.IsNaN(got.High) || !math.IsNaN(got.P) {
		t.Errorf("%+v, want .5 and nothing else", got)
	}
	if none := NewBootstrap(nil, 0, 1).Mean(nil); !math.IsNaN(none.Mean) || !math.IsNaN(none.Low) {
		t.Errorf("of nothing: %+v", none)
	}
}

func TestQuantileInterpolates(t *testing.T) {
	sorted := []float64{0, 1, 2, 3, 4}
	for q, want := range map[float64]float64{0: 0, 0.5: 2, 0.625: 2.5, 1: 4} {
		if got := quantile(sorted, q); got != want {
			t.Errorf("%v: %v, want %v", q, got, want)
		}
	}
}

// BenchmarkBootstrap: 2,000 resamples of 2,000 users with a case each, the worst case; well under a second is the aim.
func BenchmarkBootstrap(b *testing.B) {
	names, values := sampled(rand.New(rand.NewPCG(1, 1)), 2000, 1, 0.5)
	boot := NewBootstrap(names, 0, 1)
	for b.Loop() {
		boot.Mean(values)
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(time.Second), "share_of_a_second")
}
