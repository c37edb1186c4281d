package ollama

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama"
	"github.com/r2rec/r2rec/internal/llama/lora"
	"github.com/r2rec/r2rec/internal/lm"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/internal/lm/proof"
)

// sameAnswer is how far, in nats, two answers of one model may lie apart: of two programs, or of a server that had part of the
// prompt in its cache and once had not.
const sameAnswer = .02

// near tells whether two answers may be one model's.
func near(a, b []float64) bool {
	return slices.EqualFunc(a, b, func(x, y float64) bool { return math.Abs(x-y) <= sameAnswer })
}

// agree wants the server to answer as the engine does, over the letters that it states.
func agree(t *testing.T, served proof.Ranker, o engine.Options) {
	t.Helper()
	e, err := engine.Open(o)
	must(t, err)
	defer e.Close()
	n, worst := 0, 0.
	for _, l := range lessons(t, 50, 10) {
		ours, err := e.Rank(t.Context(), l.Prompt)
		must(t, err)
		theirs, stated, err := served.(proof.Partial).Stated(t.Context(), l.Prompt)
		must(t, err)
		for i, ok := range stated {
			if ok {
				n++
				worst = max(worst, math.Abs(ours[i]-theirs[i]))
			}
		}
	}
	if n < 40 || worst > sameAnswer { // few-letter lists state all of theirs, so that no floor moves the others
		t.Errorf("%d letters were compared, and are up to %.4f apart", n, worst)
	}
}

// An adapter is served as a layer over the base, or merged into it, and answers as the engine does with it.
func TestInstalledModelsAnswerAsTheEngine(t *testing.T) {
	url := embeddedtest.RealOllama(t)
	for name, c := range map[string]struct {
		readout engine.Readout
		merged  bool
	}{"layer": {engine.Letters, false}, "merged": {engine.Letters, true}, "layer, verdicts": {engine.Verdicts, false}, "merged, verdicts": {engine.Verdicts, true}} {
		t.Run(name, func(t *testing.T) {
			made, merged := newTaughtBy(t, c.readout), c.merged
			i := newInstaller(t, url, made.base, InstallOptions{Merged: merged})
			adapter, err := i.Adapt(t.Context(), digestOf(t, made.adapters[0]), made.adapters[0])
			must(t, err)
			base, adapted := adapter.Sides()
			agree(t, base, engine.Options{Path: made.base})
			agree(t, adapted, engine.Options{Path: made.base, Adapter: made.adapters[0]})
			who, err := adapter.Identity(t.Context())
			must(t, err)
			if want := (event.Model{Name: adapter.Name, Digest: digestOf(t, made.base), Adapter: digestOf(t, made.adapters[0]), Readout: string(c.readout), PromptVersion: iot.Figures}); who != want {
				t.Errorf("%+v, want %+v", who, want)
			}
			if kind, _, _ := strings.Cut(name, ","); !strings.Contains(adapter.Name, ":"+kind) {
				t.Errorf("the adapter is served as %s", adapter.Name)
			}
			must(t, adapter.Close())
		})
	}
}

// before stands in front of a real server; a request that it handles does not get there.
func before(t testing.TB, server string, handle func(w http.ResponseWriter, r *http.Request) bool) string {
	t.Helper()
	to, err := url.Parse(server)
	must(t, err)
	pass := httputil.NewSingleHostReverseProxy(to)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !handle(w, r) {
			// Otherwise the server closes the request's body once the answer begins, which may be before the proxy has read
			// that it is at its end; then the proxy closes its connection to Ollama amid the answer.
			if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
				t.Error(err)
			}
			pass.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// What a server has is neither uploaded nor created again, by this program or by the next one.
func TestInstallingAgainChangesNothing(t *testing.T) {
	var changes atomic.Int32
	url := before(t, embeddedtest.RealOllama(t), func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost && r.URL.Path != "/api/generate" {
			changes.Add(1)
		}
		return false
	})
	made := newTaught(t)
	for _, merged := range []bool{false, true} {
		i := newInstaller(t, url, made.base, InstallOptions{Merged: merged})
		install := func(i *Installer) {
			m, err := i.Adapt(t.Context(), digestOf(t, made.adapters[0]), made.adapters[0])
			must(t, err)
			must(t, m.Close())
		}
		install(i)
		if n := changes.Swap(0); n < 2 {
			t.Errorf("merged %v: %d changes to install an adapter", merged, n)
		}
		install(i)
		next, err := NewInstaller(i.opt)
		must(t, err)
		install(next)
		must(t, next.Close())
		if n := changes.Swap(0); n != 0 {
			t.Errorf("merged %v: %d changes to install it again", merged, n)
		}
	}
}

