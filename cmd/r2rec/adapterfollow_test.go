package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/internal/web"
	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"
)

// randomContexts have 20 candidates with random evidence.
func randomContexts(n int) (out []event.Context) {
	r := rand.New(rand.NewPCG(3, 1))
	for range n {
		c := event.Context{Likes: 3}
		for i := range iot.MaxCandidates {
			e := event.Evidence{Popularity: r.IntN(50), Similar: r.Float64(), SimilarLast: r.Float64(), Category: r.Float64()}
			e.LikeMindedRecent[1], e.LikeMindedRecent[2] = r.Float64(), r.Float64()
			c.Candidates = append(c.Candidates, event.Candidate{ItemID: fmt.Sprint(i), Title: fmt.Sprint("Item ", i), Origin: event.FromTrends, Evidence: e})
		}
		out = append(out, c)
	}
	return out
}

// trainer makes adapters, stores them and writes promotions, as a round does.
type trainer struct {
	*place
	folder string
	base   *engine.Model
	store  *adapters.Store
	log    *adapters.Log
}

func newTrainer(p *place) *trainer { return newTrainerOf(p, engine.Options{}) }

func newTrainerOf(p *place, o engine.Options) *trainer {
	p.Helper()
	t := &trainer{place: p, folder: p.TempDir()}
	o.Trainable = true
	var err error
	if t.base, err = engine.Open(o); err != nil {
		p.Fatal(err)
	}
	if t.store, err = adapters.OpenStore(p.Context(), t.folder); err != nil {
		p.Fatal(err)
	}
	c, err := broker.New(p.kafka)
	if err == nil {
		err = c.EnsureTopics(p.Context(), broker.Topics{Partitions: 4})
	}
	if err != nil {
		p.Fatal(err)
	}
	if t.log, err = adapters.NewLog(c.NewWriter(broker.Adapters), slog.New(slog.DiscardHandler)); err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() {
		if err := errors.Join(t.log.Close(), t.store.Close(), t.base.Close()); err != nil {
			p.Error(err)
		}
		c.Close()
	})
	return t
}

// make stores an adapter; another for each seed.
func (t *trainer) make(seed uint64, canaries bool) (digest string) {
	t.Helper()
	a, err := benchSwapCommand{}.teach(t.Context(), t.base, filepath.Join(t.TempDir(), "a.gguf"), seed, randomContexts(12))
	if err != nil {
		t.Fatal(err)
	}
	m := adapters.Manifest{Created: 1.8e12, Seed: seed}
	if canaries {
		m.Canaries = a.Canaries
	}
	digest, err = t.store.Put(t.Context(), a.Path, m)
	if err != nil || digest != a.digest {
		t.Fatalf("stored %s as %s: %v", a.digest, digest, err)
	}
	return digest
}

// write writes a record that has to count.
func (t *trainer) write(kind event.PromotionKind, adapter, parent string, share float64) {
	t.Helper()
	who, err := t.base.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, counts, err := t.log.Append(t.Context(), event.Promotion{Kind: kind, Adapter: adapter, Parent: parent, Base: who.Digest, Readout: who.Readout,
		Prompt: who.PromptVersion, Share: share, Reason: "test", Timestamp: 1.8e12})
	if err != nil || !counts {
		t.Fatalf("%v, %+v", err, s.Entries)
	}
}

// site is a running r2rec serve.
type site struct {
	*place
	url string
}

