package token

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// trained makes a small tokenizer out of a usual prompt.
func trained(t testing.TB, pre string) *Tokenizer {
	t.Helper()
	v, err := Train(slices.Values([]string{usualPrompt(t), "naïve café — 東京 😀"}), 600, TrainOptions{Pre: pre})
	if err != nil {
		t.Fatal(err)
	}
	return mustNew(t, v)
}

func TestEveryTextComesBack(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	var texts []string
	for range 500 {
		texts = append(texts, randomText(r, 20))
	}
	for b := range 256 {
		texts = append(texts, string([]byte{byte(b)}), string([]byte{'a', byte(b), byte(b), ' '}))
	}
	for _, pre := range preNames {
		tok := trained(t, pre)
		for _, text := range append(texts, "", usualPrompt(t)) {
			comesBack(t, tok, text)
		}
	}
}

// comesBack checks a text with all ways to encode it, of a tokenizer that has every byte.
func comesBack(t *testing.T, tok *Tokenizer, text string) {
	t.Helper()
	tokens := tok.Encode(text, Options{})
	if got := tok.Decode(tokens); got != text {
		t.Fatalf("%q comes back as %q", text, got)
	}
	for _, id := range tokens {
		if tok.isSpecial(id) {
			t.Fatalf("%q has the special token %q", text, tok.Piece(id))
		}
	}
	for _, o := range []Options{{}, {ParseSpecial: true}} {
		tokens, ends := tok.EncodeOffsets(text, o)
		if want := tok.Encode(text, o); !slices.Equal(tokens, want) {
			t.Fatalf("%q with offsets is %v, want %v", text, tokens, want)
		}
		if len(ends) != len(tokens) {
			t.Fatalf("%q: %d offsets for %d tokens", text, len(ends), len(tokens))
		}
		for i, end := range ends {
			if got := tok.Decode(tokens[:i+1]); got != text[:end] {
				t.Fatalf("%q: token %d ends at %d, and all up to it are %q", text, i, end, got)
			}
		}
	}
}

func FuzzRoundTrip(f *testing.F) {
	var toks []*Tokenizer
	for _, pre := range preNames {
		toks = append(toks, trained(f, pre))
	}
	f.Add("It's 12345 \xff\xfe <|endoftext|>\n\n  x")
	f.Fuzz(func(t *testing.T, text string) {
		for _, tok := range toks {
			comesBack(t, tok, text)
		}
	})
}

func TestSpecialTokensOnlyWhereTheCallerAsks(t *testing.T) {
	for _, pre := range preNames {
		// The last one is a single word of every pre-tokenizer.
		v := byteVocabulary(pre).with(Control, "<|im_start|>").with(UserDefined, "<tool>").with(Unknown, "<unk>").with(Control, "PAD")
		v.BOS, v.EOS, v.AddBOS, v.AddEOS = 256, 257, true, true
		tok := mustNew(t, v)
		const text = "<|im_start|>a<tool><unk>PADb"
		if got := tok.Encode(text, Options{}); len(got) != len(text) {
			t.Errorf("%s: %v has special tokens", pre, got)
		}
		if got, want := tok.Encode("PAD", Options{}), []int32{'P', 'A', 'D'}; !slices.Equal(got, want) {
			t.Errorf("%s: PAD is %v, want %v", pre, got, want)
		}
		if got, want := tok.Encode(text, Options{ParseSpecial: true}), []int32{256, 'a', 257, 258, 259, 'b'}; !slices.Equal(got, want) {
			t.Errorf("%s: parsed %v, want %v", pre, got, want)
		}
		tokens, ends := tok.EncodeOffsets("a<tool>b", Options{ParseSpecial: true, AddSpecial: true})
		if want := []int32{256, 'a', 257, 'b', 257}; !slices.Equal(tokens, want) {
			t.Errorf("%s: with BOS and EOS %v, want %v", pre, tokens, want)
		}
		if want := []int{0, 1, 7, 8, 8}; !slices.Equal(ends, want) {
			t.Errorf("%s: ends %v, want %v", pre, ends, want)
		}
	}
}

