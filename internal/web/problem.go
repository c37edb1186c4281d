package web

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// problem is a problem document (RFC 9457). Its type is always "about:blank": the title is the status in words, and
// the detail tells what to do.
type problem struct {
	Type   string     `json:"type"`
	Title  string     `json:"title"`
	Status int        `json:"status"`
	Detail string     `json:"detail"`
	Errors []badEvent `json:"errors,omitempty"`       // POST /v1/events: what is wrong, the first of them
	Total  int        `json:"errors_total,omitempty"` // how many events are wrong
}

// badEvent says what is wrong with one event of a request.
type badEvent struct {
	Index int    `json:"index"` // in the request, 0 is the first
	Field string `json:"field,omitempty"`
	Value string `json:"value,omitempty"`
	Rule  string `json:"rule"`
}

func fail(w http.ResponseWriter, status int, detail string) {
	writeProblem(w, problem{Status: status, Detail: detail})
}

// unavailable says that a part is down and when to try again.
func unavailable(w http.ResponseWriter, retry time.Duration, detail string) {
	w.Header().Set("Retry-After", strconv.Itoa(max(1, int(retry.Seconds()))))
	fail(w, http.StatusServiceUnavailable, detail)
}

func writeProblem(w http.ResponseWriter, p problem) {
	p.Type, p.Title = "about:blank", http.StatusText(p.Status)
	if p.Status == 499 {
		p.Title = "Client Closed Request"
	}
	w.Header().Set("Content-Type", "application/problem+json")
	writeBody(w, p.Status, p)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	writeBody(w, status, v)
}

// writeBody encodes before it answers, so that a value that cannot be encoded is an error and not half a document.
func writeBody(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		w.Header().Set("Content-Type", "application/problem+json")
		status, body = http.StatusInternalServerError,
			[]byte(`{"type":"about:blank","title":"Internal Server Error","status":500,"detail":"the answer could not be encoded"}`)
	}
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client is gone: nobody is left to be told
}
