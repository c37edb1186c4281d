package fusion

import (
	"encoding/json"
	"math"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/r2rec/r2rec/internal/event"
)

// Each input reads the field that its name says, and all fields of the evidence but chains are read.
func TestInputsAreNamedAsTheEvidence(t *testing.T) {
	text, err := json.Marshal(event.Evidence{})
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	var want []string
	for name, v := range fields {
		if list, ok := v.([]any); ok {
			for i := range list {
				want = append(want, name+"["+strconv.Itoa(i)+"]")
			}
		} else if name != "chains" {
			want = append(want, name)
		}
	}
	var got []string
	for _, in := range inputs {
		got = append(got, in.name)
	}
	if diff := cmp.Diff(want, got, cmpopts.SortSlices(func(a, b string) bool { return a < b })); diff != "" {
		t.Fatalf("inputs are not the fields of the evidence: %s", diff)
	}
	parts := regexp.MustCompile(`^(\w+?)(?:\[(\d)\])?$`)
	for _, in := range inputs {
		name := parts.FindStringSubmatch(in.name)
		one := map[string]any{name[1]: 7}
		if name[2] != "" {
			at, _ := strconv.Atoi(name[2])
			list := slices.Repeat([]any{0}, at+1)
			list[at] = 7
			one[name[1]] = list
		}
		text, _ := json.Marshal(one)
		var e event.Evidence
		if err := json.Unmarshal(text, &e); err != nil {
			t.Fatal(err)
		}
		for _, other := range inputs {
			if got, is7 := other.value(&e), other.name == in.name; (got == 7) != is7 {
				t.Errorf("with %s, %s is %v", text, other.name, got)
			}
		}
	}
}

func TestColumnsAreCounted(t *testing.T) {
	total := 0
	for _, in := range inputs {
		total += in.width()
	}
	if total != perCandidate || len(columnNames()) != biasColumn {
		t.Errorf("inputs take %d columns and %d are named; the constants say %d and %d", total, len(columnNames()), perCandidate, biasColumn)
	}
}

// The columns of three candidates, by hand.
func TestEncode(t *testing.T) {
	l := List{
		Evidence: []event.Evidence{
			{Popularity: 8, Ages: [4]float64{math.E - 1, 0, 0, 0}},
			{Popularity: 2, Ages: [4]float64{0, 0, 0, math.E - 1}},
			{Ages: [4]float64{math.E*math.E - 1, 0, 0, 0}},
		},
		Likes: 0, Idle: math.Exp(4) - 1, Draw: .5,
	}
	rows := make([]float64, 3*columns)
	encode(l, nil, rows)
	names := append(columnNames(), "constant")
	for _, c := range []struct {
		name string
		want []float64
	}{
		{"popularity share", []float64{1, -.5, -1}},
		{"popularity log share", []float64{1, 1 + math.Log(.26/1.01)/2, 1 + math.Log(.01/1.01)/2}},
		{"support share", []float64{0, 0, 0}}, // nobody has any
		{"support log share", []float64{0, 0, 0}},
		{"ages[0] log", []float64{0, -24. / 4, -1. / 4}}, // -1, -25 and -2
		{"ages[1] log", []float64{0, 0, 0}},
		{"ages[3] log", []float64{-1. / 4, 0, -1. / 4}},
		{"likes log", []float64{-3, -3, -3}},
		{"idle log", []float64{-.5, -.5, -.5}},
		{"draw", []float64{.5, .5, .5}},
		{"constant", []float64{1, 1, 1}},
	} {
		k := slices.Index(names, c.name)
		if k < 0 {
			t.Fatalf("no column is called %s: %q", c.name, names)
		}
		for i, want := range c.want {
			if got := rows[i*columns+k]; math.Abs(got-want) > 1e-12 {
				t.Errorf("%s of candidate %d is %v, want %v", c.name, i, got, want)
			}
		}
	}
	clear(rows)
	if encode(List{Evidence: l.Evidence[:1]}, nil, rows[:columns]); rows[idleColumn] != 0 {
		t.Errorf("idle is %v for a user without edges, want 0", rows[idleColumn])
	}
}

// TestManyCandidatesAreEncodedAlike: inputs that are written side by side come out as one after the other.
func TestManyCandidatesAreEncodedAlike(t *testing.T) {
	l := world(1, 2000, source(3))[0].List
	got, want := make([]float64, 2000*columns), make([]float64, 2000*columns)
	removed := map[Group]bool{Similar: true, User: true}
	encode(l, removed, got)
	at := 0
	for _, in := range inputs {
		if !removed[in.group] {
			in.encode(l.Evidence, want[at:])
		}
		at += in.width()
	}
	for i := biasColumn; i < len(want); i += columns {
		want[i-biasColumn+drawColumn], want[i] = l.Draw, 1
	}
	if !slices.Equal(got, want) {
		t.Error("the columns of 2000 candidates are others than input by input")
	}
}
