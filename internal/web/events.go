package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/r2rec/r2rec/internal/event"
)

const (
	maxBody      = 1 << 20 // bytes of a request
	maxEvents    = 5000    // events of a request
	maxBadEvents = 20      // of them, how many an answer explains
	maxWatched   = 10      // events of a request that the feed looks out for; larger ones are traffic, not a person

	statusClientClosed = 499 // nginx's code for a client that went away; only metrics and logs see it
	retryAfter         = 2 * time.Second
	publishWithin      = 10 * time.Second // a request waits for Kafka
)

var errTooMany = fmt.Errorf("a request holds at most %d events", maxEvents)

// events takes interactions and answers when Kafka has them. It publishes the bytes of each event as they were sent,
// so that fields which r2rec does not know survive.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	split, known := map[string]func([]byte) ([][]byte, error){
		"application/json":     splitJSON,
		"application/x-ndjson": splitLines,
		"application/ndjson":   splitLines,
	}[kind]
	if err != nil || !known {
		fail(w, http.StatusUnsupportedMediaType, "send application/json (one event or an array) or application/x-ndjson (one event a line)")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			fail(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("a request holds at most %d bytes; send the events in several", maxBody))
			return
		}
		fail(w, http.StatusBadRequest, "the request broke off")
		return
	}
	raw, err := split(body)
	switch {
	case errors.Is(err, errTooMany):
		fail(w, http.StatusRequestEntityTooLarge, err.Error()+"; send them in several")
		return
	case err != nil:
		s.metrics.events.WithLabelValues("refused").Inc()
		fail(w, http.StatusBadRequest, err.Error()+"; nothing was published")
		return
	case len(raw) == 0:
		fail(w, http.StatusBadRequest, "the request holds no event")
		return
	}
	keys, ids, refused := s.validate(raw)
	if refused != nil {
		s.metrics.events.WithLabelValues("refused").Add(float64(len(raw)))
		writeProblem(w, *refused)
		return
	}
	if len(ids) <= maxWatched && s.Feed.watching() {
		for _, id := range ids { // before they are published, as they can be applied before this request is answered
			s.Feed.watch(id)
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), publishWithin)
	defer cancel()
	if err := s.Publisher.PublishInteractions(ctx, raw, keys); err != nil {
		s.metrics.events.WithLabelValues("failed").Add(float64(len(raw)))
		s.partFailed(w, r, "write all events to Kafka (send them again: what was written twice counts once)", err)
		return
	}
	s.metrics.events.WithLabelValues("published").Add(float64(len(raw)))
	writeJSON(w, http.StatusAccepted, struct {
		Accepted int `json:"accepted"`
	}{len(raw)})
}

// validate decodes every event and returns their Kafka keys and ids, or what is wrong with them.
func (s *Server) validate(raw [][]byte) (keys, ids []string, refused *problem) {
	notAfter := event.At(s.Now().Add(s.FutureTolerance))
	p := problem{Status: http.StatusBadRequest}
	for i, b := range raw {
		in, err := event.DecodeInteraction(b, notAfter)
		if err != nil {
			p.Total++
			if len(p.Errors) < maxBadEvents {
				bad := badEvent{Index: i, Rule: rule(err)}
				var e *event.Error
				if errors.As(err, &e) {
					bad.Field, bad.Value = e.Field, e.Value
				}
				p.Errors = append(p.Errors, bad)
			}
			continue
		}
		keys, ids = append(keys, in.UserID), append(ids, in.EventID)
	}
	if p.Total > 0 {
		p.Detail = fmt.Sprintf("%d of %d events are not valid; nothing was published", p.Total, len(raw))
		return nil, nil, &p
	}
	return keys, ids, nil
}

// splitJSON returns the bytes of one value, or of each element of an array.
func splitJSON(body []byte) ([][]byte, error) {
	body = bytes.TrimSpace(body)
	if len(body) == 0 || body[0] != '[' {
		if len(body) == 0 {
			return nil, nil
		}
		return [][]byte{body}, nil // DecodeInteraction says what is wrong with it
	}
	var elements []json.RawMessage
	if err := json.Unmarshal(body, &elements); err != nil {
		return nil, fmt.Errorf("the body is not a JSON array: %w", err)
	}
	if len(elements) > maxEvents {
		return nil, errTooMany
	}
	raw := make([][]byte, len(elements))
	for i, e := range elements {
		raw[i] = e
	}
	return raw, nil
}

// splitLines returns the lines that are not blank.
func splitLines(body []byte) ([][]byte, error) {
	var raw [][]byte
	for line := range bytes.Lines(body) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			if len(raw) == maxEvents {
				return nil, errTooMany
			}
			raw = append(raw, line)
		}
	}
	return raw, nil
}
