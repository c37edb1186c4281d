package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/web"
	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fails runs a command that has to fail, and returns what it says.
func (p *place) fails(args ...string) string {
	p.Helper()
	return p.ends(1, args...)
}

// ends runs a command that has to end with the exit code, and returns what it says.
func (p *place) ends(want int, args ...string) string {
	p.Helper()
	var out, errs bytes.Buffer
	if code := run(p.Context(), args, &out, &errs); code != want {
		p.Errorf("r2rec %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), code, want, out.String(), errs.String())
	}
	return errs.String()
}

func (p *place) everywhere(args ...string) []string {
	return append(append(args, p.kafkaArgs()...), p.redisArgs()...)
}

// society is a few users who chose some of the same items, and the catalogue of these.
func (p *place) society(users ...string) (edges int64) {
	p.Helper()
	var events, items []kafka.Message
	encode := func(v any, err error) []byte {
		if err != nil {
			p.Fatal(err)
		}
		return v.([]byte)
	}
	for i := range 12 {
		id := fmt.Sprint("film-", i)
		raw, err := event.Encode(event.Item{ItemID: id, Title: "Film " + id})
		items = append(items, kafka.Message{Key: []byte(id), Value: encode(raw, err)})
	}
	for u, user := range users {
		for i := range 8 {
			item := fmt.Sprint("film-", (i+u)%12)
			raw, err := event.Encode(event.Interaction{EventID: user + item, UserID: user, ItemID: item, Type: []event.Type{event.Like, event.Purchase}[i%2], Timestamp: event.Time(1_700_000_000_000 + i)})
			events = append(events, kafka.Message{Key: []byte(user), Value: encode(raw, err)})
			edges++
		}
	}
	p.publish(broker.Items, items...)
	p.publish(broker.Interactions, events...)
	return edges
}

// By command, over HTTP and by an event: a user who was recommended to, and was shown the list, is gone from all of Redis and from
// the memory of the server, also after Redis lost everything and the topics were read again, and in a graph that is
// built anew.
func TestForgettingByEveryWay(t *testing.T) {
	t.Parallel()
	embeddedtest.EachSingle(t, func(t *testing.T, k broker.Settings, r *redis.UniversalOptions) {
		p := newPlace(t, k, r)
		if said := p.fails(p.everywhere("forget", "nobody-here", "--wait-for", "300ms")...); !strings.Contains(said, "start r2rec consume") {
			t.Errorf("without a consumer it says %s", said)
		}
		users := []string{"stays", "by-command", "over-http", "by-event", "like-them"}
		edges := p.society(users...)
		s := p.serve("--consume", "--no-model", "--attribution-window", "1h", "--explore-share", "0")
		p.eventually("the graph is not filled", func() (bool, string) {
			st := p.stats()
			return st.UserEdges == edges && st.Catalogue == 12, fmt.Sprintf("%+v", st)
		})
		for _, user := range users {
			p.eventually("nothing is recommended", func() (bool, string) {
				status, body := s.ask("GET", "/v1/users/"+user+"/recommendations?fresh=true&shown=true", "")
				return status == 200 && strings.Contains(body, "decision_id"), body
			})
		}
		traces := func(user string) (t web.Traces) {
			status, body := s.ask("GET", "/v1/users/"+user+"/traces", "")
			if status != 200 {
				p.Fatal(status, body)
			}
			p.decode(body, &t)
			return t
		}
		p.eventually("no decision waits for its reward", func() (bool, string) {
			var pending int64
			for _, user := range users {
				pending += traces(user).Pending
			}
			return pending == int64(len(users)), fmt.Sprint(pending)
		})

		var report forgetReport
		p.decode(p.do(p.everywhere("forget", "by-command", "--json")...), &report)
		found := report.Found
		found.Newest = 0
		if want := (graphcache.Traces{Edges: 8, Settled: 4, Lists: 8, Documents: 2, Joins: 1}); found != want {
			t.Errorf("the command found %+v, want %+v", found, want)
		}
		if want := (graphcache.Traces{Before: report.ForgetBefore}); report.Left == nil || *report.Left != want {
			t.Errorf("the command left %+v, want %+v", report.Left, want)
		}
		var asked event.User
		status, body := s.ask("DELETE", "/v1/users/over-http", "")
		if status != 202 {
			t.Fatal(status, body)
		}
		p.decode(body, &asked)
		before := event.At(time.Now())
		p.publish(broker.Users, kafka.Message{Key: []byte("by-event"), Value: fmt.Appendf(nil, `{"user_id":"by-event","forget_before":%d}`, before)})
		for user, before := range map[string]event.Time{"over-http": asked.ForgetBefore, "by-event": before} {
			p.eventually(user+" is not forgotten", func() (bool, string) {
				got := traces(user)
				return got == web.Traces{ForgetBefore: before}, fmt.Sprintf("%+v", got)
			})
		}
		gone := users[1:4]
		for _, user := range gone {
			embeddedtest.Nowhere(t, p.rdb, user, "forgotten,")
			p.eventually("the server still knows why", func() (bool, string) {
				status, body := s.ask("GET", "/v1/users/"+user+"/why", "")
				return status == 404, body
			})
		}
		active := func() {
			t.Helper()
			if status, body := s.ask("GET", "/v1/users?n=100", ""); status != 200 || strings.Contains(body, "by-") || !strings.Contains(body, "stays") {
				t.Errorf("active users are %s", body)
			}
		}
		active()
		want := p.stats()
		if err := embeddedtest.Flush(t.Context(), p.rdb); err != nil {
			t.Fatal(err)
		}
		p.eventually("the topics are not read again", func() (bool, string) {
			st := p.stats()
			return st == want, fmt.Sprintf("%+v, before: %+v", st, want)
		})
		for _, user := range gone {
			p.eventually(user+" came back", func() (bool, string) {
				got := traces(user)
				return got == web.Traces{ForgetBefore: got.ForgetBefore} && got.ForgetBefore > 0, fmt.Sprintf("%+v", got)
			})
			embeddedtest.Nowhere(t, p.rdb, user, "after a replay")
		}
		active()
		p.rebuildByCommand(want)
		for _, user := range gone {
			embeddedtest.Nowhere(t, p.rdb, user, "after a rebuild")
		}
	})
}

// rebuildByCommand wants the same graph after each way of rebuilding.
func (p *place) rebuildByCommand(want graphcache.Stats) {
	p.Helper()
	type report struct {
		Generation, Total int
		Before            *int
		Leftovers         []int
	}
	rebuild := func(args ...string) (r report) {
		p.Helper()
		p.decode(p.do(p.everywhere(append([]string{"rebuild", "--json", "--grace", "0s", "--pause", "0s"}, args...)...)...), &r)
		if got := p.stats(); got != want {
			p.Errorf("after rebuild %v the graph has %+v, want %+v", args, got, want)
		}
		return r
	}
	if r := rebuild("--keep-old"); r.Generation != 1 || r.Before == nil || *r.Before != 0 || r.Total == 0 {
		p.Errorf("rebuild --keep-old says %+v", r)
	}
	if r := rebuild("--back"); r.Generation != 0 {
		p.Errorf("rebuild --back says %+v", r)
	}
	if err := p.rdb.HSet(p.Context(), "r2:generation", "last", 2, "2", "building by one who was killed").Err(); err != nil {
		p.Fatal(err)
	}
	if r := rebuild("--drop-old"); r.Generation != 0 || len(r.Leftovers) != 1 {
		p.Errorf("rebuild --drop-old says %+v", r)
	}
	if said := p.fails(p.everywhere("rebuild", "--back")...); !strings.Contains(said, "--keep-old") {
		p.Errorf("where nothing is kept, --back says %s", said)
	}
	lease, err := adapters.TakeLease(p.Context(), adapters.LeaseOptions{Client: p.rdb, Key: "r2:rebuild", TTL: time.Minute})
	if err != nil {
		p.Fatal(err)
	}
	if said := p.fails(p.everywhere("rebuild")...); !strings.Contains(said, "another rebuild is running") {
		p.Errorf("beside another rebuild it says %s", said)
	}
	if err := lease.Release(p.Context()); err != nil {
		p.Fatal(err)
	}
	out := p.do(p.everywhere("rebuild", "--grace", "0s")...)
	if !strings.Contains(out, "records/s") || !strings.Contains(out, "Generation 3 serves; generation 0 is deleted") {
		p.Errorf("rebuild says %s", out)
	}
}

// Kafka keeps the last request of a user, not the highest: whoever asks again asks for no less.
func TestForgettingNeverAsksForLess(t *testing.T) {
	t.Parallel()
	p := newPlace(t, broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}}, &redis.UniversalOptions{Addrs: []string{embeddedtest.Redis(t)}})
	s := p.serve("--consume", "--no-model")
	later := time.Now().Add(12 * time.Hour).UTC().Truncate(time.Millisecond)
	var first, again forgetReport
	p.decode(p.do(p.everywhere("forget", "u", "--json", "--before", later.Format(time.RFC3339Nano))...), &first)
	p.decode(p.do(p.everywhere("forget", "u", "--json")...), &again)
	if status, body := s.ask("DELETE", "/v1/users/u", ""); status != 202 {
		t.Fatal(status, body)
	}
	if first.ForgetBefore != event.At(later) || again.ForgetBefore != first.ForgetBefore {
		t.Errorf("asked for %v, and then for %v", first.ForgetBefore, again.ForgetBefore)
	}
	kc, err := broker.New(p.kafka)
	if err != nil {
		t.Fatal(err)
	}
	defer kc.Close()
	parts, err := kc.Offsets(t.Context(), broker.Users)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	err = kc.Read(t.Context(), broker.Users, parts, func(m kafka.Message) error {
		u, err := event.DecodeUser(m.Key, m.Value, event.At(later))
		if asked++; err != nil || u.ForgetBefore != first.ForgetBefore {
			t.Errorf("request %d: %+v, %v", asked, u, err)
		}
		return nil
	})
	if err != nil || asked != 3 {
		t.Errorf("%d requests, %v", asked, err)
	}
}

