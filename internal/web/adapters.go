package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/r2rec/r2rec/internal/event"
)

// Adapters is the log of adapters, and what this server does about it. Its methods are called concurrently.
type Adapters interface {
	// Adapters answers from memory.
	Adapters(ctx context.Context) (AdapterState, error)
	// RollBack writes to the log that users are to be served by an earlier adapter. void says why that does not count:
	// the log is, or became meanwhile, another than assumed, or the files of that adapter are gone; empty: it counts. The
	// error is an *event.Error where the request is wrong.
	RollBack(ctx context.Context, ask RollBack) (s AdapterState, void string, err error)
}

// RollBack asks for an earlier adapter.
type RollBack struct {
	// Adapter is the digest of the one that is to serve; empty: the bare base model. nil: the one before; while one is being
	// rolled out, the current.
	Adapter *string `json:"adapter"`
	// From is the digest of what is to be taken back: the candidate, if there is one, or else the current. Where it is
	// another by now, nothing is done: so two people who mean the same do it once. nil: whatever it is.
	From   *string `json:"from"`
	Reason string  `json:"reason"` // for people, kept in the log
}

// AdapterState is what the log says, and what serves here.
type AdapterState struct {
	Current   string         `json:"current"`             // digest by the log; empty: the bare base model
	Candidate string         `json:"candidate,omitempty"` // being rolled out; empty: none
	Share     float64        `json:"share,omitempty"`     // of the users who get the candidate
	Since     event.Time     `json:"since,omitempty"`     // when this changed last
	Gates     int            `json:"gates"`               // looks of the gate since a promotion last held for all users
	Serving   ServingState   `json:"serving"`
	Total     int            `json:"total"`   // records of the log
	Entries   []AdapterEntry `json:"entries"` // the newest of them, newest first
}

// AdapterEntry is one record of the log.
type AdapterEntry struct {
	Offset int64           `json:"offset"`
	Record event.Promotion `json:"record,omitzero"` // absent where it cannot be read
	Void   string          `json:"void,omitempty"`  // why it does not count; empty: it does
}

// ServingState is which adapters answer requests of this server.
type ServingState struct {
	Current   string         `json:"current"`
	Candidate string         `json:"candidate,omitempty"`
	Share     float64        `json:"share,omitempty"`
	Loading   string         `json:"loading,omitempty"` // on its way
	Faults    []AdapterFault `json:"faults"`            // why one that is wanted does not serve
}

// AdapterFault says why an adapter that is wanted does not serve.
type AdapterFault struct {
	Adapter  string     `json:"adapter"`
	Reason   string     `json:"reason"`
	Refused  bool       `json:"refused"` // it is not tried again
	Attempts int        `json:"attempts"`
	Since    event.Time `json:"since"`
	Again    event.Time `json:"again,omitempty"` // when it is tried again
}

const (
	defaultEntries = 50
	maxEntries     = 500
	maxRollBack    = 4 << 10 // bytes of a request
	noReason       = "asked for over HTTP"
)

// followed answers where there is no log; false then.
func (s *Server) followed(w http.ResponseWriter) bool {
	if s.Adapters == nil {
		fail(w, http.StatusNotFound, "this server follows no log of adapters; it does when it is started with --adapters URL")
		return false
	}
	return true
}

func (s *Server) adapters(w http.ResponseWriter, r *http.Request) {
	if !s.followed(w) {
		return
	}
	n, ok := queryInt(w, r, "n", defaultEntries, maxEntries)
	if !ok {
		return
	}
	state, err := s.Adapters.Adapters(r.Context())
	if err != nil {
		s.partFailed(w, r, "read the log of adapters", err)
		return
	}
	writeJSON(w, http.StatusOK, state.newest(n))
}

// newest is the state with its newest n entries, the lists never null.
func (a AdapterState) newest(n int) AdapterState {
	a.Total = len(a.Entries)
	a.Entries = append([]AdapterEntry{}, a.Entries[max(0, len(a.Entries)-n):]...)
	slices.Reverse(a.Entries)
	a.Serving.Faults = append([]AdapterFault{}, a.Serving.Faults...)
	return a
}

func (s *Server) rollBack(w http.ResponseWriter, r *http.Request) {
	if !s.followed(w) {
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRollBack))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		fail(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("a request holds at most %d bytes", maxRollBack))
		return
	case err != nil:
		fail(w, http.StatusBadRequest, "the request broke off")
		return
	}
	body = bytes.TrimSpace(body)
	var ask RollBack
	if len(body) > 0 {
		fields := json.NewDecoder(bytes.NewReader(body))
		fields.DisallowUnknownFields() // one that is misspelt would go back to something else
		if err := fields.Decode(&ask); err != nil || body[0] != '{' || fields.More() {
			fail(w, http.StatusBadRequest, `send nothing, or a JSON object such as {"from": "DIGEST", "adapter": "DIGEST", "reason": "fewer clicks"}, with no other fields; an empty adapter is the bare base model`)
			return
		}
	}
	setDefault(&ask.Reason, noReason)
	state, void, err := s.Adapters.RollBack(r.Context(), ask)
	var wrong *event.Error
	switch {
	case errors.As(err, &wrong):
		fail(w, http.StatusBadRequest, wrong.Field+" "+wrong.Rule)
	case err != nil:
		s.partFailed(w, r, "write the roll-back to the log of adapters (read /v1/adapters before asking again: it may be written)", err)
	case void != "":
		fail(w, http.StatusConflict, "the roll-back does not count: "+void)
	default:
		writeJSON(w, http.StatusOK, state.newest(defaultEntries))
	}
}
