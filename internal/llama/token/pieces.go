package token

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// SentencePiece (Kudo and Richardson 2018, arXiv 1808.06226) in its BPE mode, as Llama 2, Mistral and TinyLlama use it:
// a text's characters are joined to the token with the highest score until no neighbours make a token, spaces are
// characters like others, which the vocabulary writes as U+2581, and a character without a token becomes those of its
// bytes. The order of the joins is that of llama.cpp (llama-vocab.cpp, llm_tokenizer_spm_session).
//
// Tokens are kept here with spaces in place of U+2581. A text's own U+2581 counts as a space, as it does there.

const (
	modelBPE    = "gpt2"
	modelPieces = "llama"

	spaceMark = "\u2581"
)

// readPieces fills everything about the tokens of a SentencePiece vocabulary.
func (t *Tokenizer) readPieces(v Vocabulary) error {
	if err := checkTokens(v); err != nil {
		return err
	}
	t.clear(len(v.Tokens))
	crossing := false
	seen := make(map[string]int, len(v.Tokens))
	for i, text := range v.Tokens {
		if first, ok := seen[text]; ok {
			return fmt.Errorf("tokenizer.ggml.tokens[%d] is %q, as tokens[%d] is already", i, text, first)
		}
		seen[text] = i
		if v.Scores[i] != v.Scores[i] {
			return fmt.Errorf("tokenizer.ggml.scores[%d] (%q) is no number", i, text)
		}
		switch v.Types[i] {
		case Normal, Unused:
			t.pieces[i] = strings.ReplaceAll(text, spaceMark, " ")
			if !strings.Contains(text, " ") { // no text has a plain space once spaces are marked
				t.ids[t.pieces[i]] = int32(i)
				crossing = crossing || crosses(t.pieces[i])
			}
		case Control, Unknown, UserDefined:
			t.addSpecial(i, text)
		case Byte:
			b, ok := byteNamed(text)
			if !ok {
				return fmt.Errorf("tokenizer.ggml.tokens[%d] is %q and of type %d: a byte is written as <0x0A>", i, text, Byte)
			}
			t.pieces[i], t.byteTokens[b] = string([]byte{b}), int32(i)
		default:
			return fmt.Errorf("tokenizer.ggml.token_type[%d] (%q) is %d: SentencePiece has %d to %d", i, text, v.Types[i], Normal, Byte)
		}
	}
	for b := range t.byteTokens {
		if id, ok := t.ids[string([]byte{byte(b)})]; ok && t.byteTokens[b] == None {
			t.byteTokens[b] = id
		}
	}
	t.finishTokens()
	t.ranks = ranks(v.Scores)
	t.split = splitPieces
	if crossing {
		t.split = func(text string, _ int) int { return len(text) }
	}
	return nil
}

// byteNamed reads <0x00> to <0xFF>.
func byteNamed(text string) (byte, bool) {
	var b byte
	n, err := fmt.Sscanf(text, "<0x%02X>", &b)
	return b, n == 1 && err == nil && text == fmt.Sprintf("<0x%02X>", b)
}

// crosses tells whether a piece has a space after another character.
func crosses(piece string) bool { return strings.Contains(strings.TrimLeft(piece, " "), " ") }

// ranks numbers scores from the highest on; equal ones have the same number.
func ranks(scores []float32) []uint32 {
	order := slices.Clone(scores)
	slices.SortFunc(order, func(a, b float32) int {
		switch {
		case a > b:
			return -1
		case a < b:
			return 1
		}
		return 0
	})
	number := make(map[float32]uint32, len(order))
	for i, s := range order {
		number[s] = uint32(i)
	}
	ranks := make([]uint32, len(scores))
	for i, s := range scores {
		ranks[i] = number[s]
	}
	return ranks
}

// splitPieces cuts a text before each space that follows another character. It gives the same tokens as the whole text
// where no token crosses such a place.
func splitPieces(text string, i int) int {
	for i += spaceAt(text, i); i < len(text) && spaceAt(text, i) > 0; {
		i += spaceAt(text, i)
	}
	for i < len(text) && spaceAt(text, i) == 0 {
		i++
	}
	return i
}

// spaceAt is the length of the space or mark at i, 0 where there is none.
func spaceAt(text string, i int) int {
	switch {
	case text[i] == ' ':
		return 1
	case text[i] == spaceMark[0] && strings.HasPrefix(text[i:], spaceMark):
		return len(spaceMark)
	}
	return 0
}

// mergePieces appends the tokens of a part of a text, in n log n for n bytes.
func (t *Tokenizer) mergePieces(dst []int32, word string, m *merger) []int32 {
	if strings.Contains(word, spaceMark) {
		word = strings.ReplaceAll(word, spaceMark, " ")
	}
	// A symbol's link is that of its first byte; those of its other bytes are not in use.
	m.begin(len(word))
	for i, prev := 0, -1; i < len(word); {
		_, size := utf8.DecodeRuneInString(word[i:])
		m.list[i].prev, m.list[i].next = int32(prev), int32(i+size)
		prev, i = i, i+size
	}
	for i := 0; i < len(word); i = int(m.list[i].next) {
		t.ratePieces(word, m, int32(i))
	}
	for len(m.heap.keys) > 0 {
		rank, at := m.heap.pop()
		left := &m.list[at]
		// A pair that changed was put on the heap again with its new rank: this one is of the past.
		if left.rank != rank {
			continue
		}
		right := &m.list[left.next]
		left.next, right.rank = right.next, noRank
		if int(left.next) < len(word) {
			m.list[left.next].prev = at
		}
		t.ratePieces(word, m, at)
		if left.prev >= 0 {
			t.ratePieces(word, m, left.prev)
		}
	}
	for i := 0; i < len(word); {
		end := int(m.list[i].next)
		if id, ok := t.ids[word[i:end]]; ok {
			dst = append(dst, id)
		} else {
			for _, b := range []byte(word[i:end]) {
				if id := t.byteTokens[b]; id != None {
					dst = append(dst, id)
				}
			}
		}
		i = end
	}
	return dst
}

// ratePieces finds the rank of the token that the symbol at a place makes with the next one.
func (t *Tokenizer) ratePieces(word string, m *merger, at int32) {
	m.steps++
	l := &m.list[at]
	l.rank = noRank
	if int(l.next) == len(word) {
		return
	}
	if id, ok := t.ids[word[at:m.list[l.next].next]]; ok {
		l.rank = t.ranks[id]
		m.heap.push(l.rank, at)
	}
}

// addPieceEnds appends where the tokens of a part of a text end, which starts at the offset from. The first token of a
// prefixed part has a space that the text does not have.
func (e *encoder) addPieceEnds(word string, from int, tokens []int32, prefixed bool) {
	at := 0
	for _, id := range tokens {
		piece := e.t.pieces[id]
		if prefixed {
			piece, prefixed = piece[1:], false
		}
		n, ok := spells(word[at:], piece)
		for ; !ok; n, ok = spells(word[at:], piece) {
			at++ // a byte without a token
		}
		at += n
		e.ends = append(e.ends, from+at)
	}
}

// spells tells whether a text begins with a piece, and in how many bytes: a mark counts as a space.
func spells(text, piece string) (n int, ok bool) {
	for _, b := range []byte(piece) {
		switch {
		case n < len(text) && text[n] == b:
			n++
		case b == ' ' && strings.HasPrefix(text[n:], spaceMark):
			n += len(spaceMark)
		default:
			return 0, false
		}
	}
	return n, true
}
