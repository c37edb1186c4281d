package consumer

import (
	"cmp"
	"encoding/json"
	"slices"

	"github.com/r2rec/r2rec/internal/event"
)

// joinRules are a Joiner's options as the join uses them. Times are in milliseconds.
type joinRules struct {
	window, lateness, showable int64
	values                     map[event.Type]float64
	positive, negative         float64 // bounds of ratings
	maxDecisions, maxLoose     int     // a user
	examination                Examination
}

// What became of interactions and decisions, for the metrics.
const (
	outShown        = "shown"        // impression of a pending decision
	outNamed        = "named"        // named a pending decision and an item of its slate
	outWindow       = "window"       // joined in time
	outUnattributed = "unattributed" // belongs to nothing that was shown
	outLate         = "late"         // came after the lateness
	outEarly        = "early"        // its clock is ahead of Kafka's by more than the lateness
	outExcess       = "excess"       // more than a user may have pending
	outPending      = "pending"
	outRewarded     = "rewarded"
	outUnshown      = "unshown" // nobody said in time that it was shown
	outForgotten    = "forgotten"
)

// joinRecord is a record in the order of the merge. Neither pointer is set where it could not be decoded.
type joinRecord struct {
	decision    *event.Decision
	interaction *event.Interaction
	clock       int64 // event time once it was seen
	out         string
}

func (r joinRecord) user() string {
	if r.decision != nil {
		return r.decision.UserID
	}
	return r.interaction.UserID
}

// order takes the next record, moves the clock to it and says whether it is in time; ok is false where it cannot change
// a reward.
func (r *joinRules) order(m *merge, c *clock, from which, rec joinRecord) (_ joinRecord, ok bool) {
	place := m.take(from)
	if in := rec.interaction; in != nil {
		c.saw(in.Timestamp, m.interactions.last)
	}
	c.reached(place)
	rec.clock = c.now
	if in := rec.interaction; in != nil {
		switch at := int64(in.Timestamp); {
		case !r.relevant(in):
			return rec, false
		case at+r.lateness < c.now:
			rec.out = outLate
		case at > m.interactions.last+r.lateness:
			rec.out = outEarly
		}
	}
	return rec, rec.interaction != nil || rec.decision != nil
}

// joining is the work on one batch: users' parts before it come in, and after it go out with the rewards that became
// final. What comes out depends on the records' order and clocks alone; how they are cut into batches does not matter,
// because a user's part is settled to the record's clock before a record touches it.
type joining struct {
	rules     *joinRules
	users     map[string]*joinUser
	forgotten map[string]event.Time
	rewards   []event.Reward
	pending   int64 // change of the number of decisions
	events    map[string]int
	decisions map[string]int
}

// newJoining decodes the parts of the users that the batch is about, and of those that are due, which are written back in any
// case: the store may have made users due who are not to be forgotten after all. What is to be forgotten is not taken in.
func newJoining(rules *joinRules, state event.JoinState, about []string) (*joining, error) {
	asked := make(map[string]bool, len(about))
	for _, user := range about {
		asked[user] = true
	}
	j := &joining{rules: rules, users: make(map[string]*joinUser, len(state.Users)), forgotten: state.Forgotten,
		events: map[string]int{}, decisions: map[string]int{}}
	for _, raw := range state.Users {
		u, err := decodeJoinUser(raw)
		if err != nil {
			return nil, err
		}
		u.touched = !asked[raw.UserID]
		if before, ok := state.Forgotten[raw.UserID]; ok {
			j.forget(u, int64(before))
		}
		j.users[raw.UserID] = u
	}
	return j, nil
}

func (j *joining) forget(u *joinUser, before int64) {
	kept := slices.DeleteFunc(u.Decisions, func(d *joinDecision) bool { return d.At < before })
	n := len(u.Decisions) - len(kept)
	u.Decisions = kept
	u.Loose = slices.DeleteFunc(u.Loose, func(e joinEvent) bool { return e.At < before })
	u.touched = true
	j.pending -= int64(n)
	j.decisions[outForgotten] += n
}

// work takes the records in, and then settles everybody to the clock.
func (j *joining) work(records []joinRecord, clock int64) {
	for _, r := range records {
		switch {
		case r.decision != nil && r.out == "":
			if out := j.decide(r.decision, r.clock); out != "" {
				j.decisions[out]++
			}
		case r.decision != nil:
			j.decisions[r.out]++
		case r.interaction != nil && r.out == "":
			if out := j.happen(r.interaction, r.clock); out != "" {
				j.events[out]++
			}
		case r.interaction != nil:
			j.events[r.out]++
		}
	}
	for user, u := range j.users {
		j.settle(user, u, clock)
	}
	slices.SortFunc(j.rewards, func(a, b event.Reward) int {
		return cmp.Or(cmp.Compare(a.Timestamp, b.Timestamp), cmp.Compare(a.DecisionID, b.DecisionID), cmp.Compare(a.Position, b.Position))
	})
}

