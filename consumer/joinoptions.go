package consumer

import (
	"errors"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/r2rec/r2rec/internal/event"
)

// JoinTopics are the names on the cluster, prefixes included. An empty name takes the name of its field in lower case.
type JoinTopics struct {
	Interactions string
	Decisions    string
	Rewards      string
	DeadLetters  string
}

// DefaultRewards is what interactions earn: what says most, most. A rating earns its value where it is good, the negative
// of it where it is bad, and nothing between.
var DefaultRewards = map[event.Type]float64{
	event.Purchase: 3, event.Like: 1, event.Click: 1, event.Cart: 1, event.Rating: 1, event.Dislike: -1, event.Hide: -1,
}

// JoinerOptions of a Joiner. The zero value of a field takes the default that its comment states.
type JoinerOptions struct {
	Member

	// Topics names the topics. Default: interactions, decisions, rewards and deadletters.
	Topics JoinTopics
	// Store keeps the state of the join. Required.
	Store JoinStore

	// Window is how long after a list was first shown what happens to its items counts for it, in event time. It is not
	// shorter than Lateness. Default 30 min.
	Window time.Duration
	// Lateness is how much later than its own timestamp an event may reach Kafka and count for certain, how far its
	// timestamp may lie after its record's time, and how far apart clocks of apps and servers may be. A list is final when
	// event time has passed its window by that much. Larger means later rewards, not more memory. Default 5 min.
	Lateness time.Duration
	// Showable is how long after it was made a decision may be shown for the first time: as long as its document lives in
	// Redis. Until then the store keeps a decision that nobody has shown. Default 24 h.
	Showable time.Duration
	// Rewards is what interactions earn by type; a type that it lacks, and 0, earn nothing. Default DefaultRewards.
	Rewards map[event.Type]float64
	// PositiveRating and NegativeRating are the graph's: a rating of at least the one is good, of at most the other bad.
	// Default, where both are 0: 4 and 2.
	PositiveRating, NegativeRating float64
	// Examination says which slots were looked at. Default: the cascade.
	Examination Examination
	// MaxPending is how many decisions of one user may wait; the oldest that nobody has shown gives way. Default 64.
	MaxPending int

	// OnReward is called with rewards that were published, by the goroutine of their partition: it must be quick and must
	// not keep the slice. Restarts call it again for the same ones. Default: nothing.
	OnReward func(rewards []event.Reward)
}

// MaxWindow is the longest Window, and the longest time that a decision may wait to be shown.
const MaxWindow = 366 * 24 * time.Hour

// maxLoose is how many events of one user that name no decision may wait for what was shown before them.
const maxLoose = 64

func (o JoinerOptions) withDefaults() (JoinerOptions, error) {
	c := checks{of: "joiner"}
	text(&o.Group, "r2rec-rewards")
	text(&o.Topics.Interactions, "interactions")
	text(&o.Topics.Decisions, "decisions")
	text(&o.Topics.Rewards, "rewards")
	text(&o.Topics.DeadLetters, "deadletters")
	c.distinct(o.Topics.Interactions, o.Topics.Decisions, o.Topics.Rewards, o.Topics.DeadLetters)
	c.member(&o.Member)
	if o.Store == nil {
		c.fail("Store is missing")
	}
	c.duration("Window", &o.Window, 30*time.Minute)
	c.duration("Lateness", &o.Lateness, 5*time.Minute)
	c.duration("Showable", &o.Showable, 24*time.Hour)
	c.number("MaxPending", &o.MaxPending, 64)
	if o.Lateness > o.Window {
		c.fail("Lateness is %v, want at most Window, %v: a decision that comes twice would earn twice", o.Lateness, o.Window)
	}
	for name, d := range map[string]time.Duration{"Window": o.Window, "Showable": o.Showable} {
		if d > MaxWindow {
			c.fail("%s is %v, want at most %v", name, d, MaxWindow)
		}
	}
	if o.Rewards == nil {
		o.Rewards = DefaultRewards
	}
	for _, t := range slices.Sorted(maps.Keys(o.Rewards)) {
		v := o.Rewards[t]
		switch {
		case t == event.Impression || !slices.Contains(event.Types, t):
			c.fail("Rewards: %q earns nothing, want one of %v", t, slices.DeleteFunc(slices.Clone(event.Types), func(t event.Type) bool { return t == event.Impression }))
		case math.IsNaN(v) || math.IsInf(v, 0):
			c.fail("Rewards: %s earns %v, want a finite number", t, v)
		}
	}
	if o.PositiveRating == 0 && o.NegativeRating == 0 {
		o.PositiveRating, o.NegativeRating = 4, 2
	}
	if !(o.NegativeRating < o.PositiveRating) {
		c.fail("NegativeRating is %v, want less than PositiveRating, %v", o.NegativeRating, o.PositiveRating)
	}
	if err := o.Examination.validate(); err != nil {
		c.fail("Examination: %w", err)
	}
	if o.OnReward == nil {
		o.OnReward = func([]event.Reward) {}
	}
	return o, errors.Join(c.errs...)
}

func (o JoinerOptions) rules() *joinRules {
	return &joinRules{
		window: o.Window.Milliseconds(), lateness: o.Lateness.Milliseconds(), showable: o.Showable.Milliseconds(),
		values: o.Rewards, positive: o.PositiveRating, negative: o.NegativeRating,
		maxDecisions: o.MaxPending, maxLoose: maxLoose, examination: o.Examination,
	}
}
