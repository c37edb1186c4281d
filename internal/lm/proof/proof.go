// Package proof shows that the adapter a server answers with is the one that was trained. A trainer measures what its
// adapter changes on a few prompts, the canaries, and writes it down beside the adapter; whoever is to serve it asks its
// own base model and its own adapter the same, and compares the two changes.
//
// What it promises: Judge is a pure function of the numbers on both sides. An adapter that changes nothing, that a server
// drops, or whose rows came in another order is never proven; neither is one whose change is smaller than what the
// server's arithmetic adds by itself (a quantized base), which is an answer of its own. The measured cases behind the
// limits stand in its test.
//
// What it leaves to others: where adapters and canaries are kept, which prompts could be canaries, and what to serve
// where there is no proof (the one before).
package proof

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm"
	"golang.org/x/sync/errgroup"
)

// Canary is a prompt on which a trainer measured its adapter. Shares are natural logs, one a candidate of the context, in
// its order, as the readout that the adapter was trained for gives them, not calibrated.
type Canary struct {
	Context event.Context `json:"context"`
	Seed    uint64        `json:"seed"`    // of the prompt's shuffle
	Base    []float64     `json:"base"`    // log shares by the bare base model
	Adapter []float64     `json:"adapter"` // and by the base model with the adapter
}

// prompt that the canary is asked by.
func (c Canary) prompt(version int) (iot.Prompt, error) {
	return iot.Build(version, c.Context, c.Seed)
}

// Ranker gives the log share of each candidate of a prompt, in the order of its context.
type Ranker interface {
	Rank(ctx context.Context, p iot.Prompt) ([]float64, error)
}

// Partial is a Ranker of a server that does not state the share of every candidate: it has a floor for the others, and tells
// them apart. A floor is no answer of the model, and would bend the slope.
type Partial interface {
	Ranker
	// Stated is Rank, and tells which shares the server stated.
	Stated(ctx context.Context, p iot.Prompt) (shares []float64, stated []bool, err error)
}

// Answer is what a server says to a canary, as a Canary's Base and Adapter.
type Answer struct {
	Base, Adapter []float64 // Base may be nil: the server states nothing of what its base would answer
	// Stated tells of which candidates the server stated both. Only these are compared, by their shares among each other, on
	// both sides. Nil: all.
	Stated []bool
}

// Verdict of a proof.
type Verdict string

// An adapter is served as it was trained; it is not; or nobody can tell, because the change is too small beside the
// server's own deviations, or a canary too long for the model as it is served.
const (
	Proven         Verdict = "proven"
	Refused        Verdict = "refused"
	CannotBeProven Verdict = "cannot be proven"
)

// Limits of a proof.
const (
	maxError       = .05  // of the slope's standard error: above it nothing can be proven
	minTolerance   = .05  // by which the slope may always differ from 1
	standardErrors = 3    // standard errors by which it may differ
	residualOver   = 1.3  // of √2 noise: the residual's largest standard deviation
	floor          = .005 // nats: a smaller residual is always good enough, and a smaller change is none
	dropped        = .1   // of the trainer's change: a server that shows less shows none
	silent         = .1   // of what is stated with the adapter: a base that states less is taken to state nothing
	silentAfter    = 4    // canaries that a base stated nothing of: the others are not asked for
	statedAlone    = .5   // of the canaries' candidates: with fewer stated, and no base, nothing can be proven
	apartAlone     = .02  // nats by which a server's arithmetic may deviate where no base tells by how much it does
)

// Report is what a proof found. Changes and deviations are in nats.
type Report struct {
	Verdict   Verdict `json:"verdict"`
	Reason    string  `json:"reason"` // for people
	Canaries  int     `json:"canaries"`
	Tokens    int     `json:"tokens"`    // compared: candidates of all canaries
	Change    float64 `json:"change"`    // mean absolute change by the trainer
	Served    float64 `json:"served"`    // and on the server
	Noise     float64 `json:"noise"`     // standard deviation of the server's base from the trainer's
	Slope     float64 `json:"slope"`     // of the server's changes on the trainer's, through the origin
	Error     float64 `json:"error"`     // standard error of the slope
	Tolerance float64 `json:"tolerance"` // by which the slope may differ from 1
	Residual  float64 `json:"residual"`  // standard deviation of what the slope leaves
	Limit     float64 `json:"limit"`     // which it may not exceed
	// Alone tells that the server's base states nothing: what it answers with the adapter was compared, not the change.
	Alone bool `json:"alone,omitempty"`
}

// Err is nil where the adapter is proven. Otherwise it is an error with a method Refused() bool that answers true: trying
// again gives the same.
func (r Report) Err() error {
	if r.Verdict == Proven {
		return nil
	}
	return refusal{r}
}