// freeAddress is one that nobody listens on.
func (p *place) freeAddress() string {
	p.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func (p *place) serve(args ...string) site {
	p.Helper()
	addr := p.freeAddress()
	p.start(append(append(append([]string{"serve", "--listen", addr, "--log-level", "error"}, args...), p.kafkaArgs()...), p.redisArgs()...)...)
	s := site{p, "http://" + addr}
	p.eventually("the server does not come up", func() (bool, string) {
		status, body := s.ask("GET", "/healthz", "")
		return status == 200, body
	})
	return s
}

// ask is status and body of an answer; 0 where there is none.
func (s site) ask(method, path, body string) (int, string) {
	s.Helper()
	req, err := http.NewRequestWithContext(s.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(res.Body); err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, b.String()
}

func (s site) state() (a web.AdapterState) {
	s.Helper()
	if status, body := s.ask("GET", "/v1/adapters", ""); status == 200 {
		s.decode(body, &a)
	}
	return a
}

// component is what /readyz says of a part.
func (s site) component(name string) (c web.Component) {
	s.Helper()
	var doc struct{ Components []web.Component }
	_, body := s.ask("GET", "/readyz", "")
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		s.Fatalf("%v in %s", err, body)
	}
	for _, c := range doc.Components {
		if c.Name == name {
			return c
		}
	}
	return c
}

// adapterOf is the adapter of a fresh list, "" for the bare model.
func (s site) adapterOf(user string) string {
	return s.adapterIn("/v1/users/" + user + "/recommendations?fresh=true")
}

func (s site) adapterIn(path string) string {
	s.Helper()
	status, body := s.ask("GET", path, "")
	var rec event.Recommendation
	if status != 200 {
		s.Fatalf("%d %s", status, body)
	}
	s.decode(body, &rec)
	if rec.Source != event.Reasoned {
		s.Fatalf("the list was ranked by %s: %s", rec.Source, rec.Note)
	}
	return rec.Adapter
}

// publishFilms has four users like films, so that there is something to recommend to u3.
func (p *place) publishFilms() {
	p.Helper()
	for i := range 8 {
		item := fmt.Sprint("f", i)
		p.publish(broker.Items, kafka.Message{Key: []byte(item), Value: []byte(fmt.Sprintf(`{"item_id":%q,"title":"Film %d"}`, item, i))})
		for u := range 4 {
			if u < 3 || i < 4 {
				p.publish(broker.Interactions, kafka.Message{Key: []byte(fmt.Sprint("u", u)), Value: []byte(fmt.Sprintf(
					`{"event_id":"e%d-%d","user_id":"u%d","item_id":%q,"type":"like","timestamp":%d}`, u, i, u, item, 1_700_000_000_000+int64(i)))})
			}
		}
	}
}

// A server follows promotions, roll-outs and roll-backs without a restart, and tells what it cannot serve.
func TestServeFollowsTheLogOfAdapters(t *testing.T) {
	t.Parallel()
	p := newPlace(t, broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}}, &redis.UniversalOptions{Addrs: []string{embeddedtest.Redis(t)}})
	tr := newTrainer(p)
	first, second, unproven := tr.make(1, true), tr.make(2, true), tr.make(3, false)
	p.publishFilms()
	s := p.serve("--consume", "--adapters", tr.folder, "--control-share", "0")
	serving := func(want web.ServingState) {
		t.Helper()
		p.eventually("the server does not follow", func() (bool, string) {
			got := s.state()
			return got.Serving.Current == want.Current && got.Serving.Candidate == want.Candidate && got.Serving.Share == want.Share && got.Serving.Loading == "", fmt.Sprintf("%+v", got)
		})
	}
	p.eventually("there is nothing to recommend", func() (bool, string) {
		_, body := s.ask("GET", "/v1/users/u3/recommendations?fresh=true", "")
		return strings.Contains(body, `"item_id"`), body
	})
	serving(web.ServingState{})
	if got := s.adapterOf("u3"); got != "" {
		t.Errorf("before any promotion %q ranks", got)
	}

	tr.write(event.Promote, first, "", 1)
	serving(web.ServingState{Current: first})
	if got := s.adapterIn("/v1/users/u3/recommendations?k=1"); got != first {
		t.Errorf("the stored list is by %q, want one by %q instead", got, first)
	}
	if got := s.adapterOf("u3"); got != first {
		t.Errorf("%q ranks, want %q", got, first)
	}
	p.do(p.everywhere("recommend", "u3", "--dry-run")...) // by the bare model, for the eye only
	if rec, err := p.rdb.Get(p.Context(), event.RecommendationKey("r2:", "u3")).Result(); err != nil || !strings.Contains(rec, first) {
		t.Errorf("after a look, apps read %s, %v", rec, err)
	}
	p.eventually("health does not tell", func() (bool, string) {
		c := s.component("adapter")
		return c.State == web.OK && strings.Contains(c.Detail, adapters.Short(first)), fmt.Sprintf("%+v", c)
	})

	tr.write(event.Promote, second, first, .999) // rolled out to all but one in a thousand
	serving(web.ServingState{Current: first, Candidate: second, Share: .999})
	if got := s.adapterOf("u3"); got != second {
		t.Errorf("%q ranks, want the candidate %q", got, second)
	}
	tr.write(event.Complete, second, first, 0)
	serving(web.ServingState{Current: second})

	tr.write(event.Promote, unproven, second, 1)
	p.eventually("health does not tell", func() (bool, string) {
		c := s.component("adapter")
		return c.State == web.Degraded && strings.Contains(c.Detail, adapters.Name(unproven)+" is wanted") && strings.Contains(c.Detail, "without canaries") &&
			strings.Contains(c.Detail, "serving "+adapters.Name(second)), fmt.Sprintf("%+v", c)
	})
	if st := s.state(); len(st.Serving.Faults) != 1 || st.Serving.Faults[0].Adapter != unproven || !st.Serving.Faults[0].Refused || st.Current != unproven || st.Serving.Current != second {
		t.Errorf("%+v", st)
	}
	if got := s.adapterOf("u3"); got != second {
		t.Errorf("%q ranks, want the last one that was proven", got)
	}

	for _, want := range []string{second, first} { // each back by one
		status, body := s.ask("POST", "/v1/adapters/rollback", `{"reason": "test"}`)
		var st web.AdapterState
		if status != 200 {
			t.Fatalf("%d %s", status, body)
		}
		p.decode(body, &st)
		if st.Current != want {
			t.Errorf("%+v, want %q current", st, want)
		}
		serving(web.ServingState{Current: want})
	}

	// A person promotes one that nobody has measured: the command does, on the newest decisions.
	byHand := tr.make(4, false)
	p.do(append([]string{"adapters", "promote", byHand, "--share", "1", "--adapters", tr.folder}, p.kafkaArgs()...)...)
	serving(web.ServingState{Current: byHand})
	projected, err := adapters.Projection{Client: p.rdb, Prefix: "r2:"}.Read(t.Context())
	if err != nil || projected.Current != byHand {
		t.Errorf("Redis says %+v, %v", projected, err)
	}
	p.do(append([]string{"adapters", "rollback", "--adapters", tr.folder}, p.kafkaArgs()...)...)
	serving(web.ServingState{Current: first})

	entries := len(s.state().Entries)
	if status, body := s.ask("POST", "/v1/adapters/rollback", fmt.Sprintf(`{"adapter": %q}`, strings.Repeat("ab", 32))); status != 409 || !strings.Contains(body, "has never been current") {
		t.Errorf("a roll-back to what never was: %d %s", status, body)
	}
	if status, body := s.ask("POST", "/v1/adapters/rollback", fmt.Sprintf(`{"adapter": %q}`, first)); status != 400 || !strings.Contains(body, "adapter") {
		t.Errorf("a roll-back to itself: %d %s", status, body)
	}
	if status, body := s.ask("POST", "/v1/adapters/rollback", fmt.Sprintf(`{"from": %q}`, second)); status != 409 || !strings.Contains(body, adapters.Name(first)) || s.state().Current != first {
		t.Errorf("a roll-back of what is not current any more: %d %s, and current is %q", status, body, s.state().Current)
	}

	if log, err := tr.log.State(t.Context()); err != nil || len(log.Entries) != entries {
		t.Errorf("what was refused left %d records in the log, %v", len(log.Entries)-entries, err)
	}

	// The record is for what it takes back, whatever this server's own model is.
	log, counts, err := tr.log.Append(t.Context(), event.Promotion{Kind: event.Promote, Adapter: strings.Repeat("cd", 32), Parent: first, Base: strings.Repeat("ef", 32), Readout: "verdicts",
		Prompt: 1, Share: 1, Reason: "of another base", Timestamp: 1.8e12})
	if err != nil || !counts {
		t.Fatalf("%v, %+v", err, log.Entries)
	}
	// Of what was pruned nothing is left to go back to.
	if err := tr.store.Delete(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if status, body := s.ask("POST", "/v1/adapters/rollback", fmt.Sprintf(`{"adapter": %q}`, second)); status != 409 || !strings.Contains(body, "not in the store of adapters") {
		t.Errorf("a roll-back to what was pruned: %d %s", status, body)
	}
	if said := p.fails(append([]string{"adapters", "rollback", "--to", second, "--adapters", tr.folder}, p.kafkaArgs()...)...); !strings.Contains(said, "not in the store of adapters") {
		t.Errorf("a roll-back to what was pruned: %s", said)
	}
	if status, body := s.ask("POST", "/v1/adapters/rollback", `{}`); status != 200 {
		t.Errorf("a roll-back from an adapter of another base: %d %s", status, body)
	}
	log, err = tr.log.State(t.Context())
	if last := log.Entries[len(log.Entries)-1].Record; err != nil || log.Current != first || last.Base != strings.Repeat("ef", 32) || last.Readout != "verdicts" || last.Prompt != 1 {
		t.Errorf("the log says %+v, %v", last, err)
	}

	again := p.serve("--adapters", tr.folder, "--control-share", "0") // a server that starts now
	p.eventually("a new server does not come to what is current", func() (bool, string) {
		st := again.state()
		return st.Serving.Current == first, fmt.Sprintf("%+v", st)
	})

	// Servers that follow no log have one ranking: lists that were stored by another are made anew.
	const stored = "/v1/users/u3/recommendations"
	fixed := p.serve("--adapter", filepath.Join(tr.folder, byHand, "adapter.gguf"), "--control-share", "0")
	if got := fixed.adapterIn(stored); got != byHand {
		t.Errorf("%q ranked what a server with the adapter %q answers", got, byHand)
	}
	if got := p.serve("--control-share", "0").adapterIn(stored); got != "" {
		t.Errorf("%q ranked what a server with the bare model answers", got)
	}
}

func TestFollowFlags(t *testing.T) {
	for args, want := range map[string]string{
		"--adapters a --adapter benchlm.go": "--adapters excludes --adapter",
		"--adapters a --no-model":           "--adapters excludes --no-model",
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), append([]string{"serve", "--listen", "127.0.0.1:0"}, strings.Fields(args)...), &out, &errs); code != exitMisused || !strings.Contains(errs.String(), want) {
			t.Errorf("%s: exit code %d, %q; want %q", args, code, errs.String(), want)
		}
	}
}
