package reasoner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/policy"
	"github.com/redis/go-redis/v9"
)

var errDown = errors.New("down")

// part plays graph, model and log; its fields are the faults.
type part struct {
	context  event.Context
	graphErr error
	modelErr error
	logErr   error
	shares   []float64 // of the model; nil: the last candidate is best
	hang     bool      // the model answers when the caller gives up
	logged   []event.Decision
}

func (p *part) Snapshot(context.Context, GraphQuery) (GraphSnapshot, error) {
	return GraphSnapshot{Context: p.context}, p.graphErr
}

func (p *part) Identity(context.Context) (event.Model, error) {
	return event.Model{Name: "m", Digest: "sha256:1", Readout: "letters", PromptVersion: iot.Words}, p.modelErr
}

func (p *part) Rank(ctx context.Context, prompt iot.Prompt) ([]float64, error) {
	if p.hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if p.shares != nil {
		return p.shares, nil
	}
	z := make([]float64, len(prompt.Letters))
	for i := range z {
		z[i] = 3 * float64(i)
	}
	return policy.LogSoftmax(z), nil
}

func (p *part) PublishDecision(_ context.Context, d event.Decision) error {
	if p.logErr == nil {
		p.logged = append(p.logged, d)
	}
	return p.logErr
}

func film(i int) event.Candidate {
	return event.Candidate{ItemID: fmt.Sprint("i", i), Title: fmt.Sprint("Film ", i), Origin: event.FromChains, Evidence: event.Evidence{Chains: 1 / float64(i+1), Popularity: 3}}
}

func newPart() *part {
	c := event.Context{Likes: 1, History: []event.HistoryItem{{ItemID: "h", Title: "Old Film", Timestamp: 1.7e12}}}
	for i := range 8 {
		c.Candidates = append(c.Candidates, film(i))
		c.Chains = append(c.Chains, event.Chain{Via: "h", Neighbour: "somebody-else", ItemID: film(i).ItemID, Weight: 1, Shared: 2, NeighbourAt: 1.7e12})
	}
	return &part{context: c}
}

func newTestReasoner(t *testing.T, p *part, change func(*Options)) (*Reasoner, RedisStore) {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: embeddedtest.Redis(t)})
	t.Cleanup(func() { rdb.Close() })
	store := RedisStore{Client: rdb, Prefix: "r2:", TTL: time.Hour}
	opt := Options{Graph: p, Rank: byChains, Models: Only(p), Log: p, Store: store, ModelWeight: 0.5,
		Now: func() time.Time { return time.UnixMilli(1.8e12) }, Entropy: bytes.NewReader(make([]byte, 1<<12))}
	if change != nil {
		change(&opt)
	}
	r, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	return r, store
}

func TestRecommendIsReasonedLoggedAndStored(t *testing.T) {
	p := newPart()
	r, store := newTestReasoner(t, p, nil)
	rec, d, err := r.Recommend(t.Context(), Request{User: "u", Surface: "home"})
	if err != nil {
		t.Fatal(err)
	}
	if rec.Source != event.Reasoned || rec.Model != "m" || len(rec.Items) != 5 || d.Model == nil || d.Model.PromptDigest == "" {
		t.Errorf("the document is %+v, want five items, reasoned by m", rec)
	}
	if rec.Items[0].ItemID != "i7" {
		t.Errorf("the first item is %s, want i7: the model is sure of it", rec.Items[0].ItemID)
	}
	if len(rec.Items[0].Reasons) == 0 || len(rec.Items[0].Reasons[0].Chains) == 0 || rec.Items[0].Reasons[0].Chains[0].ViaTitle != "Old Film" {
		t.Errorf("reasons of the first item are %+v, want a chain over Old Film", rec.Items[0].Reasons)
	}
	if len(p.logged) != 1 || p.logged[0].DecisionID != rec.DecisionID {
		t.Errorf("%d decisions were logged, want the one of the document", len(p.logged))
	}
	raw, err := event.Encode(d)
	if err != nil {
		t.Fatalf("the decision breaks its contract: %v", err)
	}
	again, err := event.DecodeDecision(raw)
	if err != nil {
		t.Fatal(err)
	}
	// Invariant 7: what was drawn can be computed again from the record alone.
	prompt, err := iot.Build(again.Model.PromptVersion, again.Context, again.Seed)
	if err != nil || prompt.Digest != again.Model.PromptDigest {
		t.Errorf("the prompt built from the record has digest %s, %v, the decision says %s", prompt.Digest, err, again.Model.PromptDigest)
	}
	if diff := cmp.Diff(d.Slate, policy.Slate(again, len(d.Slate))); diff != "" {
		t.Errorf("the slate computed from the record differs:\n%s", diff)
	}
	var graph, model []float64
	for _, s := range again.Scores {
		graph, model = append(graph, s.Graph), append(model, math.Log(*s.Model))
	}
	if diff := cmp.Diff(d.Scores, policy.Pool(graph, model, again.ModelWeight), cmpopts.EquateApprox(0, 1e-12)); diff != "" {
		t.Errorf("the scores computed from the record differ:\n%s", diff)
	}
	got, ok, err := store.Get(t.Context(), "u", 5)
	if err != nil || !ok || cmp.Diff(rec, got) != "" {
		t.Errorf("Redis holds %v, %v, not what was answered:\n%s", ok, err, cmp.Diff(rec, got))
	}
	top := store.Client.ZRangeArgs(t.Context(), redis.ZRangeArgs{Key: event.TopKey("r2:", "u"), Start: 0, Stop: -1, Rev: true}).Val()
	if len(top) != 8 || top[0] != rec.Items[0].ItemID {
		t.Errorf("the ranking in Redis is %v, want all 8 candidates, %s first", top, rec.Items[0].ItemID)
	}
	for _, key := range []string{event.RecommendationKey("r2:", "u"), event.TopKey("r2:", "u")} {
		if ttl := store.Client.TTL(t.Context(), key).Val(); ttl <= 0 {
			t.Errorf("%s has no time to live", key)
		}
	}
}

