package web

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/event"
)

// adapterLog plays the log of adapters.
type adapterLog struct {
	state   AdapterState
	void    string
	err     error
	asked   []string // for roll-backs: adapter and reason
	refused *event.Error
}

func (l *adapterLog) Adapters(context.Context) (AdapterState, error) { return l.state, l.err }

func (l *adapterLog) RollBack(_ context.Context, ask RollBack) (AdapterState, string, error) {
	to := "the one before"
	if ask.Adapter != nil {
		to = fmt.Sprintf("%q", *ask.Adapter)
	}
	if ask.From != nil {
		to = fmt.Sprintf("%q to ", *ask.From) + to
	}
	l.asked = append(l.asked, to+": "+ask.Reason)
	if l.refused != nil {
		return AdapterState{}, "", l.refused
	}
	return l.state, l.void, l.err
}

func withLog(l *adapterLog) func(*Options) {
	return func(o *Options) { o.Adapters = l; o.Token = "sesame" }
}

var sesame = []string{"Authorization", "Bearer sesame"}

func TestAdaptersAreShown(t *testing.T) {
	l := &adapterLog{state: AdapterState{Current: "aa", Candidate: "bb", Share: .1, Since: event.At(now), Gates: 2,
		Serving: ServingState{Current: "aa", Faults: []AdapterFault{{Adapter: "bb", Reason: "slope .4", Refused: true, Attempts: 1, Since: event.At(now)}}}}}
	for i := range 60 {
		l.state.Entries = append(l.state.Entries, AdapterEntry{Offset: int64(i), Void: "late"})
	}
	l.state.Entries[59] = AdapterEntry{Offset: 59, Record: event.Promotion{Kind: event.Refuse, Adapter: "cc", Gate: &event.Gate{Round: 2, SNIPS: event.Bounds{Low: -.01}}}}
	st := serve(t, withLog(l), nil)
	got := decodeAs[AdapterState](t, st.ask(t, "GET", "/v1/adapters", "", sesame...).want(t, 200))
	if got.Current != "aa" || got.Candidate != "bb" || got.Total != 60 || len(got.Entries) != 50 || got.Entries[0].Offset != 59 || got.Entries[49].Offset != 10 {
		t.Errorf("%+v, want the newest 50 of 60 records, newest first", got)
	}
	if g := got.Entries[0].Record.Gate; g == nil || g.SNIPS.Low != -.01 || len(got.Serving.Faults) != 1 || got.Serving.Faults[0].Reason != "slope .4" {
		t.Errorf("%+v, want the gate's finding and why the candidate does not serve", got)
	}
	a := st.ask(t, "GET", "/v1/adapters?n=2", "", sesame...).want(t, 200)
	if strings.Contains(a.body, `"again"`) || strings.Count(a.body, `"record"`) != 1 {
		t.Errorf("what is not known stands in the answer: %s", a.body)
	}
	if got = decodeAs[AdapterState](t, a); len(got.Entries) != 2 || got.Total != 60 || l.state.Entries[0].Offset != 0 {
		t.Errorf("%+v", got)
	}
	st.ask(t, "GET", "/v1/adapters?n=501", "", sesame...).want(t, 400)
	l.state = AdapterState{}
	if a := st.ask(t, "GET", "/v1/adapters", "", sesame...).want(t, 200); !strings.Contains(a.body, `"entries":[]`) || !strings.Contains(a.body, `"faults":[]`) {
		t.Errorf("an empty log is %s", a.body)
	}
}

func TestRollBackOverHTTP(t *testing.T) {
	l := &adapterLog{state: AdapterState{Current: "aa"}}
	st := serve(t, withLog(l), nil)
	post := func(body string) answer {
		return st.ask(t, "POST", "/v1/adapters/rollback", body, append([]string{"Content-Type", "application/json"}, sesame...)...)
	}
	if got := decodeAs[AdapterState](t, post("").want(t, 200)); got.Current != "aa" {
		t.Errorf("%+v", got)
	}
	post(`{"adapter": "bb", "reason": "fewer clicks"}`).want(t, 200)
	post(`{"adapter": ""}`).want(t, 200)
	post(` {"from": "aa"} `).want(t, 200)
	if want := []string{"the one before: asked for over HTTP", `"bb": fewer clicks`, `"": asked for over HTTP`, `"aa" to the one before: asked for over HTTP`}; !slices.Equal(l.asked, want) {
		t.Errorf("asked %q, want %q", l.asked, want)
	}
	for _, body := range []string{"[", `"bb"`, `{"adapter": 3}`, "null", `{"digest": "bb"}`, `{"adapter": "bb"} {}`} {
		post(body).want(t, 400)
	}
	post(strings.Repeat(" ", 5000)).want(t, 413)
	st.ask(t, "POST", "/v1/adapters/rollback", "").want(t, 401)
	st.ask(t, "POST", "/v1/adapters/rollback", "", append([]string{"Sec-Fetch-Site", "cross-site"}, sesame...)...).want(t, 403)
	if len(l.asked) != 4 {
		t.Errorf("%d roll-backs were written, want none of the refused ones", len(l.asked)-4)
	}
	l.void = "current is cc"
	if a := post("").want(t, 409); !strings.Contains(a.body, "current is cc") {
		t.Errorf("%s", a.body)
	}
	l.refused = &event.Error{Field: "reason", Rule: "must not hold control characters"}
	if a := post("").want(t, 400); !strings.Contains(a.body, "reason must not") {
		t.Errorf("%s", a.body)
	}
	l.refused, l.err = nil, context.DeadlineExceeded
	post("").want(t, 504)
}

func TestNoLogOfAdapters(t *testing.T) {
	st := serve(t, nil, nil)
	for method, path := range map[string]string{"GET": "/v1/adapters", "POST": "/v1/adapters/rollback"} {
		if a := st.ask(t, method, path, "").want(t, 404); !strings.Contains(a.body, "--adapters") {
			t.Errorf("%s does not say how: %s", method, a.body)
		}
	}
}
