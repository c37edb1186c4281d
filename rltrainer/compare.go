package rltrainer

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/r2rec/r2rec/internal/eval"
)

// CaseOutcome is what became of one case with a known answer, by a policy before it learned from clicks and after.
type CaseOutcome struct {
	Set    string `json:"set"`  // data set, whose users are others than those of another set
	List   string `json:"list"` // which cases of it: how their candidates were drawn
	Seed   uint64 `json:"seed"` // of the run
	Case   string `json:"case"`
	User   string `json:"user"`
	Before Answer `json:"before"`
	After  Answer `json:"after"`
}

// Difference is what learning from clicks changed, after less before, with 95 % by resampling users, each with all of the
// cases of all lists and seeds.
type Difference struct {
	Of           string // set and list; "all" for all together
	Outcomes     int
	Users        int
	Before       Score
	HR1          eval.Paired
	CrossEntropy eval.Interval
	// Drawn is what slot 1 earns where it is drawn from the model's shares, and what was chosen earns 1: what the policy
	// gradient raises.
	Drawn eval.Interval
	// Needed is how many times as many users would show a difference in HR@1 of .01 with a chance of .8, at 5 % two-sided
	// (Cohen 1988): below 1, there are enough.
	Needed float64
}

// Compare gives the difference over all outcomes, and then over each list of each set, in the order in which they come.
func Compare(outcomes []CaseOutcome, seed uint64) ([]Difference, error) {
	if len(outcomes) == 0 {
		return nil, errors.New("compare: there are no outcomes")
	}
	type run struct {
		set, list, name string
		seed            uint64
	}
	seen := make(map[run]bool, len(outcomes))
	var names []string
	parts := map[string][]CaseOutcome{}
	for i, o := range outcomes {
		if o.Set == "" || o.User == "" || o.Case == "" {
			return nil, fmt.Errorf("compare: outcome %d: set, user or case is empty: want the lines that r2rec train replay --outcomes wrote", i+1)
		}
		key := run{o.Set, o.List, o.Case, o.Seed}
		if seen[key] {
			return nil, fmt.Errorf("compare: case %.80q of %.80q, %.80q is there twice with seed %d: give each run once", o.Case, o.Set, o.List, o.Seed)
		}
		seen[key] = true
		name := strings.TrimSpace(o.Set + " " + o.List)
		if parts[name] == nil {
			names = append(names, name)
		}
		parts[name] = append(parts[name], o)
	}
	all := []Difference{difference("all", outcomes, seed)}
	for _, name := range names {
		all = append(all, difference(name, parts[name], seed))
	}
	return all, nil
}

func difference(of string, outcomes []CaseOutcome, seed uint64) Difference {
	users := make([]string, len(outcomes))
	first, was := make([]float64, len(outcomes)), make([]float64, len(outcomes))
	entropy, drawn := make([]float64, len(outcomes)), make([]float64, len(outcomes))
	once := map[string]bool{}
	d := Difference{Of: of, Outcomes: len(outcomes), Before: Score{Examples: len(outcomes)}}
	for i, o := range outcomes {
		users[i] = o.Set + "\x00" + o.User
		once[users[i]] = true
		first[i], was[i], entropy[i] = o.After.First, o.Before.First, o.After.CrossEntropy-o.Before.CrossEntropy
		drawn[i] = math.Exp(-o.After.CrossEntropy) - math.Exp(-o.Before.CrossEntropy)
		d.Before.HR1 += o.Before.First / float64(len(outcomes))
		d.Before.CrossEntropy += o.Before.CrossEntropy / float64(len(outcomes))
	}
	d.Users = len(once)
	b := eval.NewBootstrap(users, 0, seed)
	d.HR1, d.CrossEntropy, d.Drawn = b.Difference(first, was), b.Mean(entropy), b.Mean(drawn)
	// Two-sided 5 % and power .8: a difference of z = 1.96 + .84 standard errors, which fall with the root of the users.
	const z95, power, worth = 1.959964, .841621, .01
	se := (d.HR1.High - d.HR1.Low) / (2 * z95)
	d.Needed = math.Pow((z95+power)*se/worth, 2)
	return d
}
