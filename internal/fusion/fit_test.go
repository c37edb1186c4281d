package fusion

import (
	"bytes"
	"context"
	"errors"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/r2rec/r2rec/internal/event"
)

// A fit finds a rule that needs two pieces of evidence, and is then better than any single one, on lists it never saw.
func TestFitBeatsEverySingleEvidence(t *testing.T) {
	examples := world(4000, 10, source(1))
	train, test := examples[:3000], examples[3000:]
	m, err := Fit(context.Background(), train, FitOptions{Ensemble: 2})
	if err != nil {
		t.Fatal(err)
	}
	fitted := hits(test, m.Scores)
	best, name := 0.0, ""
	for _, in := range inputs {
		h := hits(test, func(l List) []float64 {
			var scores []float64
			for i := range l.Evidence {
				scores = append(scores, in.value(&l.Evidence[i]))
			}
			return scores
		})
		if h > best {
			best, name = h, in.name
		}
	}
	rule := hits(test, func(l List) []float64 {
		var scores []float64
		for _, e := range l.Evidence {
			scores = append(scores, e.After[1]*e.Similar)
		}
		return scores
	})
	t.Logf("first of 10: fitted %.3f, %s %.3f, the rule itself %.3f", fitted, name, best, rule)
	if fitted < best+.1 || fitted < rule-.04 {
		t.Errorf("the fit puts %.3f first; the best single evidence, %s, %.3f; the rule itself %.3f", fitted, name, best, rule)
	}
	if loss := m.Training().Loss; loss > .8*math.Log(10) {
		t.Errorf("the loss is %v, of %v without any evidence", loss, math.Log(10))
	}
	without, err := Fit(context.Background(), train, FitOptions{Ensemble: 1, Without: []Group{Sequence, Similar}})
	if err != nil {
		t.Fatal(err)
	}
	if h := hits(test, without.Scores); h > .15 {
		t.Errorf("without the evidence that decides, %.3f are first, want about a tenth", h)
	}
}

// One network serves candidates drawn in two ways, because it is told which.
func TestFitIsToldHowCandidatesWereDrawn(t *testing.T) {
	rule := func(l List, e event.Evidence) float64 {
		if l.Draw == 0 {
			return math.Pow(float64(e.Popularity), 3)
		}
		return math.Pow(e.Category, 3)
	}
	examples := choices(3000, 8, source(2), rule)
	m, err := Fit(context.Background(), examples[:2500], FitOptions{Ensemble: 1})
	if err != nil {
		t.Fatal(err)
	}
	test := examples[2500:]
	told := hits(test, m.Scores)
	wrong := hits(test, func(l List) []float64 { l.Draw = 1 - l.Draw; return m.Scores(l) })
	if told < .4 || wrong > .25 {
		t.Errorf("%.3f are first, and %.3f when told the other way; want more than .4 and less than .25", told, wrong)
	}
}

