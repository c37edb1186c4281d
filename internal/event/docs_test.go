package event

import (
	"regexp"
	"strings"
	"testing"
)

// TestDocs: the examples in docs/contracts.md are valid, and it explains every type and every reason.
func TestDocs(t *testing.T) {
	text := string(read(t, "../../docs/contracts.md"))
	examples := regexp.MustCompile("(?s)```json (\\w+)\n(.*?)```").FindAllStringSubmatch(text, -1)
	if len(examples) != 5 {
		t.Errorf("%d examples, want 5", len(examples))
	}
	for _, e := range examples {
		if _, _, err := decoders[e[1]]([]byte(e[2])); err != nil {
			t.Errorf("%s: %v", e[1], err)
		}
		if err := satisfies(t, schemaOf(t, e[1]), []byte(e[2])); err != nil {
			t.Errorf("%s: %v", e[1], err)
		}
	}
	for _, r := range Reasons {
		if !strings.Contains(text, "| `"+string(r)+"` |") {
			t.Errorf("reason %s is not explained", r)
		}
	}
	for _, typ := range Types {
		if !strings.Contains(text, "`"+string(typ)+"`") {
			t.Errorf("type %s is not explained", typ)
		}
	}
}