// Whichever request fails, and however, the error says that it may work later, and the next attempt goes on from there.
func TestInstallingGoesOnAfterAnyFault(t *testing.T) {
	var left atomic.Int32 // requests until one fails; below 0: none does
	var faults atomic.Int32
	left.Store(-1)
	url := before(t, embeddedtest.RealOllama(t), func(w http.ResponseWriter, r *http.Request) bool {
		if left.Add(-1) != -1 {
			return false
		}
		if faults.Add(1)%2 == 0 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"error":"server busy"}`)
		return true
	})
	const never = math.MinInt32 / 2
	left.Store(never)
	made := newTaught(t)
	digest := digestOf(t, made.adapters[0])
	for _, merged := range []bool{false, true} {
		n := int32(0)
		for failed := true; failed; n++ {
			i := newInstaller(t, url, made.base, InstallOptions{Merged: merged})
			left.Store(n)
			m, err := i.Adapt(t.Context(), digest, made.adapters[0])
			failed = left.Swap(never) < 0
			if err != nil { // a connection that broke may have been tried again on the way
				if !failed || !errors.Is(err, lm.ErrUnavailable) {
					t.Fatalf("merged %v, request %d: %v", merged, n, err)
				}
				m, err = i.Adapt(t.Context(), digest, made.adapters[0])
				must(t, err)
			}
			must(t, m.Close())
			must(t, i.Uninstall(t.Context()))
		}
		if n < 5 { // list, ask for a file, upload, create, load
			t.Errorf("merged %v: %d requests were made to fail", merged, n-1)
		}
	}
}

// Models in use are in the server's memory side by side, and no third one, also while one is compared with its base: a server
// may hold two only.
func TestModelsInUseDoNotPushEachOtherOut(t *testing.T) {
	made := newTaught(t)
	i := newInstaller(t, embeddedtest.RealOllama(t), made.base, InstallOptions{})
	var models []*Model
	for _, path := range made.adapters {
		m, err := i.Adapt(t.Context(), digestOf(t, path), path)
		must(t, err)
		models = append(models, m)
		base, adapted := m.Sides()
		for _, side := range []proof.Ranker{base, adapted} {
			_, err = side.Rank(t.Context(), lessons(t, 1, 1)[0].Prompt)
			must(t, err)
			running, err := i.server.api.ListRunning(t.Context())
			must(t, err)
			n := 0
			for _, r := range running.Models {
				if strings.HasPrefix(r.Name, i.opt.Prefix) {
					n++
				}
			}
			if n != len(models) {
				t.Errorf("the server has %d models in memory, and %d are in use", n, len(models))
			}
		}
	}
	for range 2 {
		for _, m := range models {
			loaded, err := i.server.loaded(t.Context(), m.Name)
			must(t, err)
			if !loaded {
				t.Errorf("%s was pushed out", m.Name)
			}
			_, err = m.Rank(t.Context(), lessons(t, 1, 1)[0].Prompt)
			must(t, err)
		}
	}
	for _, m := range models {
		must(t, m.Close())
	}
	if loaded, err := i.server.loaded(t.Context(), models[0].Name); err != nil || loaded {
		t.Errorf("a closed model is in memory: %v, %v", loaded, err)
	}
}

// A request that comes while the model is not in memory waits for it, or is turned away at once and the model is loaded.
func TestReload(t *testing.T) {
	made := newTaught(t)
	p := lessons(t, 1, 1)[0].Prompt
	for _, on := range []OnReload{ReloadGraph, ReloadWait} {
		i := newInstaller(t, embeddedtest.RealOllama(t), made.base, InstallOptions{OnReload: on, Fresh: time.Nanosecond})
		m, err := i.Adapt(t.Context(), digestOf(t, made.adapters[0]), made.adapters[0])
		must(t, err)
		want, err := m.Rank(t.Context(), p)
		must(t, err)
		must(t, i.server.unload(t.Context(), m.Name))
		for { // the server says so before it is done
			loaded, err := i.server.loaded(t.Context(), m.Name)
			must(t, err)
			if !loaded {
				break
			}
		}
		got, err := m.Rank(t.Context(), p)
		if on == ReloadGraph {
			if !errors.Is(err, lm.ErrUnavailable) || !strings.Contains(err.Error(), "loading") {
				t.Errorf("while the model is loaded: %v, %v", got, err)
			}
			m.loads.Wait()
			got, err = m.Rank(t.Context(), p)
		}
		must(t, err)
		if !near(want, got) {
			t.Errorf("%s: %v after it was loaded again, %v before", on, got, want)
		}
		must(t, m.Close())
	}
}

// A program that starts before its server has a base model that is unavailable, until the server is there.
func TestTheBaseComesOnceTheServerDoes(t *testing.T) {
	var there atomic.Bool
	url := before(t, embeddedtest.RealOllama(t), func(w http.ResponseWriter, _ *http.Request) bool {
		if !there.Load() {
			panic(http.ErrAbortHandler)
		}
		return false
	})
	made := newTaught(t)
	p := lessons(t, 1, 1)[0].Prompt
	i := newInstaller(t, url, made.base, InstallOptions{Fresh: time.Nanosecond})
	_, err := i.Adapt(t.Context(), digestOf(t, made.adapters[0]), made.adapters[0])
	if !errors.Is(err, lm.ErrUnavailable) {
		t.Errorf("an adapter for a server that is not there: %v", err)
	}
	m, err := i.Bare(t.Context())
	must(t, err)
	for range 3 {
		if _, err := m.Rank(t.Context(), p); !errors.Is(err, lm.ErrUnavailable) {
			t.Errorf("a server that is not there: %v", err)
		}
		m.loads.Wait()
	}
	there.Store(true)
	_, _ = m.Rank(t.Context(), p)
	m.loads.Wait()
	_, err = m.Rank(t.Context(), p)
	must(t, err)
	must(t, m.Close())
}

// A quantized base is served in F16, where a server's arithmetic does not hide what an adapter changes.
func TestAQuantizedBaseIsServedInF16(t *testing.T) {
	made := newTaught(t)
	f, err := gguf.Open(made.base)
	must(t, err)
	defer f.Close()
	model, err := llama.Load(f, true)
	must(t, err)
	meta := f.Metadata.Clone()
	gguf.Set(meta, "general.file_type", uint32(7)) // llama.cpp's LLAMA_FTYPE_MOSTLY_Q8_0
	path := write(t, "q8.gguf", func(w io.Writer) error { return model.Save(w, gguf.Q8_0, meta) })
	i := newInstaller(t, embeddedtest.RealOllama(t), path, InstallOptions{})
	m, err := i.Bare(t.Context())
	must(t, err)
	info, err := m.client.Describe(t.Context())
	must(t, err)
	if info.Quantization != "F16" {
		t.Errorf("the server has it in %s", info.Quantization)
	}
	base, _ := m.Sides()
	agree(t, base, engine.Options{Path: path})
	must(t, m.Close())
}

// An adapter whose weights F16 does not hold once they are merged is at fault itself.
func TestAnAdapterThatCannotBeMergedIsRefused(t *testing.T) {
	made := newTaught(t)
	path := changed(t, made.adapters[0], func(a *lora.Adapter) { a.Pairs[0].B[0] = 1e9 })
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"models":[]}`) })
	_, err := newInstaller(t, server.URL, made.base, InstallOptions{Merged: true}).Adapt(t.Context(), digestOf(t, path), path)
	var r interface{ Refused() bool }
	if !errors.As(err, &r) || !r.Refused() || !strings.Contains(err.Error(), "F16 cannot hold") {
		t.Errorf("%v", err)
	}
}

