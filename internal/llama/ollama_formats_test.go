package llama_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/ollama/ollama/api"

	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/llama"
	"github.com/r2rec/r2rec/internal/llama/token"
)

// formatShape is small, and has rows that blocks of 256 divide.
var formatShape = llama.Config{Dim: 256, Layers: 4, Heads: 8, KVHeads: 4, HeadDim: 32, FeedForward: 768, Context: 4096, Epsilon: 1e-5,
	Rope: llama.Rope{Base: 10_000, Dims: 32}}

// randomModel writes a model of the shape with random weights, as F16.
func randomModel(t *testing.T, architecture string, tied bool, v token.Vocabulary) string {
	t.Helper()
	return randomOf(t, formatShape, architecture, tied, v)
}

func randomOf(t *testing.T, c llama.Config, architecture string, tied bool, v token.Vocabulary) string {
	t.Helper()
	c.Architecture, c.Tied, c.Vocabulary = architecture, tied, len(v.Tokens)
	model, err := llama.New(c, .15, 1)
	if err != nil {
		t.Fatal(err)
	}
	meta := new(gguf.Metadata)
	gguf.Set(meta, "general.name", "random")
	v.SetMetadata(meta)
	return save(t, model, meta)
}

func trainedVocabulary(t *testing.T) token.Vocabulary {
	t.Helper()
	v, err := token.Train(slices.Values(append(prompts(t), longPrompts(t)...)), 768, token.TrainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// pieces is a vocabulary that SentencePiece trained.
func pieces(t *testing.T) (v token.Vocabulary) {
	t.Helper()
	data, err := os.ReadFile("token/testdata/pieces.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	v.Model, v.EOT, v.EOM, v.PAD, v.AddBOS, v.SpacePrefix = "llama", token.None, token.None, token.None, true, true
	return v
}

// A real Ollama computes the same of the architectures and tokenizers that downloaded files have.
func TestOllamaComputesTheSameOfOtherModels(t *testing.T) {
	o := realOllama(t)
	for name, path := range map[string]string{
		"qwen2":                randomModel(t, "qwen2", true, trainedVocabulary(t)),
		"qwen2, output apart":  randomModel(t, "qwen2", false, trainedVocabulary(t)),
		"llama, SentencePiece": randomModel(t, "llama", false, pieces(t)),
	} {
		t.Run(name, func(t *testing.T) {
			r, texts := read(t, path), prompts(t)
			r.agree(t, r.next(t, texts), o.next(t, o.model(t, path), texts))
		})
	}
}

// Files that a real Ollama quantized are read as it reads them. It rounds what goes through quantized weights as well, so that
// figures differ by that; they must differ far less than those of the weights as they were before.
func TestOllamaComputesTheSameOfItsQuantizedFiles(t *testing.T) {
	o := realOllama(t)
	odd := formatShape // rows of 192, as SmolLM2's of 576: such are not cut into blocks of 256
	odd.Dim, odd.Heads, odd.KVHeads = 192, 6, 3
	for _, c := range []struct {
		name, path, as string
		part           float64 // of the difference that quantizing makes: what 8 bits lose is not much more than the server's rounding
		types          []gguf.Type
	}{
		{"llama", randomModel(t, "llama", false, trainedVocabulary(t)), "q4_K_M", .33, []gguf.Type{gguf.Q4_K, gguf.Q6_K}},
		{"llama", randomModel(t, "llama", false, trainedVocabulary(t)), "q4_K_S", .33, []gguf.Type{gguf.Q4_K, gguf.Q5_K}},
		{"llama", randomModel(t, "llama", true, trainedVocabulary(t)), "q8_0", .75, []gguf.Type{gguf.Q8_0}},
		{"qwen2", randomModel(t, "qwen2", true, trainedVocabulary(t)), "q4_K_M", .33, []gguf.Type{gguf.Q4_K, gguf.Q6_K}},
		{"odd rows", randomOf(t, odd, "llama", true, trainedVocabulary(t)), "q4_K_M", .33, []gguf.Type{gguf.Q5_0, gguf.Q4_K}},
	} {
		t.Run(c.name+" as "+c.as, func(t *testing.T) {
			name := o.create(t, api.CreateRequest{Files: map[string]string{"model.gguf": o.upload(t, c.path)}, Quantize: c.as})
			before, r, texts := read(t, c.path), read(t, o.file(t, name)), prompts(t)
			have := map[gguf.Type]int{}
			for _, tensor := range r.file.Tensors() {
				have[tensor.Type]++
			}
			t.Logf("tensors by type: %v", have)
			for _, kind := range c.types {
				if have[kind] == 0 {
					t.Errorf("the server made no tensor of type %v: nothing is shown of it", kind)
				}
			}
			theirs := o.next(t, name, texts)
			off, quantized := r.compare(t, r.next(t, texts), theirs), r.compare(t, before.next(t, texts), theirs)
			t.Logf("log-probabilities: %v; by the weights before: %v", &off, &quantized)
			if off.n < 10*len(theirs) {
				t.Errorf("only %d log-probabilities after %d prompts", off.n, len(theirs))
			}
			if !(off.mean() <= c.part*quantized.mean()) {
				t.Errorf("log-probabilities are off by %v, and by %v with the weights before they were quantized: want %g of that at most", &off, &quantized, c.part)
			}
		})
	}
}

var fromLine = regexp.MustCompile(`(?m)^FROM (/.*)$`)

// file is where a server on this machine keeps a model.
func (o ollama) file(t *testing.T, model string) string {
	t.Helper()
	r, err := o.client.Show(t.Context(), &api.ShowRequest{Model: model})
	if err != nil {
		t.Fatal(err)
	}
	from := fromLine.FindStringSubmatch(r.Modelfile)
	if from == nil {
		t.Fatalf("the server does not say where the file is: %q", r.Modelfile)
	}
	return from[1]
}
