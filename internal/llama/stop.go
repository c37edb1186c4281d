package llama

import (
	"strings"
	"unicode/utf8"
)

// heldText is text that is made of pieces, and held back as long as it may become a stop string or part of a character.
type heldText struct {
	stops []string
	held  string
}

// add takes the next piece, and returns the text that can no longer change, or ends, without the stop string, at the
// first byte where one is complete.
func (h *heldText) add(piece string) (text string, stopped bool) {
	h.held += piece
	start, end := 0, len(h.held)+1
	for _, stop := range h.stops {
		if i := strings.Index(h.held, stop); i >= 0 && (i+len(stop) < end || i+len(stop) == end && i < start) {
			start, end = i, i+len(stop)
		}
	}
	if end <= len(h.held) {
		text, h.held = h.held[:start], ""
		return text, true
	}
	begun := 0 // bytes at the end that are the beginning of a stop string
	for _, stop := range h.stops {
		n := min(len(stop)-1, len(h.held))
		for n > begun && !strings.HasSuffix(h.held, stop[:n]) {
			n--
		}
		begun = max(begun, n)
	}
	cut := len(h.held) - begun
	cut -= partOfRune(h.held[:cut])
	text, h.held = h.held[:cut], h.held[cut:]
	return text, false
}

// rest is what was held back.
func (h *heldText) rest() string {
	text := h.held
	h.held = ""
	return text
}

// partOfRune is how many bytes at the end of s are the beginning of a character that lacks bytes.
func partOfRune(s string) int {
	for n := 1; n < utf8.UTFMax && n <= len(s); n++ {
		if tail := s[len(s)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRuneInString(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}