func TestForgetAndRebuildWrongInput(t *testing.T) {
	for want, args := range map[string][]string{
		`--before "yesterday"`:         {"forget", "u", "--before", "yesterday"},
		"want at most 24h":             {"forget", "u", "--before", "2199-01-01T00:00:00Z"},
		"forget_before":                {"forget", "u", "--before", "1970-01-01T00:00:00Z"},
		"user_id":                      {"forget", " u"},
		`--from "then"`:                {"rebuild", "--from", "then"},
		"--back and --drop-old: want ": {"rebuild", "--back", "--drop-old"},
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), args, &out, &errs); code != exitMisused || !strings.Contains(errs.String(), want) {
			t.Errorf("r2rec %v: exit code %d, %s; want %s", args, code, errs.String(), want)
		}
	}
}

// What is left is told with what to do about it.
func TestWhatIsLeftOfAUser(t *testing.T) {
	const before = 1_700_000_000_000
	for want, left := range map[string]graphcache.Traces{
		"":                       {Before: before},
		"another --forget-key":   {},
		"r2rec rebuild":          {Before: before, Lists: 1, Newest: before - 1},
		"a later --before":       {Before: before, Later: 1, Newest: before + 5},
		"wait for their reward":  {Before: before, Joins: 1},
		"it was asked for again": {Before: before, Documents: 2},
	} {
		said := ""
		if err := leftOver(forgetReport{UserID: "u", ForgetBefore: before, Left: &left}); err != nil {
			said = err.Error()
		}
		if (want == "") != (said == "") || !strings.Contains(said, want) {
			t.Errorf("of %+v it says %q, want %q", left, said, want)
		}
	}
	if raw, err := json.Marshal(forgetReport{}); err != nil || !bytes.Contains(raw, []byte(`"found"`)) {
		t.Errorf("the report is %s, %v", raw, err)
	}
}

