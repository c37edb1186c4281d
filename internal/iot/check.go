package iot

import (
	"fmt"
	"slices"

	"github.com/r2rec/r2rec/internal/event"
)

// Fault is what makes a step ungrounded. Its values are few and fixed, so that they can label a counter.
type Fault string

// The faults that Check looks for, in this order; a step has the first one that applies.
const (
	NotShown     Fault = "not_shown"     // the step's item is not in the slate
	UnknownChain Fault = "unknown_chain" // a cited number is no chain of the context
	OtherItem    Fault = "other_item"    // a cited chain leads to another item
	NothingCited Fault = "nothing_cited" // a model's step cites no chain, so nothing bears it out
	NoWords      Fault = "no_words"      // nothing that can be shown is left of the text
)

// UngroundedError says why a step was dropped. A caller finds it with errors.As and counts its Fault.
type UngroundedError struct {
	Step   int // position in the thought, 1 is the first
	ItemID string
	Chain  int // the cited number at fault; 0 where none is
	Fault  Fault
}

func (e *UngroundedError) Error() string {
	if e.Chain != 0 {
		return fmt.Sprintf("step %d for item %q is ungrounded: %s %d", e.Step, e.ItemID, e.Fault, e.Chain)
	}
	return fmt.Sprintf("step %d for item %q is ungrounded: %s", e.Step, e.ItemID, e.Fault)
}

// maxStepRunes bounds the words of a step that a model wrote.
const maxStepRunes = 600

// Check keeps the steps of a thought that are grounded: about a shown item, citing only chains of the context that lead
// to that item. A step written by a model must also cite a chain, and its words are cleaned and cut to 600 runes. Each
// dropped step gives one *UngroundedError, in order. The given thought is not changed.
func Check(t event.Thought, c event.Context, slate []event.Slot) (event.Thought, []error) {
	kept := t
	kept.Steps = []event.Step{}
	var errs []error
	for i, s := range t.Steps {
		if t.Author(s) != event.Graph {
			s.Text = shorten(Clean(s.Text), maxStepRunes)
		}
		if e := ungrounded(s, t.Author(s), c, slate); e != nil {
			e.Step, e.ItemID = i+1, s.ItemID
			errs = append(errs, e)
			continue
		}
		s.Chains, s.Contributions = append([]int{}, s.Chains...), slices.Clone(s.Contributions)
		kept.Steps = append(kept.Steps, s)
	}
	return kept, errs
}

func ungrounded(s event.Step, by event.Source, c event.Context, slate []event.Slot) *UngroundedError {
	if !slices.ContainsFunc(slate, func(slot event.Slot) bool { return slot.ItemID == s.ItemID }) {
		return &UngroundedError{Fault: NotShown}
	}
	for _, n := range s.Chains {
		switch {
		case n < 1 || n > len(c.Chains):
			return &UngroundedError{Fault: UnknownChain, Chain: n}
		case c.Chains[n-1].ItemID != s.ItemID:
			return &UngroundedError{Fault: OtherItem, Chain: n}
		}
	}
	switch {
	case by != event.Graph && len(s.Chains) == 0:
		return &UngroundedError{Fault: NothingCited}
	case s.Text == "":
		return &UngroundedError{Fault: NoWords}
	}
	return nil
}
