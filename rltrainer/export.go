package rltrainer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
)

// ExportOptions of Export. The zero value of a field takes the default its comment states.
type ExportOptions struct {
	History   History        // required
	State     adapters.State // of the log of adapters
	Model     event.Model    // that is to learn; its readout has to be letters
	Staleness time.Duration  // decisions older than this are left out. Default 30 days
	Held      float64        // share of the unused decisions, the newest, that is left to the gate. Default .5
	Now       func() time.Time
	// Input is what is read. Default: what is there now, by Staleness.
	Input *Input
	// Read is how the model reads a prompt. Export requires it.
	Read Reader
}

// ExportReport says what was written, and what was left out.
type ExportReport struct {
	Rollouts int            `json:"rollouts"`
	Choices  int            `json:"choices"` // of them, those in which something was chosen
	Users    int            `json:"users"`
	Before   event.Time     `json:"before"` // all of them were decided before this
	Held     int            `json:"held"`   // left to the gate
	Read     ReadCounts     `json:"read"`
	Repeated int            `json:"repeated"`
	Dropped  map[Reason]int `json:"dropped"`
}

// ErrNoLetters says that decisions by another readout are learned from here and nowhere else.
var ErrNoLetters = errors.New("only decisions by letters can be learned from by another engine: these alone are answers in words, which it can sample")

// Export gives f the rollouts that a round would learn from now, in the order of time, and leaves the newest to the gate,
// as a round does.
func Export(ctx context.Context, o ExportOptions, f func(Exported) error) (ExportReport, error) {
	if o.Read == nil {
		return ExportReport{}, errors.New("export: Read is required")
	}
	training, q, rep, err := o.learnable(ctx, func(all []Rollout) []Rollout { return judges(all, o.State.Used, o.State.Current, o.Model.Think) })
	if err != nil {
		return rep, fmt.Errorf("export: %w", err)
	}
	choices := Choices(training) // one a rollout in which something was chosen, in their order
	for i, r := range training {
		x, err := exported(r, q[i], o.Read)
		if err != nil {
			return rep, fmt.Errorf("export decision %.80q: %w", r.Decision.DecisionID, err)
		}
		if r.Chosen >= 0 {
			x.Weight, choices = choices[0].Weight, choices[1:]
		}
		if err := f(x); err != nil {
			return rep, err
		}
		if err := ctx.Err(); err != nil {
			return rep, fmt.Errorf("export: %w", err)
		}
	}
	return rep, nil
}

// Rewarded are the rollouts that a round would learn from now as questions, in the order of time: each candidate is worth its
// R̂ (see Prepare), of which a reply earns that of its answer. The newest are left to judge by, whichever adapter made them:
// there is no gate that could go by the current one's alone. ExportOptions.Read and State are not needed.
func Rewarded(ctx context.Context, o ExportOptions) ([]Question, ExportReport, error) {
	training, q, rep, err := o.learnable(ctx, func(all []Rollout) []Rollout { return all })
	if err != nil {
		return nil, rep, fmt.Errorf("questions of decisions: %w", err)
	}
	return RewardedBy(training, q), rep, nil
}

// RewardedBy are rollouts as questions: each candidate is worth its R̂ by the click model's q (FitClicks).
func RewardedBy(training []Rollout, q [][]float64) []Question {
	questions := make([]Question, len(training))
	for i, r := range training {
		questions[i] = Question{Context: r.Decision.Context, Values: values(r, q[i])}
	}
	return questions
}

// learnable are the rollouts to learn from, and what each candidate is worth by the click model. The newest of the judges
// among all rollouts are left out.
func (o *ExportOptions) learnable(ctx context.Context, judges func(all []Rollout) []Rollout) (training []Rollout, q [][]float64, rep ExportReport, err error) {
	setDefault(&o.Staleness, defaultStaleness)
	setDefault(&o.Held, defaultHeld)
	switch {
	case o.History == nil || o.Now == nil && o.Input == nil:
		return nil, nil, rep, errors.New("History is required, and Now or Input")
	case o.Model.Readout != "letters":
		return nil, nil, rep, fmt.Errorf("readout %q: %w", o.Model.Readout, ErrNoLetters)
	case !(o.Held > 0 && o.Held < 1):
		return nil, nil, rep, fmt.Errorf("the share of decisions for the gate is %v, must be between 0 and 1", o.Held)
	}
	if o.Input == nil {
		now, err := InputOf(ctx, o.History, o.Staleness, o.Now())
		if err != nil {
			return nil, nil, rep, err
		}
		o.Input = &now
	}
	joined, read, err := recall(ctx, o.History, *o.Input, o.Model)
	if err == nil && o.Read != nil { // by a trainer elsewhere prompts are read as they were
		err = o.alike(&joined)
	}
	if err != nil {
		return nil, nil, rep, err
	}
	training, held := cut(joined.Rollouts, judges(joined.Rollouts), o.Held)
	rep = ExportReport{Rollouts: len(training), Users: users(training), Held: len(held), Read: read, Repeated: joined.Repeated, Dropped: joined.Dropped}
	switch {
	case len(training) == 0:
		return nil, nil, rep, nil
	case len(held) > 0:
		rep.Before = held[0].Decision.Timestamp
	default:
		rep.Before = training[len(training)-1].Decision.Timestamp + 1
	}
	fitted, err := FitClicks(training, Folds)
	if err != nil {
		return nil, nil, rep, err
	}
	rep.Choices = len(Choices(training))
	return training, fitted.Q, rep, nil
}

// alike leaves out what an adapter for the same servers cannot learn from as it stands: other thoughts are in those prompts.
func (o *ExportOptions) alike(j *Joined) error {
	if why := thoughtOtherwise(j.Rollouts, o.State.Used, o.State.Current, o.Model.Think); why != "" {
		return errors.New(why)
	}
	all := len(j.Rollouts)
	j.Rollouts = slices.DeleteFunc(j.Rollouts, func(r Rollout) bool { return (thought(r.Decision) == 0) != (o.Model.Think == 0) })
	if n := all - len(j.Rollouts); n > 0 {
		j.Dropped[OtherThought] += n
	}
	return nil
}

func exported(r Rollout, q []float64, read Reader) (Exported, error) {
	d := r.Decision
	p, err := iot.Asked(d)
	if err != nil {
		return Exported{}, err
	}
	x := Exported{DecisionID: d.DecisionID, Timestamp: d.Timestamp, Reward: r.Reward, LogProbability: math.Log(d.Slate[0].Probability)}
	if x.Asked, err = read.asked(p); err != nil {
		return Exported{}, err
	}
	x.Values, x.Chosen, x.Completion = values(r, q), r.Chosen, x.Completions[r.First]
	for i := range x.Completions {
		x.Reference = append(x.Reference, math.Log(*d.Scores[i].Model))
	}
	return x, nil
}

// Why says in words what was left out.
func (r ExportReport) Why() string {
	if len(r.Dropped) == 0 {
		if r.Read.Decisions == 0 {
			return "no decision that was shown has a reward yet"
		}
		return "none"
	}
	var parts []string
	for _, why := range slices.Sorted(maps.Keys(r.Dropped)) {
		parts = append(parts, fmt.Sprintf("%d %s", r.Dropped[why], why))
	}
	return strings.Join(parts, ", ")
}
