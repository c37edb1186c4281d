package ope

import (
	"encoding/csv"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// numpy's figures of one clip: bench/peers/ope_numpy.py says how to make them.
type numpy struct {
	Logged, IPS, SNIPS, Effective, Clipped, DM, DR float64
	SNIPSDifference                                float64 `json:"snips_difference"`
	DRDifference                                   float64 `json:"dr_difference"`
	MaxWeight                                      float64 `json:"max_weight"`
	MeanWeight                                     float64 `json:"mean_weight"`
	SE                                             struct {
		SNIPS           float64
		SNIPSDifference float64 `json:"snips_difference"`
		DRDifference    float64 `json:"dr_difference"`
	}
}

// The functions, Evaluate and Gate give what numpy gave for the same samples, and so do the standard errors by users.
func TestNumpyAgrees(t *testing.T) {
	samples := numpySamples(t)
	var want map[string]numpy
	raw, err := os.ReadFile("testdata/numpy.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	for name, clip := range map[string]float64{"10": 10, "3": 3, "none": math.Inf(1)} {
		w := want[name]
		r, err := Evaluate(samples, Options{Clip: clip, Resampling: Resampling{Resamples: 200}})
		if err != nil {
			t.Fatal(err)
		}
		f, err := Gate(samples, GateOptions{Clip: clip})
		if err != nil {
			t.Fatal(err)
		}
		for what, got := range map[string][2]float64{
			"logged": {r.Logged.Estimate, w.Logged}, "effective": {EffectiveSample(samples), w.Effective}, "clipped": {ClippedShare(samples, clip), w.Clipped},
			"max weight": {r.MaxWeight, w.MaxWeight}, "mean weight": {r.MeanWeight.Estimate, w.MeanWeight},
			"DM": {DM(samples), w.DM}, "IPS": {IPS(samples, clip), w.IPS}, "SNIPS": {SNIPS(samples, clip), w.SNIPS}, "DR": {DR(samples, clip), w.DR},
			"SNIPS difference": {SNIPSDifference(samples, clip), w.SNIPSDifference}, "DR difference": {DRDifference(samples, clip), w.DRDifference},
			"reported DM": {r.DM.Estimate, w.DM}, "reported IPS": {r.IPS.Estimate, w.IPS}, "reported SNIPS": {r.SNIPS.Estimate, w.SNIPS}, "reported DR": {r.DR.Estimate, w.DR},
			"reported SNIPS difference": {r.SNIPSDifference.Estimate, w.SNIPSDifference}, "reported DR difference": {r.DRDifference.Estimate, w.DRDifference},
			"SE of SNIPS": {r.SNIPS.SE, w.SE.SNIPS}, "SE of the SNIPS difference": {r.SNIPSDifference.SE, w.SE.SNIPSDifference}, "SE of the DR difference": {r.DRDifference.SE, w.SE.DRDifference},
			"the gate's SNIPS": {f.SNIPS.Estimate, w.SNIPSDifference}, "the gate's DR": {f.DR.Estimate, w.DRDifference}, "the gate's SE": {f.DR.SE, w.SE.DRDifference},
			"the gate's effective sample": {f.Effective, w.Effective},
		} {
			if !(math.Abs(got[0]-got[1]) <= 1e-6) || got[1] == 0 && what != "clipped" {
				t.Errorf("clip %s: %s is %v, numpy says %v", name, what, got[0], got[1])
			}
		}
	}
}

func numpySamples(t *testing.T) (samples []Sample) {
	t.Helper()
	f, err := os.Open("testdata/samples.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows[1:] {
		var v [6]float64
		for i := range v {
			if v[i], err = strconv.ParseFloat(row[i+1], 64); err != nil {
				t.Fatal(err)
			}
		}
		samples = append(samples, Sample{row[0], v[0], v[1], v[2], v[3], v[4], v[5]})
	}
	return samples
}

func TestSameBoundsOnAnyNumberOfThreads(t *testing.T) {
	samples := noDifference["actions matter"].draw(rand.New(rand.NewPCG(1, 1)), 80)
	evaluate := func(threads int, seed uint64) Report {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(threads))
		r, err := Evaluate(samples, Options{Resampling: Resampling{Resamples: 501, Seed: seed}})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	one := evaluate(1, 3)
	for _, threads := range []int{2, 3, 8} {
		if diff := cmp.Diff(one, evaluate(threads, 3)); diff != "" {
			t.Errorf("%d threads: %s", threads, diff)
		}
	}
	if cmp.Equal(one, evaluate(1, 4)) {
		t.Error("another seed draws the same users")
	}
}

// Every resample draws from its own stream, so that threads share out the work and change nothing; and where the users are
// many and alike, the studentized deviations are near t's.
func TestResamplesAreIndependentOfThreads(t *testing.T) {
	u := sumUsers(noDifference["actions matter"].draw(rand.New(rand.NewPCG(1, 1)), 80), DefaultClip)
	m := []*moments{newMoments(u, loggedValue), newMoments(u, snipsDifference)}
	at := u.tBounds(.05, loggedValue, snipsDifference)
	draw := func(threads int) [][]float64 {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(threads))
		return u.studentized(m, at, 2001, 1)
	}
	one := draw(1)
	for _, threads := range []int{2, 7} {
		if !cmp.Equal(one, draw(threads)) {
			t.Errorf("%d threads draw other users", threads)
		}
	}
	for i := range one {
		slices.Sort(one[i])
		for share, want := range map[float64]float64{.05: -1.66, .5: 0, .95: 1.66} {
			if got := one[i][int(share*2001)]; math.Abs(got-want) > .4 {
				t.Errorf("statistic %d: a share of %v of the deviations lies below %v, of t's below %v", i, share, got, want)
			}
		}
	}
}

