package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/r2rec/r2rec/internal/event"
)

func TestRecommendationIsTheStoredOneUnlessFreshIsAsked(t *testing.T) {
	st := serve(t, nil, nil)
	rec, _ := sampleDecision("u1")
	rec.Items = append(rec.Items, rec.Items[0])
	st.stored["u1"] = rec

	a := st.ask(t, "GET", urlOf("users", "u1", "recommendations")+"?k=1", "").want(t, 200)
	if a.header.Get(servedHeader) != "cached" || len(decodeAs[event.Recommendation](t, a).Items) != 1 {
		t.Errorf("want the first item of the stored list: %v %s", a.header, a.body)
	}
	if len(st.queries) != 0 {
		t.Errorf("a stored list was there and %v was asked", st.queries)
	}
	a = st.ask(t, "GET", urlOf("users", "u1", "recommendations")+"?k=7&surface=home&fresh=true", "").want(t, 200)
	if a.header.Get(servedHeader) != "fresh" {
		t.Errorf("served %q", a.header.Get(servedHeader))
	}
	st.ask(t, "GET", urlOf("users", "u2", "recommendations"), "").want(t, 200)
	want := []Query{{"u1", 7, "home"}, {"u2", 5, ""}}
	if diff := cmp.Diff(want, st.queries); diff != "" {
		t.Error(diff)
	}
}

