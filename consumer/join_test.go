package consumer

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/r2rec/r2rec/internal/event"
)

// The join against an oracle that sees everything at once. Times are small: milliseconds stand for minutes.

const (
	epoch        = int64(1_700_000_000_000)
	testWindow   = 30
	testLateness = 5
	testShowable = 60
)

func testRules() *joinRules {
	return JoinerOptions{Window: testWindow * time.Millisecond, Lateness: testLateness * time.Millisecond, Showable: testShowable * time.Millisecond,
		Rewards: DefaultRewards, PositiveRating: 4, NegativeRating: 2, MaxPending: 1000}.rules()
}

// partJoin is the join of one partition without Kafka and Redis: a store, and a reader of what is visible.
type partJoin struct {
	rules *joinRules
	logs  logs
	// As committed.
	head  joinHead
	users map[string]event.JoinUser

	// published is everything, repetitions included.
	published []event.Reward
}

// batch reads at most most records of what is visible, whose wall clock says that all older records are there, works
// them in, and commits or not.
func (p *partJoin) batch(t failer, visibleD, visibleI, most int, wall int64, commit bool) (taken int) {
	m := merge{hold: p.rules.lateness, decisions: side{last: p.head.DecisionsAt}, interactions: side{last: p.head.InteractionsAt}}
	c := clock{now: p.head.Clock, lateness: p.rules.lateness, hold: p.rules.lateness}
	head := p.head
	var records []joinRecord
	asked := map[string]bool{}
	for taken < most {
		peek(&m.decisions, p.logs.decisions[:visibleD], head.Decisions, wall)
		peek(&m.interactions, p.logs.interactions[:visibleI], head.Interactions, wall)
		from := m.next()
		if from == neither {
			break
		}
		taken++
		var r joinRecord
		if from == fromDecisions {
			r.decision = &p.logs.decisions[head.Decisions].v
			head.Decisions++
		} else {
			r.interaction = &p.logs.interactions[head.Interactions].v
			head.Interactions++
		}
		if r, ok := p.rules.order(&m, &c, from, r); ok {
			records = append(records, r)
			asked[r.user()] = true
		}
	}
	c.reached(m.reached())
	head.DecisionsAt, head.InteractionsAt, head.Clock = m.decisions.last, m.interactions.last, c.now
	var state event.JoinState
	for id, u := range p.users {
		if asked[id] || int64(u.Due) < head.Clock {
			state.Users = append(state.Users, u)
		}
	}
	j, err := newJoining(p.rules, state, slices.Collect(maps.Keys(asked)))
	if err != nil {
		t.Fatalf("%v", err)
	}
	j.work(records, head.Clock)
	p.published = append(p.published, j.rewards...)
	if !commit {
		return taken
	}
	changes, err := j.changes()
	if err != nil {
		t.Fatalf("%v", err)
	}
	p.head = head
	p.head.Pending += j.pending
	for _, u := range changes {
		if p.users[u.UserID] = u; len(u.State) == 0 {
			delete(p.users, u.UserID)
		}
	}
	return taken
}

func peek[T any](s *side, log []recorded[T], at, wall int64) {
	if s.has = at < int64(len(log)); s.has {
		s.next = log[at].at
	} else {
		s.upTo = wall
	}
}

type failer interface{ Fatalf(string, ...any) }

// all joins in one go, or in batches of random size, with random reading ahead, crashes before the commit, and a wall
// clock that finishes what is idle, and gives each reward once.
func (l logs) all(t failer, rules *joinRules, draw *rapid.T) []event.Reward {
	p := &partJoin{rules: rules, logs: l, users: map[string]event.JoinUser{}}
	last := epoch
	for _, r := range l.decisions {
		last = max(last, r.at)
	}
	for _, r := range l.interactions {
		last = max(last, r.at)
	}
	end := last + 10*(testWindow+testShowable+testLateness)
	if draw != nil {
		for range rapid.IntRange(0, 30).Draw(draw, "batches") {
			// The wall clock is not ahead of what can be read by more than anything still to come.
			wall := rapid.Int64Range(epoch-5, last+50).Draw(draw, "wall")
			visibleD := rapid.IntRange(int(p.head.Decisions), len(l.decisions)).Draw(draw, "decisions")
			visibleI := rapid.IntRange(int(p.head.Interactions), len(l.interactions)).Draw(draw, "interactions")
			for _, r := range l.decisions[visibleD:] {
				wall = min(wall, r.at)
			}
			for _, r := range l.interactions[visibleI:] {
				wall = min(wall, r.at)
			}
			p.batch(t, visibleD, visibleI, rapid.IntRange(0, 20).Draw(draw, "most"), wall, rapid.Bool().Draw(draw, "commit"))
		}
	}
	for p.batch(t, len(l.decisions), len(l.interactions), 1000, end, true) > 0 {
	}
	if len(p.users) > 0 || p.head.Pending != 0 {
		t.Fatalf("when all is final, the state of %d users is left, with %d decisions: %v", len(p.users), p.head.Pending, p.users)
	}
	return once(t, p.published)
}