// A fit depends on its seed and on nothing else: not on how many threads there are.
func TestFitIsDeterministic(t *testing.T) {
	examples := world(MinExamples, 5, source(1))
	fitted := func(threads int, seed uint64) string {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(threads))
		m, err := Fit(context.Background(), examples, FitOptions{Epochs: 2, Ensemble: 5, Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := m.Save(&b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	want := fitted(1, 7)
	for _, threads := range []int{1, 2, 8} {
		if fitted(threads, 7) != want {
			t.Errorf("with %d threads the fit is another", threads)
		}
	}
	if strings.ReplaceAll(fitted(1, 8), `"seed":8`, `"seed":7`) == want {
		t.Error("another seed gives the same fit")
	}
}

// The loss is the mean over examples and networks, and the scores are the mean over networks: seen on weights that as
// good as stay where they start, with examples that fill their batches.
func TestMeans(t *testing.T) {
	examples := world(7*batch, 5, source(1))
	m, err := Fit(context.Background(), examples, FitOptions{Epochs: 1, Ensemble: 3, Rate: 1e-12})
	if err != nil {
		t.Fatal(err)
	}
	want := 0.0
	for _, e := range examples {
		mean := make([]float64, len(e.Evidence))
		for i := range m.members {
			alone := &Model{members: m.members[i : i+1]}
			total := 0.0
			scores := alone.Scores(e.List)
			for k, s := range scores {
				mean[k] += s / 3
				total += math.Exp(s)
			}
			want += (math.Log(total) - scores[e.Chosen]) / float64(3*len(examples))
		}
		for k, s := range m.Scores(e.List) {
			if math.Abs(s-mean[k]) > 1e-9 {
				t.Fatalf("candidate %d scores %v, its networks %v on average", k, s, mean[k])
			}
		}
	}
	if got := m.Training().Loss; math.Abs(got-want) > 1e-6 {
		t.Errorf("the loss is %v, want %v", got, want)
	}
}

// A fit hands out no weight that a file could not keep.
func TestRound(t *testing.T) {
	for _, w := range []float64{math.NaN(), math.Inf(-1), 2 * maxWeight} {
		n := newNetwork(1)
		n.out[0] = w
		if err := n.round(); err == nil || !strings.Contains(err.Error(), "use a smaller Rate") {
			t.Errorf("with a weight of %v: %v", w, err)
		}
	}
	n := newNetwork(1)
	n.out[0] = .1
	if err := n.round(); err != nil || n.out[0] != float64(float32(.1)) {
		t.Errorf("a weight of .1 became %v, %v", n.out[0], err)
	}
}

// The networks of an ensemble start apart, or there would be no use in several.
func TestNetworksDiffer(t *testing.T) {
	m := quick(t, FitOptions{})
	if slices.Equal(m.members[0].all, m.members[1].all) {
		t.Error("two networks are equal")
	}
}

func TestFitFillsInDefaults(t *testing.T) {
	var told []int
	examples := slices.Concat(world(MinExamples, 3, source(1)), world(50, 1, source(2)))
	m, err := Fit(context.Background(), examples, FitOptions{
		Seed: 9, Note: "a note", Without: []Group{User, Category, User},
		Progress: func(done, total int) {
			if total != 72 {
				t.Errorf("progress says %d in all, want 12 epochs of 3 networks, with latent factors and without", total)
			}
			told = append(told, done)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(told) != 72 || !slices.IsSorted(told) || told[0] != 1 || told[71] != 72 {
		t.Errorf("progress told %v, want 1 to 72", told)
	}
	got := m.Training()
	got.Loss = 0
	want := Training{
		Examples: MinExamples, Candidates: 3 * MinExamples, Hidden: 24, Epochs: 12, Ensemble: 3, Rate: .01, Decay: .01, Seed: 9,
		Without: []Group{Category, User}, Note: "a note",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got.Without[0] = "changed"
	if m.Training().Without[0] != Category {
		t.Error("a caller can change the model")
	}
}

func TestFitRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(examples []Example, o *FitOptions) []Example
		want   string
	}{
		"too few":            {func(e []Example, _ *FitOptions) []Example { return e[1:] }, "too few examples: 199 with two candidates or more, of 200 needed; take them from a longer time"},
		"too few choices":    {func(e []Example, _ *FitOptions) []Example { e[3] = world(1, 1, source(1))[0]; return e }, "too few examples: 199 "},
		"chosen past end":    {func(e []Example, _ *FitOptions) []Example { e[3].Chosen = 5; return e }, "example 3: chosen is 5, the list has 5 candidates"},
		"chosen negative":    {func(e []Example, _ *FitOptions) []Example { e[3].Chosen = -1; return e }, "example 3: chosen is -1"},
		"empty list":         {func(e []Example, _ *FitOptions) []Example { e[3].Evidence = nil; return e }, "example 3: it has no candidates"},
		"not a number":       {func(e []Example, _ *FitOptions) []Example { e[3].Evidence[2].After[1] = math.NaN(); return e }, "example 3: after[1] of candidate 2 is NaN"},
		"infinite":           {func(e []Example, _ *FitOptions) []Example { e[3].Evidence[2].Lift = math.Inf(1); return e }, "example 3: lift of candidate 2 is +Inf"},
		"negative":           {func(e []Example, _ *FitOptions) []Example { e[3].Evidence[2].Popularity = -4; return e }, "example 3: popularity of candidate 2 is -4"},
		"negative likes":     {func(e []Example, _ *FitOptions) []Example { e[3].Likes = -4; return e }, "example 3: likes is -4"},
		"idle not a number":  {func(e []Example, _ *FitOptions) []Example { e[3].Idle = math.NaN(); return e }, "example 3: idle is NaN"},
		"draw not a number":  {func(e []Example, _ *FitOptions) []Example { e[3].Draw = math.NaN(); return e }, "example 3: draw is NaN"},
		"hidden":             {func(e []Example, o *FitOptions) []Example { o.Hidden = -1; return e }, "option Hidden is -1: give 1 to 1024, or 0 for 24"},
		"epochs":             {func(e []Example, o *FitOptions) []Example { o.Epochs = 1e6; return e }, "option Epochs is 1000000"},
		"ensemble":           {func(e []Example, o *FitOptions) []Example { o.Ensemble = 65; return e }, "option Ensemble is 65"},
		"rate":               {func(e []Example, o *FitOptions) []Example { o.Rate = math.NaN(); return e }, "option Rate is NaN: give a number above 0 and up to 1, or 0 for 0.01"},
		"decay":              {func(e []Example, o *FitOptions) []Example { o.Decay = -1; return e }, "option Decay is -1"},
		"unknown group":      {func(e []Example, o *FitOptions) []Example { o.Without = []Group{"colour"}; return e }, `option Without: "colour" is no group of evidence: use some of ["popularity" `},
		"nothing to tell by": {func(e []Example, o *FitOptions) []Example { o.Without = Groups[:7]; return e }, "option Without: nothing is left to tell candidates apart"},
	} {
		t.Run(name, func(t *testing.T) {
			var o FitOptions
			examples := c.damage(world(MinExamples, 5, source(1)), &o)
			_, err := Fit(context.Background(), examples, o)
			if err == nil || !strings.HasPrefix(err.Error(), "fit fusion to ") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if got, want := errors.Is(err, ErrTooFew), strings.HasPrefix(name, "too few"); got != want {
				t.Errorf("%v is ErrTooFew: %v", err, got)
			}
		})
	}
}

func TestFitStopsWhenToldTo(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	epochs := 0
	_, err := Fit(ctx, world(MinExamples, 5, source(1)), FitOptions{Epochs: maxEpochs, Ensemble: 2, Progress: func(int, int) { epochs++; cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if epochs > 2 {
		t.Errorf("%d epochs were begun and finished, want no more than one a network", epochs)
	}
}