type refusal struct{ Report }

func (r refusal) Error() string { return fmt.Sprintf("proof of the swap: %s: %s", r.Verdict, r.Reason) }

// Refused tells callers that know only the method that there is no use in trying again.
func (refusal) Refused() bool { return true }

// Judge compares what a server answered to the canaries, in their order, with what the trainer measured.
//
// With d the change of a log share by the adapter, over all candidates of all canaries: noise is the standard deviation
// of base_server - base_trainer; slope = Σ d_server d_trainer / Σ d_trainer² has to be 1 within max(.05, 3 se), where
// se = √2 noise / ‖d_trainer‖ has to be at most .05; and the standard deviation of d_server - slope d_trainer may be at
// most max(.005, 1.3 √2 noise): two answers of the server differ from the trainer's by noise each. Where the server stated
// fewer than two shares of a canary, there is nothing to compare.
//
// A base that was never taught to give a readout's answers may state none of them, and neither would a server that dropped
// the adapter. Then d is the log share with the adapter, less its mean over the list, of which half of the canaries'
// candidates have to be stated. How large the server's noise is, is not known, and nobody can tell adapters apart that
// differ by less: the standard deviation of d_server - d_trainer may be at most .02.
func Judge(canaries []Canary, server []Answer) Report {
	r := Report{Canaries: len(canaries), Alone: alone(server)}
	trainer, served, off, err := changes(canaries, server)
	if err != nil {
		return r.say(Refused, err.Error())
	}
	r.Tokens = len(trainer)
	r.Change, r.Served, r.Noise = meanAbs(trainer), meanAbs(served), deviation(off)
	norm := math.Sqrt(dot(trainer, trainer))
	size := norm / math.Sqrt(float64(r.Tokens)) // root mean square
	if size < floor {
		return r.say(Refused, fmt.Sprintf("it changes nothing: %.2g nats on the prompts that it changes most, and less than %g counts as nothing", size, floor))
	}
	r.Slope = dot(served, trainer) / (norm * norm)
	r.Error = math.Sqrt2 * r.Noise / norm
	r.Tolerance = max(minTolerance, standardErrors*r.Error)
	rest := make([]float64, len(served))
	for i := range rest {
		rest[i] = served[i] - r.Slope*trainer[i]
	}
	r.Residual, r.Limit = deviation(rest), max(floor, residualOver*math.Sqrt2*r.Noise)
	if r.Alone {
		apart := make([]float64, len(served))
		for i := range apart {
			apart[i] = served[i] - trainer[i]
		}
		r.Residual, r.Limit = deviation(apart), apartAlone
	}
	switch {
	case r.Alone && float64(r.Tokens) < statedAlone*float64(candidates(canaries)):
		return r.say(CannotBeProven, fmt.Sprintf("the server states %d of %d shares with the adapter, and nothing without it: learn longer, until it gives such answers", r.Tokens, candidates(canaries)))
	case math.Sqrt(dot(served, served)/float64(r.Tokens)) < dropped*size:
		return r.say(Refused, fmt.Sprintf("the server answers as if there were no adapter: %.2g nats of change, and %.2g by its trainer", r.Served, r.Change))
	case r.Error > maxError:
		return r.say(CannotBeProven, fmt.Sprintf("its change of %.2g nats is too small beside the server's noise of %.2g: the slope is known within %.2g only, and %g is needed (more canaries, or a base in F16)", r.Change, r.Noise, r.Error, maxError))
	case !(math.Abs(r.Slope-1) <= r.Tolerance):
		return r.say(Refused, fmt.Sprintf("the server shows %.3g times the change that was trained, must be 1 within %.2g", r.Slope, r.Tolerance))
	case !(r.Residual <= r.Limit):
		return r.say(Refused, fmt.Sprintf("the server changes other answers than was trained: %.2g nats apart, may be %.2g", r.Residual, r.Limit))
	}
	reason := fmt.Sprintf("slope %.3f within %.2g, %d tokens", r.Slope, r.Tolerance, r.Tokens)
	if r.Alone {
		reason = fmt.Sprintf("%.2g nats apart, may be %.2g, %d tokens by the adapter alone", r.Residual, r.Limit, r.Tokens)
	}
	return r.say(Proven, reason)
}

// candidates of all canaries.
func candidates(canaries []Canary) (n int) {
	for _, c := range canaries {
		n += len(c.Context.Candidates)
	}
	return n
}

func (r Report) say(v Verdict, reason string) Report {
	r.Verdict, r.Reason = v, reason
	return r
}

