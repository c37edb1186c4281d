package web

import (
	"context"

	"github.com/r2rec/r2rec/internal/event"
)

// Recommender makes recommendations and reads those that were made. Its methods are called concurrently.
type Recommender interface {
	// Recommend makes a fresh decision: it asks the graph and the model, stores the document and logs the decision.
	Recommend(ctx context.Context, q Query) (event.Recommendation, event.Decision, error)
	// Cached returns the document that apps read from Redis; false: there is none (never made, or expired), or it is shorter
	// than k although there is more to recommend.
	Cached(ctx context.Context, user string, k int) (event.Recommendation, bool, error)
}

// Query asks for the K best items of one user.
type Query struct {
	User    string
	K       int    // items to show, 1 to Options.MaxK
	Surface string // which page or slot group shows them; may be empty
}

// Publisher writes to Kafka and returns when the broker has acknowledged. Its methods are called concurrently.
type Publisher interface {
	// PublishInteractions writes raw[i] with key keys[i] to `interactions`. On an error some may have been written:
	// publishing them again does no harm, because applying an event twice is applying it once.
	PublishInteractions(ctx context.Context, raw [][]byte, keys []string) error
	// Forget writes u to `users`, with a later instant where the user is forgotten up to that already, and returns what it wrote.
	Forget(ctx context.Context, u event.User) (event.User, error)
}

// Explorer shows what the graph holds, for the page. Its methods are called concurrently.
type Explorer interface {
	// Stats answers at once, from what was counted last, which may be long ago where nobody watched; it is asked for about once
	// a second while somebody does.
	Stats(ctx context.Context) (Stats, error)
	// History returns the user's n newest choices, newest first; an unknown user has none. newest is the time of the user's
	// newest edge, whatever it says; 0: there is none.
	History(ctx context.Context, user string, n int) (items []event.HistoryItem, newest event.Time, err error)
	// Titles returns the titles of those of the items that are in the catalogue.
	Titles(ctx context.Context, items []string) (map[string]string, error)
	// Traces tells what Redis holds of a user. It looks at the list of every item.
	Traces(ctx context.Context, user string) (Traces, error)
	// ActiveUsers returns at most n users worth looking at, whose newest event is the latest first. It answers from memory.
	ActiveUsers(n int) []ActiveUser
}

// Stats counts the graph.
type Stats struct {
	Users int64 `json:"users"`
	Items int64 `json:"items"`
	Edges int64 `json:"edges"`
}

// Traces is what Redis holds of one user. Of a user who is forgotten, what is not older than ForgetBefore counts as later.
type Traces struct {
	ForgetBefore event.Time `json:"forget_before,omitzero"` // everything older is forgotten, or being so; absent: nothing is
	Newest       event.Time `json:"newest,omitzero"`        // time of the newest edge; absent: there is none
	Edges        int64      `json:"edges"`                  // of the user
	Lists        int64      `json:"lists"`                  // of items that name the user
	Later        int64      `json:"later"`                  // edges and lists that came since, and stay
	Documents    int64      `json:"documents"`              // that apps read
	Pending      int64      `json:"pending"`                // partitions in which decisions wait for their reward
}

// ActiveUser is a user who did something lately.
type ActiveUser struct {
	UserID string     `json:"user_id"`
	Events int64      `json:"events"` // how many of the user's events were seen
	LastAt event.Time `json:"last_at"`
}

// Health reports the state of the parts that r2rec stands on.
type Health interface {
	// Check returns at once, from what is known; it is asked about once a second.
	Check(ctx context.Context) []Component
}

// State of a component.
type State string

// A component works, works with less than it should, or does not work.
const (
	OK       State = "ok"
	Degraded State = "degraded"
	Down     State = "down"
)

// Component is one part. A part that r2rec cannot do without reports Down when it fails and makes /readyz answer 503;
// one that it can do without, the model, reports Degraded, and OK where none is wanted.
type Component struct {
	Name   string     `json:"name"` // kafka, redis, model, adapter, consumer, rewards
	State  State      `json:"state"`
	Detail string     `json:"detail,omitempty"` // for people: the version, the model's name, what is wrong
	Since  event.Time `json:"since"`            // when it entered this state
}