func TestOtherUsersAreNotNamed(t *testing.T) {
	p := newPart()
	r, _ := newTestReasoner(t, p, nil)
	rec, _, err := r.Recommend(t.Context(), Request{User: "u"})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := event.Encode(rec)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte("somebody-else")) {
		t.Errorf("the document names another user: %s", raw)
	}
}

func TestGraphRanksWhereTheModelFails(t *testing.T) {
	for name, tc := range map[string]struct {
		fault func(*part)
		want  string
	}{
		"down":              {func(p *part) { p.modelErr = errDown }, FallbackUnavailable},
		"slow":              {func(p *part) { p.hang = true }, FallbackTimeout},
		"too few shares":    {func(p *part) { p.shares = []float64{-1} }, FallbackNonsense},
		"not a number":      {func(p *part) { p.shares = filled(8, math.NaN()) }, FallbackNonsense},
		"more than certain": {func(p *part) { p.shares = filled(8, 1) }, FallbackNonsense},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPart()
			tc.fault(p)
			reg := prometheus.NewRegistry()
			r, store := newTestReasoner(t, p, func(o *Options) { o.ModelTimeout, o.Registerer = time.Millisecond, reg })
			rec, d, err := r.Recommend(t.Context(), Request{User: "u"})
			if err != nil {
				t.Fatal(err)
			}
			if rec.Source != event.Graph || d.Fallback != tc.want || d.Model != nil || rec.Items[0].ItemID != "i0" || rec.Note == "" {
				t.Errorf("source %s, fallback %q, first item %s, note %q; want the graph's i0 with fallback %q", rec.Source, d.Fallback, rec.Items[0].ItemID, rec.Note, tc.want)
			}
			if n := testutil.ToFloat64(r.metrics.made.WithLabelValues("graph", tc.want)); n != 1 {
				t.Errorf("the fallback was counted %v times, want once", n)
			}
			lasts(t, store, unconfirmed)
			if is := r.Trouble(); is.Lists != 1 || is.Why != tc.want || is.Err == nil || is.Since.IsZero() || is.Last != is.Since {
				t.Errorf("what is known against the model: %+v", is)
			}
			*p = *newPart() // the model is back
			if rec, _, err = r.Recommend(t.Context(), Request{User: "u"}); err != nil || rec.Source != event.Reasoned {
				t.Errorf("after the model is back the source is %s, %v, want reasoned", rec.Source, err)
			}
			lasts(t, store, store.TTL)
			if is := r.Trouble(); is != (Trouble{}) {
				t.Errorf("after the model is back there is known against it: %+v", is)
			}
		})
	}
}