// Where weights are large, the bootstrap's bounds are as skewed as the estimate, and the wider of both is taken.
func TestBoundsAreTheWiderOfTwo(t *testing.T) {
	samples := noDifference["large weights"].draw(rand.New(rand.NewPCG(2, 2)), 60)
	u := sumUsers(samples, DefaultClip)
	for _, alpha := range []float64{.05, .005, .0005} {
		byT, both := u.tBounds(alpha, ipsDifference, snipsDifference), u.bounds(alpha, Resampling{}, ipsDifference, snipsDifference)
		for i := range both {
			if both[i].Low > byT[i].Low || both[i].High < byT[i].High || both[i].SE != byT[i].SE {
				t.Errorf("alpha %v: %+v is narrower than %+v", alpha, both[i], byT[i])
			}
		}
		if both[0].High == byT[0].High && both[0].Low == byT[0].Low {
			t.Errorf("alpha %v: resampling widens nothing", alpha)
		}
	}
}

func TestFewUsersHaveNoInterval(t *testing.T) {
	samples := []Sample{{User: "a", Reward: 1, Logged: .5, Target: .6}, {User: "a", Reward: 0, Logged: .5, Target: .4}}
	r, err := Evaluate(samples, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if want := (Bounds{Estimate: .5, Low: .5, High: .5}); r.Logged != want {
		t.Errorf("%+v, want %+v", r.Logged, want)
	}
	if r.Refused == "" {
		t.Error("weights of two decisions are believed")
	}
}

// An estimate is not believed where the weights' mean shows that the logged probabilities are wrong.
func TestWrongPropensitiesAreRefused(t *testing.T) {
	for want, logged := range map[string]float64{"": 1, "cannot be above 1": 1. / 3, "cannot be below 1": 1.25} {
		samples := improved.draw(rand.New(rand.NewPCG(1, 1)), 600)
		for i := range samples {
			samples[i].Logged = min(1, samples[i].Logged*logged)
		}
		r, err := Evaluate(samples, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if (r.Refused == "") != (want == "") || !strings.Contains(r.Refused, want) {
			t.Errorf("probabilities %.2f times the true ones: %q, want %q", logged, r.Refused, want)
		}
	}
}
