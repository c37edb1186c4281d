// Package adapters keeps which adapter is served: a log of promotions and roll-backs in Kafka that alone decides, its
// projection into Redis for whoever only wants to look, and the adapters' files with their manifests in a blob store.
//
// It promises that
//   - what is served is a pure function of the log, the same for everybody who reads it: a record counts only if it names
//     as its parent what is current at its offset, so that of two trainers that saw the same state never both win;
//   - a record that does not count, or cannot even be read, changes nothing and is kept with the reason why;
//   - decisions that one gate has used are not used by a later one;
//   - a file that the store hands out is the one that its digest names, and what was not stored wholly does not exist.
//
// A Lease saves trainers from doing the same work twice, and no more than that: correctness rests on the log alone.
//
// Making adapters, judging them and serving them is left to others, and so is whether an adapter fits the model at hand:
// the manifest says what it was learned for.
package adapters

import (
	"fmt"
	"slices"

	"github.com/r2rec/r2rec/internal/event"
)

// State is what the log of adapters says up to an offset. The zero value is that of an empty log: the bare base model is
// served. States are values: nothing that is done with one changes another.
type State struct {
	Offset    int64      `json:"offset"`    // of the first record that is not in it
	Current   string     `json:"current"`   // digest of the adapter that is served; empty: the bare base model
	Candidate string     `json:"candidate"` // digest of the one that a share of the users has; empty: there is none
	Share     float64    `json:"share"`     // of the users who have the candidate; 0 without one
	Since     event.Time `json:"since"`     // when what is served changed last; 0: never
	Gates     int        `json:"gates"`     // gates since a promotion last held for all users: the next look is Gates + 1
	Used      event.Time `json:"used"`      // no gate may use a decision up to here again; 0: all may be used
	Entries   []Entry    `json:"entries"`   // every record, in the order of the log
}

// Entry is one record of the log and whether it counts.
type Entry struct {
	Offset int64           `json:"offset"`
	Record event.Promotion `json:"record,omitzero"` // zero where it cannot be read
	Void   string          `json:"void,omitempty"`  // why it does not count; empty: it does
}

// Apply is the state after one more record, which stands at the offset.
func (s State) Apply(offset int64, p event.Promotion) State {
	s.Entries = slices.Clip(s.Entries) // what is appended is nobody else's
	s.add(offset, p, s.judge(p))
	return s
}

// add appends a record that counts unless void says why not.
func (s *State) add(offset int64, p event.Promotion, void string) {
	if void == "" {
		s.follow(p)
	}
	s.Offset = offset + 1
	s.Entries = append(s.Entries, Entry{Offset: offset, Record: p, Void: void})
}

// follow does what a record that counts says.
func (s *State) follow(p event.Promotion) {
	if p.Gate != nil {
		s.Used = p.Gate.Until
		s.Gates++
	}
	switch p.Kind {
	case event.Refuse:
		return
	case event.Promote:
		if p.Share < 1 { // its gate counts until the roll-out has shown that it was right
			s.Candidate, s.Share = p.Adapter, p.Share
			break
		}
		s.Current, s.Gates = p.Adapter, 0
	case event.Complete:
		s.Current, s.Candidate, s.Share, s.Gates = p.Adapter, "", 0, 0
	case event.RollBack:
		s.Current, s.Candidate, s.Share = p.Adapter, "", 0
	}
	s.Since = p.Timestamp
}

// judge says why a record would not count; empty: it would.
func (s *State) judge(p event.Promotion) string {
	if err := p.Validate(); err != nil {
		return err.Error()
	}
	if p.Kind == event.RollBack {
		return s.judgeRollBack(p)
	}
	switch {
	case p.Adapter == "":
		return fmt.Sprintf("%s without an adapter: to serve the bare base model again is a roll-back", p.Kind)
	case p.Kind == event.Complete && s.Candidate == "":
		return "no adapter is being rolled out"
	case p.Kind == event.Complete && p.Adapter != s.Candidate:
		return fmt.Sprintf("%s is being rolled out", Name(s.Candidate))
	case p.Kind == event.Complete && p.Think != s.about(s.Candidate).Think:
		return fmt.Sprintf("it says think %d, and %s is being rolled out with think %d", p.Think, Name(s.Candidate), s.about(s.Candidate).Think)
	case p.Parent != s.Current:
		return fmt.Sprintf("its parent is %s, and current is %s", Name(p.Parent), Name(s.Current))
	case p.Kind == event.Promote && s.Candidate != "":
		return fmt.Sprintf("%s is being rolled out: complete that or roll it back first", Name(s.Candidate))
	case p.Gate != nil && p.Gate.After < s.Used:
		return fmt.Sprintf("its gate used decisions after %s, and those up to %s had been used", p.Gate.After, s.Used)
	}
	return ""
}

func (s *State) about(adapter string) event.Promotion {
	p, _ := s.Record(adapter)
	return p
}

func (s *State) judgeRollBack(p event.Promotion) string {
	switch {
	case s.Candidate != "" && p.Parent == s.Candidate && p.Adapter == s.Current:
		return ""
	case s.Candidate != "":
		return fmt.Sprintf("%s is being rolled out: only from it to %s can be rolled back", Name(s.Candidate), Name(s.Current))
	case p.Parent != s.Current:
		return fmt.Sprintf("it rolls back %s, and current is %s", Name(p.Parent), Name(s.Current))
	case p.Adapter != "" && !s.stood(p.Adapter):
		return fmt.Sprintf("%s has never been current", Name(p.Adapter))
	}
	return ""
}

// stood tells whether an adapter was ever current.
func (s *State) stood(adapter string) bool {
	return slices.ContainsFunc(s.Entries, func(e Entry) bool { return e.installs() && e.Record.Adapter == adapter })
}

// installs tells whether the record made its adapter current for the first time, or again by a promotion.
func (e Entry) installs() bool {
	return e.Void == "" && (e.Record.Kind == event.Complete || e.Record.Kind == event.Promote && e.Record.Share == 1)
}

// shownDigits of a digest tell adapters apart in tables and messages.
const shownDigits = 12

// Name is how people are told of an adapter: the first digits of its digest, or that there is none.
func Name(digest string) string {
	if digest == "" {
		return "the bare base model"
	}
	return "adapter " + Short(digest)
}

// Short is the first digits of a digest.
func Short(digest string) string { return digest[:min(len(digest), shownDigits)] }
