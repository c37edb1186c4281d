package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// What is no URL is not taken for a server that is away: it would be for good.
func TestWrongOllama(t *testing.T) {
	p := &process{ctx: t.Context(), log: slog.New(slog.DiscardHandler)}
	for url, want := range map[string]string{
		"localhost:11434":        `--ollama "localhost:11434": want a URL with http:// or https://`,
		"127.0.0.1:11434":        `--ollama "127.0.0.1:11434": want a URL`,
		"u:hush@127.0.0.1:11434": "--ollama (not shown, a password may be in it): want a URL",
		"http://":                `--ollama "http://": want a URL`,
	} {
		for _, model := range []string{"", "named"} {
			m, _, err := modelFlags{Ollama: url, Model: model, ModelTimeout: 1}.open(p)
			if m != nil || err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("--ollama %s --model %q: %v, %v; want %q", url, model, m, err, want)
			}
		}
	}
	// The file that servers with adapters name is no model's name on a server.
	if m, why, err := (modelFlags{Ollama: "http://127.0.0.1:1", Model: baseFile, ModelTimeout: 1}).open(p); m != nil || err != nil || !strings.Contains(why, "--model "+baseFile+" is a file") {
		t.Errorf("%v, %q, %v", m, why, err)
	}
}

// Where no model is named, the server's last changed one is taken that somebody else put there.
func TestNoModelOfOurOwnIsChosen(t *testing.T) {
	const base, adapter = "r2rec-0123456789ab", "r2rec-0123456789ab-ba9876543210"
	for list, want := range map[string]string{
		base + ":copy1 " + adapter + ":layer1 theirs:1b other:2b":           "theirs:1b",
		"r2rec-eval-0123456789ab:copy2 " + adapter + ":merged r2rec-fan:1b": "r2rec-fan:1b",
		base + ":copy1": "",
		"":              "",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			var models []string
			for _, name := range strings.Fields(list) {
				models = append(models, fmt.Sprintf(`{"name":%q,"digest":"d"}`, name))
			}
			fmt.Fprintf(w, `{"models":[%s]}`, strings.Join(models, ","))
		}))
		defer server.Close()
		m, why, err := modelFlags{Ollama: server.URL}.client(&process{ctx: t.Context(), log: slog.New(slog.DiscardHandler)})
		if err != nil || (m == nil) != (want == "") || (why == "") != (want != "") {
			t.Errorf("%q: %v, %q, %v", list, m, why, err)
			continue
		}
		if m == nil {
			continue
		}
		if who, err := m.Identity(t.Context()); err != nil || who.Name != want {
			t.Errorf("%q: %s is chosen, %v, want %s", list, who.Name, err, want)
		}
	}
}
