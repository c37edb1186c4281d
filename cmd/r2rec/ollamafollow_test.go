package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/internal/lm/ollama"
	"github.com/r2rec/r2rec/internal/web"
	"github.com/redis/go-redis/v9"
)

// A server follows promotions and roll-backs through a real Ollama.
func TestServeFollowsTheLogThroughOllama(t *testing.T) {
	url := embeddedtest.RealOllama(t)
	for _, readout := range []engine.Readout{engine.Letters, engine.Verdicts} {
		t.Run(string(readout), func(t *testing.T) { serveFollowsTheLogThroughOllama(t, url, readout) })
	}
}

func serveFollowsTheLogThroughOllama(t *testing.T, url string, readout engine.Readout) {
	p := newPlace(t, broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}}, &redis.UniversalOptions{Addrs: []string{embeddedtest.Redis(t)}})
	path := filepath.Join(t.TempDir(), "base.gguf")
	quiet := &process{ctx: t.Context(), stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}, log: slog.New(slog.DiscardHandler)}
	if err := teachAnswers(t.Context(), &stages{p: quiet}, path, readout, iot.Figures, randomContexts(50)); err != nil {
		t.Fatal(err)
	}
	tr := newTrainer(p)
	if err := tr.base.Close(); err != nil {
		t.Fatal(err)
	}
	var err error
	if tr.base, err = engine.Open(engine.Options{Path: path, Trainable: true}); err != nil {
		t.Fatal(err)
	}
	first, unproven := tr.make(1, true), tr.make(2, false)
	prefix := "test-" + strings.ToLower(rand.Text())
	uninstalls(t, url, path, prefix)
	s := p.serve("--adapters", tr.folder, "--ollama", url, "--model", path, "--ollama-prefix", prefix, "--ollama-threads", "1", "--ollama-reload", "wait")
	serving := func(want web.ServingState) web.AdapterState {
		t.Helper()
		var st web.AdapterState
		p.eventually("the server does not follow", func() (bool, string) {
			st = s.state()
			return st.Serving.Current == want.Current && st.Serving.Loading == "" && len(st.Serving.Faults) == len(want.Faults), st.Current
		})
		return st
	}
	model := func(adapter string) {
		t.Helper()
		p.eventually("health does not tell", func() (bool, string) { // it is looked at every few seconds
			c := s.component("model")
			return c.State == web.OK && strings.HasPrefix(c.Detail, prefix) && (adapter == "" || strings.Contains(c.Detail, adapter[:12])), fmt.Sprintf("%+v", c)
		})
	}
	serving(web.ServingState{})
	model("")
	tr.write(event.Promote, first, "", 1)
	serving(web.ServingState{Current: first})
	model(first)
	tr.write(event.Promote, unproven, first, 1)
	st := serving(web.ServingState{Current: first, Faults: make([]web.AdapterFault, 1)})
	if f := st.Serving.Faults[0]; !f.Refused || !strings.Contains(f.Reason, "without canaries") {
		t.Errorf("%+v", f)
	}
	tr.write(event.RollBack, "", unproven, 0)
	serving(web.ServingState{})
	model("")
}

// uninstalls deletes in the end what a server was made to hold.
func uninstalls(t *testing.T, url, base, prefix string) {
	t.Helper()
	i, err := ollama.NewInstaller(ollama.InstallOptions{BaseURL: url, Base: base, Prefix: prefix, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), warmWithin)
		defer cancel()
		if err := errors.Join(i.Uninstall(ctx), i.Close()); err != nil {
			t.Error(err)
		}
	})
}

func TestFollowFlagsOfOllama(t *testing.T) {
	for args, want := range map[string]string{
		"--adapters a --ollama http://127.0.0.1:9":                                        "needs --model FILE",
		"--adapters a --ollama http://127.0.0.1:9 --model m:1b":                           "it names the GGUF file of the base model",
		"--adapters a --ollama http://127.0.0.1:9 --model flags.go":                       "flags.go",
		"--adapters a --ollama http://127.0.0.1:9 --model flags.go --ollama-threads=-1":   "--ollama-threads -1",
		"--adapters a --ollama http://127.0.0.1:9 --model flags.go --ollama-reload never": "--ollama-reload",
		"--adapters a --ollama http://127.0.0.1:9 --model flags.go --think=-1":            "--think -1: want tokens",
	} {
		var out, errs bytes.Buffer
		place := []string{"serve", "--listen", "127.0.0.1:0", "--redis", "redis://" + embeddedtest.Redis(t), "--kafka", embeddedtest.Kafka(t)}
		if code := run(t.Context(), append(place, strings.Fields(args)...), &out, &errs); code == 0 || !strings.Contains(errs.String(), want) {
			t.Errorf("%s: exit code %d, %q; want %q", args, code, errs.String(), want)
		}
	}
}

