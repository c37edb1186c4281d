package ollama

import (
	mathrand "math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama/learn"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/internal/lm/loader"
	"github.com/r2rec/r2rec/internal/lm/proof"
)

// An adapter of a public model goes the whole way: learned with letters on the quantized file, installed on a server, as a
// layer and merged, proven there, and asked. The log has what it takes and what the proof finds.
func TestSmolLM2EndToEnd(t *testing.T) {
	url, base := embeddedtest.RealOllama(t), embeddedtest.RealModel(t)
	model, err := engine.Open(engine.Options{Path: base, Readout: engine.Letters, PromptVersion: iot.Figures, Trainable: true})
	must(t, err)
	defer model.Close()
	l, err := model.NewAdapter(engine.AdapterOptions{Targets: []string{"attn_q", "attn_v"}, Learn: learn.Options{Optimiser: learn.AdamW{Rate: 2e-3}, Workers: 2}})
	must(t, err)
	began := time.Now()
	const steps, batch = 2, 3
	all := lessons(t, 5, steps*batch)
	for step := range steps {
		p, err := l.Learn(t.Context(), all[step*batch:][:batch])
		must(t, err)
		t.Logf("step %d: loss %.2f nats, %d tokens", p.Step, p.Loss, p.Tokens)
	}
	t.Logf("learned in %v", time.Since(began).Round(time.Second))
	path := write(t, "smollm2.gguf", l.Write)
	r := mathrand.New(mathrand.NewPCG(78, 1))
	var asks []proof.Ask
	for i := range 5 {
		c, _ := digitsContext(r, 8)
		asks = append(asks, proof.Ask{Context: c, Seed: uint64(i)})
	}
	measured, err := proof.Choose(t.Context(), iot.Figures, asks, model, l, 5, nil)
	must(t, err)
	digest := digestOf(t, path)
	layers := newInstaller(t, url, base, InstallOptions{OnReload: ReloadWait, PromptVersion: iot.Figures})
	o := layers.opt
	o.Merged = true
	merges, err := NewInstaller(o) // of the same models
	must(t, err)
	defer merges.Close()
	for name, i := range map[string]*Installer{"layer": layers, "merged": merges} {
		lap := func(what string, do func() error) {
			t.Helper()
			began := time.Now()
			must(t, do())
			t.Logf("%s: %s in %v", name, what, time.Since(began).Round(time.Millisecond))
		}
		var m *Model
		lap("installed, first answer", func() (err error) { m, err = i.Adapt(t.Context(), digest, path); return err })
		must(t, m.Close())
		var served *loader.Loaded
		lap("installed again, first answer", func() (err error) {
			served, err = loader.Loader{Engine: installed{i}, Fetch: fetched(digest, path, measured)}.Load(t.Context(), digest)
			return err
		})
		lap("proof", func() error { return served.Prove(t.Context(), time.Minute) })
		report := served.Report()
		t.Logf("%s: %+v", name, report)
		if report.Verdict != proof.Proven || report.Noise > .05 {
			t.Errorf("%s: %+v", name, report)
		}
		var shares []float64
		lap("answer", func() (err error) { shares, err = served.Rank(t.Context(), all[0].Prompt); return err })
		checkShares(t, shares, len(all[0].Prompt.Letters))
		if who, err := served.Identity(t.Context()); err != nil || who.Adapter != digest || !strings.Contains(who.Name, ":"+name) {
			t.Errorf("%+v, %v", who, err)
		}
		must(t, served.Close())
		_, err := layers.Prune(t.Context())
		must(t, err)
	}
}
