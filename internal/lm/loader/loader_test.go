package loader

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama/learn"
	"github.com/r2rec/r2rec/internal/llama/lora"
	"github.com/r2rec/r2rec/internal/lm"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/internal/lm/proof"
	"github.com/r2rec/r2rec/reasoner"
)

// contexts have 20 candidates with random evidence.
func contexts(seed uint64, n int) (out []event.Context) {
	r := rand.New(rand.NewPCG(seed, 1))
	for range n {
		c := event.Context{Likes: 3}
		for i := range iot.MaxCandidates {
			e := event.Evidence{Popularity: r.IntN(50), Similar: r.Float64(), SimilarLast: r.Float64(), Category: r.Float64()}
			e.LikeMindedRecent[1], e.LikeMindedRecent[2] = r.Float64(), r.Float64()
			c.Candidates = append(c.Candidates, event.Candidate{ItemID: fmt.Sprint(i), Title: fmt.Sprint("Item ", i), Evidence: e})
		}
		out = append(out, c)
	}
	return out
}

// workshop makes adapters of the base model and serves them.
type workshop struct {
	testing.TB
	base  *engine.Model
	dir   string
	files map[string]File // by digest, as a store would have them
	fetch error           // of every fetch
	wrap  func(Engine) Engine
	sw    *reasoner.Switch
	made  int // files
}

// path is of another file each time.
func (w *workshop) path() string {
	w.made++
	return filepath.Join(w.dir, fmt.Sprintf("%d.gguf", w.made))
}

func newWorkshop(t testing.TB) *workshop {
	t.Helper()
	base, err := engine.Open(engine.Options{Trainable: true})
	must(t, err)
	t.Cleanup(func() { must(t, base.Close()) })
	return &workshop{TB: t, base: base, dir: t.TempDir(), files: map[string]File{}}
}

// train makes an adapter that has learned to choose what is least popular, in so many steps, and measures canaries.
func (w *workshop) train(steps int, canaries int) (path string, measured []proof.Canary) {
	w.Helper()
	l, err := w.base.NewAdapter(engine.AdapterOptions{Rank: 4, Seed: 7, Learn: learn.Options{Optimiser: learn.AdamW{Rate: 1e-2}, Workers: 2}})
	must(w, err)
	for step := range steps {
		var batch []lm.Lesson
		for i, c := range contexts(uint64(100+step), 8) {
			p, err := iot.Build(iot.FullFigures, c, uint64(i))
			must(w, err)
			least := 0
			for j := range c.Candidates {
				if c.Candidates[j].Evidence.Popularity < c.Candidates[least].Evidence.Popularity {
					least = j
				}
			}
			batch = append(batch, lm.Lesson{Prompt: p, Chosen: least})
		}
		_, err := l.Learn(w.Context(), batch)
		must(w, err)
	}
	path = w.path()
	f, err := os.Create(path)
	must(w, err)
	must(w, errors.Join(l.Write(f), f.Close()))
	var asks []proof.Ask
	for i, c := range contexts(3, 2*canaries) {
		asks = append(asks, proof.Ask{Context: c, Seed: uint64(i)})
	}
	measured, err = proof.Choose(w.Context(), iot.FullFigures, asks, w.base, l, canaries, nil)
	must(w, err)
	return path, measured
}

// put stores a file under the digest of its bytes.
func (w *workshop) put(path string, canaries []proof.Canary) (digest string) {
	w.Helper()
	f, err := os.Open(path)
	must(w, err)
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	must(w, err)
	digest = hex.EncodeToString(h.Sum(nil))
	w.files[digest] = File{Path: path, Canaries: canaries}
	return digest
}

// changed is the adapter of a file, changed.
func (w *workshop) changed(path string, change func(*lora.Adapter)) string {
	w.Helper()
	a, err := lora.Read(path)
	must(w, err)
	change(a)
	out := w.path()
	must(w, lora.Write(out, a))
	return out
}

