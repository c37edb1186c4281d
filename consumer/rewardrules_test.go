package consumer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/r2rec/r2rec/internal/event"
)

// story tells, in minutes after the epoch, what happens to user u; every event reaches Kafka at once.
type story struct {
	logs
	n int
}

const minute = int64(time.Minute / time.Millisecond)

// decide has items shown in this order, if anybody says so.
func (s *story) decide(id string, at int64, items ...string) *story {
	d := event.Decision{DecisionID: id, UserID: "u", Timestamp: event.Time(epoch + at*minute), Source: event.Graph}
	for i, item := range items {
		d.Slate = append(d.Slate, event.Slot{Position: i + 1, ItemID: item, Probability: 1})
	}
	s.decisions = append(s.decisions, recorded[event.Decision]{epoch + at*minute, d})
	return s
}

// shows has the items of a decision seen.
func (s *story) shows(decision string, at int64, items ...string) *story {
	for _, item := range items {
		s.does(event.Impression, decision, at, item)
	}
	return s
}

// does has the user do something; an empty decision is not named.
func (s *story) does(what event.Type, decision string, at int64, item string) *story {
	s.n++
	in := event.Interaction{EventID: fmt.Sprint("e", s.n), UserID: "u", ItemID: item, Type: what, Timestamp: event.Time(epoch + at*minute), DecisionID: decision}
	s.interactions = append(s.interactions, recorded[event.Interaction]{epoch + at*minute, in})
	return s
}

// earn joins the story by the default options, and says what each slot earned: decision/position value how.
func (s *story) earn(t *testing.T, change ...func(*JoinerOptions)) (out []string) {
	t.Helper()
	opt := JoinerOptions{Member: Member{Brokers: []string{"localhost:9092"}}, Store: &faulty{}}
	for _, c := range change {
		c(&opt)
	}
	opt, err := opt.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	p := &partJoin{rules: opt.rules(), logs: s.logs, users: map[string]event.JoinUser{}}
	for p.batch(t, len(s.decisions), len(s.interactions), 1000, epoch+10*24*60*minute, true) > 0 {
	}
	for _, r := range p.published {
		line := fmt.Sprintf("%s/%d %v %s", r.DecisionID, r.Position, r.Value, r.Attribution)
		if r.Examination != 1 {
			line += fmt.Sprintf(" seen %v", r.Examination)
		}
		out = append(out, line)
	}
	return out
}