// changes are the differences that Judge compares, one a candidate; where nothing is known of the server's base, the shares
// with the adapter, less their mean.
func changes(canaries []Canary, server []Answer) (trainer, served, off []float64, err error) {
	if len(canaries) == 0 {
		return nil, nil, nil, errors.New("it comes without canaries, so nothing says what it should answer")
	}
	if len(server) != len(canaries) {
		return nil, nil, nil, fmt.Errorf("%d answers to %d canaries", len(server), len(canaries))
	}
	withoutBase := alone(server)
	for i, c := range canaries {
		n, stated := len(c.Context.Candidates), server[i].Stated
		if stated != nil && len(stated) != n {
			return nil, nil, nil, fmt.Errorf("canary %d has %d candidates, and %d are said to be stated or not", i+1, n, len(stated))
		}
		sides := [][]float64{c.Adapter, server[i].Adapter, c.Base, server[i].Base}
		if withoutBase {
			sides = sides[:2]
		}
		for k, shares := range sides { // becomes what can be compared
			if len(shares) != n || n == 0 {
				return nil, nil, nil, fmt.Errorf("canary %d has %d candidates and %d log shares", i+1, n, len(shares))
			}
			if slices.ContainsFunc(shares, func(s float64) bool { return math.IsNaN(s) || math.IsInf(s, 0) }) {
				return nil, nil, nil, fmt.Errorf("canary %d has the log shares %.4v: must be finite", i+1, shares)
			}
			sides[k] = among(shares, stated)
		}
		if withoutBase {
			trainer, served = append(trainer, centred(sides[0])...), append(served, centred(sides[1])...)
			continue
		}
		for j := range sides[0] {
			trainer = append(trainer, sides[0][j]-sides[2][j])
			served = append(served, sides[1][j]-sides[3][j])
			off = append(off, sides[3][j]-sides[2][j])
		}
	}
	if len(trainer) == 0 {
		return nil, nil, nil, errors.New("the server states too little of its answers to compare anything")
	}
	return trainer, served, off, nil
}

// alone tells whether no answer of the server's base is known.
func alone(server []Answer) bool {
	return !slices.ContainsFunc(server, func(a Answer) bool { return a.Base != nil })
}

// centred are numbers less their mean.
func centred(x []float64) []float64 {
	out, sum := make([]float64, len(x)), 0.
	for _, v := range x {
		sum += v
	}
	for i, v := range x {
		out[i] = v - sum/float64(len(x))
	}
	return out
}

// among are the log shares of those that are kept, among themselves; of one alone nothing.
func among(shares []float64, keep []bool) (out []float64) {
	if keep == nil {
		return shares
	}
	for i, s := range shares {
		if keep[i] {
			out = append(out, s)
		}
	}
	if len(out) < 2 {
		return nil
	}
	top, sum := slices.Max(out), 0.
	for _, s := range out {
		sum += math.Exp(s - top)
	}
	for i := range out {
		out[i] -= top + math.Log(sum)
	}
	return out
}

// Prove asks both models of a server the canaries, as prompts of a version, and judges their answers. It asks one after the
// other, since a server may have room for one of them only, and gives each answer no longer than each. An adapter whose
// answer ranks nothing, where the base's does, is refused, and where a model's context does not hold a canary, nothing can be
// proven: neither is mended by trying again. An error means that one did not answer.
func Prove(ctx context.Context, version int, canaries []Canary, base, adapter Ranker, each time.Duration) (Report, error) {
	prompts := make([]iot.Prompt, len(canaries))
	for i, c := range canaries {
		var err error
		if prompts[i], err = c.prompt(version); err != nil {
			return Report{Canaries: len(canaries)}.say(Refused, fmt.Sprintf("canary %d: %v", i+1, err)), nil
		}
	}
	server := make([]Answer, len(canaries))
	none := true // of the base is stated
	for i, p := range prompts {
		if i >= silentAfter && none {
			server[i] = Answer{Base: make([]float64, len(p.Letters)), Stated: make([]bool, len(p.Letters))}
			continue
		}
		var err error
		if server[i].Base, server[i].Stated, err = ask(ctx, base, p, each); err != nil {
			return unanswered(len(canaries), i, byBase, err)
		}
		none = none && server[i].Stated != nil && !slices.Contains(server[i].Stated, true)
	}
	adapted, ofAdapter, ofBoth := make([]Answer, len(canaries)), 0, 0 // what can be compared without the base, how much, and how much with it
	for i, p := range prompts {
		shares, stated, err := ask(ctx, adapter, p, each)
		if err != nil {
			return unanswered(len(canaries), i, byAdapter, err)
		}
		adapted[i] = Answer{Adapter: shares, Stated: stated}
		server[i].Adapter, server[i].Stated = shares, both(server[i].Stated, stated)
		ofAdapter, ofBoth = ofAdapter+len(among(shares, stated)), ofBoth+len(among(shares, server[i].Stated))
	}
	if float64(ofBoth) < silent*float64(ofAdapter) {
		server = adapted
	}
	return Judge(canaries, server), nil
}

