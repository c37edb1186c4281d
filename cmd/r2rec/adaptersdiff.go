package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"text/tabwriter"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama/lora"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/internal/lm/proof"
)

type adaptersDiffCommand struct {
	A             string `arg:"" help:"Digest of an adapter, or its first digits, or base, the model without one." placeholder:"DIGEST|base"`
	B             string `arg:"" help:"The one to compare with." placeholder:"DIGEST|base"`
	servedFlags   `embed:""`
	adapterPlaces `embed:""`
}

// Help is shown by `r2rec adapters diff --help`.
func (adaptersDiffCommand) Help() string {
	return `Weights: Frobenius norms of what each adapter adds to a layer, and of the difference between the two.

Answers: both are asked the canaries that are stored with either, by the model of --model, run within this program.`
}

// adapterDiff is how two adapters differ.
type adapterDiff struct {
	A      string       `json:"a"`
	B      string       `json:"b"`
	Layers []layerDiff  `json:"layers"`
	Total  layerDiff    `json:"total"`
	Answer *shownChange `json:"canaries,omitempty"`
	Why    string       `json:"canaries_left_out,omitempty"`
}

// layerDiff is how they differ in one layer. What is relative to nothing is left out.
type layerDiff struct {
	Layer     string   `json:"layer,omitempty"`
	A         float64  `json:"norm_a"`
	B         float64  `json:"norm_b"`
	Between   float64  `json:"difference"`
	RelativeA *float64 `json:"relative_to_a,omitempty"`
	RelativeB *float64 `json:"relative_to_b,omitempty"`
}

func newLayerDiff(layer string, a, b, between float64) layerDiff {
	d := layerDiff{Layer: layer, A: a, B: b, Between: between}
	relative := func(norm float64) *float64 {
		if norm == 0 {
			return nil
		}
		r := between / norm
		return &r
	}
	d.RelativeA, d.RelativeB = relative(a), relative(b)
	return d
}

// compared is one of the two adapters.
type compared struct {
	digest  string
	path    string        // empty: the bare base model
	adapter *lora.Adapter // nil: the bare base model
	canary  []proof.Canary
}

