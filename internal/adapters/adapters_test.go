package adapters_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	. "github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/event"
)

// day is an instant, so many days after the first.
func day(n int) event.Time { return event.Earliest + event.Time(n)*86_400_000 }

func gate(after, until int) *event.Gate {
	return &event.Gate{Round: 1, Alpha: .03, After: day(after), Until: day(until), Decisions: 100, Users: 10}
}

func record(kind event.PromotionKind, adapter, parent string) event.Promotion {
	return event.Promotion{Kind: kind, Adapter: adapter, Parent: parent, Base: "base", Readout: "lines", Prompt: 2, Timestamp: day(1)}
}

func promote(adapter, parent string, share float64, g *event.Gate) event.Promotion {
	p := record(event.Promote, adapter, parent)
	p.Share, p.Gate = share, g
	return p
}

func refuse(adapter, parent string, g *event.Gate) event.Promotion {
	p := record(event.Refuse, adapter, parent)
	p.Gate = g
	return p
}

func complete(adapter, parent string) event.Promotion { return record(event.Complete, adapter, parent) }
func rollBack(to, from string) event.Promotion        { return record(event.RollBack, to, from) }

func thinking(p event.Promotion) event.Promotion {
	p.Think = 9
	return p
}

func fold(records ...event.Promotion) (s State) {
	for i, p := range records {
		s = s.Apply(int64(i), p)
	}
	return s
}

