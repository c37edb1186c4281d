package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm/loader"
)

// swapFigures runs the benchmark for a second and returns its figures.
func swapFigures(t *testing.T, args ...string) map[string]figure {
	t.Helper()
	var out, errs bytes.Buffer
	args = append(strings.Fields("bench swap --seconds 1 --clients 4 --swaps 3 --adapters 2 --events 3000 --contexts 10 --json"), args...)
	if code := run(t.Context(), args, &out, &errs); code != 0 {
		t.Fatalf("exit code %d, %s", code, errs.String())
	}
	figures := map[string]figure{}
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		var f figure
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatal(err)
		}
		figures[f.Metric] = f
	}
	return figures
}

func TestBenchSwap(t *testing.T) {
	figures := swapFigures(t)
	for metric, unit := range map[string]string{"requests": "requests", "failed_requests": "requests", "compared_requests": "requests", "mixed_requests": "requests", "stall_p99_ms": "ms", "swap_ms": "ms"} {
		f, ok := figures[metric]
		if !ok || f.Unit != unit || f.Command != "bench swap" {
			t.Errorf("%s is %+v, %v; want it in %s", metric, f, ok, unit)
		}
	}
	if f := figures["failed_requests"].Value + figures["mixed_requests"].Value; f != 0 || figures["requests"].Value < 10 || figures["swap_ms"].Samples != 3 {
		t.Errorf("%+v", figures)
	}
}

// exchanging is an engine whose adapters give every second answer by the base model.
type exchanging struct {
	loader.Engine
}

func (e exchanging) Adapt(ctx context.Context, digest, path string) (loader.Model, error) {
	m, err := e.Engine.Adapt(ctx, digest, path)
	if err != nil {
		return nil, err
	}
	bare, err := e.Bare(ctx)
	return &twoFaced{Model: m, other: bare}, err
}

// twoFaced answers prompts of an even number by another model.
type twoFaced struct {
	loader.Model
	other loader.Model
	n     int
}

func (m *twoFaced) Rank(ctx context.Context, p iot.Prompt) ([]float64, error) {
	if m.n++; m.n%2 == 0 {
		return m.other.Rank(ctx, p)
	}
	return m.Model.Rank(ctx, p)
}

// TestBenchSwapSees what it is there to find: answers that the adapter they name does not give, and requests that fail.
func TestBenchSwapSees(t *testing.T) {
	c := benchSwapCommand{Seconds: 1, Clients: 1, Swaps: 1, Adapters: 1}
	contexts := randomContexts(12)
	p := &process{ctx: t.Context(), stderr: &bytes.Buffer{}, stdout: &bytes.Buffer{}, log: slog.New(slog.DiscardHandler)}
	shown := &stages{p: p}
	defer shown.close()
	s, err := c.embedded(t.Context(), t.TempDir(), shown, contexts)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	s.concurrency = 1
	s.engine = exchanging{s.engine}
	m, err := c.measure(p, shown, s, contexts)
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, q := range m.requests {
		if q.adapter != "" {
			named++
		}
	}
	if m.mixed < named/2-2 || m.mixed > named/2+2 || named < 4 || !strings.Contains(m.example, "nats off (candidate") {
		t.Errorf("%d of %d answers in the adapter's name are found to be another's (%s), want half", m.mixed, named, m.example)
	}
	if m.compared != len(m.requests) {
		t.Errorf("%d of %d answers are compared, want all: the embedded engine tells everything", m.compared, len(m.requests))
	}
	var all swapTotals
	all.add(s, swapMeasured{requests: []swapRequest{{}, {shares: []float64{1}}}})
	if all.failed != 1 || all.requests != 2 {
		t.Errorf("%+v, want one failed request of two", all)
	}
}

// TestBenchSwapComparesWhatWasTold: a letter that the server had a floor for is not compared, nor does it move the others'.
func TestBenchSwapComparesWhatWasTold(t *testing.T) {
	shares := func(p ...float64) (out []float64) {
		for _, p := range p {
			out = append(out, math.Log(p))
		}
		return out
	}
	want, floored := shares(.5, .25, .25), shares(.6, .3, .1) // the third has another share, and the others what is left
	if off, of := between(floored, want, []bool{true, true, false}); off > 1e-12 {
		t.Errorf("candidate %d is %g off, but the one that differs was not told", of, off)
	}
	if off, of := between(floored, want, nil); of != 2 || math.Abs(off-math.Log(2.5)) > 1e-12 {
		t.Errorf("candidate %d is %g off, want the third by log 2.5", of, off)
	}
	nothing, nan := shares(0, 0, 1), []float64{0, math.NaN(), 0}
	for name, off := range map[string]func() (float64, int){
		"two shares from three":               func() (float64, int) { return between(shares(.1, .9), want, nil) },
		"told shares of 0":                    func() (float64, int) { return between(nothing, want, []bool{true, true, false}) },
		"no number":                           func() (float64, int) { return between(nan, want, nil) },
		"no number on the other side":         func() (float64, int) { return between(want, nan, nil) },
		"no number among those that are told": func() (float64, int) { return between(want, nan, []bool{true, true, false}) },
	} {
		if off, _ := off(); !math.IsInf(off, 1) {
			t.Errorf("%s: %g off, want infinity", name, off)
		}
	}
	if off, _ := between(nothing, nothing, nil); off != 0 {
		t.Errorf("an answer with shares of 0 is %g from itself", off)
	}
	for _, told := range [][]bool{{false, false, false}, {true, false, false}} {
		if off, _ := between(floored, want, told); off != untold {
			t.Errorf("told %v: %g off, want untold", told, off)
		}
	}
}