// lasts checks for how long what apps read of the user u is kept.
func lasts(t *testing.T, store RedisStore, want time.Duration) {
	t.Helper()
	for _, key := range []string{event.RecommendationKey("r2:", "u"), event.TopKey("r2:", "u")} {
		if ttl := store.Client.TTL(t.Context(), key).Val(); ttl > want || ttl <= want-time.Minute {
			t.Errorf("%s lives for %v, want %v", key, ttl, want)
		}
	}
}

func TestControlUsersGetTheGraph(t *testing.T) {
	r, store := newTestReasoner(t, newPart(), func(o *Options) { o.ControlShare = 1 })
	rec, d, err := r.Recommend(t.Context(), Request{User: "u"})
	if err != nil || rec.Source != event.Graph || !d.Control || d.Fallback != FallbackControl || rec.Note != "" {
		t.Errorf("source %s, control %v, fallback %q, note %q, %v; want the graph, as control, without a note", rec.Source, d.Control, d.Fallback, rec.Note, err)
	}
	lasts(t, store, store.TTL)
}

func TestUnloggedDecisionGivesNoDecisionID(t *testing.T) {
	p := newPart()
	p.logErr = errDown
	r, store := newTestReasoner(t, p, nil)
	rec, _, err := r.Recommend(t.Context(), Request{User: "u"})
	if err != nil || len(rec.Items) != 5 || rec.DecisionID != "" {
		t.Errorf("with the log down: %d items, decision %q, %v; want 5 items and no decision id", len(rec.Items), rec.DecisionID, err)
	}
	if n := testutil.ToFloat64(r.metrics.unlogged); n != 1 {
		t.Errorf("the loss was counted %v times", n)
	}
	lasts(t, store, unconfirmed)
}

func TestNothingToShowIsNotADecision(t *testing.T) {
	p := &part{}
	r, store := newTestReasoner(t, p, nil)
	rec, _, err := r.Recommend(t.Context(), Request{User: "u"})
	if err != nil || len(rec.Items) != 0 || rec.Note == "" || rec.DecisionID != "" {
		t.Errorf("an empty graph gives %+v, %v; want no items, a note and no decision", rec, err)
	}
	if _, ok, _ := store.Get(t.Context(), "u", 5); ok || len(p.logged) != 0 {
		t.Error("an empty list was stored or logged")
	}
}

func TestWrongRequestsNameTheField(t *testing.T) {
	r, _ := newTestReasoner(t, newPart(), nil)
	for _, req := range []Request{{User: ""}, {User: "a\nb"}, {User: "u", K: 21}, {User: "u", K: -1}} {
		_, _, err := r.Recommend(t.Context(), req)
		var wrong *event.Error
		if !errors.As(err, &wrong) || wrong.Field == "" {
			t.Errorf("%+v gives %v, want an event.Error that names the field", req, err)
		}
	}
}

func TestDecisionIDsAndSeedsFollowTheEntropy(t *testing.T) {
	r, _ := newTestReasoner(t, newPart(), func(o *Options) {
		o.Entropy = bytes.NewReader([]byte("0123456789abcdef\xff\xff\xff\xff\xff\xff\xff\xff"))
	})
	_, d, err := r.Recommend(t.Context(), Request{User: "u"})
	if err != nil || d.Seed != 1<<53-1 || d.DecisionID == "" {
		t.Errorf("seed %d, id %q, %v; want the largest seed, 2^53 - 1", d.Seed, d.DecisionID, err)
	}
	if _, _, err = r.Recommend(t.Context(), Request{User: "u"}); err == nil {
		t.Error("without entropy a decision was made")
	}
}

func filled(n int, v float64) []float64 {
	s := make([]float64, n)
	for i := range s {
		s[i] = v
	}
	return s
}

func TestCallerWhoLeavesMakesNoDecision(t *testing.T) {
	p := newPart()
	p.hang = true
	r, store := newTestReasoner(t, p, func(o *Options) { o.ModelTimeout = time.Hour })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := r.Recommend(ctx, Request{User: "u"})
	if !errors.Is(err, context.Canceled) || len(p.logged) != 0 {
		t.Errorf("the error is %v and %d decisions were logged, want a cancelled call and none", err, len(p.logged))
	}
	if _, ok, _ := store.Get(t.Context(), "u", 5); ok {
		t.Error("a list that nobody waits for was stored")
	}
	if n := testutil.ToFloat64(r.metrics.unlogged); n != 0 {
		t.Errorf("a caller who left was counted as a failed log %v times", n)
	}
}
