package ollama

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ollama/ollama/api"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama/learn"
	"github.com/r2rec/r2rec/internal/llama/lora"
	"github.com/r2rec/r2rec/internal/lm"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/internal/lm/proof"
)

// A base that was taught verdicts gives them without an adapter, as the engine does.
func TestTheBareBaseGivesTheVerdictsThatItWasTaught(t *testing.T) {
	made := newTaughtBy(t, engine.Verdicts)
	i := newInstaller(t, embeddedtest.RealOllama(t), made.base, InstallOptions{})
	m, err := i.Bare(t.Context())
	must(t, err)
	who, err := m.Identity(t.Context())
	must(t, err)
	if want := (event.Model{Name: m.Name, Digest: digestOf(t, made.base), Readout: "verdicts", PromptVersion: iot.Figures}); who != want {
		t.Errorf("%+v, want %+v", who, want)
	}
	base, _ := m.Sides()
	agree(t, base, engine.Options{Path: made.base})
	ours, err := m.Rank(t.Context(), lessons(t, 50, 1)[0].Prompt)
	must(t, err)
	theirs, err := base.Rank(t.Context(), lessons(t, 50, 1)[0].Prompt)
	must(t, err)
	if !near(ours, theirs) {
		t.Errorf("ranked as %.4v, and as a side as %.4v", ours, theirs)
	}
	must(t, m.Close())
}

// untold is a base model's file that does not say how it was taught to be read: anything may be learned over it.
func untold(t *testing.T, path string) string {
	t.Helper()
	f, err := gguf.Open(path)
	must(t, err)
	defer f.Close()
	f.Metadata = f.Metadata.Clone()
	f.Metadata.Delete("r2rec.readout")
	f.Metadata.Delete("r2rec.prompt_version")
	return write(t, "untold.gguf", func(w io.Writer) error { return lora.MergeF16(f, nil, w) })
}

// A base that was taught letters says neither yes nor no where a line ends, so that nothing of it can be compared: the
// adapter is proven by what it says itself, and another one is not.
func TestVerdictsAreProvenOverABaseThatGivesNone(t *testing.T) {
	base := untold(t, newTaught(t).base)
	open := engine.Options{Path: base, Readout: engine.Verdicts, PromptVersion: iot.Figures, Trainable: true}
	m, err := engine.Open(open)
	must(t, err)
	defer m.Close()
	i := newInstaller(t, embeddedtest.RealOllama(t), base, InstallOptions{})
	var files []string
	var canaries [][]proof.Canary
	for seed := range uint64(2) {
		l, err := m.NewAdapter(engine.AdapterOptions{Rank: 4, Seed: seed, Learn: learn.Options{Optimiser: learn.AdamW{Rate: 4e-3}, Workers: 2}})
		must(t, err)
		teach(t, l, 20+seed, 12)
		files = append(files, write(t, "adapter.gguf", l.Write))
		chosen, err := proof.Choose(t.Context(), iot.Figures, askable(40), m, l, 16, nil)
		must(t, err)
		canaries = append(canaries, chosen)
	}
	adapter, err := i.Adapt(t.Context(), digestOf(t, files[0]), files[0])
	must(t, err)
	for k, want := range []proof.Verdict{proof.Proven, proof.Refused} {
		base, with := adapter.Sides()
		r, err := proof.Prove(t.Context(), iot.Figures, canaries[k], base, with, time.Minute)
		must(t, err)
		if r.Verdict != want || r.Noise != 0 {
			t.Errorf("by the canaries of adapter %d: %+v, want it %s, by the adapter alone", k, r, want)
		}
		t.Logf("%+v", r)
	}
	must(t, adapter.Close())
}

// askable are prompts' contexts.
func askable(n int) (out []proof.Ask) {
	r := mathrand.New(mathrand.NewPCG(9, 1))
	for range n {
		c, _ := digitsContext(r, 4+r.IntN(6))
		out = append(out, proof.Ask{Context: c, Seed: r.Uint64()})
	}
	return out
}

// Who asks a model for verdicts that never learned to give any is told so.
func TestVerdictsThatNobodyTaughtAreNonsense(t *testing.T) {
	made := newTaught(t)
	i := newInstaller(t, embeddedtest.RealOllama(t), made.base, InstallOptions{})
	m, err := i.Bare(t.Context())
	must(t, err)
	_, _, err = m.client.verdicts(t.Context(), lessons(t, 50, 1)[0].Prompt, 0)
	if !errors.Is(err, lm.ErrNonsense) || !strings.Contains(err.Error(), "about candidate ") || !strings.Contains(err.Error(), "read a verdict") {
		t.Errorf("error %v", err)
	}
	must(t, m.Close())
}

