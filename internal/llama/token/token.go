// Package token turns text into the token ids of a language model and back, from the vocabulary that a GGUF file carries:
// byte-level BPE as GPT-2 introduced it, with the words cut as llama.cpp cuts them, and the BPE of SentencePiece, which
// Llama 2 and Mistral use.
//
// It promises the ids of llama.cpp (and so of Ollama) for any valid UTF-8 text. Bytes that are no valid UTF-8 become the
// tokens of exactly these bytes, where llama.cpp puts others in their place. Special tokens come out of a text only
// where the caller asks for it: no text from outside can inject one. Every step is linear or n log n in the text, and a
// Tokenizer is safe for concurrent use.
//
// It leaves to others what the tokens mean: chat templates are carried along, not rendered.
package token

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
)

// What a token stands for, as tokenizer.ggml.token_type numbers it.
const (
	Normal      int32 = 1
	Unknown     int32 = 2
	Control     int32 = 3
	UserDefined int32 = 4
	Unused      int32 = 5
	Byte        int32 = 6 // in SentencePiece: "<0x0A>"
)

// None stands for a special token that a vocabulary does not have.
const None = -1

// Vocabulary is all that determines a tokenizer, as the metadata of a GGUF file names it. The id of a token is its place
// in Tokens.
type Vocabulary struct {
	Model  string    // tokenizer.ggml.model: "gpt2" is byte-level BPE, "llama" is SentencePiece
	Pre    string    // tokenizer.ggml.pre, of byte-level BPE only: how words are cut: "smollm", "llama-bpe", "qwen2", "gpt-2", "default" and names that mean the same
	Tokens []string  // tokenizer.ggml.tokens: in byte-level BPE each byte of a normal token written as one character of GPT-2's alphabet, in SentencePiece each space as U+2581
	Types  []int32   // tokenizer.ggml.token_type: one for each token
	Merges []string  // tokenizer.ggml.merges, of byte-level BPE only: "left right", the first one goes first
	Scores []float32 // tokenizer.ggml.scores, of SentencePiece only: one for each token, the highest one goes first

	BOS, EOS, EOT, EOM, UNK, PAD int // tokenizer.ggml.*_token_id; None where there is none

	AddBOS, AddEOS bool   // tokenizer.ggml.add_bos_token, add_eos_token: what Options.AddSpecial adds
	SpacePrefix    bool   // tokenizer.ggml.add_space_prefix, of SentencePiece only: a text is read as if a space stood before it
	ChatTemplate   string // tokenizer.chat_template
}

// Tokenizer encodes and decodes with one vocabulary.
type Tokenizer struct {
	vocabulary   Vocabulary
	digest       string
	split        splitter
	wholeWords   bool             // a word that is a token stays whole, whatever the merges would make of it
	pieces       []string         // by id: the bytes that a token stands for; a special token's own text
	ids          map[string]int32 // by bytes: the tokens that text becomes
	special      []int32          // control, unknown and user defined tokens, the longest first
	specialIDs   map[string]int32 // the same by text
	ends         map[int32]bool   // tokens that end a generation
	byteTokens   [256]int32       // None where no token stands for a byte
	missingBytes []byte
	merges       mergeTable
	ranks        []uint32 // by id, in SentencePiece: the lowest goes first
	words        cache
	scratch      sync.Pool // of *merger
}

// New checks a vocabulary and makes a tokenizer of it. The vocabulary must not be changed afterwards. An error names the
// metadata key that is missing, contradictory or not supported.
func New(v Vocabulary) (*Tokenizer, error) {
	t := &Tokenizer{vocabulary: v}
	t.scratch.New = func() any { return new(merger) }
	read := t.readBPE
	if v.Model == modelPieces {
		read = t.readPieces
	}
	if err := read(v); err != nil {
		return nil, err
	}
	if err := checkSpecialIDs(v); err != nil {
		return nil, err
	}
	t.findEnds(v)
	t.words = newCache()
	t.digest = digest(v)
	return t, nil
}

// readBPE fills everything about the tokens of a byte-level BPE.
func (t *Tokenizer) readBPE(v Vocabulary) error {
	pre, err := preTokenizerOf(v)
	if err != nil {
		return err
	}
	t.split, t.wholeWords = pre.split, pre.wholeWords
	byText, err := t.readTokens(v)
	if err != nil {
		return err
	}
	return t.readMerges(v, byText)
}