// Nonsense of a model tells against it where it is to be proven, and a web page in place of its answer does not.
func TestSidesTellNonsenseFromNoAnswer(t *testing.T) {
	p := lessons(t, 1, 1)[0].Prompt
	for answer, want := range map[string]error{
		`{"done":true,"logprobs":[{"top_logprobs":[{"token":"The","logprob":3}]}]}`: lm.ErrNonsense,
		`<html>Back soon</html>`: lm.ErrUnavailable,
		`{"done":false}`:         lm.ErrUnavailable,
		``:                       lm.ErrUnavailable,
	} {
		at := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer) }).URL
		c := mustNew(t, Options{BaseURL: at, Model: "m", Learned: true})
		_, _, err := side{letters, anyMass, func(context.Context) (*Client, error) { return c, nil }}.Stated(t.Context(), p)
		if other := map[error]error{lm.ErrNonsense: lm.ErrUnavailable, lm.ErrUnavailable: lm.ErrNonsense}[want]; !errors.Is(err, want) || errors.Is(err, other) {
			t.Errorf("%q: %v, want %v", answer, err, want)
		}
	}
}

func TestInstallerRefuses(t *testing.T) {
	made := newTaught(t)
	good := InstallOptions{Base: made.base, Now: time.Now}
	for want, change := range map[string]func(*InstallOptions){
		"Now is required":    func(o *InstallOptions) { o.Now = nil },
		`Prefix "a b"`:       func(o *InstallOptions) { o.Prefix = "a b" },
		`OnReload "perhaps"`: func(o *InstallOptions) { o.OnReload = "perhaps" },
		"http://host:port":   func(o *InstallOptions) { o.BaseURL = "127.0.0.1:11434" },
		"no such file":       func(o *InstallOptions) { o.Base += ".gone" },
		"prompts have":       func(o *InstallOptions) { o.PromptVersion = 9 },
		"tokenizer":          func(o *InstallOptions) { o.Base = made.adapters[0] },
	} {
		o := good
		change(&o)
		if i, err := NewInstaller(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, %v, want %q", i, err, want)
		}
	}
	i, err := NewInstaller(good)
	must(t, err)
	defer i.Close()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := i.Bare(gone); !errors.Is(err, context.Canceled) || errors.Is(err, lm.ErrUnavailable) {
		t.Errorf("a caller who gave up: %v", err)
	}
	if _, err := i.Adapt(t.Context(), strings.Repeat("a", 64), made.adapters[0]); err == nil || !strings.Contains(err.Error(), "was asked for") {
		t.Errorf("another file: %v", err)
	}
}