// hears cancels when somebody writes what it waits for.
type hears struct {
	bytes.Buffer
	word string
	then func()
}

func (h *hears) Write(p []byte) (int, error) {
	if strings.Contains(string(p), h.word) {
		h.then()
	}
	return h.Buffer.Write(p)
}

// Whatever keeps the command from seeing the end of it, it says that the request is in Kafka, and nothing of what is left, which
// it does not know.
func TestForgetTellsThatTheRequestIsInKafka(t *testing.T) {
	t.Parallel()
	proxy := embeddedtest.NewProxy(t, embeddedtest.Redis(t))
	p := newPlace(t, broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}}, &redis.UniversalOptions{Addrs: []string{proxy.Addr}})
	for name, tc := range map[string]struct {
		args []string
		code int
		says string
	}{
		"does not wait":   {[]string{"--no-wait"}, 0, ""},
		"waits in vain":   {[]string{"--wait-for", "1ns"}, 1, "start r2rec consume"},
		"stopped waiting": {[]string{"--wait-for", "24h"}, exitStopped, "The request is in Kafka all the same, in users"},
	} {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		done := make(chan struct{})
		var out, errs bytes.Buffer
		code := 0
		go func() {
			defer close(done)
			code = run(ctx, p.everywhere(append([]string{"forget", name, "--json"}, tc.args...)...), &out, &errs)
		}()
		if tc.code == exitStopped {
			p.eventually("the request is not in Kafka", func() (bool, string) {
				kc, err := broker.New(p.kafka)
				if err != nil {
					t.Fatal(err)
				}
				defer kc.Close()
				parts, err := kc.Offsets(t.Context(), broker.Users)
				if err != nil {
					return false, err.Error()
				}
				found := false
				err = kc.Read(t.Context(), broker.Users, parts, func(m kafka.Message) error {
					found = found || string(m.Key) == name
					return nil
				})
				return found, fmt.Sprint(err)
			})
			before := proxy.Requests() // the next one is how the command waits, once Kafka has answered it
			p.eventually("the command does not wait", func() (bool, string) { return proxy.Requests() > before, "" })
			stop()
		}
		<-done
		if code != tc.code || !strings.Contains(errs.String(), tc.says) || tc.code != 0 && !strings.Contains(errs.String(), "is in Kafka all the same") {
			t.Errorf("%s: exit code %d, %s; want %d, %q", name, code, errs.String(), tc.code, tc.says)
		}
		if said := out.String(); !strings.Contains(said, `"found":{`) || strings.Contains(said, `"left"`) {
			t.Errorf("%s: the report is %q", name, said)
		}
	}
}

