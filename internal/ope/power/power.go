// Package power finds out how many decisions a gate needs, in a world where the truth is known: evidence that a graph
// gave, clicks replayed from what users then chose, and no language model.
//
// It is the whole loop at its smallest. A linear softmax over the evidence of a list's candidates draws slot 1; the user
// clicks if it is the item that the user did choose; a policy gradient learns from these clicks by the doubly robust
// value; and the gate of internal/ope judges what came of it, by other users. As every click follows from the case, a
// policy's value is a mean over the cases, known exactly, and so is the true improvement of one over another: policies are
// made that are better by just so much, and equally different from the present one, and the share of gates that promote them is counted.
//
// What it promises: the same cases and options give the same counts on any number of threads.
//
// What it leaves to others: where cases come from.
package power

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/r2rec/r2rec/internal/ope"
)

// Case is a list that a user was to choose from.
type Case struct {
	User     string
	Features [][]float64 // a row a candidate; all rows of all cases are equally long
	Chosen   int         // index of the candidate that the user chose
}

// Options of Run.
type Options struct {
	Improvements []float64 // true ones, in reward a decision, 0 or more, in ascending order
	Decisions    []int     // that a gate is given, in ascending order
	Reruns       int       // gates a point
	Effective    float64   // how different the policies are that gates judge: effective sample, as a share of the decisions; 0: .76, that of scores changed by a standard deviation of .6
	MostCases    int       // of one user that count in the gate's world; 0: 20
	Gate         ope.GateOptions
	Seed         uint64
	Progress     func(done, total int) // called with gates, in order; nil: nobody is told
}

// Policy is one that the gate had to judge.
type Policy struct {
	Improvement  float64 // over the logging policy, exactly, to within rounding
	Variance     float64 // of (w - 1) r, the mean of all gates
	DesignEffect float64 // of users, likewise
	Effective    float64 // effective sample, as a share of the decisions, exactly
	// Needed decisions for the gate to find this improvement with a chance of its power, from these figures; 0 where there
	// is nothing to find.
	Needed int
	Points []Point // one a number of decisions
}

// Point counts the answers of gates with so many decisions.
type Point struct {
	Decisions                       int
	Promoted, Refused, Underpowered int
}

// Share of the gates that promoted.
func (p Point) Share() float64 {
	return float64(p.Promoted) / float64(p.Promoted+p.Refused+p.Underpowered)
}

// Result of Run.
type Result struct {
	Cases, Users int     // of the gate's world
	Logging      float64 // value of the logging policy
	Learned      float64 // value of what the policy gradient made of its clicks
	Best         float64 // value of the best policy of this form, fitted on the gate's world itself
	Alpha        float64 // of every gate
	Needed       int     // decisions to find the gate's Detect at the variance of the last policy
	Policies     []Policy
}

// Run lets gates judge. It fails where the cases are of too few users, or where learning does not reach the largest
// improvement.
func Run(ctx context.Context, cases []Case, o Options) (*Result, error) {
	if o.MostCases == 0 {
		o.MostCases = 20
	}
	if o.Effective == 0 {
		o.Effective = .76
	}
	if err := check(cases, o); err != nil {
		return nil, err
	}
	learning, judging := part(cases, o.MostCases)
	if len(judging.users) < 2 || len(learning.cases) == 0 {
		return nil, errors.New("power: the cases are of too few users: some have to learn, others to judge")
	}
	logging, err := learning.imitate()
	if err != nil {
		return nil, err
	}
	learned, err := learning.improve(logging, rand.New(rand.NewPCG(o.Seed, learningStream)))
	if err != nil {
		return nil, err
	}
	best, err := judging.improveKnowing(logging)
	if err != nil {
		return nil, err
	}
	r := &Result{Cases: len(judging.cases), Users: len(judging.users), Logging: judging.value(logging), Learned: judging.value(learned), Best: judging.value(best),
		Alpha: ope.AlphaOf(ope.DefaultAlpha, max(1, o.Gate.Round))}
	if o.Gate.Alpha != 0 {
		r.Alpha = ope.AlphaOf(o.Gate.Alpha, max(1, o.Gate.Round))
	}
	policies, err := judging.better(logging, learned, o.Improvements, o.Effective, rand.New(rand.NewPCG(o.Seed, directionStream)))
	if err != nil {
		return nil, err
	}
	for _, theta := range policies {
		r.Policies = append(r.Policies, Policy{Improvement: judging.value(theta) - r.Logging, Effective: judging.effective(theta, logging), Points: make([]Point, len(o.Decisions))})
	}
	return r, r.judge(ctx, judging, logging, policies, o)
}

