package token

import (
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

var preNames = []string{"smollm", "llama-bpe", "qwen2", "gpt-2", "default"}

// The reference cuts texts with the regular expressions themselves, one list of alternatives after the other, each on
// the parts that the one before has left. What no alternative matches is a word, too.
var referenceStages = map[string][][]alternative{
	"gpt-2":     {gpt2Pattern},
	"smollm":    {{matching(`\p{N}`)}, gpt2Pattern},
	"llama-bpe": {lettersPattern(`\p{N}{1,3}`)},
	"qwen2":     {lettersPattern(`\p{N}`)},
	"default":   {{matching(`[\p{P}$+<=>^~|]+`)}, gpt2Pattern, {matching(`\p{N}+`)}, {matching(`[0-9][0-9][0-9]`)}},
}

var gpt2Pattern = []alternative{
	matching(`'s|'t|'re|'ve|'m|'ll|'d`), matching(` ?\p{L}+`), matching(` ?\p{N}+`), matching(` ?[^\s\p{L}\p{N}]+`),
	spacesBeforeSpace,
}

func lettersPattern(numbers string) []alternative {
	return []alternative{
		matching(`'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]`), matching(`[^\r\n\p{L}\p{N}]?\p{L}+`),
		matching(numbers), matching(` ?[^\s\p{L}\p{N}]+[\r\n]*`), matching(`\s*[\r\n]+`), spacesBeforeSpace, matching(`\s+`),
	}
}

// alternative returns how many bytes it matches at the start of a text, or 0.
type alternative func(text string) int

// matching is a regular expression with the classes of llama.cpp: Unicode spaces, and the letters of Unicode 15.1.
func matching(pattern string) alternative {
	pattern = strings.ReplaceAll(pattern, `[^\s\p{L}\p{N}]`, `[^\s\p{L}\p{N}\x{2EBF0}-\x{2EE5D}]`)
	pattern = strings.ReplaceAll(pattern, `[^\r\n\p{L}\p{N}]`, `[^\r\n\p{L}\p{N}\x{2EBF0}-\x{2EE5D}]`)
	pattern = strings.ReplaceAll(pattern, `\p{L}+`, `[\p{L}\x{2EBF0}-\x{2EE5D}]+`)
	const spaces = `\x09-\x0d\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}`
	pattern = strings.ReplaceAll(pattern, `[^\s`, `[^`+spaces)
	pattern = strings.ReplaceAll(pattern, `\s`, `[`+spaces+`]`)
	re := regexp.MustCompile(`^(?:` + pattern + `)`)
	return func(text string) int {
		at := re.FindStringIndex(text)
		if at == nil {
			return 0
		}
		return at[1]
	}
}

var spaces = matching(`\s+`)

// spacesBeforeSpace is \s+(?!\S), tried with ever fewer characters.
func spacesBeforeSpace(text string) int {
	for n := spaces(text); n > 0; {
		next, _ := utf8.DecodeRuneInString(text[n:])
		if n == len(text) || unicode.IsSpace(next) {
			return n
		}
		_, size := utf8.DecodeLastRuneInString(text[:n])
		n -= size
	}
	return 0
}

func referenceSplit(pre, text string) []string {
	words := []string{text}
	for _, stage := range referenceStages[pre] {
		var next []string
		for _, word := range words {
			next = append(next, cut(word, stage)...)
		}
		words = next
	}
	return words
}

func cut(text string, stage []alternative) (words []string) {
	start, i := 0, 0
next:
	for i < len(text) {
		for _, matches := range stage {
			if n := matches(text[i:]); n > 0 {
				if i > start {
					words = append(words, text[start:i])
				}
				words = append(words, text[i:i+n])
				i += n
				start = i
				continue next
			}
		}
		_, size := utf8.DecodeRuneInString(text[i:])
		i += size
	}
	if start < len(text) {
		words = append(words, text[start:])
	}
	return words
}

func splitAll(t *testing.T, pre, text string) (words []string) {
	t.Helper()
	p, ok := preTokenizerNamed(pre)
	if !ok {
		t.Fatalf("no pre-tokenizer %q", pre)
	}
	for i := 0; i < len(text); {
		end := p.split(text, i)
		if end <= i || end > len(text) {
			t.Fatalf("%s: the word at %d of %q ends at %d", pre, i, text, end)
		}
		words = append(words, text[i:end])
		i = end
	}
	return words
}

// Each kind of character that a pattern treats in its own way, for texts at random.
var parts = []string{
	"a", "b", "Z", "é", "東", "ſ", "\U0002EBF0", "s", "'s", "'S", "'re", "'Re", "'ll", "'LL", "'v", "'", "d",
	"0", "1", "9", "12", "1995", "٣", "½", "Ⅷ", " ", " ", "  ", "\t", "\n", "\r", "\r\n", "\n\n", "\u00a0", "\u2003", "\u3000", "\u0085",
	"!", ".", ",", "(", ")", "-", "—", "$", "+", "<", "=", ">", "^", "~", "|", "`", "_", "😀", "👩‍👩‍👧", "\u0301", "\u200d",
	"\x00", "\x04", "\x7f", "\xff", "\xc3", "\xe6\x9d", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\ufffd", "\ue000", "\U000E0001",
	"<|endoftext|>", "<|im_start|>",
}

func randomText(r *rand.Rand, most int) string {
	var b strings.Builder
	for range r.IntN(most + 1) {
		b.WriteString(parts[r.IntN(len(parts))])
	}
	return b.String()
}

func TestWordsAreThoseOfThePatterns(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		text := randomText(r, 12)
		for _, pre := range preNames {
			if got, want := splitAll(t, pre, text), referenceSplit(pre, text); !slices.Equal(got, want) {
				t.Fatalf("%s: %q is cut into %q, want %q", pre, text, got, want)
			}
		}
	}
}

func FuzzSplit(f *testing.F) {
	for _, text := range []string{"It's 12345  o'clock,\n\n\tDON'T!!\r\n", "a  5\n 6", "１２３４ 12½345", "...  ", " \u00a0x"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		text = text[:min(len(text), 300)] // the reference takes the square of it
		for _, pre := range preNames {
			if got, want := splitAll(t, pre, text), referenceSplit(pre, text); !slices.Equal(got, want) {
				t.Errorf("%s: %q is cut into %q, want %q", pre, text, got, want)
			}
		}
	})
}

// The sum is of the classes in llama.cpp's unicode-data.cpp (as of Ollama 0.17.4), one byte for each code point. A Go
// version with newer Unicode tables fails here: then classOf has to say what differs.
func TestClassesAreThoseOfLlamaCpp(t *testing.T) {
	const want = "b949185a1da9b1395b5152d49669960a1bc9ef7b6ebf1dc83df323479e03de59"
	classes := make([]byte, unicode.MaxRune+1)
	for r := range classes {
		classes[r] = byte(classOf(rune(r)))
	}
	sum := sha256.Sum256(classes)
	if got := hex.EncodeToString(sum[:]); got != want {
		t.Errorf("SHA-256 %s, want %s (Unicode %s)", got, want, unicode.Version)
	}
	for b := range byte(utf8.RuneSelf) {
		if asciiClass(b) != classOf(rune(b)) {
			t.Errorf("%q is of class %b, want %b", b, asciiClass(b), classOf(rune(b)))
		}
	}
}
