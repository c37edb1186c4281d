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

// FromMetadata makes the tokenizer of a model file. Of the keys, model, pre, tokens, token_type and merges must be there.
func FromMetadata(m *gguf.Metadata) (*Tokenizer, error) {
	v, err := ReadVocabulary(m)
	if err != nil {
		return nil, err
	}
	return New(v)
}

// ReadVocabulary reads the tokenizer's keys out of a model file's metadata. New checks what they say.
//
// add_space_prefix is not read: llama.cpp heeds it only in SentencePiece models.
func ReadVocabulary(m *gguf.Metadata) (Vocabulary, error) {
	var v Vocabulary
	var err error
	if v.Model, err = m.String(keyPrefix + "model"); err != nil {
		return v, err
	}
	if v.Pre, err = m.String(keyPrefix + "pre"); err != nil && !errors.Is(err, gguf.ErrMissing) {
		return v, err
	}
	// The lists of another kind of model are not this one's: its name says more than a list that is missing.
	pre, err := preTokenizerOf(v)
	if err != nil {
		return v, err
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
	if v.Merges, err = m.Strings(keyPrefix + "merges"); err != nil {
		return v, err
	}
	for _, s := range v.specialIDs() {
		id, err := m.Int(keyPrefix + s.key)
		switch {
		case errors.Is(err, gguf.ErrMissing):
			id = None
		case err != nil:
			return v, err
		case id < 0 || id >= int64(len(v.Tokens)):
			return v, fmt.Errorf("%s%s is %d, and %stokens has %d", keyPrefix, s.key, id, keyPrefix, len(v.Tokens))
		}
		*s.id = int(id)
	}
	if v.AddBOS, err = boolOr(m, keyPrefix+"add_bos_token", pre.addBOS); err != nil {
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
	gguf.Set(m, keyPrefix+"pre", v.Pre)
	gguf.Set(m, keyPrefix+"tokens", v.Tokens)
	gguf.Set(m, keyPrefix+"token_type", v.Types)
	gguf.Set(m, keyPrefix+"merges", v.Merges)
	for _, s := range v.specialIDs() {
		if *s.id != None {
			gguf.Set(m, keyPrefix+s.key, uint32(*s.id))
		}
	}
	gguf.Set(m, keyPrefix+"add_space_prefix", false)
	gguf.Set(m, keyPrefix+"add_bos_token", v.AddBOS)
	gguf.Set(m, keyPrefix+"add_eos_token", v.AddEOS)
	if v.ChatTemplate != "" {
		gguf.Set(m, keyChatTemplate, v.ChatTemplate)
	}
}

func boolOr(m *gguf.Metadata, key string, missing bool) (bool, error) {
	value, err := m.Bool(key)
	if errors.Is(err, gguf.ErrMissing) {
		return missing, nil
	}
	return value, err
}
