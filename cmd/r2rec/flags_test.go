package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

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
