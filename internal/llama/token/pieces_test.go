package token

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/gguf"
)

// golden is what testdata/pieces.py writes.
type golden struct {
	Tokens        []string
	Types         []int32
	Scores        []float32
	BOS, EOS, UNK int
	Texts         []struct {
		Text   string
		Tokens []int32
	}
}

func readGolden(t testing.TB, path string) golden {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g golden) vocabulary() Vocabulary {
	return Vocabulary{Model: "llama", Tokens: g.Tokens, Types: g.Types, Scores: g.Scores, BOS: g.BOS, EOS: g.EOS, UNK: g.UNK,
		EOT: None, EOM: None, PAD: None, AddBOS: true, SpacePrefix: true}
}

// pieceVocabulary has all bytes, and pieces whose scores fall, with neighbours of the same score.
func pieceVocabulary(pieces ...string) Vocabulary {
	v := Vocabulary{Model: "llama", EOT: None, EOM: None, PAD: None, UNK: 0, BOS: 1, EOS: 2}
	add := func(kind int32, score float32, text string) {
		v.Tokens, v.Types, v.Scores = append(v.Tokens, text), append(v.Types, kind), append(v.Scores, score)
	}
	add(Unknown, 0, "<unk>")
	add(Control, 0, "<s>")
	add(Control, 0, "</s>")
	const hex = "0123456789ABCDEF"
	for b := range 256 {
		add(Byte, 0, "<0x"+string(hex[b>>4])+string(hex[b&15])+">")
	}
	for i, p := range pieces {
		add(Normal, -float32(i/2), p)
	}
	return v
}

// The ids are those of SentencePiece itself. R2REC_TEST_TOKENIZERS names a folder with more of such files, of real models.
func TestPiecesAreThoseOfSentencePiece(t *testing.T) {
	paths := []string{"testdata/pieces.json"}
	if dir := os.Getenv("R2REC_TEST_TOKENIZERS"); dir != "" {
		more, err := filepath.Glob(filepath.Join(dir, "*.json"))
		if err != nil || len(more) == 0 {
			t.Fatalf("R2REC_TEST_TOKENIZERS: no *.json in %q (%v)", dir, err)
		}
		paths = append(paths, more...)
	}
	for _, path := range paths {
		g := readGolden(t, path)
		tok := mustNew(t, g.vocabulary())
		for _, want := range g.Texts {
			tokens, ends := tok.EncodeOffsets(want.Text, Options{})
			if !slices.Equal(tokens, want.Tokens) {
				t.Errorf("%s: %q: %v, want %v", path, want.Text, tokens, want.Tokens)
				continue
			}
			marked := strings.NewReplacer(spaceMark, " ")
			for i, end := range ends {
				if got := tok.Decode(tokens[:i+1]); got != " "+marked.Replace(want.Text[:end]) {
					t.Errorf("%s: %d tokens of %q end at %d, and are %q", path, i+1, want.Text, end, got)
					break
				}
			}
		}
	}
}

// naivePieces joins the leftmost pair of the highest score until there is none.
func naivePieces(v Vocabulary, text string) (tokens []int32) {
	find := func(piece string) int {
		id := slices.Index(v.Tokens, strings.ReplaceAll(piece, " ", spaceMark))
		if id >= 0 && v.Types[id] != Normal {
			return None
		}
		return id
	}
	var symbols []string
	for _, r := range text {
		symbols = append(symbols, string(r))
	}
	for {
		best, at := float32(math.Inf(-1)), 0
		for i := 1; i < len(symbols); i++ {
			if id := find(symbols[i-1] + symbols[i]); id >= 0 && v.Scores[id] > best {
				best, at = v.Scores[id], i
			}
		}
		if at == 0 {
			break
		}
		symbols = slices.Replace(symbols, at-1, at+1, symbols[at-1]+symbols[at])
	}
	for _, s := range symbols {
		if id := find(s); id >= 0 {
			tokens = append(tokens, int32(id))
			continue
		}
		for _, b := range []byte(s) {
			tokens = append(tokens, 3+int32(b))
		}
	}
	return tokens
}

func TestPiecesAreThoseOfTheNaiveOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	within := []string{"ab", "ba", "▁a", "aa", "▁▁", "bab", "▁ab", "aba", "a", "b", "▁▁▁", "▁", "é", "éa", "bb"}
	across := append(slices.Clone(within), "a▁", "a▁b", "▁a▁")
	for name, v := range map[string]Vocabulary{"within words": pieceVocabulary(within...), "across words": pieceVocabulary(across...)} {
		tok := mustNew(t, v)
		for range 1000 {
			text := ""
			for range r.IntN(40) {
				text += []string{"a", "b", " ", "é", "東"}[r.IntN(5)]
			}
			if got, want := tok.Encode(text, Options{}), naivePieces(v, text); !slices.Equal(got, want) {
				t.Fatalf("%s: %q is %v, want %v", name, text, got, want)
			}
		}
	}
}

func TestEveryTextOfPiecesComesBack(t *testing.T) {
	v := readGolden(t, "testdata/pieces.json").vocabulary()
	prefixed := mustNew(t, v)
	v.SpacePrefix = false
	tok := mustNew(t, v)
	r := rand.New(rand.NewPCG(9, 10))
	for i := range 700 {
		text := randomText(r, 20)
		if i < 256 {
			text = string([]byte{'a', byte(i), byte(i), ' ', byte(i)})
		}
		comesBack(t, tok, text)
		if got := prefixed.Decode(prefixed.Encode(text, Options{})); text != "" && got != " "+text {
			t.Fatalf("%q comes back as %q", text, got)
		}
	}
}