// user gives a user's part, settled to the clock.
func (j *joining) user(id string, clock int64) *joinUser {
	u := j.users[id]
	if u == nil {
		u = &joinUser{}
		j.users[id] = u
	}
	j.settle(id, u, clock)
	return u
}

// decide takes a decision in. One that comes again is known, or too late: the window is not shorter than the lateness.
func (j *joining) decide(d *event.Decision, clock int64) (out string) {
	at := int64(d.Timestamp)
	switch {
	case at < int64(j.forgotten[d.UserID]):
		return outForgotten
	case at+j.rules.lateness < clock:
		return outLate
	}
	u := j.user(d.UserID, clock)
	if u.decision(d.DecisionID) != nil || len(d.Slate) == 0 {
		return ""
	}
	u.Came++
	pending := &joinDecision{Nth: u.Came, ID: d.DecisionID, At: at, Surface: d.Surface, Source: d.Source, Control: d.Control, Explore: d.Explore,
		Slots: make([]joinSlot, len(d.Slate))}
	if d.Model != nil {
		pending.Adapter = d.Model.Adapter
	}
	for i, s := range d.Slate {
		pending.Slots[i].Item = s.ItemID
	}
	u.Decisions, u.touched = append(u.Decisions, pending), true
	j.pending++
	if len(u.Decisions) > j.rules.maxDecisions {
		j.crowdOut(u)
	}
	return outPending
}

// crowdOut drops the oldest decision that was not shown; the newest was not.
func (j *joining) crowdOut(u *joinUser) {
	oldest := -1
	for i, d := range u.Decisions {
		if _, shown := d.shown(); shown {
			continue
		}
		if oldest < 0 || cmp.Or(cmp.Compare(d.At, u.Decisions[oldest].At), cmp.Compare(d.ID, u.Decisions[oldest].ID)) < 0 {
			oldest = i
		}
	}
	u.Decisions = slices.Delete(u.Decisions, oldest, oldest+1)
	j.pending--
	j.decisions[outExcess]++
}

// relevant tells whether an interaction can change a reward.
func (r *joinRules) relevant(in *event.Interaction) bool {
	if in.Type == event.Impression {
		return in.DecisionID != ""
	}
	return r.value(in) != 0
}

// value is what an interaction earns; 0: nothing.
func (r *joinRules) value(in *event.Interaction) float64 {
	v := r.values[in.Type]
	if in.Type == event.Rating {
		switch {
		case in.Value == nil:
			return 0
		case *in.Value <= r.negative:
			return -v
		case *in.Value < r.positive:
			return 0
		}
	}
	return v
}

// happen takes an interaction in that is in time and can change a reward.
func (j *joining) happen(in *event.Interaction, clock int64) (out string) {
	at := int64(in.Timestamp)
	if at < int64(j.forgotten[in.UserID]) {
		return outForgotten
	}
	if j.users[in.UserID] == nil {
		return outUnattributed
	}
	u := j.user(in.UserID, clock)
	e := joinEvent{At: at, ID: in.EventID, Type: in.Type, Value: j.rules.value(in)}
	if in.DecisionID == "" {
		return j.loose(u, e, in.ItemID)
	}
	d := u.decision(in.DecisionID)
	if d == nil || at < d.At-j.rules.lateness {
		return outUnattributed
	}
	slot, position := d.slot(in.ItemID)
	switch {
	case slot == nil:
		return outUnattributed
	case in.Type != event.Impression:
		slot.named(e)
		u.touched = true
		return outNamed
	case at > d.At+j.rules.showable, in.Position != nil && *in.Position != position:
		return outUnattributed
	}
	if s := (sighting{At: at, ID: in.EventID, Surface: in.Surface}); slot.Shown == nil || s.compare(*slot.Shown) < 0 {
		slot.Shown = &s
		u.touched = true
	}
	return outShown
}

