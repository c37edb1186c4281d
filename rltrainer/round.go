package rltrainer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"time"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/lm"
)

// Verdict is how a round ended.
type Verdict string

// A round ends in one of these, or in an error.
const (
	Promoted       Verdict = "promoted"         // the new adapter is in the log, and counts
	Refused        Verdict = "refused"          // it did not pass the gate; the log says so
	Underpowered   Verdict = "underpowered"     // there are too few decisions to tell: nobody was judged, and nothing is used up
	NothingToLearn Verdict = "nothing to learn" // there are too few decisions to learn from
	Waiting        Verdict = "waiting"          // another adapter is being rolled out, or was promoted meanwhile
)

// AdapterLog is the log of promotions (internal/adapters).
type AdapterLog interface {
	State(ctx context.Context) (adapters.State, error)
	// Append publishes a record, and tells whether it counted.
	Append(ctx context.Context, p event.Promotion) (adapters.State, bool, error)
}

// AdapterStore keeps the files of adapters by their digest (internal/adapters).
type AdapterStore interface {
	Put(ctx context.Context, path string, m adapters.Manifest) (digest string, err error)
	Fetch(ctx context.Context, digest, dir string) (path string, m adapters.Manifest, err error)
}

// Teacher makes learners and rankers of one base model.
type Teacher interface {
	// Model is the base that learns, without an adapter. Where it says that it thinks before it answers, rounds teach it to
	// (Think), and what Open opens is a Thinker that does, and a Scorer.
	Model() event.Model
	// Settings is what decides what its learners learn beside their options, such as an adapter's rank and how many work on a
	// step. A round that was begun with others begins anew.
	Settings() string
	// Begin makes a learner for a new adapter.
	Begin(o LearnerOptions) (AdapterLearner, error)
	// Open makes a ranker of an adapter's file, or of the base alone where the path is empty. It serves several goroutines
	// until it is closed.
	Open(adapter string) (RankerCloser, error)
}

// LearnerOptions say where a learner begins and how fast it goes.
type LearnerOptions struct {
	From  string // path of the adapter to go on from; empty: one that changes nothing
	Seed  uint64
	Steps int     // in all, for the schedule
	Rate  float64 // of learning
	Run   string  // names what is learned from; a checkpoint of another run is unusable
	Note  string  // for people, in the adapter's file
}

// AdapterLearner learns an adapter, and can be taken up again. The error of one whose gradients are no longer finite, so that it
// would fail again, has a method Diverged.
type AdapterLearner interface {
	lm.Learner
	Steps() int               // taken so far
	Save(path string) error   // a checkpoint, whole or not at all
	Resume(path string) error // from one; the error of one that is damaged, or of another run, has a method Unusable
	Write(w io.Writer) error  // the adapter as it is now, as GGUF
	// Thoughts is the same learner, as one that writes and learns from what it wrote.
	Thoughts() ThoughtLearner
}

// RankerCloser is a Ranker that holds something.
type RankerCloser interface {
	Ranker
	io.Closer
}

// RoundOptions of a Round. The zero value of a field takes the default its comment states.
type RoundOptions struct {
	Dir     string       // where a round's files stand, so that it can be taken up again; required
	History History      // required
	Log     AdapterLog   // required
	Store   AdapterStore // required
	Teacher Teacher      // required
	Learn   LearnOptions
	Gate    GateOptions
	// Import is an adapter that was learned elsewhere: the round learns nothing itself, and has the gate judge that.
	Import Import
	// Share of the users who get a promoted adapter first. Default .1; 1: all at once.
	Share float64

	Seed   uint64
	Now    func() time.Time                    // required
	Logger *slog.Logger                        // Default: discarded
	Told   func(doing string, done, total int) // hears of progress. Default: nobody
}

// Import is an adapter's file that was made elsewhere (Export), and when the decisions end that it was learned from.
type Import struct {
	Path   string     // GGUF
	Before event.Time // no decision from then on taught it
}

