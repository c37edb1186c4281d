package eval

import (
	"bytes"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/r2rec/r2rec/internal/event"
)

// twoMinds are cases in which what was chosen is the sum of what two rankers know, each with noise of its own.
func twoMinds(n int) (cases []Case, results []Result) {
	r := rand.New(rand.NewPCG(1, 1))
	results = []Result{{Name: "fusion"}, {Name: "lm"}}
	for i := range n {
		c := Case{ID: string(rune('a' + i%26)), Candidates: []string{"0", "1", "2", "3", "4"}}
		a, b := make([]float64, 5), make([]float64, 5)
		best, top := 0, math.Inf(-1)
		for j := range a {
			a[j], b[j] = r.NormFloat64(), r.NormFloat64()
			if z := a[j] + b[j] + .2*r.NormFloat64(); z > top {
				best, top = j, z
			}
		}
		c.Positive = c.Candidates[best]
		cases = append(cases, c)
		results[0].Scores, results[1].Scores = append(results[0].Scores, a), append(results[1].Scores, b)
	}
	return cases, results
}

func TestPoolCurveFindsWhatBothKnow(t *testing.T) {
	cases, results := twoMinds(400)
	curve, best, err := PoolCurve(ScoredCases(cases, results), "fusion", "lm")
	if err != nil {
		t.Fatal(err)
	}
	if w := curve[best].Weight; len(curve) != 101 || w < .4 || w > .6 {
		t.Errorf("the weight is %v, want one that counts both alike", w)
	}
	for _, end := range []PoolPoint{curve[0], curve[100]} {
		if end.HR1 > curve[best].HR1-.1 || end.CrossEntropy < curve[best].CrossEntropy+.1 {
			t.Errorf("at weight %v: %+v, at the best %+v", end.Weight, end, curve[best])
		}
	}
	for end, alone := range map[int]string{0: "fusion", 100: "lm"} { // as each would be by itself
		r, err := PoolResult(cases, results, "fusion", "lm", curve[end].Weight)
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range cases {
			if want := rank(results[end/100].Scores[i], c.index()); r.Ranks[i] != want {
				t.Fatalf("weight %v: rank %v of case %d, %s ranks it %v", curve[end].Weight, r.Ranks[i], i, alone, want)
			}
		}
	}
}

func (c Case) index() int { return int(c.Positive[0] - '0') }

func TestScoresAreReadAgain(t *testing.T) {
	cases, results := twoMinds(5)
	for i := range cases {
		cases[i].At = event.Earliest + event.Time(i)
	}
	results[1].Taught = cases[1].At + 1
	want := ScoredCases(cases, results)
	if name := results[1].Name; !slices.Equal(want[0].Taught, []string{name}) || !slices.Equal(want[1].Taught, []string{name}) || want[2].Taught != nil {
		t.Errorf("taught are %q, %q and %q, want %s of the first two", want[0].Taught, want[1].Taught, want[2].Taught, name)
	}
	if pool, err := PoolResult(cases, results, "fusion", "lm", .5); err != nil || pool.Taught != results[1].Taught {
		t.Errorf("the pool was taught what came before %s, %v", pool.Taught, err)
	}
	var b bytes.Buffer
	if err := WriteScores(&b, want); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "scores.jsonl")
	read := func(content string) ([]Scored, error) {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return ReadScores(path)
	}
	got, err := read(b.String())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for content, says := range map[string]string{
		"":         "has no cases",
		"{}\nno\n": ":2: ",
		`{"case":"a","positive":2,"scores":{"lm":[1,2]}}`: ":1: positive is 2, and lm scored 2 candidates",
	} {
		if _, err := read(content); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", content, err, says)
		}
	}
	if _, _, err := PoolCurve(nil, "fusion", "lm"); err == nil {
		t.Error("a weight is learned from nothing")
	}
	if _, _, err := PoolCurve(want, "fusion", "nobody"); err == nil || !strings.Contains(err.Error(), "nobody 0") {
		t.Errorf("a ranker that did not rank: %v", err)
	}
}