// Load implements reasoner.Loader.
func (w *workshop) Load(ctx context.Context, digest string) (reasoner.Loaded, error) {
	var e Engine = Embedded{w.base}
	if w.wrap != nil {
		e = w.wrap(e)
	}
	return Loader{Engine: e, Fetch: func(_ context.Context, digest string) (File, error) {
		if f, ok := w.files[digest]; ok && w.fetch == nil {
			return f, nil
		}
		return File{}, errors.Join(w.fetch, errors.New("no such object"))
	}}.Load(ctx, digest)
}

// serve starts a Switch over the workshop's files.
func (w *workshop) serve() {
	w.Helper()
	first, err := Loader{Engine: Embedded{w.base}}.Load(w.Context(), "")
	must(w, err)
	w.sw, err = reasoner.NewSwitch(reasoner.SwitchOptions{Loader: w, First: first, Now: time.Now})
	must(w, err)
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan error, 1)
	go func() { done <- w.sw.Run(ctx) }()
	w.Cleanup(func() {
		cancel()
		must(w, errors.Join(<-done, w.sw.Close(context.Background())))
	})
}

// want asks for an adapter and waits until it serves, or it is known why not.
func (w *workshop) want(digest string) reasoner.SwitchStatus {
	w.Helper()
	w.sw.Want(reasoner.Target{Current: digest})
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	must(w, w.sw.Await(ctx, func(st reasoner.SwitchStatus) bool { return st.Settled() || len(st.Faults) > 0 }))
	return w.sw.Status()
}