// Defaults that more than one job shares.
const (
	defaultStaleness = 30 * 24 * time.Hour
	defaultHeld      = .5
)

// LearnOptions say what a round learns from, and how. The defaults of learning are those that did best on validation cases of
// replayed data (docs/learning.md).
type LearnOptions struct {
	Staleness  time.Duration // decisions older than this are left out. Default 30 days
	Least      int           // decisions to learn from, at least. Default 500
	SFTSteps   int           // of fitting on what was chosen, before the policy gradient. Default 100; negative: none
	SFTRate    float64       // Default 1e-3
	Steps      int           // of the policy gradient. Default 40
	Rate       float64       // Default 5e-4
	Batch      int           // decisions a step. Default 64
	Beta       float64       // weight of the KL divergence. Default 2
	Checkpoint int           // steps between two checkpoints. Default 25
	// Thoughts is how a model learns that thinks before it answers (Teacher.Model), in place of all the steps above.
	Thoughts ThoughtOptions `json:",omitzero"`
}

// ThoughtOptions say how a round teaches a model that thinks: see Think. The zero value of a field takes the default its comment
// states.
type ThoughtOptions struct {
	Steps int     // Default 50
	Batch int     // decisions a step. Default 4
	Group int     // replies to each. Default 8
	Rate  float64 // Default 2e-4
	Beta  float64 // weight of the KL divergence, a token. Default .02
}