// Stopped in the minute after the switch, it says which graph is left, and what was done.
func TestRebuildIsStoppedAfterTheSwitch(t *testing.T) {
	t.Parallel()
	p := newPlace(t, broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}}, &redis.UniversalOptions{Addrs: []string{embeddedtest.Redis(t)}})
	p.do(p.everywhere("forget", "nobody", "--no-wait")...) // makes the topics
	p.society("one", "two")
	for i, asJSON := range []bool{true, false} {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		errs := &hears{word: "msg=switched", then: stop}
		var out bytes.Buffer
		args := p.everywhere("rebuild", "--grace", "24h")
		if asJSON {
			args = append(args, "--json")
		}
		code := run(ctx, args, &out, errs)
		if want := fmt.Sprintf("r2rec: the graph of generation %d is left: r2rec rebuild --drop-old deletes it", i); code != exitStopped || !strings.Contains(errs.String(), want) {
			t.Errorf("exit code %d, want %d and %q:\n%s", code, exitStopped, want, errs.String())
		}
		want := fmt.Sprintf("Generation %d serves; generation %d is left (--drop-old)", i+1, i)
		if asJSON {
			want = `"left_before":true`
		}
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report says %s, want %q", out.String(), want)
		}
	}
}

// Somebody else's request, for more, is applied while the command's is on its way: the last one in Kafka, which a Redis that is
// filled again knows alone, asks for that all the same.
func TestForgettingTwiceAtOnceKeepsTheHigher(t *testing.T) {
	t.Parallel()
	fake := fakeKafka(t)
	p := newPlace(t, broker.Settings{Brokers: fake.ListenAddrs()}, &redis.UniversalOptions{Addrs: []string{embeddedtest.Redis(t)}})
	graph, err := graphcache.NewGenerations(p.rdb, graphcache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := event.At(time.Now().Add(-time.Hour)), event.At(time.Now())
	var other sync.Once
	fake.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		if r.(*kmsg.ProduceRequest).Topics[0].Topic == broker.Users {
			other.Do(func() {
				err = graph.ApplyUsers(t.Context(), event.Span{Topic: "elsewhere", End: 1}, []event.User{{UserID: "u", ForgetBefore: theirs}})
			})
		}
		return nil, nil, false
	})
	p.start(p.everywhere("consume", "--log-level", "error")...)
	var report forgetReport
	p.decode(p.do(p.everywhere("forget", "u", "--before", ours.String(), "--json")...), &report)
	if err != nil {
		t.Fatal(err)
	}
	c, err := broker.New(p.kafka)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	parts, err := c.Offsets(t.Context(), broker.Users)
	if err != nil {
		t.Fatal(err)
	}
	var last event.User
	if err := c.Read(t.Context(), broker.Users, parts, func(m kafka.Message) (err error) {
		last, err = event.DecodeUser(m.Key, m.Value, event.Latest)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if last.ForgetBefore != theirs || report.ForgetBefore != theirs {
		t.Errorf("the last request is for what is older than %s, and the command tells %s; want %s", last.ForgetBefore, report.ForgetBefore, theirs)
	}
}