// llama.cpp looks for the longest special token first, and for others only in what is left.
func TestTheLongestSpecialTokenGoesFirst(t *testing.T) {
	v := byteVocabulary("gpt-2").with(Control, "ab").with(Control, "bcd").with(Control, "cd")
	tok := mustNew(t, v)
	for text, want := range map[string][]int32{
		"abcd":    {'a', 257},
		"abab":    {256, 256},
		"cdabbcd": {258, 256, 257},
		"acd":     {'a', 258},
	} {
		if got := tok.Encode(text, Options{ParseSpecial: true}); !slices.Equal(got, want) {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
}

// With llama-bpe a word that is a token is that token, even where the merges lead elsewhere.
func TestWholeWordsOfLlama3(t *testing.T) {
	for pre, want := range map[string]string{"llama-bpe": "abc", "gpt-2": "ab|c"} {
		v := byteVocabulary(pre, "ab", "abc")
		v.Merges = []string{"a b"}
		tok := mustNew(t, v)
		var pieces []string
		for _, id := range tok.Encode("abc", Options{}) {
			pieces = append(pieces, tok.Piece(id))
		}
		if got := strings.Join(pieces, "|"); got != want {
			t.Errorf("%s: abc is %s, want %s", pre, got, want)
		}
	}
}

func TestBytesWithoutTokenVanish(t *testing.T) {
	v := byteVocabulary("smollm", "ab")
	v.Tokens[4], v.Merges = "aab", []string{"a b", "a ab"}
	tok := mustNew(t, v)
	if got, want := tok.MissingBytes(), []byte{4}; !slices.Equal(got, want) {
		t.Errorf("missing bytes %v, want %v", got, want)
	}
	// A byte that vanishes keeps its neighbours apart.
	tokens, ends := tok.EncodeOffsets("\x04a\x04b\x04\x04ab\x04 !\x04!\x04", Options{})
	if want := []int32{'a', 'b', 256, ' ', '!', '!'}; !slices.Equal(tokens, want) {
		t.Errorf("tokens %v, want %v", tokens, want)
	}
	if want := []int{2, 4, 8, 10, 11, 13}; !slices.Equal(ends, want) {
		t.Errorf("ends %v, want %v", ends, want)
	}
	if got, want := tok.Encode(strings.Repeat("\x04", 2*shortWord)+"!", Options{}), []int32{'!'}; !slices.Equal(got, want) {
		t.Errorf("tokens of a long word %v, want %v", got, want)
	}
}

func TestResultsBelongToTheCaller(t *testing.T) {
	tok := trained(t, "smollm")
	const text = "A. Casino (1995)"
	clear(tok.Encode(text, Options{}))
	if got := tok.Decode(tok.Encode(text, Options{})); got != text {
		t.Errorf("after the tokens were overwritten, %q comes back as %q", text, got)
	}
	if got, want := tok.AppendEncode([]int32{1, 2}, text, Options{}), append([]int32{1, 2}, tok.Encode(text, Options{})...); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := string(tok.AppendDecode([]byte("> "), tok.Encode(text, Options{}))); got != "> "+text {
		t.Errorf("%q", got)
	}
}

func TestKnownWordsCostNoMemory(t *testing.T) {
	tok := trained(t, "smollm")
	// Words that share a place of the cache drive each other out: of those the first.
	places := map[*atomic.Pointer[cachedWord]]bool{}
	var words []string
	for _, word := range splitAll(t, "smollm", usualPrompt(t)) {
		if place := tok.words.slot(word); !places[place] {
			places[place] = true
			words = append(words, word)
		}
	}
	tokens := make([]int32, 0, 100)
	if n := testing.AllocsPerRun(10, func() {
		for _, word := range words {
			tokens = tok.appendWord(tokens[:0], word)
		}
	}); n > 0 {
		t.Errorf("%v allocations for %d words", n, len(words))
	}
}

// Words that drive each other out of the cache must not change what others get.
func TestConcurrentEncodings(t *testing.T) {
	tok, alone := trained(t, "smollm"), trained(t, "smollm")
	r := rand.New(rand.NewPCG(11, 12))
	texts := make([]string, 200)
	want := make([][]int32, len(texts))
	for i := range texts {
		texts[i] = usualPrompt(t)[i:] + randomText(r, 50) + strings.Repeat("a", 100)
		want[i] = alone.Encode(texts[i], Options{})
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range texts {
				k := (i*7 + g*50) % len(texts)
				if got := tok.Encode(texts[k], Options{}); !slices.Equal(got, want[k]) {
					t.Errorf("text %d is encoded in another way", k)
				}
			}
		})
	}
	wg.Wait()
}

// The limit is 0.2 ms for a prompt of 2,400 bytes.
func BenchmarkEncodeKnownWords(b *testing.B) {
	tok, prompt := model(b), usualPrompt(b)
	tokens := tok.Encode(prompt, Options{})
	b.SetBytes(int64(len(prompt)))
	b.ReportAllocs()
	for b.Loop() {
		tokens = tok.AppendEncode(tokens[:0], prompt, Options{})
	}
}

// The limit is 0.3 ms for a prompt of 2,400 bytes.
func BenchmarkEncodeNewWords(b *testing.B) {
	tok, prompt := model(b), usualPrompt(b)
	var tokens []int32
	b.SetBytes(int64(len(prompt)))
	for b.Loop() {
		tokens = tokens[:0]
		for i := 0; i < len(prompt); {
			end := tok.split(prompt, i)
			tokens = tok.mergeWord(tokens, prompt[i:end])
			i = end
		}
	}
}

func BenchmarkEncodeOneLongWord(b *testing.B) {
	tok := model(b)
	word := strings.Repeat("a", 1<<20)
	var tokens []int32
	b.SetBytes(1 << 20)
	for b.Loop() {
		tokens = tok.AppendEncode(tokens[:0], word, Options{})
	}
}

func BenchmarkNew(b *testing.B) {
	v := model(b).Vocabulary()
	for b.Loop() {
		mustNew(b, v)
	}
}
