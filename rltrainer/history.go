package rltrainer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/r2rec/r2rec/internal/event"
)

// Mark is a place in the logs of decisions and rewards: what a round reads ends there, so that a round that is taken up
// again reads the same. What it holds is the History's own.
type Mark = json.RawMessage

// History gives what was decided and what it earned.
type History interface {
	// Mark is where both logs end now.
	Mark(ctx context.Context) (Mark, error)
	// Rewards and Decisions give the records that were written since a time and before a mark, each at least once and in no
	// order that means anything. Records that break their contract are left out, and told as refused. The error is ErrInputGone
	// where the logs are not those of the mark any more.
	Rewards(ctx context.Context, since event.Time, before Mark, f func(event.Reward) error) (refused int, err error)
	Decisions(ctx context.Context, since event.Time, before Mark, f func(event.Decision) error) (refused int, err error)
	// Forgotten is the time before which each user who asked for it is to be forgotten, by what is known now and not at a mark.
	Forgotten(ctx context.Context) (map[string]event.Time, error)
}

// ErrInputGone says that a mark is of logs that are no more.
var ErrInputGone = errors.New("what was to be learned from is gone")

// Input says which records are learned from. Who keeps it reads the same again, as long as the topics hold them.
type Input struct {
	Since event.Time `json:"since"` // older ones are stale
	Mark  Mark       `json:"mark"`  // where they end
}

// InputOf is what is there to learn from now.
func InputOf(ctx context.Context, h History, staleness time.Duration, now time.Time) (Input, error) {
	mark, err := h.Mark(ctx)
	if err != nil {
		return Input{}, fmt.Errorf("find where decisions and rewards end: %w", err)
	}
	return Input{Since: event.At(now.Add(-staleness)), Mark: mark}, nil
}

// recall reads the decisions of an input whose first slot has its reward, and their rewards, and joins them. What cannot teach
// whatever else is in it, nine of ten as a rule, is counted as Join would and not kept: of each list that was shown some 120
// bytes are, and of a decision that may teach 20 kB.
func recall(ctx context.Context, h History, in Input, model event.Model) (j Joined, read ReadCounts, err error) {
	forgotten, err := h.Forgotten(ctx)
	if err != nil {
		return j, read, fmt.Errorf("read who is to be forgotten: %w", err)
	}
	o := JoinOptions{Model: model, Since: in.Since, Forgotten: forgotten}
	dropped, repeated, seen := map[Reason]int{}, 0, map[string]sightings{}
	var rewards []event.Reward
	read.Refused, err = h.Rewards(ctx, in.Since, in.Mark, func(r event.Reward) error {
		read.Rewards++
		s := seen[r.DecisionID]
		again := s.slot(r.Position)
		seen[r.DecisionID] = s
		switch {
		case again:
			repeated++
		case r.DecidedAt >= forgotten[r.UserID] && teaches(r.Control, r.Explore, r.Source):
			rewards = append(rewards, r)
		}
		return nil
	})
	if err != nil {
		return j, read, fmt.Errorf("read rewards since %s: %w", in.Since, err)
	}
	var decisions []event.Decision
	refused, err := h.Decisions(ctx, in.Since, in.Mark, func(d event.Decision) error {
		read.Decisions++
		s := seen[d.DecisionID]
		if !s.shown {
			return nil
		}
		again := s.decided
		s.decided = true
		seen[d.DecisionID] = s
		switch {
		case again:
			repeated++
		case d.Timestamp < forgotten[d.UserID] || !teaches(d.Control, d.Explore, d.Source):
			_, why := rollout(d, nil, o)
			dropped[why]++
		default:
			d.Thought = event.Thought{} // nothing is learned from it
			decisions = append(decisions, d)
		}
		return nil
	})
	read.Refused += refused
	if err != nil {
		return j, read, fmt.Errorf("read decisions since %s: %w", in.Since, err)
	}
	j = Join(decisions, rewards, o)
	j.Repeated += repeated
	for why, n := range dropped {
		j.Dropped[why] += n
	}
	return j, read, nil
}

// sightings are which records of a list have come: those that come again count once.
type sightings struct {
	shown, decided bool // the first slot's reward has come; the decision has
	slots          uint64
	more           []int // slots that are beyond what fits
}

// slot marks the reward of one, and tells whether it had come before.
func (s *sightings) slot(position int) (again bool) {
	s.shown = s.shown || position == 1
	if position < 64 {
		bit := uint64(1) << position
		again, s.slots = s.slots&bit != 0, s.slots|bit
		return again
	}
	if again = slices.Contains(s.more, position); !again {
		s.more = append(s.more, position)
	}
	return again
}

// teaches tells whether a decision can: only one that was drawn from the model's ranking can.
func teaches(control, explore bool, source event.Source) bool {
	return explore && !control && source == event.Reasoned
}

// ReadCounts is how much a round has read.
type ReadCounts struct {
	Decisions int `json:"decisions"` // records, those that came twice included
	Rewards   int `json:"rewards"`   // of all slots
	Refused   int `json:"refused"`   // records that break their contract
}