func preTokenizerOf(v Vocabulary) (preTokenizer, error) {
	if v.Model != modelBPE {
		return preTokenizer{}, fmt.Errorf("tokenizer.ggml.model is %q: supported are %q (byte-level BPE) and %q (SentencePiece)", v.Model, modelBPE, modelPieces)
	}
	pre, ok := preTokenizerNamed(v.Pre)
	if !ok {
		return preTokenizer{}, fmt.Errorf("tokenizer.ggml.pre is %q: supported are smollm, llama-bpe, qwen2, gpt-2, default, and names that llama.cpp treats like one of them", v.Pre)
	}
	return pre, nil
}

func checkTokens(v Vocabulary) error {
	n := len(v.Tokens)
	switch {
	case n == 0:
		return errors.New("tokenizer.ggml.tokens is empty")
	case n > math.MaxInt32:
		return fmt.Errorf("tokenizer.ggml.tokens has %d tokens, more than an id can count", n)
	case len(v.Types) != n:
		return fmt.Errorf("tokenizer.ggml.token_type has %d entries and tokenizer.ggml.tokens %d: they must be equal", len(v.Types), n)
	case v.Model == modelPieces && len(v.Scores) != n:
		return fmt.Errorf("tokenizer.ggml.scores has %d entries and tokenizer.ggml.tokens %d: they must be equal", len(v.Scores), n)
	}
	if i := slices.Index(v.Tokens, ""); i >= 0 {
		return fmt.Errorf("tokenizer.ggml.tokens[%d] is empty", i)
	}
	return nil
}

// clear makes room for n tokens.
func (t *Tokenizer) clear(n int) {
	for b := range t.byteTokens {
		t.byteTokens[b] = None
	}
	t.pieces = make([]string, n)
	t.ids = make(map[string]int32, n)
	t.specialIDs = map[string]int32{}
}

func (t *Tokenizer) addSpecial(id int, text string) {
	t.pieces[id] = text
	t.special = append(t.special, int32(id))
	t.specialIDs[text] = int32(id)
}

// finishTokens is for when all tokens are known.
func (t *Tokenizer) finishTokens() {
	for b, id := range t.byteTokens {
		if id == None {
			t.missingBytes = append(t.missingBytes, byte(b))
		}
	}
	slices.SortStableFunc(t.special, func(a, b int32) int { return len(t.pieces[b]) - len(t.pieces[a]) })
}

// readTokens fills everything but the merges, and returns the ids by the text of the file.
func (t *Tokenizer) readTokens(v Vocabulary) (map[string]int32, error) {
	if err := checkTokens(v); err != nil {
		return nil, err
	}
	t.clear(len(v.Tokens))
	byText := make(map[string]int32, len(v.Tokens))
	var piece []byte
	for i, text := range v.Tokens {
		id := int32(i)
		if first, ok := byText[text]; ok {
			return nil, fmt.Errorf("tokenizer.ggml.tokens[%d] is %q, as tokens[%d] is already", i, text, first)
		}
		byText[text] = id
		switch v.Types[i] {
		case Normal, Unused:
			var ok bool
			if piece, ok = appendBytes(piece[:0], text); !ok {
				return nil, fmt.Errorf("tokenizer.ggml.tokens[%d] is %q, which has a character that stands for no byte", i, text)
			}
			t.pieces[i] = string(piece)
			t.ids[t.pieces[i]] = id
			if len(piece) == 1 {
				t.byteTokens[piece[0]] = id
			}
		case Control, Unknown, UserDefined:
			t.addSpecial(i, text)
		default:
			return nil, fmt.Errorf("tokenizer.ggml.token_type[%d] (%q) is %d: byte-level BPE has 1 to 5", i, text, v.Types[i])
		}
	}
	t.finishTokens()
	return byText, nil
}

func (t *Tokenizer) readMerges(v Vocabulary, byText map[string]int32) error {
	t.merges = newMergeTable(len(v.Merges))
	for rank, merge := range v.Merges {
		left, right, _ := strings.Cut(merge, " ")
		if left == "" || right == "" {
			return fmt.Errorf("tokenizer.ggml.merges[%d] is %q: want two tokens and a space between them", rank, merge)
		}
		var ids [3]int32
		for i, text := range [3]string{left, right, left + right} {
			id, ok := byText[text]
			if !ok {
				return fmt.Errorf("tokenizer.ggml.merges[%d] is %q, and %q is not in tokenizer.ggml.tokens", rank, merge, text)
			}
			// Otherwise a text could become a special token by merging.
			if t.isSpecial(id) {
				return fmt.Errorf("tokenizer.ggml.merges[%d] is %q, and %q is a special token (tokenizer.ggml.token_type[%d] is %d)",
					rank, merge, text, id, v.Types[id])
			}
			ids[i] = id
		}
		t.merges.add(ids[0], ids[1], uint32(rank), ids[2])
	}
	return nil
}