// ask is what a request is answered.
func (w *workshop) ask(c event.Context) (adapter string, shares []float64) {
	w.Helper()
	m, release, err := w.sw.Hold(w.Context(), "u")
	must(w, err)
	defer release()
	who, err := m.Identity(w.Context())
	must(w, err)
	p, err := iot.Build(who.PromptVersion, c, 5)
	must(w, err)
	shares, err = m.Rank(w.Context(), p)
	must(w, err)
	return who.Adapter, shares
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhatWasTrainedIsServed(t *testing.T) {
	w := newWorkshop(t)
	path, canaries := w.train(6, 20)
	good := w.put(path, canaries)
	w.serve()
	if st := w.want(good); !st.Settled() {
		t.Fatalf("%+v", st)
	}
	c := contexts(9, 1)[0]
	adapter, got := w.ask(c)
	alone, err := engine.Open(engine.Options{Adapter: path})
	must(t, err)
	defer alone.Close()
	p, err := iot.Build(iot.FullFigures, c, 5)
	must(t, err)
	want, err := alone.Rank(t.Context(), p)
	must(t, err)
	if adapter != good || !slices.Equal(got, want) {
		t.Errorf("%s answers %v, want %s and %v", adapter, got, good, want)
	}
	m, err := w.Load(t.Context(), good)
	must(t, err)
	defer m.Close()
	must(t, m.Prove(t.Context(), time.Minute))
	if r := m.(*Loaded).Report(); r.Verdict != proof.Proven || r.Canaries != 20 || r.Tokens != 400 || r.Slope < .99 || r.Slope > 1.01 {
		t.Errorf("%+v", r)
	}
	if st := w.want(""); !st.Settled() { // and back to the base model
		t.Fatalf("%+v", st)
	}
	bare, err := w.base.Rank(t.Context(), p)
	must(t, err)
	if adapter, got = w.ask(c); adapter != "" || !slices.Equal(got, bare) {
		t.Errorf("%q answers %v, want the base model's %v", adapter, got, bare)
	}
}

// dropping is an engine that loses adapters and says nothing.
type dropping struct{ Engine }

func (d dropping) Adapt(ctx context.Context, digest, path string) (Model, error) {
	bare, err := d.Bare(ctx)
	return named{bare, digest}, err
}

// named is a model that goes by the name of an adapter.
type named struct {
	Model
	digest string
}

func (n named) Identity(ctx context.Context) (event.Model, error) {
	who, err := n.Model.Identity(ctx)
	who.Adapter = n.digest
	return who, err
}

// What was judged thinking before its answers is not served by who answers at once.
func TestWhatThinksOtherwiseIsRefused(t *testing.T) {
	w := newWorkshop(t)
	path, canaries := w.train(6, 20)
	digest := w.put(path, canaries)
	f := w.files[digest]
	f.Think = 40
	w.files[digest] = f
	w.serve()
	st := w.want(digest)
	if st.Settled() || !st.Faults[0].Refused || !strings.Contains(st.Faults[0].Reason, "thinks for up to 40 tokens, and the model answers at once here: serve with --think 40") {
		t.Errorf("%+v", st)
	}
}

// Each adapter that must not be served is refused with its reason, once, while the old one goes on serving.
func TestWhatMustNotBeServed(t *testing.T) {
	w := newWorkshop(t)
	path, canaries := w.train(6, 20)
	good := w.put(path, canaries)
	unchanged, nothing := w.train(0, 20)
	other := strings.Repeat("ab", 32)
	raw, err := os.ReadFile(path)
	must(t, err)
	corrupt := func(name string, change func([]byte) []byte) string {
		out := filepath.Join(w.dir, name)
		must(t, os.WriteFile(out, change(slices.Clone(raw)), 0o600))
		return out
	}
	cut := corrupt("cut.gguf", func(b []byte) []byte { return b[:len(b)/2] })
	flipped := corrupt("flipped.gguf", func(b []byte) []byte { b[len(b)-3] ^= 1; return b })
	rows := w.changed(path, func(a *lora.Adapter) {
		for i := range a.Pairs {
			if p := &a.Pairs[i]; strings.HasSuffix(p.Target, "attn_q") || strings.HasSuffix(p.Target, "attn_k") {
				p.B = slices.Concat(p.B[len(p.B)/2:], p.B[:len(p.B)/2])
			}
		}
	})
	huge := func(by float32) string {
		return w.changed(path, func(a *lora.Adapter) {
			for _, p := range a.Pairs {
				for i := range p.A {
					p.A[i] = by
				}
				for i := range p.B {
					p.B[i] = by
				}
			}
		})
	}
	w.serve()
	if st := w.want(good); !st.Settled() {
		t.Fatalf("%+v", st)
	}
	c := contexts(9, 1)[0]
	_, before := w.ask(c)
	manifest := func(change func(*lora.Manifest)) string {
		return w.changed(path, func(a *lora.Adapter) { change(&a.Manifest) })
	}
	for _, tc := range []struct {
		name, path string
		canaries   []proof.Canary
		want       string
	}{
		{"no-op", unchanged, nothing, "it changes nothing"},
		{"no-op with another's canaries", w.changed(unchanged, func(a *lora.Adapter) { a.Manifest.Note = "x" }), canaries, "as if there were no adapter"},
		{"rows in the wrong order", rows, canaries, "proof of the swap: refused"},
		{"another base", manifest(func(m *lora.Manifest) { m.BaseDigest = other }), canaries, "base_digest " + other},
		{"another prompt version", manifest(func(m *lora.Manifest) { m.PromptVersion = iot.Words }), canaries, "prompt_version 1, the server has 4"},
		{"another readout", manifest(func(m *lora.Manifest) { m.Readout = "letters" }), canaries, "readout letters, the server has lines"},
		{"another tokenizer", manifest(func(m *lora.Manifest) { m.TokenizerDigest = other }), canaries, "tokenizer_digest " + other},
		{"cut short", cut, canaries, "cut.gguf"},
		{"without canaries", w.changed(path, func(a *lora.Adapter) { a.Manifest.Note = "x" }), nil, "without canaries"},
		{"weights beyond float32", huge(1e30), canaries, "not a finite number"},
		{"answers that rank nothing", huge(1e18), canaries, "by the adapter: the score of candidate"},
		{"no adapter at all", corrupt("text.gguf", func([]byte) []byte { return []byte("this is no adapter") }), canaries, "GGUF"},
	} {
		digest := w.put(tc.path, tc.canaries)
		st := w.want(digest)
		if len(st.Faults) != 1 || !st.Faults[0].Refused || !strings.Contains(st.Faults[0].Reason, tc.want) {
			t.Errorf("%s: %+v, want it refused with %q", tc.name, st.Faults, tc.want)
		}
		if adapter, after := w.ask(c); adapter != good || !slices.Equal(after, before) {
			t.Errorf("%s: %s answers, or otherwise than before", tc.name, adapter)
		}
	}

	w.files[other] = File{Path: flipped, Canaries: canaries} // a store that does not check what it gives
	if st := w.want(other); len(st.Faults) != 1 || !st.Faults[0].Refused || !strings.Contains(st.Faults[0].Reason, "calls itself adapter") {
		t.Errorf("a file with a wrong byte: %+v", st.Faults)
	}
	w.want(good)
	w.wrap = func(e Engine) Engine { return dropping{e} }
	again := w.put(w.changed(path, func(a *lora.Adapter) { a.Manifest.Note = "the same, for a server that drops it" }), canaries)
	if st := w.want(again); len(st.Faults) != 1 || !strings.Contains(st.Faults[0].Reason, "as if there were no adapter") {
		t.Errorf("a server that drops adapters: %+v", st.Faults)
	}
	if adapter, after := w.ask(c); adapter != good || !slices.Equal(after, before) {
		t.Errorf("%s answers, or otherwise than before", adapter)
	}
}

// What is no fault of the adapter is tried again.
func TestWhatMayComeBack(t *testing.T) {
	w := newWorkshop(t)
	path, canaries := w.train(2, 4)
	good := w.put(path, canaries)
	w.fetch = errors.New("the bucket does not answer")
	w.serve()
	st := w.want(good)
	if len(st.Faults) != 1 || st.Faults[0].Refused || !strings.Contains(st.Faults[0].Reason, "fetch adapter "+good+": the bucket does not answer") {
		t.Errorf("%+v", st.Faults)
	}
	_, err := Embedded{w.base}.Adapt(t.Context(), good, filepath.Join(w.dir, "missing.gguf"))
	var r interface{ Refused() bool }
	if !errors.Is(err, fs.ErrNotExist) || errors.As(err, &r) {
		t.Errorf("a file that is gone: %v", err)
	}
}

// A machine that fails says nothing about the adapter.
func TestFaultsOfTheMachine(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{&fs.PathError{Op: "open", Path: "a.gguf", Err: syscall.EMFILE}, true},
		{fmt.Errorf("open GGUF file a.gguf: map into memory: %w", syscall.ENOMEM), true},
		{errors.New("open GGUF file a.gguf: not a GGUF file"), false},
	} {
		if got := passing(fmt.Errorf("adapter a.gguf: %w", c.err)); got != c.want {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}

// BenchmarkLoad is what an adapter of the base model costs until it serves, and the memory that it keeps.
func BenchmarkLoad(b *testing.B) {
	w := newWorkshop(b)
	path, canaries := w.train(4, 20)
	digest := w.put(path, canaries)
	base, err := engine.Open(engine.Options{})
	must(b, err)
	defer base.Close()
	l := Loader{Engine: Embedded{base}, Fetch: func(context.Context, string) (File, error) { return w.files[digest], nil }}
	var held []*Loaded
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for b.Loop() {
		m, err := l.Load(b.Context(), digest)
		must(b, err)
		must(b, m.Prove(b.Context(), time.Minute))
		must(b, m.Warm(b.Context(), time.Minute))
		held = append(held, m)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(len(held))/(1<<20), "MiB/adapter")
	for _, m := range held {
		must(b, m.Close())
	}
}
