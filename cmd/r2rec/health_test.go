package main

import (
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/web"
)

// A model that nobody wants is not missing.
func TestHealthTellsNoModelFromOneThatIsMissing(t *testing.T) {
	for _, tc := range []struct {
		flags modelFlags
		why   string
		want  web.State
	}{
		{modelFlags{NoModel: true}, "no model is wanted (--no-model)", web.OK},
		{modelFlags{Ollama: "http://127.0.0.1:1"}, "the server has no model", web.Degraded},
	} {
		s := &service{parts: serviceParts{modelFlags: tc.flags, noModel: tc.why}}
		told := false
		for _, p := range s.newHealth().probes {
			if p.name != "model" {
				continue
			}
			told = true
			if state, detail := p.ask(t.Context()); state != tc.want || !strings.HasSuffix(detail, "the graph ranks: "+tc.why) {
				t.Errorf("%s: %s, %s", tc.why, state, detail)
			}
		}
		if !told {
			t.Error("nothing is told of the model")
		}
	}
}
