package token

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/gguf"
)

// model makes the tokenizer of the real model file that R2REC_TEST_MODEL_FILE names, as deploy/dev/up sets it.
func model(t testing.TB) *Tokenizer {
	t.Helper()
	f, err := gguf.Open(embeddedtest.RealModel(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tok, err := FromMetadata(f.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// The ids are those of the tokenizer of Hugging Face, which parses special tokens.
func TestTokensOfSmolLM2(t *testing.T) {
	tok := model(t)
	data, err := os.ReadFile("testdata/smollm2.json")
	if err != nil {
		t.Fatal(err)
	}
	var texts []struct {
		Text   string  `json:"text"`
		Tokens []int32 `json:"tokens"`
	}
	if err := json.Unmarshal(data, &texts); err != nil {
		t.Fatal(err)
	}
	for _, want := range texts {
		if got := tok.Encode(want.Text, Options{ParseSpecial: true}); !slices.Equal(got, want.Tokens) {
			t.Errorf("%q: %v, want %v", want.Text, got, want.Tokens)
		}
	}
}
