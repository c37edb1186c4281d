package consumer

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"github.com/r2rec/r2rec/internal/event"
)

// joinHead is what the store keeps of a partition as a whole: how far both topics are worked into the users' parts.
// Times are in milliseconds.
type joinHead struct {
	Interactions   int64 `json:"interactions"` // offset: everything below it is worked in
	Decisions      int64 `json:"decisions"`
	InteractionsAt int64 `json:"interactions_at"` // latest Kafka time below it
	DecisionsAt    int64 `json:"decisions_at"`
	Clock          int64 `json:"clock"`   // event time
	Pending        int64 `json:"pending"` // decisions in the users' parts
}

func decodeHead(raw []byte) (h joinHead, err error) {
	if len(raw) == 0 {
		return h, nil
	}
	if err := json.Unmarshal(raw, &h); err != nil {
		return h, fmt.Errorf("the state of the join cannot be read: %w: delete the keys of the join, it begins again from what Kafka has", err)
	}
	return h, nil
}

// joinUser is a user's part of the join: decisions that may still earn, and events that are not yet attributed.
type joinUser struct {
	Decisions []*joinDecision `json:"d,omitempty"` // in the order they came
	Loose     []joinEvent     `json:"l,omitempty"` // named no decision; by time
	Came      int             `json:"n,omitempty"` // decisions so far

	touched bool
}

// joinDecision is what has to be known of a decision until its rewards are final.
type joinDecision struct {
	Nth     int          `json:"n"` // in the order they came
	ID      string       `json:"i"`
	At      int64        `json:"t"`
	Surface string       `json:"f,omitempty"`
	Source  event.Source `json:"r"`
	Adapter string       `json:"a,omitempty"`
	Control bool         `json:"c,omitempty"`
	Explore bool         `json:"e,omitempty"`
	Slots   []joinSlot   `json:"s"` // first slot first
}

// joinSlot is what happened to an item that a decision put into a slot.
type joinSlot struct {
	Item  string      `json:"i"`
	Shown *sighting   `json:"v,omitempty"` // the earliest impression
	Named []joinEvent `json:"n,omitempty"` // named the decision: the earliest of each value
	// Joined is the best of those that named no decision and are attributed to this slot.
	Joined *joinEvent `json:"w,omitempty"`
}

// sighting is an impression of a slot.
type sighting struct {
	At      int64  `json:"t"`
	ID      string `json:"i"`
	Surface string `json:"f,omitempty"`
}

func (s sighting) compare(o sighting) int {
	return cmp.Or(cmp.Compare(s.At, o.At), cmp.Compare(s.ID, o.ID), cmp.Compare(s.Surface, o.Surface))
}

// joinEvent is an interaction that is worth something.
type joinEvent struct {
	At    int64      `json:"t"`
	ID    string     `json:"i"`
	Type  event.Type `json:"y"`
	Value float64    `json:"v"`
	Item  string     `json:"m,omitempty"` // only where it is loose
	After int        `json:"n,omitempty"` // likewise: the decisions that came before it
}

// earlier orders events by time; ids and types decide where times are equal, so that the order they came in does not.
func (e joinEvent) earlier(o joinEvent) int {
	return cmp.Or(cmp.Compare(e.At, o.At), cmp.Compare(e.ID, o.ID), cmp.Compare(e.Type, o.Type))
}

// stronger orders events by what they say: the larger value, whatever its sign, first; between equally large ones the
// negative, because who clicks and then dislikes did dislike; then the earlier.
func (e joinEvent) stronger(o joinEvent) int {
	return cmp.Or(cmp.Compare(math.Abs(o.Value), math.Abs(e.Value)), cmp.Compare(e.Value, o.Value), e.earlier(o))
}

func decodeJoinUser(u event.JoinUser) (*joinUser, error) {
	var out joinUser
	if err := json.Unmarshal(u.State, &out); err != nil {
		return nil, fmt.Errorf("the join's state of user %q cannot be read: %w: delete the keys of the join, it begins again from what Kafka has", u.UserID, err)
	}
	return &out, nil
}

// slot finds the slot of an item and its position; nil: the item is not in the slate.
func (d *joinDecision) slot(item string) (*joinSlot, int) {
	for i := range d.Slots {
		if d.Slots[i].Item == item {
			return &d.Slots[i], i + 1
		}
	}
	return nil, 0
}

// shown is the first impression of any of the decision's slots.
func (d *joinDecision) shown() (first sighting, ok bool) {
	for _, s := range d.Slots {
		if s.Shown != nil && (!ok || s.Shown.compare(first) < 0) {
			first, ok = *s.Shown, true
		}
	}
	return first, ok
}

func (u *joinUser) decision(id string) *joinDecision {
	for _, d := range u.Decisions {
		if d.ID == id {
			return d
		}
	}
	return nil
}

// loose keeps an event in order of time, each once.
func (u *joinUser) loose(e joinEvent) {
	i, found := slices.BinarySearchFunc(u.Loose, e, func(a, b joinEvent) int {
		return cmp.Or(a.earlier(b), cmp.Compare(a.Item, b.Item), cmp.Compare(a.Value, b.Value))
	})
	if !found {
		u.Loose = slices.Insert(u.Loose, i, e)
	}
}

// named keeps the earliest event of each value: which of them falls into the window is not known before the first
// impression is.
func (s *joinSlot) named(e joinEvent) {
	for i, old := range s.Named {
		if old.Value == e.Value {
			if e.earlier(old) < 0 {
				s.Named[i] = e
			}
			return
		}
	}
	s.Named = append(s.Named, e)
}

// earned is the strongest of what happened to a slot until its window closed, and how it was attributed.
func (s joinSlot) earned(until int64) (best joinEvent, by string) {
	by = event.ByNothing
	for _, e := range s.Named {
		if e.At <= until && (by == event.ByNothing || e.stronger(best) < 0) {
			best, by = e, event.ByDecision
		}
	}
	if s.Joined != nil && (by == event.ByNothing || s.Joined.stronger(best) < 0) {
		best, by = *s.Joined, event.ByWindow
	}
	return best, by
}