// A space stands before what begins a text or follows a special token, and before nothing else.
func TestSpacesBeforePieces(t *testing.T) {
	v := pieceVocabulary("▁a", "▁", "a")
	v.SpacePrefix, v.AddBOS, v.AddEOS = true, true, true
	tok := mustNew(t, v)
	const bos, eos, spaceA, space, a = 1, 2, 259, 260, 261
	for text, want := range map[string][]int32{
		"": {bos, eos}, "a": {bos, spaceA, eos}, " a": {bos, space, spaceA, eos}, "a a": {bos, spaceA, spaceA, eos}, "aa": {bos, spaceA, a, eos},
		"a</s>a<s></s>a": {bos, spaceA, eos, spaceA, bos, eos, spaceA, eos}, "<s>": {bos, bos, eos},
	} {
		tokens, ends := tok.EncodeOffsets(text, Options{AddSpecial: true, ParseSpecial: true})
		if !slices.Equal(tokens, want) {
			t.Errorf("%q: %v, want %v", text, tokens, want)
		}
		if len(ends) != len(tokens) || ends[0] != 0 || ends[len(ends)-1] != len(text) || !slices.IsSorted(ends) {
			t.Errorf("%q: tokens end at %v", text, ends)
		}
	}
}

// No text becomes a special token by merges, or the token of a byte by its name.
func TestTextsDoNotSpellSpecialPieces(t *testing.T) {
	v := pieceVocabulary("<s", "<0", "<0x", "<0x4", "<0x41", "</", "</s", "<u", "<un", "<unk")
	tok := mustNew(t, v)
	for _, text := range []string{"<s>", "</s>", "<unk>", "<0x41>"} {
		comesBack(t, tok, text)
		if _, ok := tok.ID(text); ok {
			t.Errorf("%q is a token of text", text)
		}
	}
	if id, ok := tok.ID("\n"); !ok || v.Tokens[id] != "<0x0A>" {
		t.Errorf("a line feed is token %d, %v", id, ok)
	}
}

func TestLongPiecesTakeStepsInProportion(t *testing.T) {
	tok := mustNew(t, pieceVocabulary("aa", "aaaa", "aaaaaaaa", "a▁", "▁a"))
	for _, part := range []string{"a", "a ", "b", "é"} {
		m := new(merger)
		word := strings.Repeat(part, 1<<17/len(part))
		tok.mergePieces(nil, word, m)
		if most := 2 * 17 * len(word); m.steps > most {
			t.Errorf("%d bytes of %q take %d steps, want at most %d", len(word), part, m.steps, most)
		}
	}
}

func TestPiecesNameWhatIsWrong(t *testing.T) {
	for want, change := range map[string]func(v *Vocabulary){
		"tokenizer.ggml.scores has 259 entries and tokenizer.ggml.tokens 260": func(v *Vocabulary) { v.Scores = v.Scores[1:] },
		`tokenizer.ggml.scores[259] ("ab") is no number`:                      func(v *Vocabulary) { v.Scores[259] = float32(math.NaN()) },
		`tokenizer.ggml.tokens[259] is "ab" and of type 6`:                    func(v *Vocabulary) { v.Types[259] = Byte },
		`tokenizer.ggml.tokens[4] is "<0x01 " and of type 6`:                  func(v *Vocabulary) { v.Tokens[4] = "<0x01 " },
		`tokenizer.ggml.token_type[259] ("ab") is 7`:                          func(v *Vocabulary) { v.Types[259] = 7 },
		`tokenizer.ggml.tokens[259] is "<s>", as tokens[1] is already`:        func(v *Vocabulary) { v.Tokens[259] = "<s>" },
		"tokenizer.ggml.tokens[259] is empty":                                 func(v *Vocabulary) { v.Tokens[259] = "" },
		"there is no tokenizer.ggml.bos_token_id":                             func(v *Vocabulary) { v.BOS, v.AddBOS = None, true },
	} {
		v := pieceVocabulary("ab")
		change(&v)
		if _, err := New(v); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

func TestPieceMetadataComeBack(t *testing.T) {
	v := pieceVocabulary("▁a", "ab")
	v.AddBOS, v.SpacePrefix = true, true
	digest := mustNew(t, v).Digest()
	m := new(gguf.Metadata)
	v.SetMetadata(m)
	if m.Has("tokenizer.ggml.merges") {
		t.Error("a SentencePiece model has merges")
	}
	tok, err := FromMetadata(m)
	if err != nil {
		t.Fatal(err)
	}
	if tok.Digest() != digest {
		t.Error("another digest")
	}
	// What llama.cpp takes for granted.
	for _, key := range []string{"bos_token_id", "eos_token_id", "unknown_token_id", "add_bos_token", "add_eos_token", "add_space_prefix"} {
		m.Delete("tokenizer.ggml." + key)
	}
	if tok, err := FromMetadata(m); err != nil || tok.Digest() != digest {
		t.Errorf("without keys that have defaults it is another tokenizer: %v", err)
	}
	for name, change := range map[string]func(v *Vocabulary){
		"a score": func(v *Vocabulary) { v.Scores[260] = -7 }, "the prefix": func(v *Vocabulary) { v.SpacePrefix = false },
	} {
		other := v
		other.Scores = slices.Clone(v.Scores)
		change(&other)
		if mustNew(t, other).Digest() == digest {
			t.Errorf("%s does not change the digest", name)
		}
	}
	for _, key := range []string{"tokens", "token_type", "scores"} {
		without := m.Clone()
		without.Delete("tokenizer.ggml." + key)
		if _, err := FromMetadata(without); err == nil || !strings.Contains(err.Error(), `"tokenizer.ggml.`+key+`": missing`) {
			t.Errorf("without %s: error %v", key, err)
		}
	}
}
