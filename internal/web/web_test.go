package web

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/r2rec/r2rec/internal/event"
)

// now is the time on the clock of every test.
var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// world is what stands behind the server in a test: what it holds is what the ports answer.
type world struct {
	mu         sync.Mutex
	stored     map[string]event.Recommendation
	queries    []Query
	published  []string
	keys       []string
	forgotten  []event.User
	components []Component
	err        error         // of every port
	hold       chan struct{} // Recommend waits until it is closed
}

func (w *world) Recommend(ctx context.Context, q Query) (event.Recommendation, event.Decision, error) {
	w.mu.Lock()
	w.queries = append(w.queries, q)
	hold, err := w.hold, w.err
	w.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return event.Recommendation{}, event.Decision{}, ctx.Err()
		}
	}
	rec, d := sampleDecision(q.User)
	return rec, d, err
}

func (w *world) Cached(_ context.Context, user string, k int) (event.Recommendation, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rec, ok := w.stored[user]
	return rec, ok, w.err
}

func (w *world) PublishInteractions(_ context.Context, raw [][]byte, keys []string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	for _, r := range raw {
		w.published = append(w.published, string(r))
	}
	w.keys = append(w.keys, keys...)
	return nil
}

func (w *world) Forget(_ context.Context, u event.User) (event.User, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forgotten = append(w.forgotten, u)
	return u, w.err
}

func (w *world) Stats(context.Context) (Stats, error) {
	return Stats{Users: 2, Items: 3, Edges: 5}, w.err
}

func (w *world) History(_ context.Context, user string, n int) ([]event.HistoryItem, event.Time, error) {
	if user != "u1" {
		return nil, 0, w.err
	}
	return []event.HistoryItem{{ItemID: "i1", Title: "Heat", Timestamp: event.At(now)}}[:min(n, 1)], event.At(now) + 5, w.err
}

func (w *world) Titles(_ context.Context, items []string) (map[string]string, error) {
	titles := map[string]string{}
	for _, id := range items {
		titles[id] = "title of " + id
	}
	return titles, w.err
}

func (w *world) Traces(_ context.Context, user string) (Traces, error) {
	return Traces{ForgetBefore: event.At(now), Lists: int64(len(user))}, w.err
}

func (w *world) ActiveUsers(n int) []ActiveUser {
	return []ActiveUser{{"u1", 3, event.At(now)}, {"u2", 1, event.At(now)}}[:min(n, 2)]
}

func (w *world) Check(context.Context) []Component {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.components
}

// sampleDecision is a decision for user that cites one neighbour of two.
func sampleDecision(user string) (event.Recommendation, event.Decision) {
	rec := event.Recommendation{
		Version: 1, UserID: user, DecisionID: "d-" + user, GeneratedAt: event.At(now), Source: event.Graph,
		Items: []event.RecommendedItem{{
			Position: 1, ItemID: "i9", Title: "Alien", Score: .5,
			Reasons: []event.Reason{{Text: "because", Chains: []event.ReasonChain{{Via: "i1", ViaTitle: "Heat", Neighbour: 4}}}},
		}},
	}
	d := event.Decision{
		DecisionID: "d-" + user, UserID: user, Timestamp: event.At(now), Source: event.Graph,
		Context: event.Context{Chains: []event.Chain{
			{Via: "i2", Neighbour: "secret-a", ItemID: "i9", Weight: 2, NeighbourAt: event.At(now)},
			{Via: "i1", Neighbour: "secret-b", ItemID: "i9", Weight: 1, NeighbourAt: event.At(now)},
		}},
		Slate:   []event.Slot{{Position: 1, ItemID: "i9", Probability: 1}},
		Thought: event.Thought{By: event.Graph, Steps: []event.Step{{ItemID: "i9", Text: "because", Chains: []int{2}}}},
	}
	return rec, d
}

// site is a server that is running for one test.
type site struct {
	*world
	server *Server
	base   string
	dial   func(ctx context.Context, network, address string) (net.Conn, error) // of streams; nil: over the network
	stop   context.CancelFunc
	done   chan error
}

