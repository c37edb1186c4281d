package ollama

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/ollama/ollama/api"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/lm"
	"github.com/r2rec/r2rec/internal/lm/engine"
)

// A server writes the likeliest text that the embedded engine writes of the same weights, drawn texts differ, and stop
// strings end them.
func TestOllamaWrites(t *testing.T) {
	made := newTaught(t)
	i := newInstaller(t, embeddedtest.RealOllama(t), made.base, InstallOptions{})
	m, err := i.Bare(t.Context())
	must(t, err)
	text := lessons(t, 1, 1)[0].Prompt.Text
	greedy, err := m.client.Write(t.Context(), text, 1, lm.WriteOptions{Most: 8})
	must(t, err)
	again, err := m.client.goOn(t.Context(), text, 2, 8, nil, 0)
	must(t, err)
	if greedy[0].Text == "" || len(greedy[0].LogProbs) == 0 || len(greedy[0].LogProbs) > 8 || !sameText(greedy[0], again.Logprobs) {
		t.Errorf("the likeliest text is %+v, and then %+v", greedy[0], again.Logprobs)
	}
	e, err := engine.Open(engine.Options{Path: made.base})
	must(t, err)
	defer e.Close()
	ours, err := e.Write(t.Context(), text, 1, lm.WriteOptions{Most: 8})
	must(t, err)
	if !sameText(ours[0], again.Logprobs) {
		t.Errorf("the engine writes %+v, and the server %+v", ours[0], again.Logprobs)
	}
	drawn, err := m.client.Write(t.Context(), text, 3, lm.WriteOptions{Most: 12, Temperature: 1.5, Seed: 4})
	must(t, err)
	if drawn[0].Text == drawn[1].Text && drawn[1].Text == drawn[2].Text {
		t.Errorf("three texts are drawn alike: %+v", drawn)
	}
	if stop := greedy[0].Text[:1]; stop != "" {
		stopped, err := m.client.Write(t.Context(), text, 1, lm.WriteOptions{Most: 8, Stop: []string{stop}})
		must(t, err)
		if stopped[0].Text != "" || !stopped[0].Whole {
			t.Errorf("stopped at %q: %+v", stop, stopped[0])
		}
	}
	must(t, m.Close())
}

// sameText tells whether the likeliest text was written twice, the second time by tokens. Where two tokens are as likely the
// server may go on with either.
func sameText(w lm.Written, again []api.Logprob) bool {
	left := w.Text
	for i, token := range again {
		if i == len(w.LogProbs) || math.Abs(w.LogProbs[i]-token.Logprob) > sameAnswer {
			return false
		}
		var same bool
		if left, same = strings.CutPrefix(left, token.Token); !same {
			return true
		}
	}
	return left == ""
}

func TestWhatOllamaWritesIsChecked(t *testing.T) {
	for answer, want := range map[string]error{
		`{"done":true,"done_reason":"stop","response":"fine"}`:                   nil,
		`{"done":false,"response":"fine"}`:                                       lm.ErrNonsense,
		`{"done":true,"response":"fine\nmore"}`:                                  lm.ErrNonsense,
		`{"done":true,"response":"fine","prompt_eval_count":4096}`:               lm.ErrPromptTooLong,
		"{\"done\":true,\"response\":\"a\"}\n{\"done\":true,\"response\":\"b\"}": lm.ErrNonsense,
		`no`: lm.ErrNonsense,
	} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer) })
		c, err := New(Options{BaseURL: s.URL, Model: "m"})
		must(t, err)
		got, err := c.Write(t.Context(), "x", 1, lm.WriteOptions{Most: 3, Stop: []string{"\n"}})
		if want == nil && (err != nil || got[0].Text != "fine" || !got[0].Whole) || !errors.Is(err, want) {
			t.Errorf("%s: %+v, %v; want %v", answer, got, err, want)
		}
	}
	c, err := New(Options{Model: "m"})
	must(t, err)
	if _, err := c.Write(t.Context(), "x", 0, lm.WriteOptions{Most: 3}); err == nil || !strings.Contains(err.Error(), "0 texts") {
		t.Errorf("no text: %v", err)
	}
}
