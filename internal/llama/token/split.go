package token

import (
	"unicode"
	"unicode/utf8"
)

// A splitter returns where the word ends that starts at byte i of the text. Merges happen within words only. Each one
// does what the regular expression in its comment does, as llama.cpp carries it out (unicode.cpp), in time linear in the
// text.
type splitter func(text string, i int) (end int)

type preTokenizer struct {
	split splitter
	// wholeWords is llama.cpp's ignore_merges.
	wholeWords bool
	// addBOS is what a file means that does not say whether a BOS is added.
	addBOS bool
}

// preTokenizerNamed finds a pre-tokenizer by tokenizer.ggml.pre: those of llama-vocab.cpp (as of Ollama 0.17.4) that cut
// words in one of these ways.
func preTokenizerNamed(name string) (pre preTokenizer, ok bool) {
	switch name {
	case "smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b":
		return preTokenizer{split: splitSmolLM}, true
	case "gpt-2", "phi-2", "gigachat", "mellum", "mpt", "olmo", "jais", "exaone4", "granite-docling":
		return preTokenizer{split: splitGPT2}, true
	case "llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2":
		return preTokenizer{split: splitLlama3, wholeWords: true, addBOS: true}, true
	case "dbrx", "smaug-bpe":
		return preTokenizer{split: splitLlama3}, true
	case "qwen2", "deepseek-r1-qwen", "kormo", "megrez", "stablelm2":
		return preTokenizer{split: splitQwen2}, true
	case "default":
		return preTokenizer{split: splitDefault}, true
	}
	return preTokenizer{}, false
}

// class is a set of kinds of characters. Every character is of exactly one of the first four.
type class uint8

const (
	letter class = 1 << iota // \p{L}
	number                   // \p{N}
	space                    // \s
	other                    // [^\s\p{L}\p{N}]

	mark // [\p{P}$+<=>^~|], which the pre-tokenizer "default" sets apart

	kinds = letter | number | space | other
)

// asciiClass is classOf for ASCII, without its tables.
func asciiClass(b byte) class {
	switch {
	case b|0x20 >= 'a' && b|0x20 <= 'z':
		return letter
	case b == ' ', b >= '\t' && b <= '\r':
		return space
	case b >= '0' && b <= '9':
		return number
	case b < ' ', b == '`', b == 0x7F:
		return other
	}
	return other | mark
}

func classOf(r rune) class {
	switch {
	// Letters of Unicode 15.1, which llama.cpp knows and Go's tables of 15.0 do not.
	case unicode.IsLetter(r), r >= 0x2EBF0 && r <= 0x2EE5D:
		return letter
	case unicode.IsNumber(r):
		return number
	case unicode.IsSpace(r):
		return space
	case unicode.IsPunct(r), r == '$', r == '+', r == '<', r == '=', r == '>', r == '^', r == '~', r == '|':
		return other | mark
	}
	return other
}

// classAt returns the class and the size in bytes of the character at i: none and 0 at the end of the text, and for a
// byte that is no valid UTF-8 the class of U+FFFD.
func classAt(text string, i int) (class, int) {
	if i >= len(text) {
		return 0, 0
	}
	if b := text[i]; b < utf8.RuneSelf {
		return asciiClass(b), 1
	}
	r, size := utf8.DecodeRuneInString(text[i:])
	return classOf(r), size
}

// kindAt is classAt with one of the first four classes, and none also where the text is cut: at a character of the class
// cut.
func kindAt(text string, i int, cut class) (class, int) {
	c, size := classAt(text, i)
	if c&cut != 0 {
		return 0, 0
	}
	return c & kinds, size
}

// run returns where the characters of this kind end that begin at i.
func run(text string, i int, kind class) int {
	for {
		c, size := classAt(text, i)
		if c&kinds != kind {
			return i
		}
		i += size
	}
}

// splitGPT2: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
func splitGPT2(text string, i int) int { return splitPart(text, i, 0) }