// loose keeps an event that named no decision until every impression before it has come.
func (j *joining) loose(u *joinUser, e joinEvent, item string) (out string) {
	if !slices.ContainsFunc(u.Decisions, func(d *joinDecision) bool { s, _ := d.slot(item); return s != nil }) {
		return outUnattributed
	}
	if len(u.Loose) >= j.rules.maxLoose {
		return outExcess
	}
	e.Item, e.After = item, u.Came
	u.loose(e)
	u.touched = true
	return "" // counted once it is attributed
}

// settle attributes the loose events and finishes the decisions for which the clock says that nothing more can come.
func (j *joining) settle(user string, u *joinUser, clock int64) {
	settled := 0
	for settled < len(u.Loose) && u.Loose[settled].At+j.rules.lateness < clock {
		e := u.Loose[settled]
		settled++
		out := outUnattributed
		if slot := j.attribute(u, e); slot != nil {
			out = outWindow
			if e.Item, e.After = "", 0; slot.Joined == nil || e.stronger(*slot.Joined) < 0 {
				slot.Joined = &e
			}
		}
		j.events[out]++
	}
	if settled > 0 {
		u.Loose, u.touched = slices.Delete(u.Loose, 0, settled), true
	}
	u.Decisions = slices.DeleteFunc(u.Decisions, func(d *joinDecision) bool {
		if j.rules.due(d) >= clock {
			return false
		}
		u.touched = true
		j.pending--
		j.finish(user, d)
		return true
	})
}

// attribute finds the slot that an event belongs to which named no decision: of those with its item that were shown
// before it, within the window, the one that was shown last. A decision that came after it cannot have caused it.
func (j *joining) attribute(u *joinUser, e joinEvent) (latest *joinSlot) {
	var of *joinDecision
	for _, d := range u.Decisions {
		slot, _ := d.slot(e.Item)
		if slot == nil || slot.Shown == nil || slot.Shown.At > e.At || d.Nth > e.After {
			continue
		}
		first, _ := d.shown()
		if e.At > first.At+j.rules.window {
			continue
		}
		if latest == nil || cmp.Or(cmp.Compare(slot.Shown.At, latest.Shown.At), cmp.Compare(d.At, of.At), cmp.Compare(d.ID, of.ID)) > 0 {
			latest, of = slot, d
		}
	}
	return latest
}

// due is the last event time at which something can still come for the decision.
func (r *joinRules) due(d *joinDecision) int64 {
	if first, ok := d.shown(); ok {
		return first.At + r.window + r.lateness
	}
	return d.At + r.showable + r.lateness
}

// finish gives the rewards of a decision, one a slot that was shown within its window.
func (j *joining) finish(user string, d *joinDecision) {
	first, ok := d.shown()
	if !ok {
		j.decisions[outUnshown]++
		return
	}
	j.decisions[outRewarded]++
	until := first.At + j.rules.window
	surface := d.Surface
	if first.Surface != "" { // a stored document can be shown elsewhere than it was made for
		surface = first.Surface
	}
	begin := len(j.rewards)
	for i, s := range d.Slots {
		if s.Shown == nil || s.Shown.At > until {
			continue
		}
		r := event.Reward{DecisionID: d.ID, UserID: user, ItemID: s.Item, Position: i + 1, Attribution: event.ByNothing,
			Timestamp: min(event.Time(until+j.rules.lateness), event.Latest), DecidedAt: event.Time(d.At),
			Surface: surface, Source: d.Source, Adapter: d.Adapter, Control: d.Control, Explore: d.Explore}
		if e, by := s.earned(until); by != event.ByNothing {
			r.Value, r.Type, r.EventID, r.Attribution = e.Value, e.Type, e.ID, by
		}
		j.rewards = append(j.rewards, r)
	}
	j.rules.examination.examine(j.rewards[begin:])
}

// changes are the users' parts that have to be written.
func (j *joining) changes() (out []event.JoinUser, err error) {
	for user, u := range j.users {
		if !u.touched {
			continue
		}
		change := event.JoinUser{UserID: user}
		if len(u.Decisions) > 0 { // without one, no event belongs to anything
			if change.State, err = json.Marshal(u); err != nil {
				return nil, err
			}
			change.Due = event.Time(j.rules.dueUser(u))
		}
		out = append(out, change)
	}
	slices.SortFunc(out, func(a, b event.JoinUser) int { return cmp.Compare(a.UserID, b.UserID) })
	return out, nil
}

func (r *joinRules) dueUser(u *joinUser) int64 {
	due := r.due(u.Decisions[0])
	for _, d := range u.Decisions[1:] {
		due = min(due, r.due(d))
	}
	if len(u.Loose) > 0 {
		due = min(due, u.Loose[0].At+r.lateness)
	}
	return due
}
