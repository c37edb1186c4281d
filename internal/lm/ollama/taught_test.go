package ollama

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama"
	"github.com/r2rec/r2rec/internal/llama/learn"
	"github.com/r2rec/r2rec/internal/llama/lora"
	"github.com/r2rec/r2rec/internal/llama/token"
	"github.com/r2rec/r2rec/internal/lm"
	"github.com/r2rec/r2rec/internal/lm/engine"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// digitsContext has n candidates, of which the chosen one has the most of the first evidence.
func digitsContext(r *mathrand.Rand, n int) (c event.Context, chosen int) {
	chosen = r.IntN(n)
	for i := range n {
		e := event.Evidence{SimilarLast: r.Float64(), Popularity: r.IntN(50), Category: r.Float64(), Together: r.Float64()}
		e.LikeMindedRecent[2] = .85 * r.Float64()
		if i == chosen {
			e.LikeMindedRecent[2] = 1
		}
		c.Candidates = append(c.Candidates, event.Candidate{ItemID: string(rune('a' + i)), Evidence: e})
	}
	return c, chosen
}

func lessons(t testing.TB, seed uint64, n int) (out []lm.Lesson) {
	t.Helper()
	r := mathrand.New(mathrand.NewPCG(seed, 1))
	for range n {
		c, chosen := digitsContext(r, 2+r.IntN(8))
		p, err := iot.Build(iot.Figures, c, r.Uint64())
		must(t, err)
		out = append(out, lm.Lesson{Prompt: p, Chosen: chosen})
	}
	return out
}

func teach(t testing.TB, l *engine.Learner, seed uint64, steps int) {
	t.Helper()
	all := lessons(t, seed, 16*steps)
	for step := range steps {
		_, err := l.Learn(t.Context(), all[16*step:][:16])
		must(t, err)
	}
}

func write(t testing.TB, name string, data func(io.Writer) error) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	must(t, gguf.WriteFile(path, data))
	return path
}

// taught is a small base model that answers by a readout, and adapters for it; all tests share the files.
type taught struct {
	base     string
	adapters []string // of different lessons
}

// taughtData are such files.
type taughtData struct {
	once     sync.Once
	base     []byte
	adapters [][]byte
}

var taughtBy = map[engine.Readout]*taughtData{engine.Letters: {}, engine.Verdicts: {}}

// newTaught writes the files of those that answer with letters.
func newTaught(t testing.TB) taught {
	t.Helper()
	return newTaughtBy(t, engine.Letters)
}

// newTaughtBy writes the files of those that answer by a readout.
func newTaughtBy(t testing.TB, readout engine.Readout) taught {
	t.Helper()
	made := taughtBy[readout]
	made.once.Do(func() { made.teach(t, readout) })
	bytes := func(name string, data []byte) string {
		return write(t, name, func(w io.Writer) error { _, err := w.Write(data); return err })
	}
	out := taught{base: bytes("base.gguf", made.base)}
	for _, data := range made.adapters {
		out.adapters = append(out.adapters, bytes("adapter.gguf", data))
	}
	return out
}

func (made *taughtData) teach(t testing.TB, readout engine.Readout) {
	required := []string{" yes", " no"}
	for i := range iot.MaxCandidates {
		required = append(required, " "+string(rune('A'+i)))
	}
	var texts []string
	for _, l := range lessons(t, 7, 20) {
		texts = append(texts, l.Prompt.Text)
	}
	v, err := token.Train(slices.Values(texts), 320, token.TrainOptions{Required: required})
	must(t, err)
	l, err := engine.NewModel(engine.ModelOptions{Name: "taught", Spread: .1, Seed: 1, Tokens: v, PromptVersion: iot.Figures, Readout: readout,
		Shape: llama.Config{Dim: 64, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 16, FeedForward: 128, Context: 4096, Epsilon: 1e-5, Tied: true, Rope: llama.Rope{Base: 1000, Dims: 16}},
		Learn: learn.Options{Optimiser: learn.AdamW{Rate: 4e-3}, Workers: 2}})
	must(t, err)
	teach(t, l, 1, 30)
	var base strings.Builder
	must(t, l.Write(&base))
	made.base = []byte(base.String())
	m, err := engine.Open(engine.Options{Path: write(t, "base.gguf", l.Write), Trainable: true})
	must(t, err)
	defer m.Close()
	for seed := range uint64(2) {
		l, err := m.NewAdapter(engine.AdapterOptions{Rank: 4, Seed: seed, Learn: learn.Options{Optimiser: learn.AdamW{Rate: 4e-3}, Workers: 2}})
		must(t, err)
		teach(t, l, 10+seed, 6)
		var data strings.Builder
		must(t, l.Write(&data))
		made.adapters = append(made.adapters, []byte(data.String()))
	}
}

// changed is an adapter file with other numbers.
func changed(t testing.TB, path string, change func(*lora.Adapter)) string {
	t.Helper()
	a, err := lora.Read(path)
	must(t, err)
	change(a)
	out := filepath.Join(t.TempDir(), "changed.gguf")
	must(t, lora.Write(out, a))
	return out
}

// digestOf names an adapter file.
func digestOf(t testing.TB, path string) string {
	t.Helper()
	f, err := gguf.Open(path)
	must(t, err)
	defer f.Close()
	return f.Digest()
}

// newInstaller makes models on the server at url whose names no other test has, and deletes them in the end.
func newInstaller(t testing.TB, url, base string, o InstallOptions) *Installer {
	t.Helper()
	o.Ask.Threads = 1
	o.BaseURL, o.Base, o.Prefix, o.Now = url, base, "test-"+strings.ToLower(rand.Text()), time.Now
	i, err := NewInstaller(o)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		must(t, errors.Join(i.Uninstall(ctx), i.Close()))
	})
	return i
}
