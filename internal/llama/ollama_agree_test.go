package llama_test

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/llama"
	"github.com/r2rec/r2rec/internal/llama/lora"
	"github.com/r2rec/r2rec/internal/llama/token"
)

// A real Ollama and this package compute the same from the same F16 file, with and without an adapter, and with the
// adapter merged into the weights.
func TestOllamaComputesTheSame(t *testing.T) {
	o := realOllama(t)
	for _, c := range []struct {
		name string
		file func(t *testing.T) string
	}{
		{"SmolLM2", func(t *testing.T) string { return asF16(t, embeddedtest.RealModel(t)) }},
		{"a small new model", newModel},
		{"the base model", func(*testing.T) string { return "../lm/engine/base.gguf" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := c.file(t)
			base, served := read(t, path), o.model(t, path)
			adapter, texts := randomAdapter(base), prompts(t)
			ours, adapted := base.next(t, texts), base.with(t, adapter).next(t, texts)
			t.Run("base", func(t *testing.T) { base.agree(t, ours, o.next(t, served, texts)) })
			t.Run("long prompts", func(t *testing.T) {
				// The flash attention of llama.cpp sums values up in F16, which costs more the longer the prompt is: the largest
				// difference of SmolLM2, .08 after 1,265 tokens, falls to .014 where this package is made to do the same.
				texts := longPrompts(t)
				off := base.compare(t, base.next(t, texts), o.next(t, served, texts))
				t.Logf("log-probabilities: %v", &off)
				if !(off.mean() <= .03) {
					t.Errorf("log-probabilities: %v, want at most .03 in the mean", &off)
				}
			})
			t.Run("adapter", func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "adapter.gguf")
				if err := lora.Write(path, adapter); err != nil {
					t.Fatal(err)
				}
				theirs := o.next(t, o.adapted(t, served, path), texts)
				base.agree(t, adapted, theirs)
				changed := base.compare(t, ours, theirs)
				t.Logf("changes by the adapter: %v", &changed)
				if !(changed.mean() >= .05) {
					t.Error("the adapter changes too little to be seen")
				}
			})
			t.Run("merged", func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "merged.gguf")
				if err := lora.MergeFile(base.file, adapter, path); err != nil {
					t.Fatal(err)
				}
				theirs := o.next(t, o.model(t, path), texts)
				base.agree(t, read(t, path).next(t, texts), theirs)
				base.agree(t, adapted, theirs)
			})
		})
	}
}

// On quantized weights Ollama also rounds what goes through them, so that single figures differ. What an adapter changes
// must still be the same, as far as that noise lets it be seen.
func TestOllamaShowsTheSameChangeOnQuantizedWeights(t *testing.T) {
	o := realOllama(t)
	path := embeddedtest.RealModel(t)
	base, served := read(t, path), o.model(t, path)
	adapter := randomAdapter(base)
	file := filepath.Join(t.TempDir(), "adapter.gguf")
	if err := lora.Write(file, adapter); err != nil {
		t.Fatal(err)
	}
	texts := prompts(t)
	ourBase, ours := base.next(t, texts), base.with(t, adapter).next(t, texts)
	theirBase, theirs := o.next(t, served, texts), o.next(t, o.adapted(t, served, file), texts)

	var noise, d, dServed []float64
	for i := range theirs {
		for text, lp := range theirs[i] {
			if was, ok := theirBase[i][text]; ok {
				id := base.id(t, text)
				noise = append(noise, was-ourBase[i][id])
				d = append(d, ours[i][id]-ourBase[i][id])
				dServed = append(dServed, lp-was)
			}
		}
	}
	// Both figures of the server have the noise. The regression goes through the origin.
	deviation := math.Sqrt2 * length(noise) / math.Sqrt(float64(len(d)))
	se := deviation / length(d)
	product := 0.
	for i := range d {
		product += d[i] * dServed[i]
	}
	slope := product / (length(d) * length(d))
	for i := range d {
		dServed[i] -= slope * d[i]
	}
	residual := length(dServed) / math.Sqrt(float64(len(d)))
	t.Logf("%d tokens, d %.2f, noise %.3f, slope %.3f (se %.3f), residual %.2f √2 noise", len(d), length(d)/math.Sqrt(float64(len(d))),
		deviation/math.Sqrt2, slope, se, residual/deviation)
	if !(se <= .05) {
		t.Errorf("the standard error of the slope is %.3f: nothing can be proven", se)
	}
	if !(math.Abs(slope-1) <= max(.05, 3*se)) || !(residual <= 1.3*deviation) {
		t.Errorf("slope %.3f (se %.3f) and residual %.3f with noise %.3f: not the same change", slope, se, residual, deviation/math.Sqrt2)
	}
}

