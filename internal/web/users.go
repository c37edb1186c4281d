package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/r2rec/r2rec/internal/event"
)

// servedHeader says where a recommendation came from: cached or fresh.
const servedHeader = "R2rec-Served"

// rule is the part of a validation error that says what to do.
func rule(err error) string {
	var e *event.Error
	if errors.As(err, &e) {
		return e.Rule
	}
	return err.Error()
}

// pathUser returns the user that the path names; false: it has answered that it cannot be one.
func pathUser(w http.ResponseWriter, r *http.Request) (string, bool) {
	user := r.PathValue("user")
	if err := event.CheckUserID(user); err != nil {
		fail(w, http.StatusBadRequest, "the user id in the path "+rule(err))
		return "", false
	}
	return user, true
}

// queryInt reads a whole number between 1 and most from the query; false: it has answered what is wrong.
func queryInt(w http.ResponseWriter, r *http.Request, name string, otherwise, most int) (int, bool) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return otherwise, true
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		fail(w, http.StatusBadRequest, fmt.Sprintf("%s must be a whole number between 1 and %d", name, most))
		return 0, false
	}
	return n, true
}

// queryBool reads true or false from the query, false where it is absent; !ok: it has answered what is wrong.
func queryBool(w http.ResponseWriter, r *http.Request, name string) (value, ok bool) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return false, true
	}
	value, err := strconv.ParseBool(text)
	if err != nil {
		fail(w, http.StatusBadRequest, name+" must be true or false")
		return false, false
	}
	return value, true
}

func (s *Server) recommendations(w http.ResponseWriter, r *http.Request) {
	user, ok := pathUser(w, r)
	if !ok {
		return
	}
	k, ok := queryInt(w, r, "k", s.DefaultK, s.MaxK)
	if !ok {
		return
	}
	surface := r.URL.Query().Get("surface")
	if surface != "" {
		if err := event.CheckUserID(surface); err != nil { // surfaces keep the same rules
			fail(w, http.StatusBadRequest, "surface "+rule(err))
			return
		}
	}
	fresh, ok := queryBool(w, r, "fresh")
	if !ok {
		return
	}
	shown, ok := queryBool(w, r, "shown")
	if !ok {
		return
	}
	if !fresh {
		rec, found, err := s.Recommender.Cached(r.Context(), user, k)
		if err != nil {
			s.partFailed(w, r, "read the stored recommendation", err)
			return
		}
		if found {
			rec.Items = rec.Items[:min(k, len(rec.Items))]
			w.Header().Set(servedHeader, "cached")
			if shown {
				s.declareShown(w, r, rec, surface)
			}
			writeJSON(w, http.StatusOK, noNulls(rec))
			return
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.RecommendTimeout)
	defer cancel()
	rec, d, err := s.Recommender.Recommend(ctx, Query{User: user, K: k, Surface: surface})
	if err != nil {
		s.partFailed(w, r, "make a recommendation", err)
		return
	}
	s.Decided(rec, d)
	w.Header().Set(servedHeader, "fresh")
	if shown {
		s.declareShown(w, r, rec, surface)
	}
	writeJSON(w, http.StatusOK, noNulls(rec))
}

// noNulls makes sure that a list without items is [] and not null, which strict clients reject.
func noNulls(rec event.Recommendation) event.Recommendation {
	if rec.Items == nil {
		rec.Items = []event.RecommendedItem{}
	}
	return rec
}

// partFailed answers that a part which is needed did not do its work. What exactly failed goes to the log only: it can
// hold addresses and keys.
func (s *Server) partFailed(w http.ResponseWriter, r *http.Request, doing string, err error) {
	if r.Context().Err() != nil {
		fail(w, statusClientClosed, "the client went away")
		return
	}
	s.log.Error("could not "+doing, "error", err)
	if errors.Is(err, context.DeadlineExceeded) {
		fail(w, http.StatusGatewayTimeout, fmt.Sprintf("could not %s in time; try again", doing))
		return
	}
	unavailable(w, retryAfter, fmt.Sprintf("could not %s; /readyz says which part is down", doing))
}

func (s *Server) why(w http.ResponseWriter, r *http.Request) {
	user, ok := pathUser(w, r)
	if !ok {
		return
	}
	d, ok := s.decisions.latest(user)
	if !ok {
		fail(w, http.StatusNotFound, "no decision for that user is in memory; ask for a recommendation with fresh=true")
		return
	}
	writeJSON(w, http.StatusOK, d)
}

func (s *Server) decision(w http.ResponseWriter, r *http.Request) {
	d, ok := s.decisions.decision(r.PathValue("id"))
	if !ok {
		fail(w, http.StatusNotFound, fmt.Sprintf("that decision is not among the newest %d, which are in memory; the topic `decisions` has all", s.Decisions))
		return
	}
	writeJSON(w, http.StatusOK, d)
}

func (s *Server) history(w http.ResponseWriter, r *http.Request) {
	user, ok := pathUser(w, r)
	if !ok {
		return
	}
	n, ok := queryInt(w, r, "n", 20, 200)
	if !ok {
		return
	}
	items, newest, err := s.Explorer.History(r.Context(), user, n)
	if err != nil {
		s.partFailed(w, r, "read the user's history", err)
		return
	}
	if items == nil {
		items = []event.HistoryItem{}
	}
	writeJSON(w, http.StatusOK, struct {
		UserID string              `json:"user_id"`
		Newest event.Time          `json:"newest,omitzero"` // time of the newest edge, hides and dislikes included
		Items  []event.HistoryItem `json:"items"`           // newest first
	}{user, newest, items})
}

func (s *Server) users(w http.ResponseWriter, r *http.Request) {
	n, ok := queryInt(w, r, "n", 12, 100)
	if !ok {
		return
	}
	users := s.Explorer.ActiveUsers(n)
	if users == nil {
		users = []ActiveUser{}
	}
	writeJSON(w, http.StatusOK, struct {
		Users []ActiveUser `json:"users"`
	}{users})
}

func (s *Server) forget(w http.ResponseWriter, r *http.Request) {
	user, ok := pathUser(w, r)
	if !ok {
		return
	}
	u := event.User{UserID: user, ForgetBefore: event.At(s.Now()) + 1} // this millisecond included
	ctx, cancel := context.WithTimeout(r.Context(), publishWithin)
	defer cancel()
	u, err := s.Publisher.Forget(ctx, u)
	if err != nil {
		s.partFailed(w, r, "write to Kafka that the user is to be forgotten", err)
		return
	}
	s.Forgotten(u)
	writeJSON(w, http.StatusAccepted, u)
}

// traces tells what is left of a user, which is how one sees that forgetting is done.
func (s *Server) traces(w http.ResponseWriter, r *http.Request) {
	user, ok := pathUser(w, r)
	if !ok {
		return
	}
	select {
	case s.tracing <- struct{}{}:
		defer func() { <-s.tracing }()
	default:
		unavailable(w, retryAfter, "another search for what is left of a user is under way, and each looks at every list")
		return
	}
	t, err := s.Explorer.Traces(r.Context(), user)
	if err != nil {
		s.partFailed(w, r, "look for what is left of the user", err)
		return
	}
	writeJSON(w, http.StatusOK, t)
}