// serve starts a server on a loopback port, after change had its way with the options and the server.
func serve(t *testing.T, change func(*Options), tune func(*Server)) *site {
	t.Helper()
	return serveOn(t, listenLoopback(t), change, tune)
}

// serveOn starts it on a listener.
func serveOn(t *testing.T, ln net.Listener, change func(*Options), tune func(*Server)) *site {
	t.Helper()
	w := &world{stored: map[string]event.Recommendation{}, components: []Component{
		{Name: "kafka", State: OK, Since: event.At(now)}, {Name: "model", State: Degraded, Detail: "no model", Since: event.At(now)},
	}}
	registry := prometheus.NewRegistry()
	o := Options{
		Recommender: w, Publisher: w, Explorer: w, Health: w, Feed: NewFeed(), Logger: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return now }, Registerer: registry, Gatherer: registry, Tick: 5 * time.Millisecond,
	}
	if change != nil {
		change(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if tune != nil {
		tune(s)
	}
	ctx, stop := context.WithCancel(context.Background())
	st := &site{world: w, server: s, base: "http://" + ln.Addr().String(), stop: stop, done: make(chan error, 1)}
	go func() { st.done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		stop()
		select {
		case <-st.done:
		case <-time.After(10 * time.Second):
			t.Error("Serve did not return")
		}
	})
	return st
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// ask sends a request; headers are name, value, name, value. The header Host replaces the host.
func (st *site) ask(t *testing.T, method, path, body string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequest(method, st.base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(b)}
}

// want fails the test unless the answer has the status and, if it is an error, is a problem document with a detail.
func (a answer) want(t *testing.T, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	if status >= 400 && a.header.Get("Content-Type") != "application/json" {
		var p problem
		if err := json.Unmarshal([]byte(a.body), &p); err != nil || p.Status != status || p.Detail == "" || p.Title == "" || p.Type == "" {
			t.Fatalf("not a problem document (%v): %s", err, a.body)
		}
		if got := a.header.Get("Content-Type"); got != "application/problem+json" {
			t.Fatalf("content type %q", got)
		}
	}
	return a
}

func decodeAs[T any](t *testing.T, a answer) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	return v
}

// listener reads one stream, message by message.
type listener struct {
	t     *testing.T
	lines *bufio.Scanner
}

func (st *site) listen(t *testing.T, headers ...string) *listener {
	t.Helper()
	l, _ := st.listenUntil(t, headers...)
	return l
}

// listenUntil returns also how to leave the stream.
func (st *site) listenUntil(t *testing.T, headers ...string) (*listener, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "GET", st.base+"/v1/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := (&http.Transport{DialContext: st.dial}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("stream: %d %s", res.StatusCode, res.Header.Get("Content-Type"))
	}
	return &listener{t, bufio.NewScanner(res.Body)}, cancel
}

// next returns the data of the next message of a kind; io.EOF: the stream ended before one came.
func (l *listener) next(kind string) (string, error) {
	found := false
	for l.lines.Scan() {
		line := l.lines.Text()
		if line == "event: "+kind {
			found = true
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok && found {
			return data, nil
		}
	}
	if err := l.lines.Err(); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", err
	}
	return "", io.EOF
}

func (l *listener) want(kind string) string {
	l.t.Helper()
	data, err := l.next(kind)
	if err != nil {
		l.t.Fatalf("waiting for %s: %v", kind, err)
	}
	return data
}

func TestOptionsAreChecked(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("no parts were given and New did not object")
	}
	w, registry := &world{}, prometheus.NewRegistry()
	o := Options{Recommender: w, Publisher: w, Explorer: w, Health: w, Feed: NewFeed(), Logger: slog.Default(),
		Now: time.Now, Registerer: registry, Gatherer: registry, DefaultK: 60}
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), "DefaultK 60") {
		t.Errorf("DefaultK above MaxK: %v", err)
	}
}

func urlOf(parts ...string) string {
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return "/v1/" + strings.Join(parts, "/")
}
