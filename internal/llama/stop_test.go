package llama

import (
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

// cutAt is the text before the stop string that is complete first, the longest of several; computed the plain way.
func cutAt(text string, stops []string) (string, bool) {
	for end := range len(text) + 1 {
		longest := 0
		for _, stop := range stops {
			if strings.HasSuffix(text[:end], stop) {
				longest = max(longest, len(stop))
			}
		}
		if longest > 0 {
			return text[:end-longest], true
		}
	}
	return text, false
}

// However a text is cut into pieces, the same comes out before the same stop string, in whole characters, and nothing is
// held back for longer than it must be.
func TestTextIsHeldBack(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	draw := func(n int) string {
		var b strings.Builder
		for range n {
			b.WriteString([]string{"a", "b", "c", "é", "🙂", "好"}[r.IntN(6)])
		}
		return b.String()
	}
	for range 5000 {
		text := draw(r.IntN(30))
		var stops []string
		for range r.IntN(4) {
			stops = append(stops, draw(1+r.IntN(4)))
		}
		want, stopped := cutAt(text, stops)
		h := heldText{stops: stops}
		got, ended := "", false
		for at := 0; at < len(text) && !ended; {
			n := 1 + r.IntN(min(9, len(text)-at))
			var part string
			part, ended = h.add(text[at : at+n])
			at += n
			got += part
			if !utf8.ValidString(part) {
				t.Fatalf("%q with stops %q: %q comes, with a broken character", text, stops, part)
			}
			if !ended && got+h.held != text[:at] {
				t.Fatalf("%q with stops %q: %q came and %q is held, of %q", text, stops, got, h.held, text[:at])
			}
			if needed := func() bool {
				for _, stop := range append(stops, "é", "🙂", "好") {
					if strings.HasPrefix(stop, h.held) && h.held != stop {
						return true
					}
				}
				return len(stops) > 0 && !utf8.ValidString(text[:at])
			}(); !ended && !needed {
				t.Fatalf("%q with stops %q: %q is held for nothing", text, stops, h.held)
			}
		}
		if !ended {
			got += h.rest()
		}
		if got != want || ended != stopped {
			t.Fatalf("%q with stops %q: %q, stopped %v, want %q, %v", text, stops, got, ended, want, stopped)
		}
	}
}

// What is no character at all is not waited for.
func TestBrokenTextComesAsItIs(t *testing.T) {
	h := heldText{}
	for _, c := range []struct{ piece, want string }{
		{"\x80", "\x80"}, {"\xf0", ""}, {"\x9f", ""}, {"a", "\xf0\x9fa"}, {"\xff", "\xff"}, {"b\xc3", "b"}, {"\xc3", "\xc3"}, {"\xa9", "é"},
	} {
		if got, stopped := h.add(c.piece); got != c.want || stopped {
			t.Errorf("after %q comes %q, want %q", c.piece, got, c.want)
		}
	}
	if h.rest() != "" {
		t.Error("something is left")
	}
}
