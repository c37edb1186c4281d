package fusion

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"

	"github.com/r2rec/r2rec/internal/event"
	"golang.org/x/sync/errgroup"
)

// MinExamples is the number of examples below which Fit refuses: fewer cannot settle the weights.
const MinExamples = 200

// ErrTooFew is what Fit's error wraps where there are fewer than MinExamples.
var ErrTooFew = errors.New("too few examples")

// Example is a list and what the user then chose from it.
type Example struct {
	List
	Chosen int // index of the candidate
}

// FitOptions say how to fit. A number that is 0 stands for its default.
type FitOptions struct {
	Hidden   int     // hidden units of each network, at most 1024; default 24
	Epochs   int     // passes over the examples; default 12
	Ensemble int     // networks, at most 64; default 3
	Rate     float64 // learning rate of AdamW at the start; default .01
	Decay    float64 // weight decay of AdamW, a step of rate × decay × weight; default .01
	Seed     uint64  // of the starting weights and the order of the examples
	Without  []Group // evidence to do without; the model stays without it
	Note     string  // kept in the model: what the examples are

	LearnedEvents event.Past // kept in the model: the events that the examples are of, where they are of a data set

	// Progress, where set, is told how many epochs of all networks are done. It is never called by two goroutines at once.
	Progress func(done, total int)
}

// Training is how a model was fitted.
type Training struct {
	Examples   int     `json:"examples"`
	Candidates int     `json:"candidates"` // of all examples together
	Hidden     int     `json:"hidden"`
	Epochs     int     `json:"epochs"`
	Ensemble   int     `json:"ensemble"`
	Rate       float64 `json:"rate"`
	Decay      float64 `json:"decay"`
	Seed       uint64  `json:"seed"`
	Without    []Group `json:"without"` // in the order of Groups
	Loss       float64 `json:"loss"`    // mean of -log(share of the chosen) in the last epoch, of a single network
	Note       string  `json:"note"`

	// LearnedEvents are those of a data set that the examples were of; the zero value: it does not say.
	LearnedEvents event.Past `json:"learned_events,omitzero"`
}

const batch = 32 // examples a step

// Fit fits a model to examples by maximum likelihood of what was chosen: AdamW (.9, .98) on batches of 32, the learning
// rate flat for the first 30 % of the steps and then falling linearly to 3 %. The networks of the ensemble are fitted in
// parallel, GOMAXPROCS at once. Equal examples, options and architecture give equal models, on any number of threads.
// Every candidate takes 656 bytes meanwhile.
//
// Where any list has evidence of latent factors, the second ensemble is fitted, too, which takes as long again.
//
// Lists of one candidate have nothing to say and do not count. Fit fails where fewer than MinExamples remain (ErrTooFew),
// where an example or an option is not valid, and where ctx ends.
func Fit(ctx context.Context, examples []Example, o FitOptions) (*Model, error) {
	m, err := fit(ctx, examples, o)
	if err != nil {
		return nil, fmt.Errorf("fit fusion to %d examples: %w", len(examples), err)
	}
	return m, nil
}

func fit(ctx context.Context, examples []Example, o FitOptions) (*Model, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	m := &Model{removed: setOf(o.Without), training: Training{Hidden: o.Hidden, Epochs: o.Epochs, Ensemble: o.Ensemble, Rate: o.Rate, Decay: o.Decay,
		Seed: o.Seed, Without: o.Without, Note: o.Note, LearnedEvents: o.LearnedEvents}}
	data, err := prepare(examples, m.removed)
	if err != nil {
		return nil, err
	}
	m.training.Examples, m.training.Candidates = len(data.chosen), data.from[len(data.chosen)]
	ensembles := 1
	if !m.removed[Latent] && slices.ContainsFunc(examples, func(e Example) bool { return e.hasLatent() }) {
		ensembles = 2
	}
	done, total := 0, o.Epochs*o.Ensemble*ensembles
	var lock sync.Mutex
	epochDone := func() {
		lock.Lock()
		defer lock.Unlock()
		done++
		if o.Progress != nil {
			o.Progress(done, total)
		}
	}
	if m.members, m.training.Loss, err = fitEnsemble(ctx, data, o, epochDone); err != nil || ensembles == 1 {
		return m, err
	}
	without := maps.Clone(m.removed)
	without[Latent] = true
	if data, err = prepare(examples, without); err != nil {
		return nil, err
	}
	m.plain, _, err = fitEnsemble(ctx, data, o, epochDone)
	return m, err
}

