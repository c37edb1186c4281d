package web

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"
)

func TestShutdownFinishesRequestsAndEndsStreams(t *testing.T) {
	st := serve(t, func(o *Options) { o.ShutdownGrace = time.Hour }, nil) // nothing is cut off
	st.hold = make(chan struct{})
	stream := st.listen(t)
	stream.want(kindStats)
	inFlight := make(chan int, 1)
	go func() {
		res, err := http.Get(st.base + urlOf("users", "u1", "recommendations"))
		if err != nil {
			inFlight <- 0
			return
		}
		res.Body.Close()
		inFlight <- res.StatusCode
	}()
	waitFor(t, "the request to be in flight", func() bool {
		st.mu.Lock()
		defer st.mu.Unlock()
		return len(st.queries) == 1
	})
	st.stop()
	if _, err := stream.next("nothing"); err != io.EOF {
		t.Errorf("the stream did not end: %v", err)
	}
	close(st.hold) // only now: the stream ended before the request was answered
	if got := <-inFlight; got != 200 {
		t.Errorf("the request in flight got %d", got)
	}
	if err := <-st.done; err != nil {
		t.Errorf("Serve: %v", err)
	}
	st.done <- nil
}

func TestShutdownCutsOffAfterTheGrace(t *testing.T) {
	st := serve(t, func(o *Options) { o.ShutdownGrace = time.Millisecond }, nil)
	st.hold = make(chan struct{}) // never closed: only the cut ends the request
	cut := make(chan error, 1)
	go func() {
		_, err := http.Get(st.base + urlOf("users", "u1", "recommendations"))
		cut <- err
	}()
	waitFor(t, "the request to be in flight", func() bool {
		st.mu.Lock()
		defer st.mu.Unlock()
		return len(st.queries) == 1
	})
	st.stop()
	if err := <-st.done; err != nil {
		t.Errorf("Serve: %v", err)
	}
	st.done <- nil
	select {
	case err := <-cut:
		if err == nil {
			t.Error("the request was answered")
		}
	case <-time.After(10 * time.Second):
		t.Error("the request is still in flight")
	}
}

func TestServeReturnsTheListenersError(t *testing.T) {
	st := serve(t, nil, nil)
	other, err := New(Options{
		Recommender: st.world, Publisher: st.world, Explorer: st.world, Health: st.world, Feed: NewFeed(), Logger: st.server.Logger,
		Now: st.server.Now, Registerer: newRegistry(), Gatherer: newRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ln := listenLoopback(t)
	ln.Close()
	if err := other.Serve(context.Background(), ln); err == nil {
		t.Error("a closed listener gave no error")
	}
}

// Nothing that is written to an answer without a body fails, so it would never end, and keep its place from a stream.
func TestHeadOfTheStreamEnds(t *testing.T) {
	st := serve(t, func(o *Options) { o.MaxStreams = 1 }, nil)
	if a := st.ask(t, "HEAD", "/v1/stream", "").want(t, 200); a.header.Get("Content-Type") != eventStream {
		t.Errorf("its type is %q", a.header.Get("Content-Type"))
	}
	st.listen(t).want(kindStats)
}
