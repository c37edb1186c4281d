package token

import "strings"

// Options says what an encoding may contain beside the tokens of the text. The zero value is for text from outside.
type Options struct {
	// ParseSpecial makes special tokens of the places where the text spells one, as "<|im_start|>" (llama.cpp's
	// parse_special). For templates only: in text from outside it lets anybody write such tokens. Without it, a text
	// never becomes a special token; llama.cpp does make user defined tokens even then.
	ParseSpecial bool
	// AddSpecial adds the BOS before and the EOS after the text where the vocabulary says so (llama.cpp's add_special).
	AddSpecial bool
	// Continues says that the text goes on with another one: no space is put before it, where the vocabulary would.
	Continues bool
}

// Encode returns the tokens of a text.
func (t *Tokenizer) Encode(text string, o Options) []int32 {
	return t.AppendEncode(make([]int32, 0, len(text)/3+2), text, o)
}

// AppendEncode appends the tokens of a text to dst. It allocates nothing where dst has room and the words were seen
// lately.
func (t *Tokenizer) AppendEncode(dst []int32, text string, o Options) []int32 {
	e := encoder{t: t, tokens: dst}
	e.encode(text, o)
	return e.tokens
}

// EncodeOffsets returns the tokens of a text, and for each the offset in bytes at which it ends. Tokens that are added
// around the text have no length.
func (t *Tokenizer) EncodeOffsets(text string, o Options) (tokens []int32, ends []int) {
	n := len(text)/3 + 2
	e := encoder{t: t, tokens: make([]int32, 0, n), withEnds: true, ends: make([]int, 0, n)}
	e.encode(text, o)
	return e.tokens, e.ends
}

// Decode returns the bytes of the tokens, special ones as their text, and with the space that SentencePiece put before
// the text.
func (t *Tokenizer) Decode(tokens []int32) string { return string(t.AppendDecode(nil, tokens)) }

// AppendDecode appends the bytes of the tokens to dst, special ones as their text.
func (t *Tokenizer) AppendDecode(dst []byte, tokens []int32) []byte {
	for _, id := range tokens {
		dst = append(dst, t.Piece(id)...)
	}
	return dst
}

// encoder is one encoding in progress.
type encoder struct {
	t        *Tokenizer
	tokens   []int32
	withEnds bool
	ends     []int
	inText   bool // the last token is one of text, and no special one
}

func (e *encoder) encode(text string, o Options) {
	v := &e.t.vocabulary
	e.inText = o.Continues
	if o.AddSpecial && v.AddBOS {
		e.add(int32(v.BOS), 0)
	}
	if o.ParseSpecial {
		e.parse(text, 0, e.t.special)
	} else {
		e.text(text, 0)
	}
	if o.AddSpecial && v.AddEOS {
		e.add(int32(v.EOS), len(text))
	}
}

// add appends a token that ends at an offset of the whole text.
func (e *encoder) add(id int32, end int) {
	e.tokens = append(e.tokens, id)
	if e.withEnds {
		e.ends = append(e.ends, end)
	}
}

// parse encodes a part of the text, which starts at the offset from, with these special tokens in it. Like llama.cpp it
// looks for the longest one in the whole part first, then for the next longest in what is left between.
func (e *encoder) parse(text string, from int, special []int32) {
	for k, id := range special {
		piece := e.t.pieces[id]
		for {
			at := strings.Index(text, piece)
			if at < 0 {
				break
			}
			e.parse(text[:at], from, special[k+1:])
			text, from = text[at+len(piece):], from+at+len(piece)
			e.add(id, from)
			e.inText = false
		}
	}
	e.text(text, from)
}

// text encodes a part of the text without special tokens. Before each part that begins a text, or follows a special
// token, SentencePiece has a space where the vocabulary says so.
func (e *encoder) text(text string, from int) {
	prefixed := e.t.vocabulary.SpacePrefix && !e.inText
	for i := 0; i < len(text); {
		end := e.t.split(text, i)
		first, word := len(e.tokens), text[i:end]
		if prefixed {
			e.tokens = e.t.appendWord(e.tokens, " "+word)
		} else {
			e.tokens = e.t.appendWord(e.tokens, word)
		}
		switch {
		case e.withEnds && e.t.ranks != nil:
			e.addPieceEnds(word, from+i, e.tokens[first:], prefixed)
		case e.withEnds:
			e.addEnds(word, from+i, e.tokens[first:])
		}
		prefixed, e.inText, i = false, true, end
	}
}

// addEnds appends where the tokens of a word end, which starts at the offset from. Bytes without a token are left out
// between them.
func (e *encoder) addEnds(word string, from int, tokens []int32) {
	at := 0
	for _, id := range tokens {
		piece := e.t.pieces[id]
		for !strings.HasPrefix(word[at:], piece) {
			at++
		}
		at += len(piece)
		e.ends = append(e.ends, from+at)
	}
}

// appendWord appends the tokens of one word, as the pre-tokenizer cuts them.
func (t *Tokenizer) appendWord(dst []int32, word string) []int32 {
	if len(word) > cachedWordBytes {
		return t.mergeWord(dst, word)
	}
	slot := t.words.slot(word)
	if known := slot.Load(); known.is(word) {
		return append(dst, known.tokens...)
	}
	first := len(dst)
	dst = t.mergeWord(dst, word)
	remember(slot, word, dst[first:])
	return dst
}

// mergeWord appends the tokens of one word without the cache.
func (t *Tokenizer) mergeWord(dst []int32, word string) []int32 {
	if t.wholeWords {
		if id, ok := t.ids[word]; ok {
			return append(dst, id)
		}
	}
	if t.ranks == nil && len(word) <= shortWord {
		return t.mergeShort(dst, word)
	}
	m := t.scratch.Get().(*merger)
	if t.ranks != nil {
		dst = t.mergePieces(dst, word, m)
	} else {
		dst = t.mergeLong(dst, word, m)
	}
	if len(word) <= maxKeptWord {
		t.scratch.Put(m)
	}
	return dst
}

// maxKeptWord is the length in bytes of the words whose memory is kept for the next one: about 40 bytes for each.
const maxKeptWord = 1 << 16