// once gives each reward once, and fails where two of one slot differ.
func once(t failer, rewards []event.Reward) (out []event.Reward) {
	type slot struct {
		user, decision string
		position       int
	}
	seen := map[slot]string{}
	for _, r := range rewards {
		raw, err := event.Encode(r)
		if err != nil {
			t.Fatalf("reward %+v: %v", r, err)
		}
		key := slot{r.UserID, r.DecisionID, r.Position}
		switch old, again := seen[key]; {
		case !again:
			seen[key] = string(raw)
			out = append(out, r)
		case old != string(raw):
			t.Fatalf("one slot earned two rewards:\n%s\n%s", old, raw)
		}
	}
	sortRewards(out)
	return out
}

var joinItems = []string{"a", "b", "c", "d"}

// drawDecision draws one whose timestamp is ts.
func drawDecision(t *rapid.T, id string, ts int64) event.Decision {
	d := event.Decision{DecisionID: id, UserID: rapid.SampledFrom([]string{"u", "v"}).Draw(t, "user"), Timestamp: event.Time(ts),
		Source: event.Graph, Surface: rapid.SampledFrom([]string{"", "home"}).Draw(t, "surface"), Explore: rapid.Bool().Draw(t, "explore")}
	if rapid.Bool().Draw(t, "reasoned") {
		d.Source, d.Model = event.Reasoned, &event.Model{Adapter: "ad"}
	}
	items := rapid.Permutation(joinItems).Draw(t, "slate")
	for i, item := range items[:rapid.IntRange(0, 3).Draw(t, "k")] {
		d.Slate = append(d.Slate, event.Slot{Position: i + 1, ItemID: item, Probability: 1})
	}
	return d
}

// drawInteraction draws one that is mostly about one of the decisions.
func drawInteraction(t *rapid.T, id string, ts int64, decisions []event.Decision) event.Interaction {
	in := event.Interaction{EventID: id, UserID: rapid.SampledFrom([]string{"u", "v"}).Draw(t, "user"), Timestamp: event.Time(ts),
		ItemID:  rapid.SampledFrom(joinItems).Draw(t, "item"),
		Type:    rapid.SampledFrom([]event.Type{event.Impression, event.Impression, event.Impression, event.Click, event.Like, event.Purchase, event.Hide, event.Rating, event.View}).Draw(t, "type"),
		Surface: rapid.SampledFrom([]string{"", "home", "cart"}).Draw(t, "on")}
	if in.Type == event.Rating {
		v := rapid.SampledFrom([]float64{1, 3, 5}).Draw(t, "value")
		in.Value = &v
	}
	if len(decisions) > 0 && rapid.IntRange(0, 9).Draw(t, "about") > 0 {
		d := rapid.SampledFrom(decisions).Draw(t, "decision")
		in.UserID = d.UserID
		if in.Type == event.Impression || rapid.Bool().Draw(t, "named") {
			in.DecisionID = d.DecisionID
		}
		if len(d.Slate) > 0 {
			s := rapid.SampledFrom(d.Slate).Draw(t, "slot")
			in.ItemID = s.ItemID
			if rapid.Bool().Draw(t, "with position") {
				in.Position = &s.Position
			}
		}
	}
	return in
}