func (c adaptersDiffCommand) Run(p *process) (err error) {
	d, err := c.look(p)
	if err != nil {
		return err
	}
	defer d.close()
	cache, err := os.MkdirTemp("", "r2rec-adapters-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(cache)) }()
	var two [2]compared
	for i, name := range []string{c.A, c.B} {
		if two[i], err = d.bring(p, name, cache); err != nil {
			return err
		}
	}
	diff := adapterDiff{A: two[0].digest, B: two[1].digest, Layers: []layerDiff{}}
	if err := diff.weights(two); err != nil {
		return err
	}
	change, err := c.answers(p, two)
	var other *lora.MismatchError
	var apart *readApartError
	switch {
	case errors.As(err, &other), errors.As(err, &apart):
		diff.Why = err.Error()
	case err != nil:
		return err
	case change.Canaries == 0:
		diff.Why = "none are stored with either"
	}
	diff.Answer = newShownChange(change)
	if c.JSON {
		return json.NewEncoder(p.stdout).Encode(diff)
	}
	return diff.write(p.stdout)
}

// bring fetches one of the two.
func (d *adapterDesk) bring(p *process, name, cache string) (c compared, err error) {
	if c.digest, err = d.find(p, name); err != nil || c.digest == "" {
		return c, err
	}
	var m adapters.Manifest
	if c.path, m, err = d.store.Fetch(p.ctx, c.digest, cache); err != nil {
		return c, err
	}
	c.canary = m.Canaries
	c.adapter, err = lora.Read(c.path)
	return c, err
}

func (d *adapterDiff) weights(two [2]compared) error {
	var a, b, between float64
	for _, l := range lora.Distances(two[0].adapter, two[1].adapter) {
		if math.IsNaN(l.Between) {
			return fmt.Errorf("layer %s has another shape in %s than in %s: they are for different models", iot.Clean(l.Target), shortName(d.A), shortName(d.B))
		}
		d.Layers = append(d.Layers, newLayerDiff(l.Target, l.A, l.B, l.Between))
		a, b, between = a+l.A*l.A, b+l.B*l.B, between+l.Between*l.Between
	}
	d.Total = newLayerDiff("", math.Sqrt(a), math.Sqrt(b), math.Sqrt(between))
	return nil
}

// answers asks both the canaries of both.
func (c adaptersDiffCommand) answers(p *process, two [2]compared) (adapters.Change, error) {
	canaries := append(two[0].canary[:len(two[0].canary):len(two[0].canary)], two[1].canary...)
	if len(canaries) == 0 {
		return adapters.Change{}, nil
	}
	as, err := readAlike(two)
	if err != nil {
		return adapters.Change{}, err
	}
	shown := &stages{p: p}
	defer shown.close()
	var shares [2][][]float64
	for i, one := range two {
		err := c.ask(p, one.path, as, canaries, func(n int, s []float64) {
			shares[i] = append(shares[i], s)
			shown.set("asking", i*len(canaries)+n+1, 2*len(canaries))
		})
		if err != nil {
			return adapters.Change{}, err
		}
	}
	return adapters.CompareShares(shares[0], shares[1]), nil
}

// readApartError says that two adapters' answers are about different prompts, or read elsewhere in them.
type readApartError struct{ a, b lora.Manifest }

func (e *readApartError) Error() string {
	return fmt.Sprintf("they are read differently: by %s of prompt %d, and by %s of prompt %d", e.a.Readout, e.a.PromptVersion, e.b.Readout, e.b.PromptVersion)
}

// readAlike is how both are asked: the bare model as the adapter has it read.
func readAlike(two [2]compared) (as lora.Manifest, err error) {
	a, b := two[0].adapter, two[1].adapter
	switch {
	case a == nil && b == nil:
		return as, nil
	case a == nil:
		return b.Manifest, nil
	case b != nil && (a.Manifest.Readout != b.Manifest.Readout || a.Manifest.PromptVersion != b.Manifest.PromptVersion):
		return as, &readApartError{a.Manifest, b.Manifest}
	}
	return a.Manifest, nil
}

// ask asks one adapter, or the bare model, all canaries.
func (c adaptersDiffCommand) ask(p *process, adapter string, as lora.Manifest, canaries []proof.Canary, told func(n int, logShares []float64)) (err error) {
	model, err := c.servedFlags.open(engine.Options{Adapter: adapter, Readout: engine.Readout(as.Readout), PromptVersion: as.PromptVersion, Concurrency: 1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	who, err := model.Identity(p.ctx)
	if err != nil {
		return err
	}
	for n, canary := range canaries {
		prompt, err := iot.Build(who.PromptVersion, canary.Context, canary.Seed)
		if err != nil {
			return fmt.Errorf("canary %d: %w", n, err)
		}
		shares, err := model.Rank(p.ctx, prompt)
		if err != nil {
			return fmt.Errorf("canary %d: %w", n, err)
		}
		told(n, shares)
	}
	return nil
}

func (d adapterDiff) write(w io.Writer) error {
	a, b := shortName(d.A), shortName(d.B)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "layer\t%s\t%s\tdifference\tof %s\tof %s\t\n", a, b, a, b)
	for _, l := range append(d.Layers, d.Total) {
		name := iot.Clean(l.Layer)
		if name == "" {
			name = "all"
		}
		fmt.Fprintf(t, "%s\t%.4g\t%.4g\t%.4g\t%s\t%s\t\n", name, l.A, l.B, l.Between, part(l.RelativeA), part(l.RelativeB))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if d.Answer == nil {
		_, err := fmt.Fprintf(w, "\nCanaries: not compared: %s\n", iot.Clean(d.Why))
		return err
	}
	_, err := fmt.Fprintf(w, "\nCanaries: %s\n", d.Answer)
	return err
}

func part(share *float64) string {
	if share == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100**share)
}
