package eval

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/r2rec/r2rec/internal/event"
)

// Stream gives the interactions of a data set in the order of time, and can be gone through again. For a record that is
// refused it gives an error instead and goes on, as Dataset.Interactions of package dataset does.
type Stream = iter.Seq2[event.Interaction, error]

// Config sets how a stream is gone through. The zero value is ready to use.
type Config struct {
	// Batch is the most interactions in one call of Observe; 4,096 by default. A batch also ends where a case is asked.
	Batch int
	// Retrieve is how many items are asked of every ranker that is a Retriever, at every case; 0, the default: none.
	Retrieve int
	// Refused is told of every record that the stream refuses, and the run goes on without it. Nil, the default: the
	// first one ends the run.
	Refused func(error)
	// Progress is told how far the run is, after every batch of every ranker, by one goroutine at a time; nil: nobody is.
	Progress func(Progress)
}

// Progress says how far a run is.
type Progress struct {
	Observed int // interactions, summed over the rankers
	Answered int // cases, summed over the rankers
	Total    int // what Answered will be at the end
}

// Named is a ranker and the name by which it stands in results: unique in a run.
type Named struct {
	Name   string
	Ranker Ranker
}

// Result is what one ranker answered, with an entry a case, in the order in which the cases were given.
type Result struct {
	Name      string
	Ranks     []float64   // rank of the positive, from 1; ties averaged
	Scores    [][]float64 // as the ranker gave them, in the order of the case's candidates
	Retrieved []Retrieval // best first; nil where Config.Retrieve is 0 or the ranker is no Retriever
	// Taught is the time before which cases are of what the ranker was learned from, so that it was told their answers, or what
	// followed from them. Whoever knows sets it. 0: none is.
	Taught event.Time
}

// leakyMark ends the name of a ranker that was taught answers, where a name is all that is told of it.
const leakyMark = " (leaky)"

// Key is the name of the ranks in a file of them (WriteRanks), where nobody is to take those of a ranker that was taught answers
// for others.
func (r Result) Key() string {
	if r.Taught > 0 {
		return r.Name + leakyMark
	}
	return r.Name
}

