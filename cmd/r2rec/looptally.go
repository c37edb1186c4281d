package main

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"sync"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/web"
	"gonum.org/v1/gonum/stat/distuv"
)

// tally sums what slot 1 earned, by who ranked and by user, over the newest rewards. A reward that comes twice counts once.
type tally struct {
	mu     sync.Mutex
	most   int // rewards that are kept
	kept   []tallied
	oldest int // index, once kept is full
	known  map[slotOf]bool
	arms   map[armOf]users
	counts web.RewardCounts
	usable int // decisions to learn from that were ever seen
}

// slotOf is one slot of a decision.
type slotOf struct {
	decision string
	position int
}

// armOf is who ranked.
type armOf struct {
	control, graph bool
	adapter        string
}

// users are sums by user.
type users map[string]sums

type sums struct {
	n      int
	reward float64
}

// tallied is what a reward added, so that it can be taken away.
type tallied struct {
	slot        slotOf
	user        string
	arm         armOf
	value       float64
	attribution string
	simulated   bool
}

// tallyRewards is how many rewards count: 20,000 decisions of five slots.
const tallyRewards = 100_000

func newTally(most int) *tally {
	return &tally{most: most, known: map[slotOf]bool{}, arms: map[armOf]users{}}
}

func (t *tally) add(rewards []event.Reward) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range rewards {
		x := tallied{slot: slotOf{r.DecisionID, r.Position}, user: r.UserID, value: r.Value, attribution: r.Attribution, simulated: r.Surface == web.SimulatedSurface,
			arm: armOf{control: r.Control, graph: r.Source == event.Graph, adapter: r.Adapter}}
		if t.known[x.slot] {
			continue
		}
		if x.slot.position == 1 && learnable(r) {
			t.usable++
		}
		if len(t.kept) < t.most {
			t.kept = append(t.kept, x)
		} else {
			t.count(t.kept[t.oldest], -1)
			t.kept[t.oldest] = x
			t.oldest = (t.oldest + 1) % t.most
		}
		t.count(x, 1)
	}
}

// learnable tells whether a round can learn from the decision, as far as its reward says.
func learnable(r event.Reward) bool {
	return r.Explore && !r.Control && r.Source == event.Reasoned && (r.Examination > 0 || r.Value != 0)
}

func (t *tally) count(x tallied, by int) {
	if by > 0 {
		t.known[x.slot] = true
	} else {
		delete(t.known, x.slot)
	}
	switch x.attribution {
	case event.ByDecision:
		t.counts.ByDecision += by
	case event.ByWindow:
		t.counts.ByWindow += by
	}
	if x.slot.position != 1 {
		return
	}
	t.counts.Decisions += by
	if x.simulated {
		t.counts.Simulated += by
	}
	of := t.arms[x.arm]
	if of == nil {
		of = users{}
		t.arms[x.arm] = of
	}
	s := of[x.user]
	s.n += by
	s.reward += float64(by) * x.value
	if of[x.user] = s; s.n == 0 {
		delete(of, x.user)
	}
	if len(of) == 0 {
		delete(t.arms, x.arm)
	}
}

// learned is how many decisions to learn from were seen so far.
func (t *tally) learned() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.usable
}

// show fills in what the rewards say.
func (t *tally) show(l *web.LoopState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l.Rewards = t.counts
	control, others := users{}, users{}
	for arm, of := range t.arms {
		m := of.mean()
		a := web.Arm{Adapter: arm.adapter, Graph: arm.graph, Control: arm.control, Decisions: m.n, Users: m.users, Mean: m.value, Interval: interval(m.value, m.se, m.users)}
		l.Arms = append(l.Arms, a)
		into := others
		if arm.control {
			into = control
		}
		for user, s := range of {
			into[user] = sums{into[user].n + s.n, into[user].reward + s.reward}
		}
	}
	slices.SortFunc(l.Arms, func(a, b web.Arm) int { // the most decisions first, the control last
		return cmp.Or(compareBool(a.Control, b.Control), cmp.Compare(b.Decisions, a.Decisions), cmp.Compare(a.Adapter, b.Adapter), compareBool(a.Graph, b.Graph))
	})
	if len(control) > 0 && len(others) > 0 {
		c, o := control.mean(), others.mean()
		l.Uplift = &web.Uplift{Difference: o.value - c.value, Users: o.users, Control: c.users, Least: leastUsers,
			Interval: interval(o.value-c.value, math.Hypot(c.se, o.se), min(c.users, o.users))}
	}
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// mean is what a decision earned, with its standard error.
type mean struct {
	n, users  int
	value, se float64
}

// mean over all decisions. Decisions of one user are alike, so the error is that of a ratio of sums by user (Cochran 1977,
// section 6.3): √(Σ (R_u - mean N_u)² U/(U-1)) / N.
func (us users) mean() (m mean) {
	var reward float64
	order := slices.Sorted(maps.Keys(us)) // sums of floats depend on it
	for _, user := range order {
		m.n += us[user].n
		reward += us[user].reward
	}
	if m.users = len(us); m.n == 0 {
		return m
	}
	m.value = reward / float64(m.n)
	if m.users < 2 {
		return m
	}
	var v float64
	for _, user := range order {
		d := us[user].reward - m.value*float64(us[user].n)
		v += d * d
	}
	m.se = math.Sqrt(v*float64(m.users)/float64(m.users-1)) / float64(m.n)
	return m
}

// leastUsers for which a mean over users is near enough to normal to show an interval.
const leastUsers = 20

// interval is the t interval of 95 %, by users; nil: of too few.
func interval(value, se float64, users int) *web.Interval {
	if users < leastUsers {
		return nil
	}
	t := distuv.StudentsT{Sigma: 1, Nu: float64(users - 1)}.Quantile(.975)
	return &web.Interval{Low: value - t*se, High: value + t*se}
}