func checkSpecialIDs(v Vocabulary) error {
	for _, s := range v.specialIDs() {
		if *s.id < None || *s.id >= len(v.Tokens) {
			return fmt.Errorf("tokenizer.ggml.%s is %d, and tokenizer.ggml.tokens has %d", s.key, *s.id, len(v.Tokens))
		}
	}
	if v.AddBOS && v.BOS == None {
		return fmt.Errorf("tokenizer.ggml.add_bos_token is true, and there is no tokenizer.ggml.bos_token_id")
	}
	if v.AddEOS && v.EOS == None {
		return fmt.Errorf("tokenizer.ggml.add_eos_token is true, and there is no tokenizer.ggml.eos_token_id")
	}
	return nil
}

type specialID struct {
	key string
	id  *int
}

// specialIDs lists the ids of special tokens with their keys, in the order in which files have them.
func (v *Vocabulary) specialIDs() []specialID {
	return []specialID{
		{"bos_token_id", &v.BOS}, {"eos_token_id", &v.EOS}, {"eot_token_id", &v.EOT}, {"eom_token_id", &v.EOM},
		{"unknown_token_id", &v.UNK}, {"padding_token_id", &v.PAD},
	}
}

// endTexts are the special tokens that llama.cpp ends a generation at, by their text, whatever ids the file names.
var endTexts = []string{
	"<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>",
	"<EOT>", "_<EOT>", "<|end_of_text|>", "<end_of_utterance>",
}

func (t *Tokenizer) findEnds(v Vocabulary) {
	t.ends = map[int32]bool{}
	for _, id := range []int{v.EOS, v.EOT, v.EOM} {
		if id != None {
			t.ends[int32(id)] = true
		}
	}
	for _, text := range endTexts {
		if id, ok := t.specialIDs[text]; ok {
			t.ends[id] = true
		}
	}
}

// Vocabulary returns what the tokenizer was made of. It must not be changed.
func (t *Tokenizer) Vocabulary() Vocabulary { return t.vocabulary }

// Digest is the SHA-256, in hex, over all that determines the ids of a text. Two tokenizers with the same digest encode
// every text alike. The chat template is not part of it.
func (t *Tokenizer) Digest() string { return t.digest }

// Size is the number of tokens: ids are 0 to Size()-1.
func (t *Tokenizer) Size() int { return len(t.pieces) }

// Piece returns the bytes that a token stands for, which may be a part of a character; for a special token its own text,
// and nothing for an id that the vocabulary does not have.
func (t *Tokenizer) Piece(id int32) string {
	if id < 0 || int(id) >= len(t.pieces) {
		return ""
	}
	return t.pieces[id]
}

// ID returns the token that stands for exactly this text, as " yes". Special tokens are not among them.
func (t *Tokenizer) ID(piece string) (int32, bool) {
	id, ok := t.ids[piece]
	if !ok && len(piece) == 1 {
		id = t.byteTokens[piece[0]]
		ok = id != None
	}
	return id, ok
}

// Special returns the special token of this text, as "<|im_start|>".
func (t *Tokenizer) Special(text string) (int32, bool) {
	id, ok := t.specialIDs[text]
	return id, ok
}

// Ends tells whether a token ends a generation: the vocabulary's EOS, EOT and EOM, and the tokens that llama.cpp knows by
// their text.
func (t *Tokenizer) Ends(id int32) bool { return t.ends[id] }

// End is the token to end a text with: the vocabulary's EOS, or else EOT or EOM; ok is false where it has none.
func (t *Tokenizer) End() (id int32, ok bool) {
	for _, id := range []int{t.vocabulary.EOS, t.vocabulary.EOT, t.vocabulary.EOM} {
		if id != None {
			return int32(id), true
		}
	}
	return 0, false
}

// EndTokens are all tokens that Ends, ascending.
func (t *Tokenizer) EndTokens() []int32 { return slices.Sorted(maps.Keys(t.ends)) }

// MissingBytes lists the bytes that no token stands for, ascending. They vanish from a text that is encoded, as they do
// in llama.cpp; where there are none, decoding gives back every text exactly. (SmolLM2 lacks some control characters.)
func (t *Tokenizer) MissingBytes() []byte { return slices.Clone(t.missingBytes) }

func (t *Tokenizer) isSpecial(id int32) bool {
	switch t.vocabulary.Types[id] {
	case Control, Unknown, UserDefined:
		return true
	}
	return false
}