// Run goes through the stream once, feeds it to every ranker and asks each of them every case with exactly the events
// strictly before its time observed. The rankers run side by side, each in a goroutine of its own; the results, in the
// order of the rankers, do not depend on that. The stream is left after the last case.
func Run(ctx context.Context, events Stream, cases []Case, rankers []Named, cfg Config) ([]Result, error) {
	if err := checkRun(cases, rankers); err != nil {
		return nil, fmt.Errorf("evaluate: %w", err)
	}
	told := &told{to: cfg.Progress, Progress: Progress{Total: len(cases) * len(rankers)}}
	group, ctx := errgroup.WithContext(ctx)
	runners := make([]*runner, len(rankers))
	for i, r := range rankers {
		runners[i] = newRunner(r, cases, cfg.Retrieve, told)
		group.Go(func() error { return runners[i].run(ctx) })
	}
	group.Go(func() error {
		defer func() {
			for _, r := range runners {
				close(r.steps)
			}
		}()
		for s, err := range steps(events, cases, cfg) {
			if err != nil {
				return err
			}
			for _, r := range runners {
				select {
				case r.steps <- s:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("evaluate: %w", err)
	}
	results := make([]Result, len(runners))
	for i, r := range runners {
		results[i] = r.Result
	}
	return results, nil
}

func checkRun(cases []Case, rankers []Named) error {
	if len(rankers) == 0 {
		return errors.New("no ranker is given")
	}
	names := map[string]bool{}
	for _, r := range rankers {
		if names[r.Name] {
			return fmt.Errorf("two rankers are called %s: give each its own name", quote(r.Name))
		}
		names[r.Name] = true
	}
	for _, c := range cases {
		if err := checkCandidates(c); err != nil {
			return fmt.Errorf("case %s: %w", quote(c.ID), err)
		}
	}
	return nil
}

// step is a stretch of the stream: the next interactions, and the cases to ask after them.
type step struct {
	events []event.Interaction
	ask    []int // indices of cases
}

// steps cuts a stream into steps: a case stands in the step after whose interactions exactly those strictly before its
// time have passed. Every case is in one step; cases of one time keep their order.
func steps(events Stream, cases []Case, cfg Config) iter.Seq2[step, error] {
	batch := cfg.Batch
	if batch <= 0 {
		batch = 4096
	}
	return func(yield func(step, error) bool) {
		order := inTime(cases)
		due := func(t event.Time) (ask []int) { // takes the cases at or before t off the order
			n := 0
			for n < len(order) && cases[order[n]].At <= t {
				n++
			}
			ask, order = order[:n], order[n:]
			return ask
		}
		var s step
		last := event.Time(math.MinInt64)
		for in, err := range events {
			if len(order) == 0 {
				return
			}
			if err != nil {
				if cfg.Refused == nil {
					yield(step{}, err)
					return
				}
				cfg.Refused(err)
				continue
			}
			if in.Timestamp < last {
				yield(step{}, fmt.Errorf("the stream is not in the order of time: event %s at %s comes after one at %s",
					quote(in.EventID), in.Timestamp, last))
				return
			}
			last = in.Timestamp
			// Not before this interaction is known may a case of its time be asked, and not after it is observed.
			if s.ask = due(in.Timestamp); len(s.ask) > 0 || len(s.events) == batch {
				if !yield(s, nil) {
					return
				}
				s = step{} // rankers may keep the batch
			}
			s.events = append(s.events, in)
		}
		if s.ask = order; len(s.ask) > 0 {
			yield(s, nil)
		}
	}
}

// inTime gives the indices of the cases in the order of time, those of one time in their own order.
func inTime(cases []Case) []int {
	order := make([]int, len(cases))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(cases[a].At, cases[b].At) })
	return order
}

// runner takes one ranker through the steps.
type runner struct {
	Result
	ranker    Ranker
	retriever Retriever // nil: nothing is retrieved
	retrieve  int
	cases     []Case
	steps     chan step
	told      *told
}

func newRunner(r Named, cases []Case, retrieve int, told *told) *runner {
	n := len(cases)
	run := &runner{
		Result: Result{Name: r.Name, Ranks: make([]float64, n), Scores: make([][]float64, n)},
		ranker: r.Ranker,
		cases:  cases,
		steps:  make(chan step, 4), // a fast ranker may be this far ahead of a slow one
		told:   told,
	}
	if retriever, ok := r.Ranker.(Retriever); ok && retrieve > 0 {
		run.retriever, run.retrieve, run.Retrieved = retriever, retrieve, make([]Retrieval, n)
	}
	return run
}

func (r *runner) run(ctx context.Context) error {
	for s := range r.steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := observe(ctx, r.ranker, s.events); err != nil {
			return fmt.Errorf("ranker %s: %w", quote(r.Name), err)
		}
		for _, i := range s.ask {
			if err := r.ask(ctx, i); err != nil {
				return fmt.Errorf("ranker %s: case %s: %w", quote(r.Name), quote(r.cases[i].ID), err)
			}
		}
		r.told.add(len(s.events), len(s.ask))
	}
	return nil
}

func (r *runner) ask(ctx context.Context, i int) (err error) {
	c := r.cases[i]
	if r.Scores[i], err = score(ctx, r.ranker, c); err != nil {
		return err
	}
	r.Ranks[i] = rank(r.Scores[i], slices.Index(c.Candidates, c.Positive))
	if r.retriever == nil {
		return nil
	}
	if r.Retrieved[i], err = r.retriever.Retrieve(ctx, c.User, c.At, r.retrieve); err != nil {
		return fmt.Errorf("retrieve %d items: %w", r.retrieve, err)
	}
	return errors.Join(checkRetrieved(r.Retrieved[i].Stage, r.retrieve), checkRetrieved(r.Retrieved[i].Ranked, r.retrieve))
}

func checkRetrieved(items []string, k int) error {
	if len(items) > k {
		return fmt.Errorf("retrieved %d items, asked for %d", len(items), k)
	}
	seen := make(map[string]bool, len(items))
	for _, id := range items {
		if seen[id] {
			return fmt.Errorf("retrieved item %s twice", quote(id))
		}
		seen[id] = true
	}
	return nil
}

func observe(ctx context.Context, r Ranker, batch []event.Interaction) error {
	if len(batch) == 0 {
		return nil
	}
	if err := r.Observe(ctx, batch); err != nil {
		return fmt.Errorf("observe %d interactions up to %s: %w", len(batch), batch[len(batch)-1].Timestamp, err)
	}
	return nil
}

// score asks one case, with the answer hidden and candidates that the ranker may keep and change.
func score(ctx context.Context, r Ranker, c Case) ([]float64, error) {
	asked := c
	asked.Positive, asked.Candidates = "", slices.Clone(c.Candidates)
	scores, err := r.Scores(ctx, asked)
	if err != nil {
		return nil, err
	}
	if len(scores) != len(c.Candidates) {
		return nil, fmt.Errorf("gave %d scores for %d candidates", len(scores), len(c.Candidates))
	}
	if i := slices.IndexFunc(scores, math.IsNaN); i >= 0 {
		return nil, fmt.Errorf("gave NaN for candidate %s", quote(c.Candidates[i]))
	}
	return slices.Clone(scores), nil
}

// rank is the place of entry i, from 1: one more than there are larger scores, and half a place for each equal one.
func rank(scores []float64, i int) float64 {
	r := 1.0
	for j, s := range scores {
		switch {
		case j == i:
		case s > scores[i]:
			r++
		case s == scores[i]:
			r += 0.5
		}
	}
	return r
}

// told passes on the progress of all rankers.
type told struct {
	to func(Progress)
	mu sync.Mutex
	Progress
}

func (t *told) add(observed, answered int) {
	if t.to == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Observed += observed
	t.Answered += answered
	t.to(t.Progress)
}