// fitEnsemble fits the networks of one ensemble, and gives the mean of their losses.
func fitEnsemble(ctx context.Context, data dataset, o FitOptions, epochDone func()) (members []*network, loss float64, err error) {
	members, losses := make([]*network, o.Ensemble), make([]float64, o.Ensemble)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range members {
		group.Go(func() error {
			var err error
			members[i], losses[i], err = fitOne(ctx, data, o, rand.New(rand.NewPCG(o.Seed, uint64(i))), epochDone)
			if err != nil {
				return fmt.Errorf("network %d of %d: %w", i+1, o.Ensemble, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, 0, err
	}
	for _, l := range losses {
		loss += l / float64(len(losses))
	}
	return members, loss, nil
}

// complete fills in the defaults and checks the rest.
func (o *FitOptions) complete() error {
	defaults := FitOptions{Hidden: 24, Epochs: 12, Ensemble: 3, Rate: .01, Decay: .01}
	for _, n := range []struct {
		name    string
		value   *int
		usual   int
		largest int
	}{
		{"Hidden", &o.Hidden, defaults.Hidden, maxHidden},
		{"Epochs", &o.Epochs, defaults.Epochs, maxEpochs},
		{"Ensemble", &o.Ensemble, defaults.Ensemble, maxEnsemble},
	} {
		if *n.value == 0 {
			*n.value = n.usual
		}
		if *n.value < 0 || *n.value > n.largest {
			return fmt.Errorf("option %s is %d: give 1 to %d, or 0 for %d", n.name, *n.value, n.largest, n.usual)
		}
	}
	for _, n := range []struct {
		name  string
		value *float64
		usual float64
	}{
		{"Rate", &o.Rate, defaults.Rate},
		{"Decay", &o.Decay, defaults.Decay},
	} {
		if *n.value == 0 {
			*n.value = n.usual
		}
		if !(*n.value > 0 && *n.value <= 1) {
			return fmt.Errorf("option %s is %v: give a number above 0 and up to 1, or 0 for %v", n.name, *n.value, n.usual)
		}
	}
	without, err := sorted(o.Without)
	if err != nil {
		return fmt.Errorf("option Without: %w", err)
	}
	o.Without = without
	return nil
}

// sorted gives the groups once each, in the order of Groups. They must be known, and some evidence must remain.
func sorted(groups []Group) ([]Group, error) {
	result := []Group{}
	for _, g := range Groups {
		if slices.Contains(groups, g) {
			result = append(result, g)
		}
	}
	for _, g := range groups {
		if !slices.Contains(Groups, g) {
			return nil, fmt.Errorf("%q is no group of evidence: use some of %q", g, Groups)
		}
	}
	if !slices.ContainsFunc(inputs, func(in input) bool { return !slices.Contains(result, in.group) }) {
		return nil, fmt.Errorf("nothing is left to tell candidates apart: keep one of %q", Groups[:len(Groups)-1])
	}
	return result, nil
}

func setOf(groups []Group) map[Group]bool {
	set := map[Group]bool{}
	for _, g := range groups {
		set[g] = true
	}
	return set
}

// dataset is all examples as the networks see them.
type dataset struct {
	rows   []float64 // columns of every candidate, lists one after the other
	from   []int     // row at which each list begins, and the end
	chosen []int     // row within its list
}

func (d dataset) list(i int) []float64 { return d.rows[d.from[i]*columns : d.from[i+1]*columns] }

// prepare checks the examples and encodes those that offered a choice.
func prepare(examples []Example, removed map[Group]bool) (dataset, error) {
	d := dataset{from: []int{0}}
	for i, e := range examples {
		if err := e.check(); err != nil {
			return d, fmt.Errorf("example %d: %w", i, err)
		}
		if e.Chosen < 0 || e.Chosen >= len(e.Evidence) {
			return d, fmt.Errorf("example %d: chosen is %d, the list has %d candidates", i, e.Chosen, len(e.Evidence))
		}
		if len(e.Evidence) > 1 {
			d.from = append(d.from, d.from[len(d.chosen)]+len(e.Evidence))
			d.chosen = append(d.chosen, e.Chosen)
		}
	}
	if len(d.chosen) < MinExamples {
		return d, fmt.Errorf("%w: %d with two candidates or more, of %d needed; take them from a longer time or more users, or use the default model",
			ErrTooFew, len(d.chosen), MinExamples)
	}
	d.rows = make([]float64, d.from[len(d.chosen)]*columns)
	next := 0
	for _, e := range examples {
		if len(e.Evidence) > 1 {
			encode(e.List, removed, d.list(next))
			next++
		}
	}
	return d, nil
}

// fitOne fits one network and gives the mean loss of its last epoch. The examples that are left over when an epoch is
// cut into batches wait for the next, which has another order.
func fitOne(ctx context.Context, d dataset, o FitOptions, rng *rand.Rand, epochDone func()) (*network, float64, error) {
	n, grad := newNetwork(o.Hidden), newNetwork(o.Hidden)
	n.randomise(o.Hidden, rng)
	batches := len(d.chosen) / batch
	opt := newAdam(len(n.all), o, batches*o.Epochs)
	order := rng.Perm(len(d.chosen))
	var s scratch
	loss := 0.0
	for range o.Epochs {
		loss = 0
		rng.Shuffle(len(order), func(a, b int) { order[a], order[b] = order[b], order[a] })
		for b := range batches {
			if err := ctx.Err(); err != nil {
				return nil, 0, err
			}
			clear(grad.all)
			for _, i := range order[b*batch : (b+1)*batch] {
				loss += n.backpropagate(d.list(i), d.chosen[i], 1./batch, grad, &s)
			}
			opt.step(n.all, grad.all)
		}
		loss /= float64(batches * batch)
		epochDone()
	}
	if err := n.round(); err != nil {
		return nil, 0, err
	}
	return n, loss, nil
}

// round makes every weight a float32, which is what a file keeps, and refuses what Load would refuse.
func (n *network) round() error {
	for i, w := range n.all {
		n.all[i] = float64(float32(w))
		if !(math.Abs(w) <= maxWeight) {
			return fmt.Errorf("a weight is %v: the weights ran away, use a smaller Rate", w)
		}
	}
	return nil
}
