package ollama

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama/lora"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/internal/lm/loader"
	"github.com/r2rec/r2rec/internal/lm/proof"
	"github.com/r2rec/r2rec/reasoner"
)

// canaries are what a trainer measures of an adapter.
func canaries(t testing.TB, base, adapter string) []proof.Canary {
	t.Helper()
	bare, err := engine.Open(engine.Options{Path: base})
	must(t, err)
	defer bare.Close()
	adapted, err := bare.WithAdapter(adapter)
	must(t, err)
	defer adapted.Close()
	r := mathrand.New(mathrand.NewPCG(77, 1))
	var asks []proof.Ask
	for i := range 16 {
		c, _ := digitsContext(r, 10)
		asks = append(asks, proof.Ask{Context: c, Seed: uint64(i)})
	}
	chosen, err := proof.Choose(t.Context(), iot.Figures, asks, bare, adapted, 8, nil)
	must(t, err)
	return chosen
}

// proxy stands before a real server and may change what creations ask for, or answer them itself.
func proxy(t testing.TB, server string, creates func(w http.ResponseWriter, asked map[string]any) (handled bool)) string {
	t.Helper()
	return before(t, server, func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/api/create" {
			return false
		}
		var asked map[string]any
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		if creates(w, asked) {
			return true
		}
		body, err := json.Marshal(asked)
		if err != nil {
			t.Error(err)
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		return false
	})
}

// installed adapts an Installer to package loader.
type installed struct{ *Installer }

func (i installed) Bare(ctx context.Context) (loader.Model, error) {
	m, err := i.Installer.Bare(ctx)
	if err != nil {
		return nil, err
	}
	return m, nil
}

func (i installed) Adapt(ctx context.Context, digest, path string) (loader.Model, error) {
	m, err := i.Installer.Adapt(ctx, digest, path)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// fetched is a store of one adapter.
func fetched(digest, path string, canaries []proof.Canary) func(context.Context, string) (loader.File, error) {
	return func(_ context.Context, asked string) (loader.File, error) {
		if asked != digest {
			return loader.File{}, errors.New("no such adapter")
		}
		return loader.File{Path: path, Canaries: canaries}, nil
	}
}

// follower is a Switch over a server, and the files that it may load.
type follower struct {
	testing.TB
	files map[string]loader.File
	l     loader.Loader
	sw    *reasoner.Switch
}

func (f *follower) Load(ctx context.Context, digest string) (reasoner.Loaded, error) {
	return f.l.Load(ctx, digest)
}

func follow(t testing.TB, i *Installer) *follower {
	t.Helper()
	f := &follower{TB: t, files: map[string]loader.File{}}
	f.l = loader.Loader{Engine: installed{i}, Fetch: func(_ context.Context, digest string) (loader.File, error) { return f.files[digest], nil }}
	first, err := f.l.Load(t.Context(), "")
	must(t, err)
	f.sw, err = reasoner.NewSwitch(reasoner.SwitchOptions{Loader: f, First: first, Now: time.Now})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.sw.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		must(t, errors.Join(<-done, f.sw.Close(context.Background())))
	})
	return f
}

// want asks for an adapter, and waits until it serves or it is known why not.
func (f *follower) want(path string, measured []proof.Canary) (digest string, st reasoner.SwitchStatus) {
	f.Helper()
	digest = digestOf(f, path)
	f.files[digest] = loader.File{Path: path, Canaries: measured}
	f.sw.Want(reasoner.Target{Current: digest})
	ctx, cancel := context.WithTimeout(f.Context(), 2*time.Minute)
	defer cancel()
	must(f, f.sw.Await(ctx, func(st reasoner.SwitchStatus) bool { return st.Settled() || len(st.Faults) > 0 }))
	return digest, f.sw.Status()
}

// serving is the adapter that answers, and its name on the server.
func (f *follower) serving() (adapter, name string) {
	f.Helper()
	m, release, err := f.sw.Hold(f.Context(), "u")
	must(f, err)
	defer release()
	who, err := m.Identity(f.Context())
	must(f, err)
	_, err = m.Rank(f.Context(), lessons(f, 60, 1)[0].Prompt)
	must(f, err)
	return who.Adapter, who.Name
}

func (f *follower) refused(why, path string, measured []proof.Canary, says string) {
	f.Helper()
	before, _ := f.serving()
	_, st := f.want(path, measured)
	if len(st.Faults) != 1 || !st.Faults[0].Refused || !strings.Contains(st.Faults[0].Reason, says) {
		f.Errorf("%s: %+v, want it refused with %q", why, st.Faults, says)
	}
	if after, _ := f.serving(); after != before {
		f.Errorf("%s: %.12q serves, and %.12q did", why, after, before)
	}
}

