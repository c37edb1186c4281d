package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm"
	"github.com/r2rec/r2rec/internal/lm/proof"
	"golang.org/x/sync/errgroup"
)

// verified says what came of computing answers again.
type verified struct {
	compared int    // answers of which enough was told to compare them
	mixed    int    // of them, those that the adapter which they name does not give for that very prompt
	example  string // of these
}

// verify computes all answers again. It fails where so few can be compared that mixed ones would not be seen.
func verify(ctx context.Context, shown *stages, s *swapSubject, contexts []event.Context, requests []swapRequest) (v verified, err error) {
	byAdapter := map[string][]swapRequest{}
	for _, q := range requests {
		if q.shares != nil {
			byAdapter[q.adapter] = append(byAdapter[q.adapter], q)
		}
	}
	done := 0
	for adapter, answers := range byAdapter {
		one, err := verifyOne(ctx, s, adapter, contexts, answers, func() { done++; shown.set("computing answers of "+s.name+" again", done, len(requests)) })
		if err != nil {
			return v, err
		}
		if 2*one.compared < len(answers) {
			return v, fmt.Errorf("%s: of %d answers by %s only %d can be compared with what it gives: mixed ones would not be seen", s.name, len(answers), adapterName(adapter), one.compared)
		}
		v.compared += one.compared
		if v.mixed += one.mixed; one.mixed > 0 {
			v.example += fmt.Sprintf("; %s: %d of %d by %s, %s", s.name, one.mixed, len(answers), adapterName(adapter), one.example)
		}
	}
	return v, nil
}

// adapterName is what people read for a digest.
func adapterName(digest string) string {
	if digest == "" {
		return "the base"
	}
	return fmt.Sprintf("adapter %.12s", digest)
}

func verifyOne(ctx context.Context, s *swapSubject, adapter string, contexts []event.Context, answers []swapRequest, tell func()) (v verified, err error) {
	who, done, err := s.apart(ctx, adapter)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, done()) }()
	version, err := promptVersion(ctx, s)
	if err != nil {
		return v, err
	}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, q := range answers {
		g.Go(func() error {
			off, where, err := apartFrom(ctx, who, version, contexts, q)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if tell(); off == untold {
				return nil
			}
			if v.compared++; off > s.tolerance {
				v.mixed++
				v.example = fmt.Sprintf("one is %.3g nats off (%s)", off, where)
			}
			return nil
		})
	}
	err = g.Wait()
	return v, err
}

// apartFrom is by how much the log share of some candidate differs from what the ranker gives, at most, and of which; see
// between.
func apartFrom(ctx context.Context, who proof.Ranker, version int, contexts []event.Context, q swapRequest) (off float64, where string, err error) {
	prompt, err := iot.Build(version, contexts[q.context], q.seed)
	if err != nil {
		return 0, "", err
	}
	want, told, err := rankTold(ctx, who, prompt)
	if err != nil {
		return 0, "", err
	}
	got := make([]float64, len(q.shares))
	for i, share := range q.shares {
		if got[i] = math.Log(share); i < len(want) && share == math.Exp(want[i]) { // as decisions state shares
			got[i] = want[i]
		}
	}
	off, i := between(got, want, told)
	if i < 0 {
		return off, fmt.Sprintf("%d shares, and %d are right", len(got), len(want)), nil
	}
	return off, fmt.Sprintf("candidate %d of %d has %.3g instead of %.3g", i+1, len(got), got[i], want[i]), nil
}

// rankTold is a ranking, and which of its shares can be compared with an engine's. Nil: all.
func rankTold(ctx context.Context, who proof.Ranker, p iot.Prompt) (shares []float64, told []bool, err error) {
	if partial, ok := who.(proof.Partial); ok {
		return partial.Stated(ctx, p)
	}
	shares, err = who.Rank(ctx, p)
	return shares, nil, err
}

// untold is between two answers of which too little was told to compare them: shares of one candidate alone are always 1.
const untold = -1.

// between is by how much the log shares of one candidate differ in two answers, at most and 0 or more, and of which candidate,
// from 0; of those that were told, as shares among each other. Nil: all were. What is no number on one side, or stands for
// other candidates (-1), is infinitely far.
func between(a, b []float64, told []bool) (off float64, of int) {
	if len(a) != len(b) {
		return math.Inf(1), -1
	}
	var who []int
	for i := range a {
		if told == nil || told[i] {
			who = append(who, i)
		}
	}
	among := func(shares []float64) (out []float64) {
		for _, i := range who {
			out = append(out, shares[i])
		}
		if told != nil {
			lm.Normalise(out)
		}
		return out
	}
	if told != nil && len(who) < 2 {
		return untold, -1
	}
	a, b, of = among(a), among(b), -1
	for k, i := range who {
		switch d := math.Abs(a[k] - b[k]); {
		case a[k] == b[k]: // also where both are minus infinity
		case math.IsNaN(d):
			return math.Inf(1), i
		case d > off:
			off, of = d, i
		}
	}
	return off, of
}