func TestWhatCounts(t *testing.T) {
	for name, c := range map[string]struct {
		records []event.Promotion
		void    string // of the last record, in part; empty: it counts
		want    State  // without offset and entries
	}{
		"a promotion of the first": {[]event.Promotion{promote("a", "", 1, nil)},
			"", State{Current: "a", Since: day(1)}},
		"a promotion to a share": {[]event.Promotion{promote("a", "", .1, gate(1, 2))},
			"", State{Candidate: "a", Share: .1, Since: day(1), Gates: 1, Used: day(2)}},
		"its completion": {[]event.Promotion{promote("a", "", .1, gate(1, 2)), complete("a", "")},
			"", State{Current: "a", Since: day(1), Used: day(2)}},
		"its roll-back": {[]event.Promotion{promote("a", "", .1, gate(1, 2)), rollBack("", "a")},
			"", State{Since: day(1), Gates: 1, Used: day(2)}},
		"a promotion after a roll-back: its gate was not the first": {[]event.Promotion{promote("a", "", .1, gate(1, 2)), rollBack("", "a"), promote("b", "", .1, gate(2, 3))},
			"", State{Candidate: "b", Share: .1, Since: day(1), Gates: 2, Used: day(3)}},
		"a second trainer": {[]event.Promotion{promote("a", "", 1, nil), promote("b", "", 1, nil)},
			"its parent is the bare base model, and current is adapter a", State{Current: "a", Since: day(1)}},
		"a second trainer while the first's is rolled out": {[]event.Promotion{promote("a", "", .1, nil), promote("b", "", 1, nil)},
			"adapter a is being rolled out: complete that", State{Candidate: "a", Share: .1, Since: day(1)}},
		"a promotion after a promotion": {[]event.Promotion{promote("a", "", 1, gate(1, 2)), promote("b", "a", 1, gate(2, 3))},
			"", State{Current: "b", Since: day(1), Used: day(3)}},
		"a gate whose decisions were used": {[]event.Promotion{promote("a", "", 1, gate(1, 3)), promote("b", "a", 1, gate(2, 4))},
			"those up to 1980-01-04T00:00:00.000Z had been used", State{Current: "a", Since: day(1), Used: day(3)}},
		"a person needs no gate": {[]event.Promotion{promote("a", "", 1, gate(1, 3)), promote("b", "a", 1, nil)},
			"", State{Current: "b", Since: day(1), Used: day(3)}},
		"a refusal": {[]event.Promotion{refuse("a", "", gate(1, 2)), refuse("b", "", gate(2, 3))},
			"", State{Gates: 2, Used: day(3)}},
		"a refusal by used decisions": {[]event.Promotion{refuse("a", "", gate(1, 2)), refuse("b", "", gate(1, 3))},
			"had been used", State{Gates: 1, Used: day(2)}},
		"a refusal of a child of another": {[]event.Promotion{promote("a", "", 1, nil), refuse("b", "", gate(1, 2))},
			"its parent is the bare base model", State{Current: "a", Since: day(1)}},
		"a promotion begins to count anew": {[]event.Promotion{refuse("a", "", gate(1, 2)), promote("b", "", 1, gate(2, 3))},
			"", State{Current: "b", Since: day(1), Used: day(3)}},
		"a promotion to a share does not yet": {[]event.Promotion{refuse("a", "", gate(1, 2)), promote("b", "", .5, gate(2, 3))},
			"", State{Candidate: "b", Share: .5, Since: day(1), Gates: 2, Used: day(3)}},
		"its completion begins to count anew": {[]event.Promotion{refuse("a", "", gate(1, 2)), promote("b", "", .5, gate(2, 3)), complete("b", "")},
			"", State{Current: "b", Since: day(1), Used: day(3)}},
		"a completion of nothing": {[]event.Promotion{complete("a", "")},
			"no adapter is being rolled out", State{}},
		"a completion of another": {[]event.Promotion{promote("a", "", .1, nil), complete("b", "")},
			"adapter a is being rolled out", State{Candidate: "a", Share: .1, Since: day(1)}},
		"a completion that thinks otherwise": {[]event.Promotion{thinking(promote("a", "", .1, nil)), complete("a", "")},
			"it says think 0, and adapter a is being rolled out with think 9", State{Candidate: "a", Share: .1, Since: day(1)}},
		"a completion that thinks alike": {[]event.Promotion{thinking(promote("a", "", .1, nil)), thinking(complete("a", ""))},
			"", State{Current: "a", Since: day(1)}},
		"a completion over another parent": {[]event.Promotion{promote("a", "", .1, nil), complete("a", "c")},
			"its parent is adapter c", State{Candidate: "a", Share: .1, Since: day(1)}},
		"a roll-back to the base": {[]event.Promotion{promote("a", "", 1, nil), rollBack("", "a")},
			"", State{Since: day(1)}},
		"a roll-back to an earlier one": {[]event.Promotion{promote("a", "", 1, nil), promote("b", "a", 1, nil), promote("c", "b", 1, nil), rollBack("a", "c")},
			"", State{Current: "a", Since: day(1)}},
		"a roll-back to one that was never current": {[]event.Promotion{promote("a", "", 1, nil), rollBack("b", "a")},
			"adapter b has never been current", State{Current: "a", Since: day(1)}},
		"a roll-back to one that only a share had": {[]event.Promotion{promote("b", "", .1, nil), rollBack("", "b"), promote("a", "", 1, nil), rollBack("b", "a")},
			"adapter b has never been current", State{Current: "a", Since: day(1)}},
		"a roll-back of another": {[]event.Promotion{promote("a", "", 1, nil), rollBack("", "b")},
			"it rolls back adapter b, and current is adapter a", State{Current: "a", Since: day(1)}},
		"a roll-back past a roll-out": {[]event.Promotion{promote("a", "", 1, nil), promote("b", "a", .1, nil), rollBack("", "a")},
			"only from it to adapter a can be rolled back", State{Current: "a", Candidate: "b", Share: .1, Since: day(1)}},
		"a roll-back from the base to what stood": {[]event.Promotion{promote("a", "", 1, nil), rollBack("", "a"), rollBack("a", "")},
			"", State{Current: "a", Since: day(1)}},
		"a promotion of the base": {[]event.Promotion{promote("a", "", 1, nil), promote("", "a", 1, nil)},
			"promote without an adapter", State{Current: "a", Since: day(1)}},
		"a record that breaks the contract": {[]event.Promotion{promote("a", "", 1, nil), {Kind: "demote", Adapter: "b", Parent: "a"}},
			"kind", State{Current: "a", Since: day(1)}},
		"a refusal without a gate": {[]event.Promotion{refuse("a", "", nil)},
			"gate", State{}},
	} {
		t.Run(name, func(t *testing.T) {
			got := fold(c.records...)
			last := got.Entries[len(got.Entries)-1]
			if (last.Void == "") != (c.void == "") || !strings.Contains(last.Void, c.void) {
				t.Errorf("void: %q, want %q", last.Void, c.void)
			}
			for _, e := range got.Entries[:len(got.Entries)-1] {
				if e.Void != "" {
					t.Errorf("record %d is void: %s", e.Offset, e.Void)
				}
			}
			if diff := cmp.Diff(c.want, got, cmpopts.IgnoreFields(State{}, "Offset", "Entries")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// alphabet is every record about few adapters, with and without a gate of each of three stretches of decisions.
func alphabet() (all []event.Promotion) {
	gates := []*event.Gate{nil, gate(1, 2), gate(2, 3), gate(2, 2)}
	for _, adapter := range []string{"", "a", "b", "c"} {
		for _, parent := range []string{"", "a", "b", "c"} {
			for _, g := range gates {
				all = append(all, promote(adapter, parent, 1, g), promote(adapter, parent, .1, g), refuse(adapter, parent, g))
			}
			all = append(all, complete(adapter, parent), rollBack(adapter, parent))
		}
	}
	return all
}

// TestEveryShortHistory tries all pairs and triples of records after some beginnings.
func TestEveryShortHistory(t *testing.T) {
	all := alphabet()
	for _, beginning := range [][]event.Promotion{
		nil,
		{promote("a", "", 1, gate(1, 2))},
		{promote("a", "", 1, nil), promote("b", "a", .1, gate(1, 2))},
	} {
		start := fold(beginning...)
		n := len(beginning)
		for _, x := range all {
			one := start.Apply(int64(n), x)
			checkStep(t, start, one)
			for _, y := range all {
				two := one.Apply(int64(n+1), y)
				checkStep(t, one, two)
				if one.Entries[n].Void != "" || two.Entries[n+1].Void != "" {
					continue // what is void changes nothing: the third has been tried after one less
				}
				checkWins(t, two)
				for _, z := range all {
					three := two.Apply(int64(n+2), z)
					checkStep(t, two, three)
					if three.Entries[n+2].Void == "" {
						checkWins(t, three)
					}
				}
			}
		}
	}
}

type failer interface {
	Helper()
	Fatalf(string, ...any)
}

// checkStep: a void record changes nothing but the entries, and what is served is either the current one or a candidate
// over it.
func checkStep(t failer, before, after State) {
	t.Helper()
	e := after.Entries[len(after.Entries)-1]
	if after.Offset != e.Offset+1 || len(after.Entries) != len(before.Entries)+1 {
		t.Fatalf("offset %d and %d entries after record %d", after.Offset, len(after.Entries), e.Offset)
	}
	if (after.Candidate == "") != (after.Share == 0) || after.Candidate != "" && after.Candidate == after.Current {
		t.Fatalf("current %q, candidate %q with a share of %v", after.Current, after.Candidate, after.Share)
	}
	after.Offset, after.Entries = before.Offset, before.Entries
	changed := after.Current != before.Current || after.Candidate != before.Candidate || after.Share != before.Share ||
		after.Since != before.Since || after.Gates != before.Gates || after.Used != before.Used
	if e.Void != "" && changed {
		t.Fatalf("void record %+v (%s) made %+v of %+v", e.Record, e.Void, after, before)
	}
}

// checkWins: two promotions that were made from the same state never both count, however far apart: between two of the same
// parent, somebody took the first one back. And no decision was used by two gates.
func checkWins(t failer, s State) {
	t.Helper()
	var used event.Time
	open := map[string]string{} // parent -> the promotion from it that was not taken back
	for _, e := range s.Entries {
		if e.Void != "" {
			continue
		}
		if g := e.Record.Gate; g != nil {
			if g.After < used {
				t.Fatalf("record %d uses decisions from %s, used up to %s: %+v", e.Offset, g.After, used, s.Entries)
			}
			used = g.Until
		}
		switch e.Record.Kind {
		case event.Promote:
			if winner, taken := open[e.Record.Parent]; taken {
				t.Fatalf("both %s and %s won over %q: %+v", winner, e.Record.Adapter, e.Record.Parent, s.Entries)
			}
			open[e.Record.Parent] = e.Record.Adapter
			delete(open, e.Record.Adapter) // it may be a parent, again
		case event.RollBack:
			delete(open, e.Record.Adapter)
		}
	}
}

func TestRandomHistories(t *testing.T) {
	all := alphabet()
	rapid.Check(t, func(t *rapid.T) {
		records := rapid.SliceOfN(rapid.SampledFrom(all), 0, 60).Draw(t, "records")
		var s State
		var states []State
		for i, p := range records {
			// Half of the records fit to the state, so that histories go on.
			if rapid.Bool().Draw(t, "fits") {
				p.Parent = s.Current
				if p.Gate != nil {
					g := *p.Gate
					g.After = max(g.After, s.Used)
					g.Until = g.After + 1
					p.Gate = &g
				}
				if p.Adapter == p.Parent {
					p.Adapter = fmt.Sprint("n", i)
				}
			}
			records[i] = p
			// Whoever else applies a record to the same state spoils nothing.
			other := s.Apply(int64(i), rapid.SampledFrom(all).Draw(t, "other"))
			before := other.Entries[i]
			next := s.Apply(int64(i), p)
			if !cmp.Equal(other.Entries[i], before) {
				t.Fatalf("record %d of another state became %+v", i, other.Entries[i])
			}
			checkStep(t, s, next)
			s = next
			states = append(states, s)
		}
		checkWins(t, s)
		if again := fold(records...); !cmp.Equal(again, s) {
			t.Fatalf("a replay differs: %s", cmp.Diff(s, again))
		}
		for i, earlier := range states {
			if !slices.EqualFunc(earlier.Entries, s.Entries[:i+1], func(a, b Entry) bool { return cmp.Equal(a, b) }) {
				t.Fatalf("the entries up to %d changed later", i)
			}
		}
		if l := s.Lineage(); s.Current != "" && l[0] != s.Current || s.Current == "" && l != nil {
			t.Fatalf("lineage %v of %q", l, s.Current)
		}
	})
}

func TestStandings(t *testing.T) {
	s := fold(
		promote("old", "", 1, nil),
		refuse("weak", "old", gate(1, 2)),
		promote("late", "", 1, nil), // void
		promote("bad", "old", .1, gate(2, 3)),
		rollBack("old", "bad"),
		promote("good", "old", .1, gate(3, 4)),
		complete("good", "old"),
		promote("worse", "good", 1, nil),
		rollBack("good", "worse"),
		promote("next", "good", .25, gate(4, 5)),
	)
	want := map[string]Standing{"old": Retired, "weak": Refused, "late": Void, "bad": RolledBack, "good": Current, "worse": RolledBack, "next": RollingOut}
	got := map[string]Standing{}
	var order []string
	for _, x := range s.Summaries() {
		got[x.Digest] = x.Standing
		order = append(order, x.Digest)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"old", "weak", "late", "bad", "good", "worse", "next"}, order); diff != "" {
		t.Error(diff)
	}
	if got := s.Lineage(); !slices.Equal(got, []string{"good", "old"}) {
		t.Errorf("lineage %v, want good and old", got)
	}
	if got := s.Served(); !slices.Equal(got, []string{"worse", "good", "old"}) {
		t.Errorf("served %v, want worse, good and old", got)
	}
	if r, ok := s.Record("good"); !ok || r.Kind != event.Complete {
		t.Errorf("the record of good is %+v, %v; want its completion", r, ok)
	}
	if _, ok := s.Record("late"); ok {
		t.Error("a void promotion has made an adapter served")
	}
	for _, x := range s.Summaries() {
		if x.Digest == "good" && (x.Gate() == nil || x.Gate().Until != day(4) || x.Last().Record.Kind != event.Complete) {
			t.Errorf("good: gate %+v, last %+v", x.Gate(), x.Last())
		}
	}
}