// drawLogs draws logs in which anything happens: events far too late, clocks ahead, repetitions.
func drawLogs(t *rapid.T) (l logs) {
	var decisions []event.Decision
	at := epoch
	for i := range rapid.IntRange(0, 6).Draw(t, "decisions") {
		at += rapid.Int64Range(0, 20).Draw(t, "step")
		d := drawDecision(t, fmt.Sprint("d", i*5%7), at-rapid.Int64Range(-2, 2*testLateness).Draw(t, "ago"))
		decisions = append(decisions, d)
		l.decisions = append(l.decisions, recorded[event.Decision]{at + rapid.Int64Range(-2, 2).Draw(t, "jitter"), d})
		if rapid.IntRange(0, 4).Draw(t, "again") == 0 {
			l.decisions = append(l.decisions, recorded[event.Decision]{at + rapid.Int64Range(0, 4*testLateness).Draw(t, "later"), d})
		}
	}
	at = epoch
	for i := range rapid.IntRange(0, 25).Draw(t, "interactions") {
		at += rapid.Int64Range(0, 10).Draw(t, "step")
		in := drawInteraction(t, fmt.Sprint("e", i), at-rapid.Int64Range(-2*testLateness, 4*testLateness).Draw(t, "ago"), decisions)
		l.interactions = append(l.interactions, recorded[event.Interaction]{at + rapid.Int64Range(-2, 2).Draw(t, "jitter"), in})
		if rapid.IntRange(0, 4).Draw(t, "again") == 0 {
			l.interactions = append(l.interactions, recorded[event.Interaction]{at, in})
		}
	}
	return l
}

// Whatever the logs hold, and however they are read, the rewards are those of the oracle.
func TestJoinIsAFunctionOfTheLogs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, rules := drawLogs(t), testRules()
		want := once(t, rules.oracle(l))
		if diff := gocmp.Diff(want, l.all(t, rules, nil)); diff != "" {
			t.Fatalf("in one go (-oracle +join):\n%s\n%s", diff, show(l))
		}
		if diff := gocmp.Diff(want, l.all(t, rules, t)); diff != "" {
			t.Fatalf("in batches (-oracle +join):\n%s\n%s", diff, show(l))
		}
	})
}

// Records that reach Kafka within the lateness earn the same in any order, and repeated.
func TestJoinDoesNotDependOnTheOrderWithinTheLateness(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := testRules()
		var decisions []event.Decision
		var interactions []event.Interaction
		at := epoch
		for i := range rapid.IntRange(1, 5).Draw(t, "decisions") {
			at += rapid.Int64Range(0, 20).Draw(t, "step")
			decisions = append(decisions, drawDecision(t, fmt.Sprint("d", i*5%7), at))
		}
		for i := range rapid.IntRange(0, 25).Draw(t, "interactions") {
			about := rapid.SampledFrom(decisions).Draw(t, "about")
			ts := int64(about.Timestamp) + rapid.Int64Range(0, testShowable).Draw(t, "after")
			interactions = append(interactions, drawInteraction(t, fmt.Sprint("e", i), ts, []event.Decision{about}))
		}
		record := func() (l logs) {
			for _, d := range decisions {
				for range rapid.IntRange(1, 2).Draw(t, "times") {
					l.decisions = append(l.decisions, recorded[event.Decision]{int64(d.Timestamp) + rapid.Int64Range(0, testLateness).Draw(t, "delay"), d})
				}
			}
			for _, in := range interactions {
				for range rapid.IntRange(1, 3).Draw(t, "times") {
					l.interactions = append(l.interactions, recorded[event.Interaction]{int64(in.Timestamp) + rapid.Int64Range(0, testLateness).Draw(t, "delay"), in})
				}
			}
			slices.SortStableFunc(l.decisions, func(a, b recorded[event.Decision]) int { return cmp.Compare(a.at, b.at) })
			slices.SortStableFunc(l.interactions, func(a, b recorded[event.Interaction]) int { return cmp.Compare(a.at, b.at) })
			return l
		}
		one, other := record(), record()
		if diff := gocmp.Diff(one.all(t, rules, nil), other.all(t, rules, t)); diff != "" {
			t.Fatalf("(-one order +another):\n%s\n%s\n%s", diff, show(one), show(other))
		}
	})
}

func show(l logs) string {
	s := ""
	for _, d := range l.decisions {
		s += fmt.Sprintf("  @%d %s of %s at %d, slate %v\n", d.at-epoch, d.v.DecisionID, d.v.UserID, int64(d.v.Timestamp)-epoch, d.v.Slate)
	}
	for _, i := range l.interactions {
		raw, _ := json.Marshal(i.v)
		s += fmt.Sprintf("  @%d at %d: %s\n", i.at-epoch, int64(i.v.Timestamp)-epoch, raw)
	}
	return s
}
