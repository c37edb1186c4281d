package token

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// naiveMerge joins the leftmost pair of the lowest rank until there is none, by the texts of the file.
func naiveMerge(v Vocabulary, word string) (tokens []int32) {
	var symbols []string
	for i := range len(word) {
		symbols = append(symbols, written(word[i:i+1]))
	}
	for {
		best, at := len(v.Merges), 0
		for i := 1; i < len(symbols); i++ {
			if rank := slices.Index(v.Merges, symbols[i-1]+" "+symbols[i]); rank >= 0 && rank < best {
				best, at = rank, i
			}
		}
		if at == 0 {
			break
		}
		symbols = slices.Replace(symbols, at-1, at+1, symbols[at-1]+symbols[at])
	}
	for _, s := range symbols {
		if id := slices.Index(v.Tokens, s); id >= 0 {
			tokens = append(tokens, int32(id))
		}
	}
	return tokens
}

// mergeVocabulary has merges that compete for the same letters, and runs that merge in many levels.
func mergeVocabulary(t testing.TB) Vocabulary {
	t.Helper()
	r := rand.New(rand.NewPCG(3, 4))
	texts := []string{strings.Repeat("a", 100), strings.Repeat("ab", 50), strings.Repeat("\xf0\x9f\x98\x80", 20), strings.Repeat(" ", 100)}
	for range 300 {
		b := make([]byte, 1+r.IntN(12))
		for i := range b {
			b[i] = "aaabbcd"[r.IntN(7)]
		}
		texts = append(texts, string(b))
	}
	v, err := Train(slices.Values(texts), 400, TrainOptions{Pre: "gpt-2"})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestMergesGoByRankAndThenFromTheLeft(t *testing.T) {
	v := mergeVocabulary(t)
	tok := mustNew(t, v)
	r := rand.New(rand.NewPCG(5, 6))
	for range 1500 {
		b := make([]byte, 1+r.IntN(shortWord))
		for i := range b {
			b[i] = "aaabbcdx"[r.IntN(8)]
		}
		word := string(b)
		want := naiveMerge(v, word)
		if got := tok.mergeShort(nil, word); !slices.Equal(got, want) {
			t.Fatalf("short: %q is %v, want %v", word, got, want)
		}
		if got := tok.mergeLong(nil, word, new(merger)); !slices.Equal(got, want) {
			t.Fatalf("long: %q is %v, want %v", word, got, want)
		}
	}
}

// Of two merges of the same pair the first counts, as in llama.cpp.
func TestTheFirstOfEqualMergesCounts(t *testing.T) {
	v := byteVocabulary("gpt-2", "ab", "bc")
	v.Merges = []string{"a b", "b c", "a b"}
	if got, want := mustNew(t, v).Decode(mustNew(t, v).Encode("abc", Options{})[:1]), "ab"; got != want {
		t.Errorf("the first token of abc is %q, want %q", got, want)
	}
}

func TestLongWordsTakeStepsInProportion(t *testing.T) {
	tok := mustNew(t, mergeVocabulary(t))
	const n = 1 << 20
	r := rand.New(rand.NewPCG(7, 8))
	mixed := make([]byte, n)
	for i := range mixed {
		mixed[i] = "abcd"[r.IntN(4)]
	}
	for name, word := range map[string]string{
		"one letter": strings.Repeat("a", n),
		"spaces":     strings.Repeat(" ", n),
		"an emoji":   strings.Repeat("😀", n/4),
		"no merge":   strings.Repeat("x", n),
		"mixed":      string(mixed),
	} {
		m := new(merger)
		tokens := tok.mergeLong(nil, word, m)
		if got := tok.Decode(tokens); got != word {
			t.Errorf("%s: decodes to something else", name)
		}
		// At most 3n pairs are rated, and each one is once put on a heap of that size and once taken off.
		if limit := 3 * n * (1 + 2*bits.Len(3*n)); m.steps > limit {
			t.Errorf("%s: %d steps for %d bytes, want at most %d", name, m.steps, n, limit)
		}
	}
}

// A step that is quadratic in the text does not come to an end here.
func TestLongTextsOfOneKind(t *testing.T) {
	for _, pre := range []string{"smollm", "qwen2", "gpt-2", "default"} { // llama-bpe goes the way of qwen2
		v := mergeVocabulary(t)
		v.Pre = pre
		tok := mustNew(t, v)
		for _, part := range []string{"a", " ", "\n ", " \n", "\n", "1", "1٣", "12٣", "'", "' ", "😀", ".", "\u3000", "\xff", " a", "<|endoftext|>"} {
			splitAll(t, pre, strings.Repeat(part, 1<<20/len(part)))
			text := strings.Repeat(part, 1<<16/len(part))
			if got := tok.Decode(tok.Encode(text, Options{ParseSpecial: true})); got != text {
				t.Errorf("%s: a text of %q decodes to something else", pre, part)
			}
		}
	}
}
