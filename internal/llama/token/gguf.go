package token

import (
	"errors"
	"fmt"
	"math"

	"github.com/r2rec/r2rec/internal/gguf"
)

const (
	keyPrefix       = "tokenizer.ggml."
	keyChatTemplate = "tokenizer.chat_template"
)

// FromMetadata makes the tokenizer of a model file. Of the keys, model, tokens and token_type must be there; for byte-level
// BPE pre and merges, for SentencePiece scores.
func FromMetadata(m *gguf.Metadata) (*Tokenizer, error) {
	v, err := ReadVocabulary(m)
	if err != nil {
		return nil, err
	}
	return New(v)
}

// ReadVocabulary reads the tokenizer's keys out of a model file's metadata, with llama.cpp's defaults for those that are
// missing. New checks what they say. Keys that llama.cpp heeds only in the other kind of model are not read.
func ReadVocabulary(m *gguf.Metadata) (Vocabulary, error) {
	var v Vocabulary
	var err error
	if v.Model, err = m.String(keyPrefix + "model"); err != nil {
		return v, err
	}
	usual := Vocabulary{BOS: None, EOS: None, EOT: None, EOM: None, UNK: None, PAD: None} // where the file does not say
	if v.Model == modelPieces {
		usual.UNK, usual.BOS, usual.EOS, usual.AddBOS, usual.SpacePrefix = 0, 1, 2, true, true
	} else {
		if v.Pre, err = m.String(keyPrefix + "pre"); err != nil && !errors.Is(err, gguf.ErrMissing) {
			return v, err
		}
		// The lists of another kind of model are not this one's: its name says more than a list that is missing.
		pre, err := preTokenizerOf(v)
		if err != nil {
			return v, err
		}
		usual.AddBOS = pre.addBOS
	}
	if v.Tokens, err = m.Strings(keyPrefix + "tokens"); err != nil {
		return v, err
	}
	types, err := m.Ints(keyPrefix + "token_type")
	if err != nil {
		return v, err
	}
	v.Types = make([]int32, len(types))
	for i, t := range types {
		if t < 0 || t > math.MaxInt32 {
			return v, fmt.Errorf("%stoken_type[%d] is %d, which is no token type", keyPrefix, i, t)
		}
		v.Types[i] = int32(t)
	}
	if v.Model == modelPieces {
		if v.Scores, err = scores(m); err != nil {
			return v, err
		}
		if v.SpacePrefix, err = boolOr(m, keyPrefix+"add_space_prefix", usual.SpacePrefix); err != nil {
			return v, err
		}
	} else if v.Merges, err = m.Strings(keyPrefix + "merges"); err != nil {
		return v, err
	}
	missing := usual.specialIDs()
	for i, s := range v.specialIDs() {
		id, err := m.Int(keyPrefix + s.key)
		switch {
		case errors.Is(err, gguf.ErrMissing):
			id = int64(*missing[i].id)
		case err != nil:
			return v, err
		case id < 0 || id >= int64(len(v.Tokens)):
			return v, fmt.Errorf("%s%s is %d, and %stokens has %d", keyPrefix, s.key, id, keyPrefix, len(v.Tokens))
		}
		*s.id = int(id)
	}
	if v.AddBOS, err = boolOr(m, keyPrefix+"add_bos_token", usual.AddBOS); err != nil {
		return v, err
	}
	if v.AddEOS, err = boolOr(m, keyPrefix+"add_eos_token", false); err != nil {
		return v, err
	}
	if v.ChatTemplate, err = m.String(keyChatTemplate); err != nil && !errors.Is(err, gguf.ErrMissing) {
		return v, err
	}
	return v, nil
}

// SetMetadata writes the vocabulary into the metadata of a model file, as llama.cpp reads it.
func (v Vocabulary) SetMetadata(m *gguf.Metadata) {
	gguf.Set(m, keyPrefix+"model", v.Model)
	if v.Model == modelPieces {
		gguf.Set(m, keyPrefix+"scores", v.Scores)
	} else {
		gguf.Set(m, keyPrefix+"pre", v.Pre)
		gguf.Set(m, keyPrefix+"merges", v.Merges)
	}
	gguf.Set(m, keyPrefix+"tokens", v.Tokens)
	gguf.Set(m, keyPrefix+"token_type", v.Types)
	for _, s := range v.specialIDs() {
		if *s.id != None {
			gguf.Set(m, keyPrefix+s.key, uint32(*s.id))
		}
	}
	gguf.Set(m, keyPrefix+"add_space_prefix", v.SpacePrefix)
	gguf.Set(m, keyPrefix+"add_bos_token", v.AddBOS)
	gguf.Set(m, keyPrefix+"add_eos_token", v.AddEOS)
	if v.ChatTemplate != "" {
		gguf.Set(m, keyChatTemplate, v.ChatTemplate)
	}
}

func scores(m *gguf.Metadata) ([]float32, error) {
	numbers, err := m.Floats(keyPrefix + "scores")
	scores := make([]float32, len(numbers))
	for i, x := range numbers {
		scores[i] = float32(x)
	}
	return scores, err
}

func boolOr(m *gguf.Metadata, key string, missing bool) (bool, error) {
	value, err := m.Bool(key)
	if errors.Is(err, gguf.ErrMissing) {
		return missing, nil
	}
	return value, err
}