// splitSmolLM cuts the text at each \p{N}, and what is between like splitGPT2.
func splitSmolLM(text string, i int) int {
	if c, size := classAt(text, i); c == number {
		return i + size
	}
	return splitPart(text, i, number)
}

// splitDefault cuts the text at each [\p{P}$+<=>^~|]+, what is between like splitGPT2, the words of that at each \p{N}+,
// and those at each [0-9][0-9][0-9].
func splitDefault(text string, i int) int {
	c, size := classAt(text, i)
	switch {
	case c&mark != 0:
		for c&mark != 0 {
			i += size
			c, size = classAt(text, i)
		}
		return i
	case c == number:
		return splitNumber(text, i)
	case text[i] == ' ':
		if next, _ := classAt(text, i+1); next == number {
			return i + 1
		}
	}
	return splitPart(text, i, mark)
}

// splitNumber returns the end of the three digits at i, or the start of the next three, or the end of the number.
func splitNumber(text string, i int) int {
	digits := 0
	for end := i; ; {
		c, size := classAt(text, end)
		if c != number {
			return end
		}
		end += size
		if size > 1 {
			digits = 0
		} else if digits++; digits == 3 {
			if end-digits > i {
				return end - digits
			}
			return end
		}
	}
}

// splitPart is splitGPT2 on a part of the text, which ends before the next character of the class cut.
func splitPart(text string, i int, cut class) int {
	if n := contraction(text[i:], false); n > 0 {
		return i + n
	}
	word := i
	if text[i] == ' ' {
		word++
	}
	switch kind, _ := kindAt(text, word, cut); kind {
	case letter, number:
		return run(text, word, kind)
	case other:
		for {
			kind, size := kindAt(text, word, cut)
			if kind != other {
				return word
			}
			word += size
		}
	}
	end, last := i, i
	for {
		kind, size := kindAt(text, end, cut)
		if kind != space {
			if kind != 0 && last > i {
				return last
			}
			return end
		}
		last = end
		end += size
	}
}

// splitLlama3: (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
func splitLlama3(text string, i int) int { return splitLetters(text, i, 3) }

// splitQwen2 is splitLlama3 with single numbers, \p{N}.
func splitQwen2(text string, i int) int { return splitLetters(text, i, 1) }

// splitLetters takes at most so many numbers for a word.
func splitLetters(text string, i, numbers int) int {
	if n := contraction(text[i:], true); n > 0 {
		return i + n
	}
	c, size := classAt(text, i)
	kind := c & kinds
	next, _ := classAt(text, i+size)
	switch {
	case kind == letter:
		return run(text, i, letter)
	case next == letter && kind != number && text[i] != '\r' && text[i] != '\n':
		return run(text, i+size, letter)
	case kind == number:
		for n := 0; n < numbers && kind == number; n++ {
			i += size
			kind, size = classAt(text, i)
		}
		return i
	case kind == other, text[i] == ' ' && next&other != 0:
		i = run(text, i+size, other)
		for i < len(text) && (text[i] == '\r' || text[i] == '\n') {
			i++
		}
		return i
	}
	end, last, line := i, i, -1
	for {
		c, size := classAt(text, end)
		if c != space {
			break
		}
		last = end
		end += size
		if text[last] == '\r' || text[last] == '\n' {
			line = end
		}
	}
	switch {
	case line > 0:
		return line
	case end < len(text) && last > i:
		return last
	}
	return end
}

// contraction returns the length of 's, 't, 'm, 'd, 're, 've or 'll at the start of the text, or 0.
func contraction(text string, anyCase bool) int {
	if len(text) < 2 || text[0] != '\'' {
		return 0
	}
	lower := func(b byte) byte {
		if anyCase && b >= 'A' && b <= 'Z' {
			b += 'a' - 'A'
		}
		return b
	}
	switch first := lower(text[1]); {
	case first == 's', first == 't', first == 'm', first == 'd':
		return 2
	case len(text) > 2:
		second := lower(text[2])
		if first == 'r' && second == 'e' || first == 'v' && second == 'e' || first == 'l' && second == 'l' {
			return 3
		}
	}
	return 0
}
