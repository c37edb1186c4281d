package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/r2rec/r2rec/internal/dataset"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/simulate"
	"github.com/r2rec/r2rec/internal/web"
	"github.com/r2rec/r2rec/reasoner"
)

// visitFlags say how many users are simulated.
type visitFlags struct {
	Visits     float64 `help:"Visits a second by simulated users: each gets a fresh list and clicks only what the real user chose next. 0: nobody is simulated, and the whole data set is history. A busy machine makes fewer." default:"8" group:"Simulation"`
	VisitLimit int     `help:"Visits after which the simulation ends: the embedded Kafka keeps all that comes of them in memory, up to 0.1 MB each." default:"10000" group:"Simulation"`
}

func (f visitFlags) check() error {
	if !(f.Visits >= 0 && f.Visits <= 1000) {
		return misuse("--visits %v: want 0 to 1000 a second", f.Visits)
	}
	return wrong(checkCounts(count{"--visit-limit", f.VisitLimit, 1}))
}

// What simulated users do.
const (
	visitShare = .5 // of what each user did, the newest, that is kept back to be clicked
	visitNext  = 40 // of the items that the real user chose next, those that are clicked
	visitStays = .7 // probability of looking at the next slot
)

// visitRule says it to people.
var visitRule = fmt.Sprintf("The newest %.0f %% of what each real user did is kept back. A simulated user looks at slot 1, and at each next slot with probability %g; "+
	"of what was looked at, only one of the next %d items that the real user chose is clicked, and then the visit is over.", 100*visitShare, visitStays, visitNext)

// visitors are simulated users of a data set.
type visitors struct {
	flags  visitFlags
	visit  func(ctx context.Context, user string)
	told   func(web.Simulation)
	now    func() time.Time
	random *rand.Rand

	users []string
	next  map[string][]string // items that each of them chose, first first, and has not clicked yet
	state web.Simulation
}

// newVisitors reads what real users chose: ratings of at least positive, and clicks. Each item counts once a user. Whom they
// visit, and who is told of it, is up to the caller.
func newVisitors(f visitFlags, kept *dataset.Dataset, positive float64) *visitors {
	v := &visitors{flags: f, now: time.Now, random: rand.New(rand.NewPCG(1, 0)), next: map[string][]string{}, told: func(web.Simulation) {},
		state: web.Simulation{Rule: visitRule, Limit: f.VisitLimit, PerSecond: f.Visits}}
	for in, err := range kept.Interactions() {
		if err != nil || in.Value != nil && *in.Value < positive || slices.Contains(v.next[in.UserID], in.ItemID) {
			continue
		}
		if v.next[in.UserID] == nil {
			v.users = append(v.users, in.UserID)
		}
		v.next[in.UserID] = append(v.next[in.UserID], in.ItemID)
	}
	return v
}

// run makes visits, one at a time, until there were enough or ctx ends. One that fails is told in the log by who failed, and
// the next goes on.
func (v *visitors) run(ctx context.Context) error {
	if v.flags.Visits == 0 {
		return nil
	}
	tick := time.NewTicker(time.Duration(float64(time.Second) / v.flags.Visits))
	defer tick.Stop()
	for {
		v.told(v.state)
		switch {
		case len(v.users) == 0:
			v.state.Ended = "The simulated users have clicked everything that the real users chose next."
		case v.state.Visits >= v.flags.VisitLimit:
			v.state.Ended = fmt.Sprintf("The simulation has ended after %d visits: the embedded Kafka keeps all decisions in memory.", v.state.Visits)
		}
		if v.state.Ended != "" {
			v.told(v.state)
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		v.state.Visits++
		v.visit(ctx, v.users[v.random.IntN(len(v.users))])
	}
}

// visiting shows a fresh list to a user, as GET /v1/users/USER/recommendations?fresh=true&shown=true does, and has the user look.
func (v *visitors) visiting(ctx context.Context, s *service, user string) {
	rec, d, err := s.reasoner.Recommend(ctx, reasoner.Request{User: user, Surface: web.SimulatedSurface})
	if err != nil || rec.DecisionID == "" {
		return
	}
	s.server.Decided(rec, d)
	if s.server.Shown(ctx, rec, web.SimulatedSurface) == 0 {
		return
	}
	click, ok := v.look(rec)
	if !ok {
		return
	}
	raw, err := event.Encode(click)
	if err == nil {
		err = s.events.PublishInteractions(ctx, [][]byte{raw}, []string{user})
	}
	if err == nil {
		v.clicked(user, click.ItemID)
	}
}

// look is what the user clicks, if anything.
func (v *visitors) look(rec event.Recommendation) (event.Interaction, bool) {
	next := v.next[rec.UserID]
	next = next[:min(len(next), visitNext)]
	u := simulate.User{Stays: visitStays, Wants: func(item string) float64 {
		if slices.Contains(next, item) {
			return 1
		}
		return 0
	}}
	items := make([]string, len(rec.Items))
	for i, it := range rec.Items {
		items[i] = it.ItemID
	}
	i := u.Look(items, v.random)
	if i < 0 {
		return event.Interaction{}, false
	}
	position := rec.Items[i].Position
	return event.Interaction{EventID: fmt.Sprintf("simulated-%s-%d", rec.DecisionID, position), UserID: rec.UserID, ItemID: items[i], Type: event.Click,
		Timestamp: event.At(v.now()), DecisionID: rec.DecisionID, Position: &position, Surface: web.SimulatedSurface}, true
}

// clicked takes an item from what the user still wants. One who wants nothing any more comes no more.
func (v *visitors) clicked(user, item string) {
	v.state.Clicks++
	v.next[user] = slices.DeleteFunc(v.next[user], func(i string) bool { return i == item })
	if len(v.next[user]) == 0 {
		v.users = slices.DeleteFunc(v.users, func(u string) bool { return u == user })
	}
}
