package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/internal/web"
	"github.com/redis/go-redis/v9"
)

var thoughtLines = regexp.MustCompile(`(?m)^r2rec_thought_lines_total\{[^}]*\} ([1-9]\d*)$`)

// A server whose model thinks follows the log of adapters as any other: what was judged thinking as it does is served and thinks, what
// was judged otherwise is refused, and says by which flag it would be served.
func TestServeFollowsAdaptersThatThink(t *testing.T) {
	t.Parallel()
	serveFollowsAdaptersThatThink(t, newSlice(t).wordy())
}

// So does one whose model thinks in a real Ollama.
func TestServeFollowsAdaptersThatThinkInOllama(t *testing.T) {
	url := embeddedtest.RealOllama(t)
	model, prefix := filepath.Join(t.TempDir(), "base.gguf"), "test-"+strings.ToLower(rand.Text())
	quiet := &process{ctx: t.Context(), stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}, log: slog.New(slog.DiscardHandler)}
	if err := teachAnswers(t.Context(), &stages{p: quiet}, model, engine.Letters, iot.Thoughts, randomContexts(50)); err != nil {
		t.Fatal(err)
	}
	uninstalls(t, url, model, prefix)
	serveFollowsAdaptersThatThink(t, model, "--ollama", url, "--ollama-prefix", prefix, "--ollama-threads", "1", "--ollama-reload", "wait")
}

func serveFollowsAdaptersThatThink(t *testing.T, model string, flags ...string) {
	p := newPlace(t, broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}}, &redis.UniversalOptions{Addrs: []string{embeddedtest.Redis(t)}})
	tr := newTrainerOf(p, engine.Options{Path: model, Readout: engine.Letters, PromptVersion: iot.Thoughts})
	p.publishFilms()
	s := p.serve(append([]string{"--consume", "--adapters", tr.folder, "--control-share", "0", "--model", model, "--think", "6"}, flags...)...)
	p.eventually("there is nothing to recommend", func() (bool, string) {
		_, body := s.ask("GET", "/v1/users/u3/recommendations?fresh=true", "")
		return strings.Contains(body, `"item_id"`), body
	})
	promote := func(file string, flags ...string) []string {
		return append(append([]string{"adapters", "promote", file, "--adapters", tr.folder, "--model", model}, flags...), p.kafkaArgs()...)
	}
	serving := func(want string) {
		t.Helper()
		p.eventually("the server does not follow", func() (bool, string) {
			got := s.state()
			return got.Serving.Current == want && got.Serving.Loading == "", fmt.Sprintf("%+v", got)
		})
	}
	thinks, other := tr.make(1, true), tr.make(2, true)
	p.do(promote(thinks, "--think", "6", "--share", "0.5")...)
	if said := p.fails(promote(thinks, "--think", "7", "--share", "1")...); !strings.Contains(said, "is being rolled out with think 6") {
		t.Errorf("another think in the middle of a roll-out: %s", said)
	}
	p.do(promote(thinks, "--share", "1")...) // as it is being rolled out
	serving(thinks)
	_, before := s.ask("GET", "/metrics", "")
	p.eventually("it writes nothing", func() (bool, string) { // of six tokens a small model may make no line
		if got := s.adapterOf("u3"); got != thinks {
			t.Errorf("%q ranks, want %q", got, thinks)
		}
		_, after := s.ask("GET", "/metrics", "")
		lines := fmt.Sprint(thoughtLines.FindAllString(after, -1))
		return lines != fmt.Sprint(thoughtLines.FindAllString(before, -1)), lines
	})
	if st, err := tr.log.State(t.Context()); err != nil || len(st.Entries) != 2 || st.Entries[1].Record.Think != 6 || st.Entries[1].Record.Kind != event.Complete {
		t.Errorf("the log says %+v, %v", st.Entries, err)
	}

	if shown := p.do(append([]string{"adapters", "show", thinks, "--adapters", tr.folder}, p.kafkaArgs()...)...); !strings.Contains(shown, "after a thought of up to 6 tokens") {
		t.Errorf("show does not tell that it thinks:\n%s", shown)
	}

	if said := p.fails(promote(other)...); !strings.Contains(said, "no server serves both") {
		t.Errorf("a roll-out that no server can compare: %s", said)
	}
	p.do(promote(other, "--readout", "letters", "--prompt", "3", "--share", "1")...)
	p.eventually("health does not tell", func() (bool, string) {
		c := s.component("adapter")
		return c.State == web.Degraded && strings.Contains(c.Detail, "--think 0") && strings.Contains(c.Detail, "serving "+adapters.Name(thinks)), fmt.Sprintf("%+v", c)
	})
	p.do(append([]string{"adapters", "rollback", "--adapters", tr.folder}, p.kafkaArgs()...)...)
	serving(thinks)
	p.eventually("health does not tell that it is over", func() (bool, string) {
		c := s.component("adapter")
		return c.State == web.OK, fmt.Sprintf("%+v", c)
	})
}

func TestThinkFlags(t *testing.T) {
	t.Parallel()
	model := newSlice(t).wordy()
	for args, want := range map[string]string{
		"adapters promote a --think 6":                                 "--think needs a --model that knows words",
		"adapters promote a --think=-1 --model " + model:               "--think -1: want tokens",
		"adapters import . --think 6":                                  "--think needs a --model that knows words",
		"train --once --think 6":                                       "--think needs a --model that knows words",
		"train --once --think 6 --think-group 1 --model " + model:      "--think-group 1",
		"train --once --think 6 --think-beta 0 --model " + model:       "--think-beta 0: want more than 0",
		"train --once --think 6 --readout lines --model " + model:      "leave these out",
		"train export x --think=-1 --model " + model:                   "--think -1: want tokens",
		"serve --listen 127.0.0.1:0 --adapters a --think 6 --no-model": "--adapters excludes --no-model",
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), &out, &errs); code != exitMisused || !strings.Contains(errs.String(), want) {
			t.Errorf("%s: exit code %d, %q; want %q", args, code, errs.String(), want)
		}
	}
}