// promptVersion that the subject reads.
func promptVersion(ctx context.Context, s *swapSubject) (version int, err error) {
	m, err := s.engine.Bare(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	who, err := m.Identity(ctx)
	return who.PromptVersion, err
}

// swapTotals are the figures of all engines: sums, and the worse of what cannot be summed.
type swapTotals struct {
	names                        []string
	model                        string
	requests, failed             int
	compared, mixed              int
	stall, calm, swap, slowest   float64
	stallOf, swapOf, whatIsMixed string
	samples, inWindows           int
	each                         []figure // of one engine
}

func (t *swapTotals) add(s *swapSubject, m swapMeasured) {
	t.names = append(t.names, s.name)
	t.model = strings.Join(append(slices.DeleteFunc([]string{t.model}, func(m string) bool { return m == "" }), s.model), ", ")
	t.requests += len(m.requests)
	t.compared += m.compared
	t.mixed += m.mixed
	t.whatIsMixed += m.example
	var during, calm, took []float64
	for _, q := range m.requests {
		if q.shares == nil {
			t.failed++
		}
		ms := q.ended.Sub(q.begun).Seconds() * 1000
		if slices.ContainsFunc(m.swaps, func(w swapWindow) bool { return q.begun.Before(w.served.Add(afterSwap)) && q.ended.After(w.wanted) }) {
			during = append(during, ms)
		} else {
			calm = append(calm, ms)
		}
	}
	for _, w := range m.swaps {
		took = append(took, w.served.Sub(w.wanted).Seconds()*1000)
	}
	t.samples += len(took)
	t.inWindows += len(during)
	t.each = append(t.each,
		figure{Metric: s.name + "_requests", Value: float64(len(m.requests)), Unit: "requests", Of: s.name},
		figure{Metric: s.name + "_compared_requests", Value: float64(m.compared), Unit: "requests", Of: s.name},
		figure{Metric: s.name + "_stall_p99_ms", Value: quantile(during, .99), Unit: "ms", Samples: len(during), Of: s.name + ", from a promotion to shortly after the switch"},
		figure{Metric: s.name + "_calm_p99_ms", Value: quantile(calm, .99), Unit: "ms", Samples: len(calm), Of: s.name + ", at other times"},
		figure{Metric: s.name + "_swap_ms", Value: median(took), Unit: "ms", Samples: len(took), Of: s.name + ", slowest " + decimal(quantile(took, 1)) + " ms"})
	if p99 := quantile(during, .99); p99 >= t.stall {
		t.stall, t.calm, t.stallOf = p99, quantile(calm, .99), s.name
	}
	if half := median(took); half >= t.swap {
		t.swap, t.slowest, t.swapOf = half, quantile(took, 1), s.name
	}
}

func (t *swapTotals) report(out *benchReport, clients int) {
	of := strings.Join(t.names, " and ")
	add := func(f figure) { f.Model, f.Threads = t.model, runtime.GOMAXPROCS(0); out.add(f) }
	add(figure{Metric: "requests", Value: float64(t.requests), Unit: "requests", Of: fmt.Sprintf("%d clients, %d swaps, %s", clients, t.samples, of)})
	add(figure{Metric: "failed_requests", Value: float64(t.failed), Unit: "requests", counted: true, Of: "no answer by a model (goal: 0)"})
	add(figure{Metric: "compared_requests", Value: float64(t.compared), Unit: "requests", counted: true, Of: "answers that were computed again and of which enough was told to compare them"})
	add(figure{Metric: "mixed_requests", Value: float64(t.mixed), Unit: "requests", counted: true, Of: "of these, answers that the adapter which they name does not give for that prompt (goal: 0)" + t.whatIsMixed})
	add(figure{Metric: "stall_p99_ms", Value: t.stall, Unit: "ms", Samples: t.inWindows,
		Of: fmt.Sprintf("%s, latency from a promotion to %s after the switch, 99th percentile", t.stallOf, afterSwap.Round(time.Millisecond))})
	add(figure{Metric: "calm_p99_ms", Value: t.calm, Unit: "ms", Samples: t.requests - t.inWindows, Of: t.stallOf + ", the same at other times, to compare with"})
	add(figure{Metric: "swap_ms", Value: t.swap, Unit: "ms", Samples: t.samples, Of: fmt.Sprintf("%s, from a promotion to the first request by the new adapter; slowest %s ms", t.swapOf, decimal(t.slowest))})
	if len(t.names) > 1 {
		for _, f := range t.each {
			add(f)
		}
	}
}