// positions is room for the longest prompt.
const positions = 2048

// reading is a model file that reads prompts.
type reading struct {
	file      *gguf.File
	tokenizer *token.Tokenizer
	model     *llama.Model
}

func read(t *testing.T, path string) reading {
	t.Helper()
	r := reading{file: open(t, path)}
	var err error
	if r.tokenizer, err = token.FromMetadata(r.file.Metadata); err != nil {
		t.Fatal(err)
	}
	if r.model, err = llama.Load(r.file, false); err != nil {
		t.Fatal(err)
	}
	return r
}

// with is the same with an adapter.
func (r reading) with(t *testing.T, a *lora.Adapter) reading {
	t.Helper()
	var err error
	if r.model, err = r.model.WithChanges(changes(a)); err != nil {
		t.Fatal(err)
	}
	return r
}

// next are the log-probabilities of all tokens after each prompt.
func (r reading) next(t *testing.T, prompts []string) [][]float64 {
	t.Helper()
	s, err := r.model.NewSession(min(positions, r.model.Context), 2)
	if err != nil {
		t.Fatal(err)
	}
	var all [][]float64
	for _, prompt := range prompts {
		tokens := r.tokenizer.Encode(prompt, token.Options{AddSpecial: true, ParseSpecial: true})
		hidden, err := s.Read(t.Context(), tokens, len(tokens)-1)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, logSoftmax(hidden.Logits(0)))
	}
	return all
}

// id is the token that a server names by its text.
func (r reading) id(t *testing.T, text string) int32 {
	t.Helper()
	id, ok := r.tokenizer.ID(text)
	if !ok {
		id, ok = r.tokenizer.Special(text)
	}
	if !ok {
		t.Fatalf("the server names the token %q, which the vocabulary does not have", text)
	}
	return id
}

// compare finds how far log-probabilities are from those that a server states. Where a vocabulary of pieces has a token for
// each byte as well, a text of one byte does not tell which of two is meant, and is left out.
func (r reading) compare(t *testing.T, ours [][]float64, theirs []map[string]float64) worst {
	t.Helper()
	pieces := r.ofPieces(t)
	var off worst
	for i, next := range theirs {
		for text, lp := range next {
			if pieces && len(text) == 1 {
				continue
			}
			off.within(ours[i][r.id(t, text)]-lp, .02)
		}
	}
	return off
}

// ofPieces tells whether the vocabulary is one of SentencePiece.
func (r reading) ofPieces(t *testing.T) bool {
	t.Helper()
	kind, err := r.file.Metadata.String("tokenizer.ggml.model")
	if err != nil {
		t.Fatal(err)
	}
	return kind == "llama"
}

// agree allows for the rounding of llama.cpp, which has activations, keys and sums of values in F16: one figure in a
// hundred may be off by more than .02.
func (r reading) agree(t *testing.T, ours [][]float64, theirs []map[string]float64) {
	t.Helper()
	off := r.compare(t, ours, theirs)
	t.Logf("log-probabilities: %v", &off)
	least := 10 * len(theirs)
	if r.ofPieces(t) {
		least = 7 * len(theirs)
	}
	if off.n < least {
		t.Errorf("only %d log-probabilities after %d prompts", off.n, len(theirs))
	}
	if !(off.mean() <= .005) || off.beyond > off.n/100 || off.most > .05 {
		t.Errorf("log-probabilities: %v, want .005 in the mean, and .02 but for one in a hundred", &off)
	}
}

