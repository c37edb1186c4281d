package rltrainer

import (
	"context"
	"fmt"
	"time"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/ope"
	"github.com/r2rec/r2rec/internal/policy"
)

// RollOut is an adapter that a share of the users has, while the others have the current one.
type RollOut struct {
	Current   string // digest; empty: the bare base model
	Candidate string
	Share     float64    // of the users who have the candidate
	Since     event.Time // when it began

	// What the candidate is for, as the record has it by which it is served: whoever ends the roll-out may have another model.
	Base    string // digest
	Readout string
	Prompt  int // version
	Think   int // tokens of the thought before its answers; 0: it answers at once
}

// RollOutOf is the roll-out that a state of the log has under way; false: none is.
func RollOutOf(s adapters.State) (RollOut, bool) {
	about, _ := s.Record(s.Candidate)
	return RollOut{Current: s.Current, Candidate: s.Candidate, Share: s.Share, Since: s.Since, Base: about.Base, Readout: about.Readout, Prompt: about.Prompt, Think: about.Think}, s.Candidate != ""
}

// Watch follows the rewards of one roll-out: what slot 1 of each decision earned, as the gate counts.
//
// A user counts where the hash puts him, and only by decisions of the adapter that he should have: while servers load, or
// where they refuse, some who are in the share still get the current one, and would blur the difference.
type Watch struct {
	RollOut
	limit   time.Duration
	test    *ope.Sequential
	counted map[string]bool // decisions: a reward may come again
	newest  event.Time      // of the rewards' times
}

// NewWatch begins to follow a roll-out. One that has not been decided by rewards within the limit, in the rewards' own
// time, goes back: an adapter that shows nothing should not stand in the way of the next.
func NewWatch(r RollOut, limit time.Duration, o ope.SequentialOptions) (*Watch, error) {
	if r.Candidate == "" || r.Candidate == r.Current || !(r.Share > 0 && r.Share < 1) || limit <= 0 {
		return nil, fmt.Errorf("watch the roll-out of %q to a share of %v in place of %q within %v: want another adapter, a share between 0 and 1, and some time",
			r.Candidate, r.Share, r.Current, limit)
	}
	if o.Share == 0 {
		o.Share = r.Share
	}
	test, err := ope.NewSequential(o)
	if err != nil {
		return nil, err
	}
	return &Watch{RollOut: r, limit: limit, test: test, counted: map[string]bool{}}, nil
}

// Add counts a reward, in whatever order they come, unless it says nothing about the roll-out or came before.
func (w *Watch) Add(r event.Reward) error {
	if r.DecidedAt < w.Since {
		return nil
	}
	w.newest = max(w.newest, r.Timestamp)
	arm, should := ope.Present, w.Current
	if policy.InRollOut(w.Candidate, r.UserID, w.Share) {
		arm, should = ope.Candidate, w.Candidate
	}
	if r.Control || r.Source != event.Reasoned || r.Adapter != should || r.Position != 1 || w.counted[r.DecisionID] {
		return nil
	}
	if err := w.test.Add(arm, r.UserID, r.Value); err != nil {
		return fmt.Errorf("decision %.80q: %w", r.DecisionID, err)
	}
	w.counted[r.DecisionID] = true
	return nil
}

// Look is what the test says of the rewards so far.
func (w *Watch) Look() ope.Look { return w.test.Decide() }

// Decide is the record that ends the roll-out, to be completed by when; false: it goes on.
func (w *Watch) Decide() (p event.Promotion, ok bool) {
	look := w.test.Decide()
	p = event.Promotion{Kind: event.RollBack, Adapter: w.Current, Parent: w.Candidate, Base: w.Base, Readout: w.Readout, Prompt: w.Prompt, Think: w.Think, Reason: "roll-out: " + look.Reason}
	switch {
	case look.Direction == ope.Forward:
		p.Kind, p.Adapter, p.Parent = event.Complete, w.Candidate, w.Current
	case look.Direction == ope.Back:
	case w.newest.Std().Sub(w.Since.Std()) > w.limit:
		p.Reason = fmt.Sprintf("roll-out: not decided within %v: %s", w.limit, look.Reason)
	default:
		return event.Promotion{}, false
	}
	return p, true
}

// RollOutLog is what a watch ends a roll-out by.
type RollOutLog interface {
	Append(ctx context.Context, p event.Promotion) (adapters.State, bool, error)
}

// Run counts rewards until the roll-out is decided, and writes that to the log: the state there. next adds some more of the
// rewards since it began, in any order, and waits for them; one that it adds again counts once.
//
// That the record does not count means that somebody else ended the roll-out first, which is as good.
func (w *Watch) Run(ctx context.Context, next func(ctx context.Context, add func(event.Reward) error) error, log RollOutLog, now func() time.Time) (adapters.State, error) {
	for {
		if err := next(ctx, w.Add); err != nil {
			return adapters.State{}, fmt.Errorf("watch the roll-out of %s: %w", adapters.Name(w.Candidate), err)
		}
		if s, ended, err := w.End(ctx, log, now); ended || err != nil {
			return s, err
		}
	}
}

// End writes to the log that the roll-out has ended, if the rewards so far decide it: the state there, and whether they do.
func (w *Watch) End(ctx context.Context, log RollOutLog, now func() time.Time) (s adapters.State, ended bool, err error) {
	p, ended := w.Decide()
	if !ended {
		return adapters.State{}, false, nil
	}
	p.Timestamp = event.At(now())
	s, _, err = log.Append(ctx, p)
	return s, true, err
}
