// Package simulate stands in for a service and its users where there are none: decisions as a server makes them, and
// users who look at the slots of a list from the first on and click by a stated rule. What comes of it is always labelled
// as simulated by whoever shows it.
//
// It promises that decisions are what the contract says, valid and reproducible from their contexts and seeds, and that
// users and decisions are a function of their seeds alone.
//
// It leaves contexts to its caller, and learns nothing. A server's own decisions are the reasoner's.
package simulate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/policy"
)

// Ranker ranks the candidates of a prompt: their log-shares, in the order of the context.
type Ranker interface {
	Rank(ctx context.Context, p iot.Prompt) ([]float64, error)
}

// Thinker is a Ranker that says why before it answers, where the Service's Identity says so.
type Thinker interface {
	Ranker
	// Think is what it says about a context's prompt, and how it ranks after that.
	Think(ctx context.Context, c event.Context, p iot.Prompt) (said iot.Reply, logShares []float64, err error)
}

// Service decides what is shown, exploring always.
type Service struct {
	Model    Ranker
	Identity event.Model // of the model; the prompt's digest is filled in
	// Graph gives the graph's share of each candidate, to be pooled with the model's. Default: all alike.
	Graph func(event.Context) []float64
	// Weight of the model beside the graph, above 0 and up to 1. Default 1.
	Weight float64
	// Temperature τ of the softmax that slates are drawn from. Default 1.
	Temperature float64
	// K is how many items are shown. Default 5.
	K int
}

// Decide makes the decision of a name for a user. The seed, below 2^53, shuffles the prompt and draws the slate.
func (s Service) Decide(ctx context.Context, id, user string, at event.Time, c event.Context, seed uint64) (event.Decision, error) {
	d := event.Decision{DecisionID: id, UserID: user, Timestamp: at, Source: event.Reasoned, Explore: true, Seed: seed,
		Temperature: or(s.Temperature, 1), ModelWeight: or(s.Weight, 1), Context: c, Thought: event.Thought{By: event.Graph}}
	who := s.Identity
	p, err := iot.Build(who.PromptVersion, c, seed)
	if err != nil {
		return event.Decision{}, fmt.Errorf("decide for user %.80q: %w", user, err)
	}
	said, shares, err := s.ask(ctx, c, p)
	if err != nil {
		return event.Decision{}, fmt.Errorf("decide for user %.80q: %w", user, err)
	}
	d.Said, who.PromptDigest = said.Steps, p.After(said, c).Digest
	d.Model = &who
	d.Scores = policy.Pool(s.graph(c), shares, d.ModelWeight)
	for i := range d.Scores {
		d.Scores[i].Letter = string(rune(p.Letters[i]))
	}
	k := s.K
	if k == 0 {
		k = 5
	}
	d.Slate = policy.Slate(d, k)
	return d, nil
}

func (s Service) ask(ctx context.Context, c event.Context, p iot.Prompt) (said event.Thought, shares []float64, err error) {
	if s.Identity.Think == 0 {
		shares, err = s.Model.Rank(ctx, p)
		return said, shares, err
	}
	m, ok := s.Model.(Thinker)
	if !ok {
		return said, nil, errors.New("the model is to think before it answers, and cannot")
	}
	reply, shares, err := m.Think(ctx, c, p)
	return reply.Thought, shares, err
}

func (s Service) graph(c event.Context) []float64 {
	if s.Graph != nil {
		return s.Graph(c)
	}
	shares := make([]float64, len(c.Candidates))
	for i := range shares {
		shares[i] = 1 / float64(len(shares))
	}
	return shares
}

func or(v, usual float64) float64 {
	if v == 0 {
		return usual
	}
	return v
}

// User looks at a list from slot 1 on.
type User struct {
	// Wants is the probability of clicking an item that is looked at.
	Wants func(item string) float64
	// Stays is the probability of looking at the next slot after one that was not clicked (the cascade model, Craswell et
	// al. 2008, with a user who may leave). Slot 1 is always looked at, and after a click nothing is.
	Stays float64
	// Cascade has a list without a click count as looked at to its end, as r2rec consume does unless it is told how far
	// people look.
	Cascade bool
}

// Look goes through the items of a list, the first slot first, and says which of them is clicked: its index, or -1.
func (u User) Look(items []string, rng *rand.Rand) int {
	for i, item := range items {
		if i > 0 && rng.Float64() >= u.Stays {
			break
		}
		if rng.Float64() < u.Wants(item) {
			return i
		}
	}
	return -1
}

// Browse is what each slot of a decision earns, as the rewards topic would have it: 1 for the click, else 0. Examination is
// what somebody can know who sees the click but not the eyes: 1 up to the click, 0 after it, and without one the
// probability that the user came so far, or 1 by the Cascade.
func (u User) Browse(d event.Decision, rng *rand.Rand) []event.Reward {
	items := make([]string, len(d.Slate))
	for i, s := range d.Slate {
		items[i] = s.ItemID
	}
	clicked := u.Look(items, rng)
	rewards := make([]event.Reward, len(d.Slate))
	for i, s := range d.Slate {
		r := event.Reward{DecisionID: d.DecisionID, UserID: d.UserID, ItemID: s.ItemID, Position: s.Position, Attribution: event.ByNothing, Timestamp: d.Timestamp,
			DecidedAt: d.Timestamp, Surface: d.Surface, Source: d.Source, Control: d.Control, Explore: d.Explore}
		if d.Model != nil {
			r.Adapter = d.Model.Adapter
		}
		switch {
		case i == clicked:
			r.Value, r.Examination, r.Type, r.Attribution = 1, 1, event.Click, event.ByDecision
			r.EventID = fmt.Sprintf("click-%s", d.DecisionID)
		case clicked < 0 && u.Cascade:
			r.Examination = 1
		case clicked < 0:
			r.Examination = math.Pow(u.Stays, float64(i))
		case i < clicked:
			r.Examination = 1
		}
		rewards[i] = r
	}
	return rewards
}
