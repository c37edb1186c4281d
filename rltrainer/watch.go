package rltrainer

import (
	"context"
	"fmt"
	"time"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/policy"
)

// RollOut is an adapter that a share of the users has, while the others have the current one.
type RollOut struct {
	Current   string // digest; empty: the bare base model
	Candidate string
	Share     float64    // of the users who have the candidate
	Since     event.Time // when it began
}

// RollOutOf is the roll-out that a state of the log has under way; false: none is.
func RollOutOf(s adapters.State) (RollOut, bool) {
	return RollOut{Current: s.Current, Candidate: s.Candidate, Share: s.Share, Since: s.Since}, s.Candidate != ""
}

// Comparison is a test of two arms that may be asked after every reward. internal/ope has one.
type Comparison interface {
	// Add counts the reward of one decision of a user.
	Add(candidate bool, user string, reward float64) error
	// Decide says where it stands: the candidate goes forward, or back, or (neither) it is not known yet.
	Decide() (forward, back bool, reason string)
}

// Watch follows the rewards of one roll-out: what slot 1 of each decision earned, as the gate counts.
//
// A user counts where the hash puts him, and only by decisions of the adapter that he should have: while servers load, or
// where they refuse, some who are in the share still get the current one, and would blur the difference.
type Watch struct {
	RollOut
	limit   time.Duration
	test    Comparison
	counted map[string]bool // decisions: a reward may come again
	newest  event.Time      // of the rewards' times
}

// NewWatch begins to follow a roll-out. One that has not been decided by rewards within the limit, in the rewards' own
// time, goes back: an adapter that shows nothing should not stand in the way of the next.
func NewWatch(r RollOut, limit time.Duration, test Comparison) (*Watch, error) {
	if r.Candidate == "" || r.Candidate == r.Current || !(r.Share > 0 && r.Share < 1) || limit <= 0 {
		return nil, fmt.Errorf("watch the roll-out of %q to a share of %v in place of %q within %v: want another adapter, a share between 0 and 1, and some time",
			r.Candidate, r.Share, r.Current, limit)
	}
	return &Watch{RollOut: r, limit: limit, test: test, counted: map[string]bool{}}, nil
}

// Add counts a reward, in whatever order they come, unless it says nothing about the roll-out or came before.
func (w *Watch) Add(r event.Reward) error {
	if r.DecidedAt < w.Since {
		return nil
	}
	w.newest = max(w.newest, r.Timestamp)
	has := policy.InRollOut(w.Candidate, r.UserID, w.Share)
	should := w.Current
	if has {
		should = w.Candidate
	}
	if r.Control || r.Source != event.Reasoned || r.Adapter != should || r.Position != 1 || w.counted[r.DecisionID] {
		return nil
	}
	w.counted[r.DecisionID] = true
	if err := w.test.Add(has, r.UserID, r.Value); err != nil {
		return fmt.Errorf("watch the roll-out of %s: decision %.80q: %w", adapters.Name(w.Candidate), r.DecisionID, err)
	}
	return nil
}

// Decide is the record that ends the roll-out, to be completed by what it is for and when; false: it goes on.
func (w *Watch) Decide() (p event.Promotion, ok bool) {
	forward, back, reason := w.test.Decide()
	switch {
	case forward:
		return event.Promotion{Kind: event.Complete, Adapter: w.Candidate, Parent: w.Current, Reason: "roll-out: " + reason}, true
	case back:
		return event.Promotion{Kind: event.RollBack, Adapter: w.Current, Parent: w.Candidate, Reason: "roll-out: " + reason}, true
	case w.newest.Std().Sub(w.Since.Std()) > w.limit:
		return event.Promotion{Kind: event.RollBack, Adapter: w.Current, Parent: w.Candidate, Reason: fmt.Sprintf("roll-out: not decided within %v: %s", w.limit, reason)}, true
	}
	return event.Promotion{}, false
}

// RollOutLog is what a watch ends a roll-out by.
type RollOutLog interface {
	Append(ctx context.Context, p event.Promotion) (adapters.State, bool, error)
}

// Run counts rewards until the roll-out is decided, and writes that to the log: the state there. next gives some more of
// the rewards since it began, in any order, and waits for them. model is what the log's records are for.
//
// That the record does not count means that somebody else ended the roll-out first, which is as good.
func (w *Watch) Run(ctx context.Context, next func(context.Context) ([]event.Reward, error), log RollOutLog, model event.Model, now func() time.Time) (adapters.State, error) {
	for {
		rewards, err := next(ctx)
		if err != nil {
			return adapters.State{}, fmt.Errorf("watch the roll-out of %s: %w", adapters.Name(w.Candidate), err)
		}
		for _, r := range rewards {
			if err := w.Add(r); err != nil {
				return adapters.State{}, err
			}
		}
		p, ok := w.Decide()
		if !ok {
			continue
		}
		p.Base, p.Readout, p.Prompt, p.Timestamp = model.Digest, model.Readout, model.PromptVersion, event.At(now())
		s, _, err := log.Append(ctx, p)
		return s, err
	}
}