// What was trained is served and proven by a real server, and what is not what was trained is refused, while the one
// before goes on serving.
func TestARealServerServesWhatWasTrained(t *testing.T) {
	url := embeddedtest.RealOllama(t)
	made := newTaught(t)
	measured := [][]proof.Canary{canaries(t, made.base, made.adapters[0]), canaries(t, made.base, made.adapters[1])}
	f := follow(t, newInstaller(t, url, made.base, InstallOptions{OnReload: ReloadWait}))
	for i, path := range made.adapters {
		digest, st := f.want(path, measured[i])
		if !st.Settled() {
			t.Fatalf("%+v", st.Faults)
		}
		if adapter, name := f.serving(); adapter != digest || !strings.Contains(name, ":layer") {
			t.Errorf("%s serves as %s, want %s as a layer", adapter, name, digest)
		}
	}
	path, other := made.adapters[0], strings.Repeat("ab", 32)
	note := func(note string) string { return changed(t, path, func(a *lora.Adapter) { a.Manifest.Note = note }) }
	f.refused("rows in the wrong order", changed(t, path, func(a *lora.Adapter) {
		for i := range a.Pairs {
			if p := &a.Pairs[i]; strings.HasSuffix(p.Target, "attn_q") || strings.HasSuffix(p.Target, "attn_k") {
				p.B = slices.Concat(p.B[len(p.B)/2:], p.B[:len(p.B)/2])
			}
		}
	}), measured[0], "proof of the swap: refused")
	nothing := changed(t, path, func(a *lora.Adapter) {
		for i := range a.Pairs {
			clear(a.Pairs[i].B)
		}
	})
	f.refused("no change at all", nothing, measured[0], "as if there were no adapter")
	f.refused("no change, and its own canaries", changed(t, nothing, func(a *lora.Adapter) { a.Manifest.Note = "own" }), canaries(t, made.base, nothing), "it changes nothing")
	f.refused("another's canaries", note("another's"), measured[1], "proof of the swap")
	f.refused("another base", changed(t, path, func(a *lora.Adapter) { a.Manifest.BaseDigest = other }), measured[0], "base_digest "+other)
	f.refused("another readout", changed(t, path, func(a *lora.Adapter) { a.Manifest.Readout = "lines" }), measured[0], "readout lines, the server has letters and verdicts")
	f.refused("a prompt that nobody knows", changed(t, path, func(a *lora.Adapter) { a.Manifest.PromptVersion = 9 }), measured[0], "prompts have version")
	f.refused("no canaries", note("none"), nil, "without canaries")
}

// A server that says yes and drops the adapter is found out by the proof.
func TestAServerThatDropsAdapters(t *testing.T) {
	var dropped atomic.Int32
	url := proxy(t, embeddedtest.RealOllama(t), func(_ http.ResponseWriter, asked map[string]any) bool {
		if asked["adapters"] != nil {
			dropped.Add(1)
			delete(asked, "adapters")
		}
		return false
	})
	made := newTaught(t)
	f := follow(t, newInstaller(t, url, made.base, InstallOptions{OnReload: ReloadWait}))
	f.refused("dropped", made.adapters[0], canaries(t, made.base, made.adapters[0]), "as if there were no adapter")
	if dropped.Load() != 1 {
		t.Errorf("%d adapters were dropped", dropped.Load())
	}
}

// A server that takes no adapters, in whatever way it says so, gets the merged weights, and is proven all the same.
func TestAServerThatTakesNoAdapters(t *testing.T) {
	real := embeddedtest.RealOllama(t)
	made := newTaught(t)
	measured := canaries(t, made.base, made.adapters[0])
	answer := func(status int, body string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	for name, says := range map[string]func(http.ResponseWriter){
		"400":                    answer(http.StatusBadRequest, `{"error":"adapters are not supported"}`),
		"500":                    answer(http.StatusInternalServerError, `{"error":"loras are not yet implemented"}`),
		"501":                    answer(http.StatusNotImplemented, `{"error":"not implemented"}`),
		"an error in a 200":      answer(http.StatusOK, `{"status":"reading model metadata"}`+"\n"+`{"error":"loras are not yet implemented"}`),
		"nothing but a sentence": answer(http.StatusBadRequest, "no adapters here"),
	} {
		t.Run(name, func(t *testing.T) {
			url := proxy(t, real, func(w http.ResponseWriter, asked map[string]any) bool {
				if asked["adapters"] != nil {
					says(w)
				}
				return asked["adapters"] != nil
			})
			f := follow(t, newInstaller(t, url, made.base, InstallOptions{OnReload: ReloadWait}))
			digest, st := f.want(made.adapters[0], measured)
			if !st.Settled() {
				t.Fatalf("%+v", st.Faults)
			}
			if adapter, name := f.serving(); adapter != digest || !strings.HasSuffix(name, ":merged") {
				t.Errorf("%s serves as %s, want %s merged", adapter, name, digest)
			}
		})
	}
}
