package consumer

import (
	"cmp"
	"math"
	"slices"

	"github.com/r2rec/r2rec/internal/event"
)

// recorded is a record of a log: what it says, and Kafka's time of it in milliseconds.
type recorded[T any] struct {
	at int64
	v  T
}

// logs are the two logs of one partition.
type logs struct {
	decisions    []recorded[event.Decision]
	interactions []recorded[event.Interaction]
}

// oracle says what the logs earn, from the rules alone: it looks at everything at once, for every slot anew, and knows
// no state, no batches and no order of work.
func (r *joinRules) oracle(l logs) (out []event.Reward) {
	type seen struct {
		event.Interaction
		at int64
	}
	var clock, last int64
	var inTime []seen
	clocks := make([]struct{ at, clock int64 }, 0, len(l.interactions))
	for _, rec := range l.interactions {
		ts := int64(rec.v.Timestamp)
		last = max(last, rec.at)
		clock = max(clock, min(ts, last), last-r.lateness)
		clocks = append(clocks, struct{ at, clock int64 }{last, clock})
		if ts+r.lateness >= clock && ts <= last+r.lateness {
			inTime = append(inTime, seen{rec.v, last})
		}
	}
	type decided struct {
		event.Decision
		at int64
	}
	var decisions []decided
	last = 0
	for _, rec := range l.decisions {
		last = max(last, rec.at)
		at := last - 2*r.lateness
		for _, c := range clocks {
			if c.at+r.lateness < last {
				at = max(at, c.clock)
			}
		}
		again := slices.ContainsFunc(decisions, func(d decided) bool {
			return d.UserID == rec.v.UserID && d.DecisionID == rec.v.DecisionID
		})
		if int64(rec.v.Timestamp)+r.lateness >= at && !again {
			decisions = append(decisions, decided{rec.v, last})
		}
	}
	known := func(d decided, e seen) bool { return d.UserID == e.UserID && d.at <= e.at+r.lateness }
	shown := func(d decided, position int) (first seen, ok bool) {
		for _, e := range inTime {
			ts := e.Timestamp
			if e.Type != event.Impression || e.DecisionID != d.DecisionID || !known(d, e) || e.ItemID != d.Slate[position-1].ItemID ||
				e.Position != nil && *e.Position != position ||
				int64(ts) < int64(d.Timestamp)-r.lateness || int64(ts) > int64(d.Timestamp)+r.showable {
				continue
			}
			if !ok || cmp.Or(cmp.Compare(ts, first.Timestamp), cmp.Compare(e.EventID, first.EventID), cmp.Compare(e.Surface, first.Surface)) < 0 {
				first, ok = e, true
			}
		}
		return first, ok
	}
	firstShown := func(d decided) (first seen, ok bool) {
		for i := range d.Slate {
			s, was := shown(d, i+1)
			if was && (!ok || cmp.Or(cmp.Compare(s.Timestamp, first.Timestamp), cmp.Compare(s.EventID, first.EventID), cmp.Compare(s.Surface, first.Surface)) < 0) {
				first, ok = s, true
			}
		}
		return first, ok
	}
	// belongs finds the decision of an event that names none.
	belongs := func(e seen) string {
		type candidate struct {
			shown, made event.Time
			id          string
		}
		var best *candidate
		for _, d := range decisions {
			i := slices.IndexFunc(d.Slate, func(s event.Slot) bool { return s.ItemID == e.ItemID })
			if i < 0 || !known(d, e) {
				continue
			}
			at, ok := shown(d, i+1)
			first, _ := firstShown(d)
			if !ok || at.Timestamp > e.Timestamp || int64(e.Timestamp) > int64(first.Timestamp)+r.window {
				continue
			}
			c := candidate{at.Timestamp, d.Timestamp, d.DecisionID}
			if best == nil || cmp.Or(cmp.Compare(c.shown, best.shown), cmp.Compare(c.made, best.made), cmp.Compare(c.id, best.id)) > 0 {
				best = &c
			}
		}
		if best == nil {
			return ""
		}
		return best.id
	}
	for _, d := range decisions {
		first, ok := firstShown(d)
		if !ok {
			continue
		}
		until := int64(first.Timestamp) + r.window
		var rewards []event.Reward
		for i, slot := range d.Slate {
			at, ok := shown(d, i+1)
			if !ok || int64(at.Timestamp) > until {
				continue
			}
			reward := event.Reward{DecisionID: d.DecisionID, UserID: d.UserID, ItemID: slot.ItemID, Position: i + 1, Attribution: event.ByNothing,
				Timestamp: event.Time(until + r.lateness), DecidedAt: d.Timestamp, Surface: cmp.Or(first.Surface, d.Surface),
				Source: d.Source, Control: d.Control, Explore: d.Explore}
			if d.Model != nil {
				reward.Adapter = d.Model.Adapter
			}
			var best event.Interaction
			for _, e := range inTime {
				value := r.value(&e.Interaction)
				by := event.ByDecision
				switch {
				case value == 0 || e.Type == event.Impression || e.ItemID != slot.ItemID || int64(e.Timestamp) > until || e.UserID != d.UserID:
					continue
				case e.DecisionID == "":
					if by = event.ByWindow; belongs(e) != d.DecisionID {
						continue
					}
				case e.DecisionID != d.DecisionID || !known(d, e) || int64(e.Timestamp) < int64(d.Timestamp)-r.lateness:
					continue
				}
				better := reward.Attribution == event.ByNothing || cmp.Or(
					cmp.Compare(math.Abs(reward.Value), math.Abs(value)), cmp.Compare(value, reward.Value), cmp.Compare(e.Timestamp, best.Timestamp),
					cmp.Compare(e.EventID, best.EventID), cmp.Compare(e.Type, best.Type), cmp.Compare(by, reward.Attribution)) < 0
				if better {
					best = e.Interaction
					reward.Value, reward.Type, reward.EventID, reward.Attribution = value, e.Type, e.EventID, by
				}
			}
			rewards = append(rewards, reward)
		}
		chosen := len(rewards)
		for i, reward := range rewards {
			if reward.Attribution != event.ByNothing {
				chosen = i + 1
			}
		}
		if !slices.ContainsFunc(rewards, func(r event.Reward) bool { return r.Attribution != event.ByNothing }) {
			chosen = len(rewards)
		}
		for i := range rewards[:chosen] {
			rewards[i].Examination = 1
		}
		out = append(out, rewards...)
	}
	sortRewards(out)
	return out
}

func sortRewards(rs []event.Reward) {
	slices.SortFunc(rs, func(a, b event.Reward) int {
		return cmp.Or(cmp.Compare(a.Timestamp, b.Timestamp), cmp.Compare(a.DecisionID, b.DecisionID), cmp.Compare(a.UserID, b.UserID), cmp.Compare(a.Position, b.Position))
	})
}
