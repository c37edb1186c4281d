package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/r2rec/r2rec/internal/event"
)

func interaction(id string) event.Interaction {
	return event.Interaction{EventID: id, UserID: "u", ItemID: "i", Type: event.Like, Timestamp: event.At(now)}
}

func TestStreamTellsPhaseStatsHealthAndDecisions(t *testing.T) {
	st := serve(t, nil, nil)
	st.server.Feed.SetPhase(Phase{Name: Replaying, Text: "a set", Done: 3, Total: 9})
	l := st.listen(t)
	if got := l.want(kindPhase); got != `{"name":"replaying","text":"a set","done":3,"total":9}` {
		t.Errorf("who comes later is told the phase: %s", got)
	}
	if got := l.want(kindHealth); !strings.Contains(got, `"name":"kafka","state":"ok"`) {
		t.Error(got)
	}
	if got := l.want(kindStats); !strings.Contains(got, `"users":2,"items":3,"edges":5`) {
		t.Error(got)
	}
	st.ask(t, "GET", urlOf("users", "u1", "recommendations"), "").want(t, 200)
	if got := l.want(kindDecision); !strings.Contains(got, `"decision_id":"d-u1"`) || !strings.Contains(got, `"source":"graph"`) {
		t.Error(got)
	}
}

func TestStreamTellsWhenAPostedEventWasApplied(t *testing.T) {
	st := serve(t, nil, nil)
	l := st.listen(t)
	l.want(kindStats)
	st.ask(t, "POST", "/v1/events", event1(7), "Content-Type", "application/json").want(t, 202)
	var batch []event.Interaction
	for i := range 500 {
		batch = append(batch, interaction(fmt.Sprint("e", i))) // e7 is somewhere in the middle
	}
	st.server.Feed.Applied(batch)
	var own, other appliedMessage
	for own.EventID == "" || other.EventID == "" {
		var m appliedMessage
		if err := json.Unmarshal([]byte(l.want(kindApplied)), &m); err != nil {
			t.Fatal(err)
		}
		if m.Own {
			own = m
		} else {
			other = m
		}
	}
	if own.EventID != "e7" || own.Title != "title of i" {
		t.Errorf("%+v", own)
	}
	if other.EventID != "e499" {
		t.Errorf("one sample of the batch is told, its newest: %+v", other)
	}
}

func TestAnOwnEventIsToldOnce(t *testing.T) {
	f := NewFeed()
	f.subscribe(1)
	f.watch("e")
	f.Applied([]event.Interaction{interaction("e")})
	if n := len(f.samples); n != 1 {
		t.Errorf("told %d times", n)
	}
}

func TestHostileTextStaysOneLineOfTheStream(t *testing.T) {
	st := serve(t, nil, nil)
	l := st.listen(t)
	l.want(kindStats)
	evil := interaction("e\n\nevent: stats\ndata: {}")
	st.server.Feed.Applied([]event.Interaction{evil})
	var m appliedMessage
	if err := json.Unmarshal([]byte(l.want(kindApplied)), &m); err != nil || m.EventID != evil.EventID {
		t.Errorf("%v %+v", err, m)
	}
}

func TestSlowSubscriberLosesMessagesAndIsTold(t *testing.T) {
	f := NewFeed()
	slow, quick := f.subscribe(2), f.subscribe(2)
	if f.subscribe(2) != nil {
		t.Error("a third subscriber was let in")
	}
	for i := range subscriberQueue + 5 {
		f.send(kindApplied, i, false)
		<-quick.queue
	}
	if got := slow.dropped.Load(); got != 5 || f.missed.Load() != 5 {
		t.Errorf("dropped %d, counted %d, want 5", got, f.missed.Load())
	}
	if quick.dropped.Load() != 0 {
		t.Error("the quick one lost messages too")
	}
}

func TestStreamReportsWhatItDropped(t *testing.T) {
	st := serve(t, nil, nil)
	l := st.listen(t)
	l.want(kindStats)
	st.server.Feed.mu.RLock()
	for s := range st.server.Feed.subscribers {
		s.dropped.Store(3)
	}
	st.server.Feed.mu.RUnlock()
	if got := l.want(kindDropped); got != `{"dropped":3}` {
		t.Error(got)
	}
}

func TestStreamsAreLimited(t *testing.T) {
	st := serve(t, func(o *Options) { o.MaxStreams = 1 }, nil)
	st.listen(t).want(kindStats)
	st.ask(t, "GET", "/v1/stream", "").want(t, 503)
}

// TestStreamOutlivesTheRequestDeadlines would fail if the deadlines for whole requests applied to streams.
func TestStreamOutlivesTheRequestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const deadline = 50 * time.Millisecond
		st := serveInMemory(t, nil, func(s *Server) { s.timeouts.read, s.timeouts.write = deadline, deadline })
		l := st.listen(t)
		for begun := time.Now(); time.Since(begun) < 4*deadline; {
			l.want(kindStats)
		}
	})
}

func TestQuietStreamIsKeptAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := serveInMemory(t, func(o *Options) { o.Tick = time.Hour }, func(s *Server) { s.timeouts.keepAlive = 10 * time.Millisecond })
		l := st.listen(t)
		for l.lines.Scan() {
			if strings.HasPrefix(l.lines.Text(), ": ") {
				return
			}
		}
		t.Error("no comment came")
	})
}

// serveInMemory starts a server whose connections, deadlines included, keep to the clock of a synctest bubble.
func serveInMemory(t *testing.T, change func(*Options), tune func(*Server)) *site {
	t.Helper()
	ln := &pipes{accepted: make(chan net.Conn), closed: make(chan struct{})}
	st := serveOn(t, ln, change, tune)
	st.dial = ln.dial
	return st
}

// pipes is a listener on a loopback address whose connections are in memory.
type pipes struct {
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.accepted <- server:
		return client, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accepted:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

func TestSubscriberThatLeavesIsForgotten(t *testing.T) {
	st := serve(t, nil, nil)
	l, leave := st.listenUntil(t)
	l.want(kindStats)
	leave()
	waitFor(t, "the subscriber to leave", func() bool { return st.server.Feed.streams() == 0 })
}

func TestReportingNeverBlocks(t *testing.T) {
	f := NewFeed() // nobody takes the samples
	f.subscribe(1)
	for i := range 3 * sampleQueue {
		f.Applied([]event.Interaction{interaction(fmt.Sprint(i))})
	}
	f.watch("mine")
	f.Applied([]event.Interaction{interaction("mine")})
	found := false
	for range sampleQueue {
		if s := <-f.samples; s.own {
			found = s.interaction.EventID == "mine"
		}
	}
	if !found {
		t.Error("the event that somebody waits for was dropped for samples")
	}
	if f.unsampled.Load() != 2*sampleQueue+1 {
		t.Errorf("%d events were left out, counted %d", 2*sampleQueue+1, f.unsampled.Load())
	}
}

func TestWatchesAreBounded(t *testing.T) {
	f := NewFeed()
	for i := range watchedEvents + 10 {
		f.watch(fmt.Sprint(i))
	}
	if len(f.watched) != watchedEvents || len(f.order) != watchedEvents {
		t.Errorf("%d watched, %d in order", len(f.watched), len(f.order))
	}
	if f.unwatch("0") || !f.unwatch("10") || f.unwatch("10") {
		t.Error("want the oldest ten given up, and each event told once")
	}
}

func BenchmarkAppliedWhileNobodyWatches(b *testing.B) {
	f := NewFeed()
	batch := make([]event.Interaction, 512)
	for b.Loop() {
		f.Applied(batch)
	}
}