// Lists that are asked for at once take turns, so that each call goes on where the one before it ended; and who gives up
// waiting is told which of the two it was.
func TestListsOfVerdictsTakeTurns(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	answer := make(chan struct{})
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var q api.GenerateRequest
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			t.Error(err)
		}
		mu.Lock()
		asked = append(asked, q.Prompt)
		mu.Unlock()
		<-answer
		_, _ = io.WriteString(w, `{"done":true,"logprobs":[{"top_logprobs":[{"token":" yes","logprob":-1},{"token":" no","logprob":-0.5}]}]}`)
	})
	c := mustNew(t, Options{BaseURL: server.URL, Model: "m", Learned: true})
	var both sync.WaitGroup
	for _, l := range lessons(t, 50, 2) {
		both.Go(func() {
			shares, stated, err := c.verdicts(t.Context(), l.Prompt, 0)
			if err != nil || len(shares) != len(l.Prompt.Letters) || slices.Contains(stated, false) {
				t.Errorf("%v, %v, %v", shares, stated, err)
			}
		})
	}
	answer <- struct{}{} // one of them has its turn
	gone, leave := context.WithCancel(t.Context())
	leave()
	late, stop := context.WithTimeout(t.Context(), 1)
	defer stop()
	for ctx, want := range map[context.Context]error{gone: context.Canceled, late: context.DeadlineExceeded} {
		_, _, err := c.verdicts(ctx, lessons(t, 50, 1)[0].Prompt, 0)
		if !errors.Is(err, want) || errors.Is(err, lm.ErrUnavailable) != (ctx == late) {
			t.Errorf("while others have their turn: %v, want %v", err, want)
		}
	}
	close(answer)
	both.Wait()
	again := 0
	for k := range asked[1:] {
		if !strings.HasPrefix(asked[k+1], asked[k]) {
			again++
		}
	}
	if again != 1 {
		t.Errorf("of %d calls %d began anew, want the one that begins the second list", len(asked), again)
	}
}

// A server that is too slow for a list is out of breath after some lists, though it answers the first calls of each.
func TestTheBreakerCountsLists(t *testing.T) {
	prompt := lessons(t, 50, 1)[0].Prompt
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		c := mustNew(t, Options{Model: "m", Learned: true, Pause: time.Hour, HTTPClient: &http.Client{Transport: inProcess(func(r *http.Request) (*http.Response, error) {
			if calls.Add(1)%2 == 0 {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			return ok([]byte(`{"done":true,"logprobs":[{"top_logprobs":[{"token":" yes","logprob":-1},{"token":" no","logprob":-0.5}]}]}`)), nil
		})}})
		for range 3 {
			ctx, stop := context.WithTimeout(t.Context(), time.Second)
			if _, _, err := c.verdicts(ctx, prompt, 0); !errors.Is(err, lm.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
			stop()
		}
		before := calls.Load()
		if _, _, err := c.verdicts(t.Context(), prompt, 0); !errors.Is(err, lm.ErrUnavailable) || before != 6 || calls.Load() != before || c.State() != "open" {
			t.Errorf("error %v after %d calls and %d before, the circuit breaker is %s", err, calls.Load(), before, c.State())
		}
	})
}

// Who gave up already takes no turn, though it is free.
func TestNobodyTakesATurnTooLate(t *testing.T) {
	c := mustNew(t, Options{Model: "m", Learned: true})
	ctx, stop := context.WithCancel(t.Context())
	stop()
	for range 50 { // of two things that can happen one is drawn
		if _, err := c.takeTurn(ctx); !errors.Is(err, context.Canceled) || len(c.turns) != 0 {
			t.Fatalf("error %v, %d turns are taken", err, len(c.turns))
		}
	}
}

// A prompt that does not say where its lines end cannot be asked about.
func TestVerdictsNeedLines(t *testing.T) {
	c := mustNew(t, Options{Model: "m", Learned: true})
	if _, _, err := c.verdicts(t.Context(), iot.Prompt{Text: "A 1\nAnswer:", Letters: []byte("A")}, 0); !errors.Is(err, lm.ErrNonsense) {
		t.Errorf("error %v", err)
	}
}
