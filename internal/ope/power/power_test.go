package power

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/r2rec/r2rec/internal/ope"
)

// cases are of users who choose by two of three features, the more so the more resolute they are.
func cases(n int) (out []Case) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		c := Case{User: fmt.Sprint("user", i/8)}
		best := math.Inf(-1)
		for a := range 8 {
			f := []float64{r.Float64(), r.Float64(), r.Float64()}
			c.Features = append(c.Features, f)
			if z := float64(2+i/8%3)*(f[0]+f[1]) - math.Log(r.ExpFloat64()); z > best {
				best, c.Chosen = z, a
			}
		}
		out = append(out, c)
	}
	return out
}

func runOn(t *testing.T, threads int, o Options) *Result {
	t.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(threads))
	r, err := Run(t.Context(), cases(3000), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What is not better is promoted in a share of at most alpha, what is better is with enough decisions, and with too few
// the answer is "underpowered".
func TestGatesPromoteWhatIsBetter(t *testing.T) {
	const reruns = 20
	o := Options{Improvements: []float64{0, .02}, Decisions: []int{400, 3000}, Reruns: reruns, Seed: 1, Gate: ope.GateOptions{Detect: .02, Resampling: ope.Resampling{Resamples: 200}}}
	told := 0
	o.Progress = func(done, total int) {
		if told++; done != told || total != 80 {
			t.Errorf("told of %d of %d after %d", done, total, told-1)
		}
	}
	r := runOn(t, 2, o)
	for i, want := range o.Improvements {
		p := r.Policies[i]
		if math.Abs(p.Improvement-want) > 1e-6 {
			t.Errorf("a policy that is to be better by %v is by %v", want, p.Improvement)
		}
		if math.Abs(p.Effective-.76) > .001 || !(p.Variance > 0) || p.DesignEffect < 1 {
			t.Errorf("%+v", p)
		}
		for j, n := range o.Decisions {
			if got := p.Points[j]; got.Decisions != n || got.Promoted+got.Refused+got.Underpowered != reruns {
				t.Errorf("%+v", got)
			}
		}
	}
	if !(r.Logging < r.Learned && r.Learned <= r.Best+.01 && r.Best < 1) {
		t.Errorf("logging %v, learned %v, best %v", r.Logging, r.Learned, r.Best)
	}
	same, better := r.Policies[0].Points, r.Policies[1].Points
	if same[1].Promoted > 3 || better[0].Underpowered != reruns || better[1].Promoted < reruns*3/4 || better[1].Share() != float64(better[1].Promoted)/reruns {
		t.Errorf("as good: %+v, better: %+v", same, better)
	}
	if r.Policies[0].Needed != 0 || r.Policies[1].Needed != r.Needed || r.Needed < 400 || r.Needed > 3000 || math.Abs(r.Alpha-.0304) > 1e-4 {
		t.Errorf("needed %d, %d, %d at alpha %v", r.Policies[0].Needed, r.Policies[1].Needed, r.Needed, r.Alpha)
	}
}

func TestSameCountsOnAnyNumberOfThreads(t *testing.T) {
	o := Options{Improvements: []float64{0, .01}, Decisions: []int{600}, Reruns: 6, Seed: 3, Gate: ope.GateOptions{Detect: .1, Resampling: ope.Resampling{Resamples: 200}}}
	one := runOn(t, 1, o)
	if diff := cmp.Diff(one, runOn(t, 4, o)); diff != "" {
		t.Error(diff)
	}
	o.Seed = 4
	if cmp.Equal(one, runOn(t, 1, o)) {
		t.Error("another seed gives the same")
	}
}

// The policies' slopes are those of what they climb.
func TestGradientsAreSlopes(t *testing.T) {
	w, _ := part(cases(200), 20)
	logging := []float64{.3, .1, -.2}
	present := w.foresee(logging)
	value := func(i, a int) float64 { return float64((i*7+a*3)%5) / 4 }
	objective := func(theta []float64) (v float64) {
		for i, c := range w.cases {
			for a, p := range shares(theta, c, nil) {
				v += p * (value(i, a) - beta*math.Log(p/present.shares[i][a]))
			}
		}
		return v / float64(len(w.cases))
	}
	theta, err := w.gradient(logging, present, value)
	if err != nil {
		t.Fatal(err)
	}
	if objective(theta) <= objective(logging) {
		t.Errorf("climbs from %v to %v", objective(logging), objective(theta))
	}
	for j := range theta { // at the top every slope is 0
		moved := append([]float64(nil), theta...)
		const step = 1e-4
		moved[j] += step
		up := objective(moved)
		moved[j] -= 2 * step
		if slope := (up - objective(moved)) / (2 * step); math.Abs(slope) > 1e-4 {
			t.Errorf("at the top the slope of theta %d is %v", j, slope)
		}
	}
}

func TestRunSaysWhatIsWrong(t *testing.T) {
	good := Options{Improvements: []float64{.01}, Decisions: []int{100}, Reruns: 1}
	with := func(change func(*Options)) Options { o := good; change(&o); return o }
	for want, o := range map[string]Options{
		"improvements are []":          with(func(o *Options) { o.Improvements = nil }),
		"improvements are [-0.1]":      with(func(o *Options) { o.Improvements = []float64{-.1} }),
		"decisions are [5 3]":          with(func(o *Options) { o.Decisions = []int{5, 3} }),
		"effective is 2":               with(func(o *Options) { o.Effective = 2 }),
		"an improvement of 0.03 takes": with(func(o *Options) { o.Improvements, o.Effective = []float64{.03}, .999 }),
		"reruns is 0":                  with(func(o *Options) { o.Reruns = 0 }),
		"0.9 is out of reach":          with(func(o *Options) { o.Improvements = []float64{.9} }),
		"clip is 0.1":                  with(func(o *Options) { o.Gate.Clip = .1 }),
	} {
		if _, err := Run(t.Context(), cases(400), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	spoiled := cases(400)
	spoiled[7].Chosen = 8
	if _, err := Run(t.Context(), spoiled, good); err == nil || !strings.Contains(err.Error(), "case 7: chosen is 8 of 8") {
		t.Error(err)
	}
	if _, err := Run(t.Context(), cases(8), good); err == nil || !strings.Contains(err.Error(), "too few users") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, cases(400), good); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// The picture is one well-formed SVG that says in words, too, what it shows.
func TestPlotShowsEveryPoint(t *testing.T) {
	r := runOn(t, 2, Options{Improvements: []float64{0, .01}, Decisions: []int{400, 800}, Reruns: 4, Seed: 1, Gate: ope.GateOptions{Detect: .1, Resampling: ope.Resampling{Resamples: 200}}})
	var b bytes.Buffer
	if err := r.WritePlot(&b); err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(bytes.NewReader(b.Bytes()))
	circles := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "circle" {
			circles++
		}
	}
	if circles != 4+2 { // points, and the names of the lines
		t.Errorf("%d circles", circles)
	}
	for _, want := range []string{"better by 0:", "better by 0.01:", " of 400", "4 gates a point", "800 decisions: "} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(b.String(), "NaN") || strings.Contains(b.String(), "%!") {
		t.Error(b.String())
	}
}