func TestWhatIsEarned(t *testing.T) {
	for name, tc := range map[string]struct {
		story *story
		want  []string
	}{
		// Invariant 11: nothing is learned from what was not shown.
		"a list that nobody says was shown earns nothing, whatever is done": {
			new(story).decide("d", 0, "a", "b").does(event.Click, "d", 1, "a").does(event.Purchase, "", 2, "b"), nil},
		"a slot that was not shown earns nothing": {
			new(story).decide("d", 0, "a", "b").shows("d", 0, "a").does(event.Click, "d", 1, "b"), []string{"d/1 0 none"}},
		"an impression of another item shows nothing": {
			new(story).decide("d", 0, "a").shows("d", 0, "z"), nil},
		"shown and not chosen is 0": {
			new(story).decide("d", 0, "a", "b").shows("d", 0, "a", "b"), []string{"d/1 0 none", "d/2 0 none"}},

		"a click that names its decision": {
			new(story).decide("d", 0, "a", "b").shows("d", 0, "a", "b").does(event.Click, "d", 29, "b"), []string{"d/1 0 none", "d/2 1 decision"}},
		"one that comes before the impression, by another clock": {
			new(story).decide("d", 4, "a").does(event.Click, "d", 1, "a").shows("d", 4, "a"), []string{"d/1 1 decision"}},
		"one about an item that the decision did not show": {
			new(story).decide("d", 0, "a").shows("d", 0, "a").does(event.Click, "d", 1, "z"), []string{"d/1 0 none"}},
		"one after the window": {
			new(story).decide("d", 0, "a").shows("d", 0, "a").does(event.Click, "d", 31, "a"), []string{"d/1 0 none"}},
		"a click that names no decision": {
			new(story).decide("d", 0, "a").shows("d", 0, "a").does(event.Click, "", 30, "a"), []string{"d/1 1 window"}},
		"goes to the list that showed the item last": {
			new(story).decide("d1", 0, "a").decide("d2", 1, "a").shows("d2", 2, "a").shows("d1", 3, "a").does(event.Click, "", 4, "a"),
			[]string{"d2/1 0 none", "d1/1 1 window"}},
		"not to one that showed it later": {
			new(story).decide("d1", 0, "a").shows("d1", 0, "a").does(event.Click, "", 4, "a").decide("d2", 5, "a").shows("d2", 5, "a"),
			[]string{"d1/1 1 window", "d2/1 0 none"}},
		"not to one that was made and not shown": {
			new(story).decide("d1", 0, "a").shows("d1", 0, "a").decide("d2", 1, "a").does(event.Click, "", 4, "a"), []string{"d1/1 1 window"}},
		"a stored list, shown hours after it was made, has its window then": {
			new(story).decide("d", 0, "a").shows("d", 600, "a").does(event.Click, "", 620, "a"), []string{"d/1 1 window"}},
		"one shown again counts from the first time": {
			new(story).decide("d", 0, "a").shows("d", 0, "a").shows("d", 60, "a").does(event.Click, "d", 61, "a"), []string{"d/1 0 none"}},
		"one shown after more than a day is not known any more": {
			new(story).decide("d", 0, "a").shows("d", 24*60+6, "a").does(event.Click, "d", 24*60+7, "a"), nil},

		"the strongest counts, once": {
			new(story).decide("d", 0, "a").shows("d", 0, "a").does(event.Click, "d", 1, "a").does(event.Click, "d", 2, "a").does(event.Purchase, "d", 3, "a").does(event.Cart, "d", 4, "a"),
			[]string{"d/1 3 decision"}},
		"a dislike is stronger than the click before it": {
			new(story).decide("d", 0, "a").shows("d", 0, "a").does(event.Click, "d", 1, "a").does(event.Dislike, "d", 2, "a"), []string{"d/1 -1 decision"}},
		"a view earns nothing": {
			new(story).decide("d", 0, "a").shows("d", 0, "a").does(event.View, "d", 1, "a"), []string{"d/1 0 none"}},
		"slots below the last one chosen were not looked at": {
			new(story).decide("d", 0, "a", "b", "c", "x").shows("d", 0, "a", "b", "c", "x").does(event.Click, "d", 1, "a").does(event.Hide, "d", 1, "c"),
			[]string{"d/1 1 decision", "d/2 0 none", "d/3 -1 decision", "d/4 0 none seen 0"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, tc.story.earn(t)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestRatingsEarnByTheGraphsBounds(t *testing.T) {
	r := testRules()
	for value, want := range map[float64]float64{5: 1, 4: 1, 3.9: 0, 2.1: 0, 2: -1, 0.5: -1} {
		if got := r.value(&event.Interaction{Type: event.Rating, Value: &value}); got != want {
			t.Errorf("a rating of %v earns %v, want %v", value, got, want)
		}
	}
}

// What a user may have pending is bounded: the oldest list that was not shown gives way, one that was shown stays.
func TestPendingIsBounded(t *testing.T) {
	s := new(story).decide("shown", 0, "a").shows("shown", 0, "a")
	for i := range 5 {
		s.decide(fmt.Sprint("d", i), int64(10+i), "a")
	}
	for i := range 5 {
		s.shows(fmt.Sprint("d", i), 20, "a")
	}
	got := s.earn(t, func(o *JoinerOptions) { o.MaxPending = 3 })
	if want := []string{"shown/1 0 none", "d3/1 0 none", "d4/1 0 none"}; !cmp.Equal(want, got) {
		t.Errorf("rewards of %v, want %v", got, want)
	}
}

func TestExaminationByPropensities(t *testing.T) {
	e, err := ParseExamination([]string{"home=1,0.5", "*=0.9"})
	if err != nil {
		t.Fatal(err)
	}
	for surface, want := range map[string][]float64{"home": {1, .5, .5}, "cart": {.9, .9, .9}} {
		rewards := []event.Reward{{Position: 1, Surface: surface}, {Position: 2, Surface: surface, Attribution: event.ByDecision}, {Position: 4, Surface: surface}}
		e.examine(rewards)
		for i, r := range rewards {
			if r.Examination != want[i] {
				t.Errorf("%s, position %d: %v, want %v", surface, r.Position, r.Examination, want[i])
			}
		}
	}
	for text, want := range map[string]string{"home": "want cascade, or", "home=1,x": `"x" is no number`, "home=0": "want more than 0", "home=": "is no number", "=1": "want cascade, or", "home=1.5": "at most 1"} {
		if _, err := ParseExamination([]string{text}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error about %q", text, err, want)
		}
	}
}

// People with known habits look at lists that are drawn by merit: the habits are found, although the better items stand
// higher. Counting alone would take merit for habit.
func TestPropensitiesAreFound(t *testing.T) {
	habit := []float64{1, .6, .3}
	merit := []float64{.8, .5, .3, .2}
	random := rand.New(rand.NewPCG(7, 7))
	p := NewPropensities()
	var rewards []event.Reward
	for n := range 60_000 {
		d := event.Decision{DecisionID: fmt.Sprint(n), Explore: true, Context: event.Context{Candidates: make([]event.Candidate, len(merit))}}
		left := []int{0, 1, 2, 3}
		for k := range habit {
			var total float64
			for _, i := range left {
				total += math.Exp(merit[i])
			}
			x := random.Float64() * total
			for j, i := range left {
				p := math.Exp(merit[i])
				if x -= p; x > 0 && j < len(left)-1 {
					continue
				}
				d.Slate = append(d.Slate, event.Slot{Position: k + 1, ItemID: fmt.Sprint(i), Probability: p / total})
				r := event.Reward{DecisionID: d.DecisionID, UserID: fmt.Sprint(n % 500), Position: k + 1, Surface: "home"}
				if random.Float64() < habit[k]*merit[i] {
					r.Value = 1
				}
				rewards = append(rewards, r)
				left = append(left[:j:j], left[j+1:]...)
				break
			}
		}
		p.Decided(d)
		if n == 0 {
			d.DecisionID, d.Explore = "greedy", false
			p.Decided(d)
		}
	}
	for range 1000 { // left out: not drawn, repeated, or unknown
		rewards = append(rewards, event.Reward{DecisionID: "greedy", Position: 2, Value: 1}, rewards[0], event.Reward{DecisionID: "else", Position: 1})
	}
	for _, r := range rewards {
		p.Earned(r)
	}
	got := p.Estimate()
	if len(got) != 1 || len(got["home"]) != len(habit) {
		t.Fatalf("propensities: %v", got)
	}
	for i, p := range got["home"] {
		if (p.SE > 0) != (i > 0) || p.SE > .02 || math.Abs(p.Value-habit[i]) > 4*p.SE {
			t.Errorf("position %d: %+v, a standard error that is not of this world, want %v", i+1, p, habit[i])
		}
		if p.Position != i+1 || p.Shown != 60_000 || math.Abs(p.Value-habit[i]) > .02 || p.Effective < 30_000 || p.Effective > 60_000 {
			t.Errorf("position %d: %+v, want %v", i+1, p, habit[i])
		}
	}
}

func TestJoinerOptionsAreChecked(t *testing.T) {
	good := JoinerOptions{Member: Member{Brokers: []string{"localhost:9092"}}, Store: &faulty{}}
	if j, err := NewJoiner(good); err != nil || j.opt.Group != "r2rec-rewards" {
		t.Errorf("defaults: %v", err)
	}
	for want, change := range map[string]func(*JoinerOptions){
		"Store is missing":               func(o *JoinerOptions) { o.Store = nil },
		"joiner options: Brokers":        func(o *JoinerOptions) { o.Brokers = nil },
		"Lateness is 1h0m0s, want at":    func(o *JoinerOptions) { o.Lateness = time.Hour },
		"Window is 1ns, want at least":   func(o *JoinerOptions) { o.Window = 1 },
		"Showable is 9000h0m0s, want at": func(o *JoinerOptions) { o.Showable = 9000 * time.Hour },
		`"impression" earns nothing`:     func(o *JoinerOptions) { o.Rewards = map[event.Type]float64{event.Impression: 1} },
		"click earns NaN":                func(o *JoinerOptions) { o.Rewards = map[event.Type]float64{event.Click: math.NaN()} },
		"NegativeRating is 5, want less": func(o *JoinerOptions) { o.PositiveRating, o.NegativeRating = 4, 5 },
		`surface "a" has no probability`: func(o *JoinerOptions) { o.Examination.Propensities = map[string][]float64{"a": nil} },
		"named twice":                    func(o *JoinerOptions) { o.Topics.Rewards = "decisions" },
		"MaxPending is -1":               func(o *JoinerOptions) { o.MaxPending = -1 },
	} {
		bad := good
		change(&bad)
		if _, err := NewJoiner(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error about %q, got %v", want, err)
		}
	}
}