func TestAnswersThatAreShownArePublishedAsImpressions(t *testing.T) {
	st := serve(t, nil, nil)
	rec, _ := sampleDecision("u1")
	rec.Items = append(rec.Items, event.RecommendedItem{Position: 2, ItemID: "i2", Title: "Heat"}, event.RecommendedItem{Position: 3, ItemID: "i3", Title: "Ran"})
	st.stored["u1"] = rec
	impression := func(user, item string, position int, surface string) string {
		raw, err := event.Encode(event.Interaction{EventID: fmt.Sprintf("shown-d-%s-%d", user, position), UserID: user, ItemID: item, Type: event.Impression,
			Timestamp: event.At(now), DecisionID: "d-" + user, Position: &position, Surface: surface})
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	ask := func(method, user, query, shown string) {
		t.Helper()
		if a := st.ask(t, method, urlOf("users", user, "recommendations")+query, "").want(t, 200); a.header.Get(shownHeader) != shown {
			t.Errorf("%s %s%s: %s impressions, want %s", method, user, query, a.header.Get(shownHeader), shown)
		}
	}
	ask("GET", "u1", "", "") // nobody says that it is shown
	ask("GET", "u1", "?shown=false", "")
	ask("GET", "u1", "?k=2&shown=true&surface=home", "2")
	ask("HEAD", "u1", "?k=2&shown=true", "0")
	ask("GET", "u2", "?shown=true", "1")
	want := []string{impression("u1", "i9", 1, "home"), impression("u1", "i2", 2, "home"), impression("u2", "i9", 1, "")}
	if diff := cmp.Diff(want, st.published); diff != "" {
		t.Errorf("impressions (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"u1", "u1", "u2"}, st.keys); diff != "" {
		t.Error(diff)
	}

	rec.DecisionID = "" // it could not be logged
	st.stored["u1"] = rec
	ask("GET", "u1", "?k=2&shown=true", "0")
}

// unwritable is a publisher whose Kafka is gone.
type unwritable struct{ Publisher }

func (unwritable) PublishInteractions(context.Context, [][]byte, []string) error {
	return errors.New("no leader")
}

func TestAListIsAnsweredWhereItsImpressionsCannotBeWritten(t *testing.T) {
	st := serve(t, func(o *Options) { o.Publisher = unwritable{o.Publisher} }, nil)
	a := st.ask(t, "GET", urlOf("users", "u1", "recommendations")+"?shown=true", "").want(t, 200)
	if a.header.Get(shownHeader) != "0" || len(decodeAs[event.Recommendation](t, a).Items) != 1 {
		t.Errorf("%v %s", a.header, a.body)
	}
}

func TestUserIDsInPaths(t *testing.T) {
	st := serve(t, nil, nil)
	for _, id := range []string{"a/b", "ü {x}", "50%", "a?b#c", "<img src=x onerror=alert(1)>", "\u202eevil"} {
		a := st.ask(t, "GET", urlOf("users", id, "recommendations"), "").want(t, 200)
		if got := decodeAs[event.Recommendation](t, a).UserID; got != id {
			t.Errorf("asked for %q, got %q", id, got)
		}
	}
	for _, escaped := range []string{"%ff", "a%00b", "%0a", strings.Repeat("x", 65), "%20a"} {
		st.ask(t, "GET", "/v1/users/"+escaped+"/recommendations", "").want(t, 400)
		st.ask(t, "GET", "/v1/users/"+escaped+"/history", "").want(t, 400)
		st.ask(t, "GET", "/v1/users/"+escaped+"/why", "").want(t, 400)
		st.ask(t, "DELETE", "/v1/users/"+escaped, "").want(t, 400)
	}
	if len(st.forgotten) != 0 {
		t.Errorf("forgot %v", st.forgotten)
	}
}

func TestParametersAreChecked(t *testing.T) {
	st := serve(t, nil, nil)
	for _, q := range []string{"k=0", "k=51", "k=x", "k=1.5", "k=99999999999999999999", "fresh=maybe", "shown=perhaps", "surface=" + strings.Repeat("x", 65), "surface=%00"} {
		st.ask(t, "GET", urlOf("users", "u1", "recommendations")+"?"+q, "").want(t, 400)
	}
	st.ask(t, "GET", "/v1/users?n=101", "").want(t, 400)
	st.ask(t, "GET", urlOf("users", "u1", "history")+"?n=201", "").want(t, 400)
	if len(st.queries) != 0 {
		t.Errorf("asked %v", st.queries)
	}
}

func TestWhyKeepsOtherUsersAsTheNumbersOfTheDocument(t *testing.T) {
	st := serve(t, nil, nil)
	st.ask(t, "GET", urlOf("users", "u1", "why"), "").want(t, 404)
	st.ask(t, "GET", urlOf("users", "u1", "recommendations"), "").want(t, 200)
	byUser := st.ask(t, "GET", urlOf("users", "u1", "why"), "").want(t, 200)
	byID := st.ask(t, "GET", urlOf("decisions", "d-u1"), "").want(t, 200)
	if byUser.body != byID.body {
		t.Errorf("two answers:\n%s\n%s", byUser.body, byID.body)
	}
	if strings.Contains(byID.body, "secret") {
		t.Errorf("names another user: %s", byID.body)
	}
	chains := decodeAs[event.Decision](t, byID).Context.Chains
	if chains[1].Neighbour != "4" || chains[0].Neighbour != "5" {
		t.Errorf("the cited neighbour is 4 in the document, the other one is new: %+v", chains)
	}
	st.ask(t, "GET", urlOf("decisions", "d-else"), "").want(t, 404)
}

func TestOnlyTheNewestDecisionsAreKept(t *testing.T) {
	r := newDecisions(2)
	add := func(id, user string) { r.add(event.Decision{DecisionID: id, UserID: user}) }
	has := func(id string) bool { _, ok := r.decision(id); return ok }
	add("1", "a")
	add("2", "a")
	add("3", "b")
	if has("1") || !has("2") || !has("3") {
		t.Errorf("want 2 and 3: %v %v %v", has("1"), has("2"), has("3"))
	}
	if d, ok := r.latest("a"); !ok || d.DecisionID != "2" {
		t.Errorf("latest of a: %v %v", d.DecisionID, ok)
	}
	add("4", "c")
	if _, ok := r.latest("a"); ok {
		t.Error("a's decisions are gone, and a still has a latest one")
	}
	if len(r.byID) != 2 || len(r.byUser) != 2 {
		t.Errorf("indexes grow: %v %v", r.byID, r.byUser)
	}
}

func TestForgetPublishesAndDropsWhatIsInMemory(t *testing.T) {
	st := serve(t, nil, nil)
	st.ask(t, "GET", urlOf("users", "u1", "recommendations"), "").want(t, 200)
	st.ask(t, "DELETE", urlOf("users", "u1"), "").want(t, 202)
	if diff := cmp.Diff([]event.User{{UserID: "u1", ForgetBefore: event.At(now) + 1}}, st.forgotten); diff != "" {
		t.Error(diff)
	}
	st.ask(t, "GET", urlOf("users", "u1", "why"), "").want(t, 404)
	st.ask(t, "GET", urlOf("decisions", "d-u1"), "").want(t, 404)
	want := `{"forget_before":"2026-11-23T12:00:00.000Z","edges":0,"lists":2,"later":0,"documents":0,"pending":0}`
	if a := st.ask(t, "GET", urlOf("users", "u1", "traces"), "").want(t, 200); strings.TrimSpace(a.body) != want {
		t.Errorf("what is left is told as %s, want %s", a.body, want)
	}
	st.server.tracing <- struct{}{} // another search, each of which looks at all lists
	if a := st.ask(t, "GET", urlOf("users", "u1", "traces"), "").want(t, 503); a.header.Get("Retry-After") == "" {
		t.Errorf("a second search is not told when to come again: %v", a.header)
	}
	<-st.server.tracing
	st.ask(t, "GET", urlOf("users", "u1", "traces"), "").want(t, 200)
}

// A decision that was on its way when its user was forgotten, here or by somebody else, is not kept; one that was begun
// later is.
func TestForgottenDecisionsStayOutOfMemory(t *testing.T) {
	r := newDecisions(3)
	decide := func(id, user string, at event.Time) {
		r.add(event.Decision{DecisionID: id, UserID: user, Timestamp: at})
	}
	decide("old", "u", 10)
	decide("new", "u", 20)
	r.forget(event.User{UserID: "u", ForgetBefore: 20})
	decide("late", "u", 19)
	decide("other", "v", 19)
	for id, want := range map[string]bool{"old": false, "new": true, "late": false, "other": true} {
		if _, ok := r.decision(id); ok != want {
			t.Errorf("decision %s is in memory: %v, want %v", id, ok, want)
		}
	}
	batch := []event.Interaction{{UserID: "v", Timestamp: 1}, {UserID: "u", Timestamp: 19}, {UserID: "u", Timestamp: 20}}
	if got := r.notForgotten(batch); len(got) != 2 || got[0].UserID != "v" || got[1].Timestamp != 20 || batch[1].Timestamp != 19 {
		t.Errorf("of %v there stays %v, want what is not forgotten", batch, got)
	}
	for i := range 2 * forgottenUsers {
		r.forget(event.User{UserID: fmt.Sprint(i), ForgetBefore: 1})
	}
	if len(r.forgotten) != forgottenUsers || len(r.order) != forgottenUsers {
		t.Errorf("%d and %d users are remembered as forgotten, want %d", len(r.forgotten), len(r.order), forgottenUsers)
	}
}

func TestExplore(t *testing.T) {
	st := serve(t, nil, nil)
	if a := st.ask(t, "GET", urlOf("users", "u1", "history"), "").want(t, 200); !strings.Contains(a.body, `"Heat"`) || !strings.Contains(a.body, `"newest":`) {
		t.Error(a.body)
	}
	if a := st.ask(t, "GET", urlOf("users", "nobody", "history"), "").want(t, 200); !strings.Contains(a.body, `"items":[]`) || strings.Contains(a.body, "newest") {
		t.Errorf("an unknown user has an empty history: %s", a.body)
	}
	if a := st.ask(t, "GET", "/v1/users?n=1", "").want(t, 200); strings.Count(a.body, "user_id") != 1 {
		t.Error(a.body)
	}
}

const like = `{"event_id":"e%d","user_id":"u%d","item_id":"i1","type":"like","timestamp":1795000000000,"mood": "kept" }`

func event1(n int) string { return fmt.Sprintf(like, n, n) }

func TestEventsReachKafkaAsTheBytesThatWereSent(t *testing.T) {
	for name, c := range map[string]struct{ kind, body string }{
		"one":    {"application/json", " " + event1(1) + "\n"},
		"array":  {"application/json; charset=utf-8", "[" + event1(1) + ",\n " + event1(2) + "]"},
		"ndjson": {"application/x-ndjson", event1(1) + "\r\n\n" + event1(2)},
	} {
		t.Run(name, func(t *testing.T) {
			st := serve(t, nil, nil)
			a := st.ask(t, "POST", "/v1/events", c.body, "Content-Type", c.kind).want(t, 202)
			n := 2
			if name == "one" {
				n = 1
			}
			if a.body != fmt.Sprintf("{\"accepted\":%d}\n", n) {
				t.Error(a.body)
			}
			if diff := cmp.Diff([]string{event1(1), event1(2)}[:n], st.published); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff([]string{"u1", "u2"}[:n], st.keys); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestOneBadEventRefusesTheRequestAndIsNamed(t *testing.T) {
	st := serve(t, nil, nil)
	future := strings.Replace(event1(3), "1795000000000", "253402300000000", 1)
	body := "[" + event1(0) + `,{"event_id":"x","user_id":"","item_id":"i","type":"like","timestamp":1795000000000},` + future + `,7]`
	p := decodeAs[problem](t, st.ask(t, "POST", "/v1/events", body, "Content-Type", "application/json").want(t, 400))
	if p.Total != 3 || len(p.Errors) != 3 {
		t.Fatalf("want three errors: %+v", p)
	}
	if p.Errors[0].Index != 1 || p.Errors[0].Field != "user_id" || p.Errors[0].Rule == "" {
		t.Errorf("%+v", p.Errors[0])
	}
	if p.Errors[1].Index != 2 || p.Errors[1].Field != "timestamp" || p.Errors[1].Value != "253402300000000" {
		t.Errorf("%+v", p.Errors[1])
	}
	if p.Errors[2].Index != 3 {
		t.Errorf("%+v", p.Errors[2])
	}
	if len(st.published) != 0 {
		t.Errorf("published %v", st.published)
	}
}

func TestEventRequestsAreBounded(t *testing.T) {
	st := serve(t, nil, nil)
	post := func(kind, body string) answer { return st.ask(t, "POST", "/v1/events", body, "Content-Type", kind) }
	post("application/json", `"`+strings.Repeat("x", maxBody)+`"`).want(t, 413)
	post("application/json", "["+strings.Repeat("1,", maxEvents)+"1]").want(t, 413)
	post("application/x-ndjson", strings.Repeat("1\n", maxEvents+1)).want(t, 413)
	many := decodeAs[problem](t, post("application/x-ndjson", strings.Repeat("1\n", maxEvents)).want(t, 400))
	if len(many.Errors) != maxBadEvents || many.Total != maxEvents {
		t.Errorf("%d errors of %d", len(many.Errors), many.Total)
	}
	post("application/json", "").want(t, 400)
	post("application/json", "[]").want(t, 400)
	post("application/json", "[1,").want(t, 400)
	post("application/json", `{"a":"`+"\xff"+`"}`).want(t, 400)
	post("text/plain", event1(1)).want(t, 415) // what a form of another site can send
	post("", event1(1)).want(t, 415)
	if len(st.published) != 0 {
		t.Errorf("published %v", st.published)
	}
}

func TestFailingPartsAreProblemsWithoutInnards(t *testing.T) {
	st := serve(t, nil, nil)
	st.err = errors.New("dial tcp 10.1.2.3:6379: refused")
	for _, c := range [][2]string{
		{"GET", urlOf("users", "u1", "recommendations")},
		{"GET", urlOf("users", "u1", "recommendations") + "?fresh=true"},
		{"GET", urlOf("users", "u1", "history")},
		{"DELETE", urlOf("users", "u1")},
	} {
		a := st.ask(t, c[0], c[1], "").want(t, 503)
		if a.header.Get("Retry-After") == "" || strings.Contains(a.body, "10.1.2.3") {
			t.Errorf("%s %s: %v %s", c[0], c[1], a.header, a.body)
		}
	}
	st.ask(t, "POST", "/v1/events", event1(1), "Content-Type", "application/json").want(t, 503)
	st.err = nil
	st.mu.Lock()
	st.hold = make(chan struct{})
	st.mu.Unlock()
	st.server.RecommendTimeout = time.Millisecond
	st.ask(t, "GET", urlOf("users", "u1", "recommendations")+"?fresh=true", "").want(t, 504)
}

type panicking struct{ *world }

func (panicking) ActiveUsers(int) []ActiveUser { panic("at the secret place") }

func TestPanicIsAProblemWithoutStack(t *testing.T) {
	st := serve(t, func(o *Options) { o.Explorer = panicking{o.Explorer.(*world)} }, nil)
	if a := st.ask(t, "GET", "/v1/users", "").want(t, 500); strings.Contains(a.body, "secret") {
		t.Error(a.body)
	}
}

func TestReadinessFollowsTheNeededParts(t *testing.T) {
	st := serve(t, nil, nil)
	type readiness struct {
		Status     State
		Components []Component
	}
	if r := decodeAs[readiness](t, st.ask(t, "GET", "/readyz", "").want(t, 200)); r.Status != Degraded || r.Components[1].Detail != "no model" {
		t.Errorf("a missing model degrades: %+v", r)
	}
	st.mu.Lock()
	st.components = []Component{{Name: "redis", State: Down}, {Name: "model", State: Degraded}}
	st.mu.Unlock()
	if r := decodeAs[readiness](t, st.ask(t, "GET", "/readyz", "").want(t, 503)); r.Status != Down {
		t.Errorf("%+v", r)
	}
	st.ask(t, "GET", "/healthz", "").want(t, 200)
}

func TestUnknownPathsAndMethods(t *testing.T) {
	st := serve(t, nil, nil)
	st.ask(t, "GET", "/v2/users", "").want(t, 404)
	st.ask(t, "GET", "/page/..%2fweb.go", "").want(t, 404)
	st.ask(t, "GET", "/page/none.js", "").want(t, 404)
	if a := st.ask(t, "PUT", "/v1/events", "").want(t, 405); a.header.Get("Allow") != "POST" {
		t.Error(a.header)
	}
	if a := st.ask(t, "POST", "/v1/users", "").want(t, 405); a.header.Get("Allow") != "GET, HEAD" {
		t.Error(a.header)
	}
}

func TestMetricsCountByRouteNotByUser(t *testing.T) {
	st := serve(t, nil, nil)
	st.ask(t, "GET", urlOf("users", "u-private", "recommendations")+"?shown=true", "").want(t, 200)
	st.ask(t, "GET", "/nothing", "").want(t, 404)
	st.ask(t, "POST", "/v1/events", event1(1), "Content-Type", "application/json").want(t, 202)
	stream, leave := st.listenUntil(t)
	stream.want(kindStats)
	leave()
	waitFor(t, "the stream to be counted", func() bool {
		return strings.Contains(st.ask(t, "GET", "/metrics", "").body, `r2rec_http_requests_total{code="200",route="GET /v1/stream"} 1`)
	})
	body := st.ask(t, "GET", "/metrics", "").want(t, 200).body
	for _, want := range []string{
		`r2rec_http_requests_total{code="200",route="GET /v1/users/{user}/recommendations"} 1`,
		`r2rec_http_requests_total{code="404",route="/"} 1`,
		`r2rec_http_events_total{result="published"} 1`, // what was posted alone
		`r2rec_http_impressions_total{result="published"} 1`,
		`r2rec_http_request_seconds_count{route="POST /v1/events"} 1`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("%s is missing", want)
		}
	}
	if strings.Contains(body, `r2rec_http_request_seconds_count{route="GET /v1/stream"}`) {
		t.Error("a stream's hours are among the times of requests")
	}
	if strings.Contains(body, "u-private") {
		t.Error("a user id is in the metrics")
	}
}

// TestOpenAPIDescribesEveryRoute compares methods and paths both ways.
func TestOpenAPIDescribesEveryRoute(t *testing.T) {
	st := serve(t, nil, nil)
	doc := decodeAs[struct {
		Paths map[string]map[string]json.RawMessage
	}](t, st.ask(t, "GET", "/openapi.json", "").want(t, 200))
	var described, served []string
	for p, methods := range doc.Paths {
		for m := range methods {
			described = append(described, strings.ToUpper(m)+" "+p)
		}
	}
	for _, r := range st.server.routes() {
		served = append(served, r.method+" "+strings.TrimSuffix(r.path, "{$}"))
	}
	slices.Sort(described)
	slices.Sort(served)
	if diff := cmp.Diff(served, described); diff != "" {
		t.Errorf("routes (-) and openapi.json (+) differ:\n%s", diff)
	}
}

// TestOpenAPIDescribesEveryField compares what is answered with the schemas, both ways; what is required is never left out.
func TestOpenAPIDescribesEveryField(t *testing.T) {
	var doc struct {
		Components struct {
			Schemas map[string]struct {
				Properties map[string]json.RawMessage
				Required   []string
			}
		}
	}
	if err := json.Unmarshal(openAPI, &doc); err != nil {
		t.Fatal(err)
	}
	for name, answered := range map[string]any{
		"Problem": problem{}, "Interaction": event.Interaction{}, "User": event.User{}, "Traces": Traces{}, "ActiveUser": ActiveUser{},
		"HistoryItem": event.HistoryItem{}, "Recommendation": event.Recommendation{}, "RecommendedItem": event.RecommendedItem{},
		"Decision": event.Decision{}, "Component": Component{}, "StreamPhase": Phase{}, "StreamStats": statsMessage{},
		"StreamHealth": healthMessage{}, "StreamApplied": appliedMessage{}, "StreamDecision": decisionMessage{}, "StreamDropped": droppedMessage{},
		"Adapters": AdapterState{}, "Serving": ServingState{}, "AdapterEntry": AdapterEntry{}, "Interval": Interval{}, "Loop": LoopState{},
		"Simulation": Simulation{}, "RewardCounts": RewardCounts{}, "Arm": Arm{}, "Uplift": Uplift{}, "Rounds": Rounds{}, "Round": Round{}, "RollOut": RollOut{},
	} {
		var fields, always []string
		for _, f := range reflect.VisibleFields(reflect.TypeOf(answered)) {
			tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.Anonymous || tag == "-" {
				continue
			}
			fields = append(fields, tag)
			if !strings.HasPrefix(options, "omit") {
				always = append(always, tag)
			}
		}
		schema := doc.Components.Schemas[name]
		described := slices.Sorted(maps.Keys(schema.Properties))
		slices.Sort(fields)
		if diff := cmp.Diff(fields, described); diff != "" {
			t.Errorf("%s: what is answered (-) and openapi.json (+) differ:\n%s", name, diff)
		}
		for _, r := range schema.Required {
			if !slices.Contains(always, r) {
				t.Errorf("%s: %s is required, and can be left out", name, r)
			}
		}
	}
}