// The benchmark runs on a real Ollama, and would see answers there that are another model's.
func TestBenchSwapOnOllama(t *testing.T) {
	url := embeddedtest.RealOllama(t)
	for _, readout := range []string{"letters", "verdicts"} {
		t.Run(readout, func(t *testing.T) {
			benchSwapOnOllama(t, swapOllama{Ollama: url, OllamaThreads: 1, OllamaReadout: readout})
		})
	}
}

func benchSwapOnOllama(t *testing.T, on swapOllama) {
	c := benchSwapCommand{Seconds: 1, Clients: 2, Swaps: 1, Adapters: 1, swapOllama: on}
	p := &process{ctx: t.Context(), stderr: &bytes.Buffer{}, stdout: &bytes.Buffer{}, log: slog.New(slog.DiscardHandler)}
	shown := &stages{p: p}
	defer shown.close()
	contexts := randomContexts(30)
	s, err := c.onServer(t.Context(), t.TempDir(), shown, contexts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	m, err := c.measure(p, shown, s, contexts)
	if err != nil {
		t.Fatal(err)
	}
	var total swapTotals
	total.add(s, m)
	if total.failed != 0 || total.requests == 0 || len(m.swaps) != 1 || m.mixed != 0 {
		t.Errorf("%+v, %d mixed: %s", total, m.mixed, m.example)
	}

	a := s.adapters[0]
	served, err := s.engine.Adapt(t.Context(), a.digest, a.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer served.Close()
	var right, wrong []swapRequest
	for i := range 10 {
		prompt, err := iot.Build(iot.Figures, contexts[i], uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		logs, err := served.Rank(t.Context(), prompt)
		if err != nil {
			t.Fatal(err)
		}
		q := swapRequest{context: i, seed: uint64(i), adapter: a.digest}
		for _, l := range logs {
			q.shares = append(q.shares, math.Exp(l))
		}
		right = append(right, q)
		q.adapter = ""
		wrong = append(wrong, q)
	}
	for _, tc := range []struct {
		name        string
		requests    []swapRequest
		least, most int
	}{{"the adapter's answers", right, 0, 0}, {"the adapter's answers in the name of the base", wrong, 7, 10}} {
		v, err := verify(t.Context(), shown, s, contexts, tc.requests)
		if err != nil || v.compared < 5 || v.mixed < tc.least || v.mixed > tc.most {
			t.Errorf("%s: %d of 10 are found to be another's, %d compared, %v", tc.name, v.mixed, v.compared, err)
		}
	}
}

// An adapter ranks through Ollama as it does here, and leaves nothing on the server.
func TestEvalThroughOllama(t *testing.T) {
	url := embeddedtest.RealOllama(t)
	for _, readout := range []engine.Readout{engine.Letters, engine.Verdicts} {
		t.Run(string(readout), func(t *testing.T) { evalThroughOllama(t, url, readout) })
	}
}

func evalThroughOllama(t *testing.T, url string, readout engine.Readout) {
	s := newSlice(t)
	model, adapter := s.file("base.gguf"), s.file("adapter.gguf")
	quiet := &process{ctx: t.Context(), stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}, log: slog.New(slog.DiscardHandler)}
	s.must(teachAnswers(t.Context(), &stages{p: quiet}, model, readout, iot.Figures, randomContexts(50)))
	lmDo(t, s.tune(adapter, "--model", model)...)
	args := []string{"--ranker", "lm", "--model", model, "--adapter", adapter, "--sample", "4"}
	s.eval(append(args, "--scores", s.file("here.jsonl"))...)
	_, log := s.eval(append(args, "--scores", s.file("there.jsonl"), "--ollama", url)...)
	other := map[engine.Readout]string{engine.Letters: "verdicts", engine.Verdicts: "letters"}[readout]
	var out, errs bytes.Buffer
	if code := run(t.Context(), s.args(append(args, "--ollama", url, "--readout", other)...), &out, &errs); code == 0 || !strings.Contains(errs.String(), "be read by "+string(readout)) {
		t.Errorf("asked by %s, exit code %d: %s", other, code, errs.String())
	}
	if who := identity(t, engine.Options{Path: model, Adapter: adapter}); !strings.Contains(log, "adapter="+who.Adapter) {
		t.Errorf("the log does not name the adapter: %s", log)
	}
	here, err := eval.ReadScores(s.file("here.jsonl"))
	s.must(err)
	there, err := eval.ReadScores(s.file("there.jsonl"))
	s.must(err)
	for i := range here {
		for j, want := range here[i].Scores["lm"] {
			if got := there[i].Scores["lm"][j]; math.Abs(got-want) > .2 {
				t.Errorf("case %s, candidate %d: %v through Ollama, %v here", here[i].Case, j, got, want)
			}
		}
	}
	names, err := ollama.Models(t.Context(), url)
	s.must(err)
	for _, name := range names {
		if strings.HasPrefix(name, "r2rec-eval") {
			t.Errorf("%s stays on the server", name)
		}
	}
}