// Whose answer is missing.
const (
	byBase    = "the base model"
	byAdapter = "the adapter"
)

// unanswered is what a proof of so many canaries found where one was not answered, or the error that says that another time
// it may be.
func unanswered(canaries, i int, by string, err error) (Report, error) {
	r := Report{Canaries: canaries}
	switch {
	case errors.Is(err, lm.ErrPromptTooLong):
		return r.say(CannotBeProven, fmt.Sprintf("canary %d by %s: %v", i+1, by, err)), nil
	case by == byAdapter && errors.Is(err, lm.ErrNonsense):
		return r.say(Refused, fmt.Sprintf("canary %d by %s: %v", i+1, by, err)), nil
	}
	return Report{}, fmt.Errorf("prove an adapter: canary %d by %s: %w", i+1, by, err)
}

// ask is a ranking, and which of its shares were stated; nil: all.
func ask(ctx context.Context, r Ranker, p iot.Prompt, most time.Duration) (shares []float64, stated []bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	if partial, ok := r.(Partial); ok {
		return partial.Stated(ctx, p)
	}
	shares, err = r.Rank(ctx, p)
	return shares, nil, err
}

// both are what two answers state; nil: all.
func both(a, b []bool) []bool {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	out := make([]bool, min(len(a), len(b)))
	for i := range out {
		out[i] = a[i] && b[i]
	}
	return out
}

// Ask is a prompt that may become a canary.
type Ask struct {
	Context event.Context
	Seed    uint64
}

// Choose measures an adapter on all the prompts, and returns the n on which it changes most (fewer where there are
// fewer), the most changed first. They name no user. Both are asked from as many goroutines as there are processors; told,
// where it is not nil, hears how many prompts are measured, one after the other.
func Choose(ctx context.Context, version int, asks []Ask, base, adapter Ranker, n int, told func(done, total int)) ([]Canary, error) {
	measured := make([]Canary, len(asks))
	var mu sync.Mutex
	done := 0
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, a := range asks {
		group.Go(func() (err error) {
			if measured[i], err = measure(inner, version, a, base, adapter); err != nil {
				return fmt.Errorf("choose canaries: prompt %d: %w", i+1, err)
			}
			if told != nil {
				mu.Lock()
				defer mu.Unlock()
				done++
				told(done, len(asks))
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	slices.SortStableFunc(measured, func(a, b Canary) int {
		switch x, y := a.change(), b.change(); {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	return measured[:min(n, len(measured))], nil
}

// measure asks both.
func measure(ctx context.Context, version int, a Ask, base, adapter Ranker) (c Canary, err error) {
	if err := ctx.Err(); err != nil {
		return c, err
	}
	c = Canary{Context: unnamed(a.Context), Seed: a.Seed}
	p, err := c.prompt(version)
	if err != nil {
		return c, err
	}
	if c.Base, err = base.Rank(ctx, p); err != nil {
		return c, fmt.Errorf("by the base model: %w", err)
	}
	if c.Adapter, err = adapter.Rank(ctx, p); err != nil {
		return c, fmt.Errorf("by the adapter: %w", err)
	}
	return c, nil
}

// unnamed is a context with numbers instead of other users' ids: a canary lies about for as long as its adapter, and reads
// the same.
func unnamed(c event.Context) event.Context {
	numbers := map[string]string{}
	c.Chains = slices.Clone(c.Chains)
	for i := range c.Chains {
		id := c.Chains[i].Neighbour
		if numbers[id] == "" {
			numbers[id] = strconv.Itoa(len(numbers) + 1)
		}
		c.Chains[i].Neighbour = numbers[id]
	}
	return c
}

// change is the squared norm of what the adapter changes.
func (c Canary) change() (sum float64) {
	for i := range min(len(c.Base), len(c.Adapter)) {
		sum += (c.Adapter[i] - c.Base[i]) * (c.Adapter[i] - c.Base[i])
	}
	return sum
}

func dot(a, b []float64) (sum float64) {
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

func meanAbs(a []float64) (sum float64) {
	for _, v := range a {
		sum += math.Abs(v)
	}
	return sum / float64(len(a))
}

// deviation is the standard deviation; 0 of a single value.
func deviation(a []float64) float64 {
	if len(a) < 2 {
		return 0
	}
	var mean, sum float64
	for _, v := range a {
		mean += v / float64(len(a))
	}
	for _, v := range a {
		sum += (v - mean) * (v - mean)
	}
	return math.Sqrt(sum / float64(len(a)-1))
}
