package token

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/gguf"
)

func mustNew(t testing.TB, v Vocabulary) *Tokenizer {
	t.Helper()
	tok, err := New(v)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// byteVocabulary has the 256 bytes as the first ids, and these pieces after them, without merges.
func byteVocabulary(pre string, pieces ...string) Vocabulary {
	v := Vocabulary{Model: "gpt2", Pre: pre, BOS: None, EOS: None, EOT: None, EOM: None, UNK: None, PAD: None}
	for b := range 256 {
		v.Tokens = append(v.Tokens, string(character(byte(b))))
	}
	for _, p := range pieces {
		v.Tokens = append(v.Tokens, written(p))
	}
	v.Types = slices.Repeat([]int32{Normal}, len(v.Tokens))
	return v
}

// with appends a special token.
func (v Vocabulary) with(kind int32, text string) Vocabulary {
	v.Tokens, v.Types = append(slices.Clone(v.Tokens), text), append(slices.Clone(v.Types), kind)
	return v
}

// usualPrompt is a prompt as the recommender writes it.
func usualPrompt(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("../../iot/testdata/usual.prompt.txt")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The alphabet is the one of GPT-2's encoder.py.
func TestAlphabet(t *testing.T) {
	for b, want := range map[byte]rune{' ': 'Ġ', '\n': 'Ċ', '!': '!', '~': '~', 0: 'Ā', 0x7F: 'ġ', 0xA0: 'ł', 0xA1: '¡', 0xAD: 'Ń', 0xFF: 'ÿ'} {
		if got := character(b); got != want {
			t.Errorf("%#x is written %q, want %q", b, got, want)
		}
	}
	for r := rune(0); r < 0x200; r++ {
		b, ok := byteOf(r)
		if ok != (character(b) == r) {
			t.Errorf("%q stands for %#x (%v), which is written %q", r, b, ok, character(b))
		}
	}
	for b := range 256 {
		if got, ok := byteOf(character(byte(b))); !ok || got != byte(b) {
			t.Errorf("%#x comes back as %#x, %v", b, got, ok)
		}
	}
}

func TestNewNamesWhatIsWrong(t *testing.T) {
	good := byteVocabulary("smollm", "ab").with(Control, "<s>")
	good.Merges = []string{"a b"}
	mustNew(t, good)
	for name, c := range map[string]struct {
		change func(v *Vocabulary)
		want   string
	}{
		"another model":         {func(v *Vocabulary) { v.Model = "bert" }, `tokenizer.ggml.model is "bert"`},
		"no pre-tokenizer":      {func(v *Vocabulary) { v.Pre = "" }, `tokenizer.ggml.pre is ""`},
		"another pre-tokenizer": {func(v *Vocabulary) { v.Pre = "tekken" }, `tokenizer.ggml.pre is "tekken"`},
		"no tokens":             {func(v *Vocabulary) { v.Tokens, v.Types = nil, nil }, "tokenizer.ggml.tokens is empty"},
		"too few types":         {func(v *Vocabulary) { v.Types = v.Types[1:] }, "tokenizer.ggml.token_type has 257 entries and tokenizer.ggml.tokens 258"},
		"no such type":          {func(v *Vocabulary) { v.Types[3] = 6 }, `tokenizer.ggml.token_type[3] ("ă") is 6`},
		"an empty token":        {func(v *Vocabulary) { v.Tokens[257] = "" }, "tokenizer.ggml.tokens[257] is empty"},
		"a token twice":         {func(v *Vocabulary) { v.Tokens[257] = "ab" }, `tokenizer.ggml.tokens[257] is "ab", as tokens[256] is already`},
		"no byte":               {func(v *Vocabulary) { v.Tokens[256] = "a b" }, `tokenizer.ggml.tokens[256] is "a b"`},
		"an empty merge":        {func(v *Vocabulary) { v.Merges[0] = "" }, `tokenizer.ggml.merges[0] is ""`},
		"a merge of one":        {func(v *Vocabulary) { v.Merges[0] = "ab" }, `tokenizer.ggml.merges[0] is "ab"`},
		"an unknown part":       {func(v *Vocabulary) { v.Merges[0] = "a bc" }, `"bc" is not in tokenizer.ggml.tokens`},
		"an unknown result":     {func(v *Vocabulary) { v.Merges[0] = "b a" }, `"ba" is not in tokenizer.ggml.tokens`},
		"a merge that makes a special token": {func(v *Vocabulary) { v.Types[256] = Control },
			`tokenizer.ggml.merges[0] is "a b", and "ab" is a special token (tokenizer.ggml.token_type[256] is 3)`},
		"BOS out of range": {func(v *Vocabulary) { v.BOS = 258 }, "tokenizer.ggml.bos_token_id is 258, and tokenizer.ggml.tokens has 258"},
		"PAD out of range": {func(v *Vocabulary) { v.PAD = -2 }, "tokenizer.ggml.padding_token_id is -2"},
		"no BOS to add":    {func(v *Vocabulary) { v.AddBOS = true }, "there is no tokenizer.ggml.bos_token_id"},
		"no EOS to add":    {func(v *Vocabulary) { v.AddEOS = true }, "there is no tokenizer.ggml.eos_token_id"},
	} {
		t.Run(name, func(t *testing.T) {
			v := good
			v.Tokens, v.Types, v.Merges = slices.Clone(v.Tokens), slices.Clone(v.Types), slices.Clone(v.Merges)
			c.change(&v)
			if _, err := New(v); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestPiecesAndIDs(t *testing.T) {
	v := byteVocabulary("gpt-2", " yes").with(Control, "<|im_end|>").with(UserDefined, " yes").with(Control, "<pad>")
	v.EOS = 258
	tok := mustNew(t, v)
	if tok.Size() != 260 {
		t.Errorf("%d tokens, want 260", tok.Size())
	}
	if id, ok := tok.ID(" yes"); id != 256 || !ok {
		t.Errorf(`" yes" is %d, %v; want the normal token 256`, id, ok)
	}
	if id, ok := tok.Special(" yes"); id != 258 || !ok {
		t.Errorf(`" yes" as a special token is %d, %v; want 258`, id, ok)
	}
	if _, ok := tok.ID("<|im_end|>"); ok {
		t.Error("a special token is found as text")
	}
	if _, ok := tok.Special("a"); ok {
		t.Error("a normal token is found as a special one")
	}
	for id, want := range map[int32]string{256: " yes", 257: "<|im_end|>", 10: "\n", -1: "", 260: ""} {
		if got := tok.Piece(id); got != want {
			t.Errorf("piece %d is %q, want %q", id, got, want)
		}
	}
	for id, want := range map[int32]bool{257: true, 258: true, 259: false, 0: false} {
		if tok.Ends(id) != want {
			t.Errorf("token %d ends a generation: %v", id, !want)
		}
	}
}

// Adapters are bound to a tokenizer by this.
func TestDigestTellsTokenizersApart(t *testing.T) {
	base := byteVocabulary("gpt-2", "ab", "bc").with(Control, "<s>")
	base.Merges = []string{"a b", "b c"}
	seen := map[string]string{}
	for name, change := range map[string]func(v *Vocabulary){
		"as it is":     func(*Vocabulary) {},
		"pre":          func(v *Vocabulary) { v.Pre = "smollm" },
		"tokens":       func(v *Vocabulary) { v.Tokens[258] = "<S>" },
		"types":        func(v *Vocabulary) { v.Types[258] = UserDefined },
		"merges":       func(v *Vocabulary) { slices.Reverse(v.Merges) },
		"BOS":          func(v *Vocabulary) { v.BOS = 258 },
		"EOS":          func(v *Vocabulary) { v.EOS = 258 },
		"BOS is added": func(v *Vocabulary) { v.BOS, v.AddBOS = 258, true },
		"EOS is added": func(v *Vocabulary) { v.EOS, v.AddEOS = 258, true },
	} {
		v := base
		v.Tokens, v.Types, v.Merges = slices.Clone(v.Tokens), slices.Clone(v.Types), slices.Clone(v.Merges)
		change(&v)
		digest := mustNew(t, v).Digest()
		if other, ok := seen[digest]; ok {
			t.Errorf("%q and %q have the same digest", name, other)
		}
		seen[digest] = name
		v.ChatTemplate = "{{ .Prompt }}"
		if mustNew(t, v).Digest() != digest {
			t.Errorf("%q: the chat template changes the digest", name)
		}
	}
}

func TestMetadataComeBack(t *testing.T) {
	v := byteVocabulary("llama-bpe", "ab").with(Control, "<s>").with(Control, "</s>")
	v.Merges = []string{"a b"}
	v.BOS, v.EOS, v.EOT, v.PAD, v.AddBOS, v.AddEOS, v.ChatTemplate = 257, 258, 258, 257, true, true, "{{ x }}"
	var m gguf.Metadata
	v.SetMetadata(&m)
	var file bytes.Buffer
	w, err := gguf.NewWriter(&file, &m, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Parse(file.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	tok, err := FromMetadata(f.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tok.Digest(), mustNew(t, v).Digest(); got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
	if got := tok.Vocabulary(); got.ChatTemplate != v.ChatTemplate || got.UNK != None || got.EOM != None {
		t.Errorf("chat template %q, UNK %d, EOM %d", got.ChatTemplate, got.UNK, got.EOM)
	}

	for key, want := range map[string]string{
		"model": "missing", "pre": `tokenizer.ggml.pre is ""`, "tokens": "missing", "token_type": "missing", "merges": "missing",
	} {
		without := f.Metadata.Clone()
		without.Delete("tokenizer.ggml." + key)
		if _, err := FromMetadata(without); err == nil || !strings.Contains(err.Error(), "tokenizer.ggml."+key) || !strings.Contains(err.Error(), want) {
			t.Errorf("without %s: error %v", key, err)
		}
	}
	// llama-bpe adds a BOS where the file does not say; the others do not.
	m.Delete("tokenizer.ggml.add_bos_token")
	for pre, want := range map[string]bool{"llama-bpe": true, "smollm": false} {
		gguf.Set(&m, "tokenizer.ggml.pre", pre)
		if got, err := ReadVocabulary(&m); err != nil || got.AddBOS != want {
			t.Errorf("%s: add BOS %v (%v), want %v", pre, got.AddBOS, err, want)
		}
	}
	gguf.Set(&m, "tokenizer.ggml.eos_token_id", uint32(1<<31))
	if _, err := ReadVocabulary(&m); err == nil || !strings.Contains(err.Error(), "tokenizer.ggml.eos_token_id is 2147483648") {
		t.Errorf("error %v for an EOS out of range", err)
	}
	gguf.Set(&m, "tokenizer.ggml.model", "bert")
	m.Delete("tokenizer.ggml.merges")
	if _, err := ReadVocabulary(&m); err == nil || !strings.Contains(err.Error(), `tokenizer.ggml.model is "bert"`) {
		t.Errorf("error %v for a model of words", err)
	}
}
