package web

import (
	"context"
	"net/http"

	"github.com/r2rec/r2rec/internal/event"
)

// Loop tells how learning goes: what was shown and earned, what is learned from it, and what became of that. Its methods
// are called concurrently.
type Loop interface {
	// Loop answers at once, from what is known; it is asked about once a second while somebody watches.
	Loop(ctx context.Context) (LoopState, error)
}

// LoopState is the learning loop at one moment. Rewards are those of slot 1, intervals are by user and hold 95 %.
type LoopState struct {
	Simulation *Simulation  `json:"simulation,omitempty"` // absent: nobody is simulated
	Note       string       `json:"note,omitempty"`       // by which rules this loop runs, for people
	Rewards    RewardCounts `json:"rewards"`
	Arms       []Arm        `json:"arms"`             // who ranked, and what it earned
	Uplift     *Uplift      `json:"uplift,omitempty"` // absent: there is no decision of either kind yet
	Rounds     Rounds       `json:"rounds"`
	RollOut    *RollOut     `json:"rollout,omitempty"` // absent: none is under way
	// Offset of the log of adapters that Adapters answers from: it changes with every record. Absent: none is followed.
	Offset *int64 `json:"offset,omitempty"`
}

// SimulatedSurface is the surface of lists that were shown to simulated users, and of what those do.
const SimulatedSurface = "simulated"

// Simulation is what stands in for users.
type Simulation struct {
	Rule      string  `json:"rule"` // what simulated users do, for people
	Visits    int     `json:"visits"`
	Limit     int     `json:"limit"` // of visits; then it ends
	Clicks    int     `json:"clicks"`
	PerSecond float64 `json:"per_second"`      // visits wanted; a busy machine makes fewer
	Ended     string  `json:"ended,omitempty"` // why there are no more visits; empty: there are
}

// RewardCounts says how many decisions got their reward, and how the clicks among them were attributed. It is about the
// newest decisions that are kept in memory.
type RewardCounts struct {
	Decisions  int    `json:"decisions"`
	Simulated  int    `json:"simulated"`      // of these decisions, shown to simulated users
	ByDecision int    `json:"by_decision"`    // slots whose click named the decision
	ByWindow   int    `json:"by_window"`      // slots whose click was joined in time
	Rule       string `json:"rule,omitempty"` // when rewards are final, for people; empty: another process makes them
}

// Arm is one way to rank.
type Arm struct {
	Adapter   string    `json:"adapter"` // digest; empty: none
	Graph     bool      `json:"graph"`   // the graph ranked alone
	Control   bool      `json:"control"` // for users who always get that
	Decisions int       `json:"decisions"`
	Users     int       `json:"users"`
	Mean      float64   `json:"mean"`
	Interval  *Interval `json:"interval,omitempty"` // absent: there are too few users
}

// Interval holds the true value with a confidence of 95 %.
type Interval struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// Uplift is how much more a decision earns for the users who get what was learned than for those who stay on the graph's
// ranking.
type Uplift struct {
	Difference float64   `json:"difference"`
	Interval   *Interval `json:"interval,omitempty"` // absent: there are too few users
	Users      int       `json:"users"`
	Control    int       `json:"control_users"`
	Least      int       `json:"least_users"` // of each kind, for an interval
}

// Rounds says what is learned in this process.
type Rounds struct {
	Elsewhere string   `json:"elsewhere,omitempty"` // why this process runs none; empty: it does
	Usable    int      `json:"usable"`              // decisions for the next round: drawn, shown, ranked by the model
	Needed    int      `json:"needed"`              // when the next round begins
	Running   *Running `json:"running,omitempty"`   // absent: no round is under way
	Ended     []Round  `json:"ended"`               // newest first, some of the last
}

// Running is a round under way.
type Running struct {
	Doing string     `json:"doing"`
	Done  int        `json:"done"`
	Total int        `json:"total"`
	Began event.Time `json:"began"`
}

// Round is one that has ended.
type Round struct {
	Verdict string      `json:"verdict"` // promoted, refused, underpowered, nothing to learn, waiting or failed
	Reason  string      `json:"reason"`
	Adapter string      `json:"adapter,omitempty"` // digest of what it learned, where a gate judged it
	Began   event.Time  `json:"began"`
	Ended   event.Time  `json:"ended"`
	Learned int         `json:"learned_from"` // decisions
	Users   int         `json:"users"`
	Held    int         `json:"held"` // decisions for the gate
	Gate    *event.Gate `json:"gate,omitempty"`
	Reward  []float64   `json:"reward"` // expected of slot 1 by the policy, doubly robust, as learning went on
}

// RollOut is an adapter that a share of the users has, compared with the one that the others have. The interval holds at
// every look, so that one may look at any time.
type RollOut struct {
	Candidate string     `json:"candidate"`
	Current   string     `json:"current"`
	Share     float64    `json:"share"`
	Since     event.Time `json:"since"`
	Until     event.Time `json:"until,omitempty"` // when it goes back undecided; absent: somebody else watches it
	Decisions [2]int     `json:"decisions"`       // of the current, of the candidate
	Users     [2]int     `json:"users"`
	Mean      [2]float64 `json:"mean"`
	Interval  *Interval  `json:"interval,omitempty"` // of the difference; absent: there are too few users
	Reason    string     `json:"reason,omitempty"`   // what the test says, for people
}

// lists are never null.
func (l LoopState) lists() LoopState {
	if l.Arms == nil {
		l.Arms = []Arm{}
	}
	if l.Rounds.Ended == nil {
		l.Rounds.Ended = []Round{}
	}
	return l
}

func (s *Server) loop(w http.ResponseWriter, r *http.Request) {
	if s.Loop == nil {
		fail(w, http.StatusNotFound, "this server does not follow what is learned; it does when it is started with --adapters URL")
		return
	}
	state, err := s.Loop.Loop(r.Context())
	if err != nil {
		s.partFailed(w, r, "tell how learning goes", err)
		return
	}
	writeJSON(w, http.StatusOK, state.lists())
}
