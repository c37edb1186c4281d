package ollama

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ollama/ollama/api"
)

// agreeable is a server to which everything is fine; hears is told of each request, before the answer.
func agreeable(t *testing.T, hears func(r *http.Request)) string {
	t.Helper()
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		hears(r)
		switch r.URL.Path {
		case "/api/tags", "/api/ps":
			fmt.Fprint(w, `{"models":[]}`)
		case "/api/create":
			fmt.Fprint(w, `{"status":"success"}`)
		case "/api/generate":
			fmt.Fprint(w, `{"done":true}`)
		}
	}).URL
}

// A merged adapter that is made again while it is in use, by an older instance whose last request goes on, is one model on the
// server: it stays in memory until the last instance is closed.
func TestTheLastOfAModelUnloadsIt(t *testing.T) {
	made := newTaught(t)
	var unloaded atomic.Int32
	url := agreeable(t, func(r *http.Request) {
		var asked api.GenerateRequest
		if r.URL.Path == "/api/generate" && json.NewDecoder(r.Body).Decode(&asked) == nil && asked.KeepAlive != nil && asked.KeepAlive.Duration == 0 {
			unloaded.Add(1)
		}
	})
	i := newInstaller(t, url, made.base, InstallOptions{Merged: true})
	var models []*Model
	for range 3 {
		m, err := i.Adapt(t.Context(), digestOf(t, made.adapters[0]), made.adapters[0])
		must(t, err)
		models = append(models, m)
	}
	if models[0].Name != models[2].Name {
		t.Fatalf("%s and %s", models[0].Name, models[2].Name)
	}
	for k, m := range models {
		must(t, m.Close())
		if n := unloaded.Load(); n > 0 != (k == 2) || n > 1 {
			t.Errorf("%d of 3 instances are closed, and the model was unloaded %d times", k+1, n)
		}
	}
}

// The base's file stays where it is in memory as long as somebody reads it, and is read no more once it is closed or nobody
// waits for what is made of it.
func TestTheBaseIsReadUntilItIsClosed(t *testing.T) {
	i, err := NewInstaller(InstallOptions{Base: newTaught(t).base, Now: time.Now})
	must(t, err)
	write := func(w io.Writer) error { return i.writeCopy(w, 1) }
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if b, err := newBlob(gone, write); !errors.Is(err, context.Canceled) {
		t.Errorf("for a caller who gave up: %s, %v", b.digest, err)
	}
	w := &gate{begun: make(chan struct{}), open: make(chan struct{})}
	written, closed := make(chan error, 1), make(chan error, 1)
	go func() { written <- write(w) }()
	<-w.begun
	go func() { closed <- i.Close() }()
	for i.reading.TryRLock() { // Close has not come to where it waits
		i.reading.RUnlock()
		select {
		case err := <-closed:
			t.Fatalf("the file was closed while it was read: %v", err)
		default:
			runtime.Gosched()
		}
	}
	close(w.open)
	must(t, errors.Join(<-written, <-closed))
	if err := write(io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("after the file was closed: %v", err)
	}
}

// gate is a writer that tells of its first write, and lets it through once it is open.
type gate struct {
	begun, open chan struct{}
	once        sync.Once
}

func (g *gate) Write(p []byte) (int, error) {
	g.once.Do(func() { close(g.begun) })
	<-g.open
	return len(p), nil
}

// While somebody makes or deletes models, for as long as a server takes, whoever comes waits no longer than he wants to.
func TestWhoWaitsForATurnCanGiveUp(t *testing.T) {
	made := newTaught(t)
	i := newInstaller(t, agreeable(t, func(*http.Request) {}), made.base, InstallOptions{Merged: true})
	m, err := i.Adapt(t.Context(), digestOf(t, made.adapters[0]), made.adapters[0])
	must(t, err)
	i.turn <- struct{}{}
	defer func() { <-i.turn }()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := i.Adapt(gone, digestOf(t, made.adapters[1]), made.adapters[1]); !errors.Is(err, context.Canceled) {
		t.Errorf("to make a model, for a caller who gave up: %v", err)
	}
	if err := m.install(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("to make a model again: %v", err)
	}
	i.opt.Timeout = time.Millisecond
	if err := m.Close(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("to delete what is out of use: %v", err)
	}
}