// The streams of the seed.
const (
	learningStream = iota + 1
	directionStream
	gateStream // and all after it: one a gate
)

func check(cases []Case, o Options) error {
	switch {
	case len(o.Improvements) == 0 || !slices.IsSorted(o.Improvements) || !(o.Improvements[0] >= 0):
		return fmt.Errorf("power: improvements are %v: want some, ascending, 0 or more", o.Improvements)
	case len(o.Decisions) == 0 || !slices.IsSorted(o.Decisions) || o.Decisions[0] < 1:
		return fmt.Errorf("power: decisions are %v: want some, ascending, 1 or more", o.Decisions)
	case !(o.Effective > 0 && o.Effective < 1):
		return fmt.Errorf("power: effective is %v: want a share above 0 and below 1", o.Effective)
	case o.Reruns < 1:
		return fmt.Errorf("power: reruns is %d: want 1 or more", o.Reruns)
	}
	for i, c := range cases {
		if c.Chosen < 0 || c.Chosen >= len(c.Features) {
			return fmt.Errorf("power: case %d: chosen is %d of %d candidates", i, c.Chosen, len(c.Features))
		}
		for _, f := range c.Features {
			if len(f) != len(cases[0].Features[0]) || len(f) == 0 {
				return fmt.Errorf("power: case %d: a candidate has %d features, the first one has %d: want as many, and some", i, len(f), len(cases[0].Features[0]))
			}
		}
	}
	return nil
}

// judge runs all gates and counts their answers.
func (r *Result) judge(ctx context.Context, w *world, logging []float64, policies [][]float64, o Options) error {
	present := w.foresee(logging)
	foreseen := make([]*foresight, len(policies))
	for i, theta := range policies {
		foreseen[i] = w.foresee(theta)
	}
	total := len(policies) * len(o.Decisions) * o.Reruns
	findings := make([]ope.Finding, total)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	var mu sync.Mutex
	done := 0
	for g := range total {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			policy, n := g/(len(o.Decisions)*o.Reruns), o.Decisions[g/o.Reruns%len(o.Decisions)]
			samples := w.log(present, foreseen[policy], n, rand.New(rand.NewPCG(o.Seed, uint64(gateStream+g))))
			gate := o.Gate
			gate.Seed = o.Seed + uint64(g)
			f, err := ope.Gate(samples, gate)
			if err != nil {
				return fmt.Errorf("power: %w", err)
			}
			findings[g] = f
			if o.Progress != nil {
				mu.Lock()
				defer mu.Unlock()
				done++
				o.Progress(done, total)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for g, f := range findings {
		p := &r.Policies[g/(len(o.Decisions)*o.Reruns)]
		point := &p.Points[g/o.Reruns%len(o.Decisions)]
		point.Decisions = f.Decisions
		switch f.Verdict {
		case ope.Passed:
			point.Promoted++
		case ope.Refused:
			point.Refused++
		default:
			point.Underpowered++
		}
		// Of the gates with most decisions, whose figures are the surest.
		if f.Decisions == o.Decisions[len(o.Decisions)-1] {
			each := 1 / float64(o.Reruns)
			p.Variance += f.Variance * each
			p.DesignEffect += f.DesignEffect * each
		}
	}
	power := o.Gate.Power
	if power == 0 {
		power = ope.DefaultPower
	}
	for i := range r.Policies {
		if p := &r.Policies[i]; o.Improvements[i] > o.Gate.Margin {
			p.Needed = ope.Needed(p.Variance*p.DesignEffect, o.Improvements[i]-o.Gate.Margin, r.Alpha, power)
		}
	}
	last := r.Policies[len(r.Policies)-1]
	detect := o.Gate.Detect
	if detect == 0 {
		detect = ope.DefaultDetect
	}
	r.Needed = ope.Needed(last.Variance*last.DesignEffect, detect, r.Alpha, power)
	return nil
}