func (o *RoundOptions) fill() error {
	l := &o.Learn
	setDefault(&l.Staleness, defaultStaleness)
	setDefault(&l.Least, 500)
	setDefault(&l.SFTSteps, 100)
	setDefault(&l.SFTRate, 1e-3)
	setDefault(&l.Steps, 40)
	setDefault(&l.Rate, 5e-4)
	setDefault(&l.Batch, 64)
	setDefault(&l.Beta, 2)
	setDefault(&l.Checkpoint, 25)
	setDefault(&o.Share, .1)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Told == nil {
		o.Told = func(string, int, int) {}
	}
	o.Gate.fill()
	if o.Teacher != nil && o.Teacher.Model().Think > 0 {
		l.Thoughts.fill()
	}
	switch {
	case o.Dir == "" || o.History == nil || o.Log == nil || o.Store == nil || o.Teacher == nil || o.Now == nil:
		return errors.New("round: Dir, History, Log, Store, Teacher and Now are required")
	case !(o.Share > 0 && o.Share <= 1):
		return fmt.Errorf("round: the share of users who get an adapter first is %v, must be above 0 and at most 1", o.Share)
	case l.Steps < 1 || l.Batch < 1 || l.Least < 1 || l.Checkpoint < 1:
		return fmt.Errorf("round: %d steps of %d decisions, %d decisions at least, a checkpoint every %d steps: all must be positive", l.Steps, l.Batch, l.Least, l.Checkpoint)
	case !(l.Beta > 0) || math.IsInf(l.Beta, 0):
		return fmt.Errorf("round: the weight of the KL divergence is %v, must be above 0", l.Beta)
	case l.Thoughts.Steps < 0 || l.Thoughts.Batch < 0 || l.Thoughts.Group == 1 || l.Thoughts.Group < 0 || l.Thoughts.Beta < 0 || l.Thoughts.Rate < 0:
		return fmt.Errorf("round: thoughts are learned in %d steps of %d decisions with %d replies each, rate %v, beta %v: all must be positive, and replies 2 or more",
			l.Thoughts.Steps, l.Thoughts.Batch, l.Thoughts.Group, l.Thoughts.Rate, l.Thoughts.Beta)
	case l.Staleness < 0:
		return fmt.Errorf("round: decisions are stale after %v, must not be negative", l.Staleness)
	}
	return o.Gate.check()
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// RunRound learns a new adapter from what was decided and earned, has the gate judge it, and publishes what came of it:
//
//	log of adapters -> parent · history -> rollouts -> q, SFT, policy gradient -> gate -> store -> log of adapters
//	                                                   q, thoughts (Think)
//
// It can be killed at any instant: called again with the same options it goes on where it stood, and ends the same. Where
// the world has moved on meanwhile (another parent), it begins anew; where learning diverges it is given up, since it would
// again. Whether its promotion counts is decided by the log alone, whoever else is at work.
func RunRound(ctx context.Context, o RoundOptions) (*Report, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	state, err := o.Log.State(ctx)
	if err != nil {
		return nil, fmt.Errorf("round: read the log of adapters: %w", err)
	}
	r, err := takeUp(ctx, &o, state)
	if err != nil {
		return nil, fmt.Errorf("round: %w", err)
	}
	if r.note.Passed && r.note.Report.Verdict == "" && state.Candidate != "" && findIn(state, r.note) == nil {
		return &Report{Verdict: Waiting, Reason: rollingOut(state)}, nil // the note keeps the look until its record can count
	}
	if err := r.run(ctx, state); err != nil {
		var diverged interface{ Diverged() bool }
		switch {
		case errors.Is(err, ErrInputGone) && r.resumed:
			o.Logger.Warn("the round that was under way is given up, and a new one begins", "why", err, "dir", o.Dir)
			if err := r.clear(); err != nil {
				return nil, fmt.Errorf("round: %w", err)
			}
			return RunRound(ctx, o)
		case errors.As(err, &diverged):
			err = errors.Join(fmt.Errorf("%w; this round is given up: the next one learns from what is there then", err), r.clear())
		}
		return nil, fmt.Errorf("round in %s: %w", o.Dir, err)
	}
	report, err := r.end()
	if err != nil || !r.former {
		return report, err
	}
	o.Logger.Info("the round before had been judged, and has ended now; this one begins", "adapter", report.Adapter, "verdict", report.Verdict)
	return RunRound(ctx, o)
}

// run takes the round from where it stands to its end.
func (r *round) run(ctx context.Context, state adapters.State) error {
	if r.note.Report.Verdict != "" { // killed after its end, before its files were removed
		return nil
	}
	if e := findIn(state, r.note); e != nil { // killed between the log and our own note of it
		return r.settle(e.Void == "", e.Void)
	}
	if state.Candidate != "" && r.note.Gate == nil { // a refusal counts during a roll-out, too
		return r.finish(Waiting, rollingOut(state))
	}
	if served, ok := state.Record(r.note.Parent); ok && served.Base != r.note.Model.Digest {
		return fmt.Errorf("%s, which is current, was learned over the base model %s, and the base model here is %s: servers of this one refuse it and rank with the bare base; "+
			"say so with r2rec adapters rollback --to base, and rounds go on from there", adapters.Name(r.note.Parent), adapters.Short(served.Base), adapters.Short(r.note.Model.Digest))
	}
	if served, ok := state.Record(r.note.Parent); ok && served.Think != r.note.Model.Think {
		return fmt.Errorf("%s, which is current, is in the log with think %d, and this round is for servers with --think %d: servers refuse an adapter that was judged thinking otherwise than they do; "+
			"say --think %d, or go back by r2rec adapters rollback --to base", adapters.Name(r.note.Parent), served.Think, r.note.Model.Think, served.Think)
	}
	if r.note.Gate == nil {
		m, err := r.gather(ctx)
		if err != nil || r.note.Report.Verdict != "" {
			return err
		}
		if err := r.learn(ctx, m); err != nil {
			return err
		}
		if err := r.judge(ctx, m); err != nil || r.note.Report.Verdict != "" {
			return err
		}
	}
	return r.publish(ctx)
}

func rollingOut(s adapters.State) string {
	return fmt.Sprintf("%s is being rolled out to %.0f %% of the users", adapters.Name(s.Candidate), 100*s.Share)
}