// prompts are short texts of several kinds, and the ends of those that recommend.
func prompts(t *testing.T) []string {
	t.Helper()
	all := []string{
		"The capital of Austria is",
		"Once upon a time, in a small village by the sea, there lived an old fisherman who",
		"Water boils at 100 degrees Celsius, and it freezes at",
		"Q: Which planet is the largest of the solar system?\nA:",
		"def fibonacci(n):\n    if n < 2:\n        return n\n    return",
		"for (int i = 0; i < n; ++i) {\n\tsum +=",
		"It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of",
		"Monday, Tuesday, Wednesday, Thursday,",
		"1, 1, 2, 3, 5, 8, 13,",
		"<|im_start|>user\nName three colours.<|im_end|>\n<|im_start|>assistant\n",
		"Liked: Heat (1995); Fargo (1996); Amélie (2001)\nA. Casino (1995)\nB. Toy Story (1995)\nAnswer:",
		"{\"title\": \"Toy Story\", \"year\": 1995, \"genres\": [\"Animation\",",
		"naïve café — 東京 😀 means",
		"Dear Sir or Madam,\n\nI am writing to",
		"The quick brown fox jumps over the lazy dog. The slow",
		"To make bread, mix flour, water, salt and",
	}
	for _, name := range []string{"cold", "figures", "hostile", "usual"} {
		text := recommendation(t, name)
		all = append(all, strings.ToValidUTF8(text[len(text)-100:], ""))
	}
	return all
}

// longPrompts have some hundred tokens.
func longPrompts(t *testing.T) []string {
	t.Helper()
	return []string{recommendation(t, "cold"), recommendation(t, "usual")}
}

func recommendation(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../iot/testdata/" + name + ".prompt.txt")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// randomAdapter changes every linear layer of every third block a little, always in the same way.
func randomAdapter(r reading) *lora.Adapter {
	a := &lora.Adapter{Rank: 4, Alpha: 8}
	random := rand.New(rand.NewPCG(5, 6))
	normal := func(n int, deviation float64) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(deviation * random.NormFloat64())
		}
		return x
	}
	for _, tensor := range r.file.Tensors() {
		var block int
		if _, err := fmt.Sscanf(tensor.Name, "blk.%d.", &block); err != nil || block%3 > 0 || len(tensor.Shape) != 2 {
			continue
		}
		in, out := tensor.Shape[0], tensor.Shape[1]
		a.Pairs = append(a.Pairs, lora.Pair{Target: strings.TrimSuffix(tensor.Name, ".weight"), In: in, Out: out,
			A: normal(a.Rank*in, 1/math.Sqrt(float64(in))), B: normal(out*a.Rank, .05)})
	}
	return a
}

// asF16 writes a model's weights as F16.
func asF16(t *testing.T, path string) string {
	t.Helper()
	file := open(t, path)
	model, err := llama.Load(file, true)
	if err != nil {
		t.Fatal(err)
	}
	return save(t, model, file.Metadata.Clone())
}

// newModel writes a model with random weights and a tokenizer of its own.
func newModel(t *testing.T) string {
	t.Helper()
	v, err := token.Train(slices.Values(append(prompts(t), longPrompts(t)...)), 512, token.TrainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	model, err := llama.New(llama.Config{Vocabulary: len(v.Tokens), Dim: 64, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 16, FeedForward: 160,
		Context: 4096, Epsilon: 1e-5, Tied: true, Rope: llama.Rope{Base: 10_000, Dims: 16}}, .3, 1)
	if err != nil {
		t.Fatal(err)
	}
	meta := new(gguf.Metadata)
	gguf.Set(meta, "general.name", "new")
	v.SetMetadata(meta)
	return save(t, model, meta)
}

// save writes a model as F16, and makes sure that its shape comes back.
func save(t *testing.T, m *llama.Model, meta *gguf.Metadata) string {
	t.Helper()
	const mostlyF16 = 1 // llama.cpp's LLAMA_FTYPE_MOSTLY_F16
	gguf.Set(meta, "general.file_type", uint32(mostlyF16))
	path := filepath.Join(t.TempDir(), "f16.gguf")
	if err := gguf.WriteFile(path, func(w io.Writer) error { return m.Save(w, gguf.F16, meta) }); err != nil {
		t.Fatal(err)
	}
	return path
}

func length(x []float64) float64 {
	sum := 0.
	for _, v := range x {
		sum += v * v
	}
	return math.Sqrt(sum)
}
