package engine

import (
	"context"
	"encoding/binary"
	"io"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama"
	"github.com/r2rec/r2rec/internal/llama/learn"
	"github.com/r2rec/r2rec/internal/llama/token"
	"github.com/r2rec/r2rec/internal/lm"
)

// toyContext has n candidates with random evidence. The first digit of the chosen one is 9, and of no other.
func toyContext(r *rand.Rand, n int) (c event.Context, chosen int) {
	chosen = r.IntN(n)
	for i := range n {
		e := event.Evidence{SimilarLast: r.Float64(), Popularity: r.IntN(50), Category: r.Float64(), Together: r.Float64()}
		e.LikeMindedRecent[2] = .85 * r.Float64()
		if i == chosen {
			e.LikeMindedRecent[2] = 1
		}
		c.Candidates = append(c.Candidates, event.Candidate{ItemID: string(rune('a' + i)), Title: "The item " + string(rune('a'+i)), Evidence: e})
	}
	return c, chosen
}

func toyPrompt(t testing.TB, version int, c event.Context, seed uint64) iot.Prompt {
	t.Helper()
	p, err := iot.Build(version, c, seed)
	must(t, err)
	return p
}

// toyPrompts are prompts of 1 to 20 candidates, many of which begin alike.
func toyPrompts(t testing.TB, version, n int) (prompts []iot.Prompt) {
	t.Helper()
	r := rand.New(rand.NewPCG(5, 5))
	for i := range n {
		c, _ := toyContext(r, 1+(i*7)%iot.MaxCandidates)
		prompts = append(prompts, toyPrompt(t, version, c, uint64(i)))
	}
	return prompts
}

func toyLessons(t testing.TB, version int, seed uint64, n, candidates int) (lessons []lm.Lesson) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	for range n {
		c, chosen := toyContext(r, candidates)
		lessons = append(lessons, lm.Lesson{Prompt: toyPrompt(t, version, c, r.Uint64()), Chosen: chosen})
	}
	return lessons
}

// toyVocabulary reads prompts, with " yes", " no" and the letters as one token each, except for those left out.
func toyVocabulary(t testing.TB, without ...string) token.Vocabulary {
	t.Helper()
	var required []string
	for _, word := range []string{" yes", " no"} {
		if len(without) == 0 {
			required = append(required, word)
		}
	}
	for i := range iot.MaxCandidates {
		required = append(required, " "+string(rune('A'+i)))
	}
	v, err := token.Train(func(yield func(string) bool) {
		for _, p := range toyPrompts(t, iot.Words, 3) {
			if !yield(p.Text) {
				return
			}
		}
	}, 320, token.TrainOptions{Required: required})
	must(t, err)
	return v
}

// toyOptions shape a model of some thousand weights.
func toyOptions(t testing.TB, seed uint64) ModelOptions {
	t.Helper()
	return ModelOptions{
		Name: "toy", Spread: .1, Seed: seed, Tokens: toyVocabulary(t), PromptVersion: iot.FullFigures, Readout: Lines,
		Shape: llama.Config{Dim: 16, Layers: 2, Heads: 2, KVHeads: 1, HeadDim: 8, FeedForward: 32, Context: 4096, Epsilon: 1e-5, Tied: true,
			Rope: llama.Rope{Base: 100, Dims: 8}},
		Learn: learn.Options{Optimiser: learn.AdamW{Rate: 1e-2}, Workers: 2},
	}
}

// toyModel writes a random model and gives its path.
func toyModel(t testing.TB, o ModelOptions) string {
	t.Helper()
	l, err := NewModel(o)
	must(t, err)
	return writeFile(t, "toy.gguf", l.Write)
}

// toyAdapter writes an adapter of a model that changes its answers, and gives its path.
func toyAdapter(t testing.TB, model string) string {
	t.Helper()
	m := open1(t, Options{Path: model, Trainable: true})
	l, err := m.NewAdapter(AdapterOptions{Rank: 2, Learn: learn.Options{Optimiser: learn.AdamW{Rate: 1e-2}, Workers: 2}})
	must(t, err)
	for range 3 {
		_, err := l.Learn(t.Context(), toyLessons(t, m.identity.PromptVersion, 3, 8, 5))
		must(t, err)
	}
	return writeFile(t, "adapter.gguf", l.Write)
}

func writeFile(t testing.TB, name string, write func(io.Writer) error) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	must(t, gguf.WriteFile(path, write))
	return path
}

// rewritten is a GGUF file with other metadata or numbers.
func rewritten(t testing.TB, path string, metadata func(*gguf.Metadata), numbers func(name string, values []float32)) string {
	t.Helper()
	f, err := gguf.Open(path)
	must(t, err)
	defer f.Close()
	meta, tensors := f.Metadata.Clone(), f.Tensors()
	if metadata != nil {
		metadata(meta)
	}
	return writeFile(t, filepath.Base(path), func(w io.Writer) error {
		out, err := gguf.NewWriter(w, meta, tensors)
		if err != nil {
			return err
		}
		for _, tensor := range tensors {
			values, err := tensor.Float32(nil)
			if err != nil {
				return err
			}
			if numbers != nil {
				numbers(tensor.Name, values)
			}
			if tensor.Type == gguf.F32 { // as bytes, which nobody checks
				var raw []byte
				for _, v := range values {
					raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
				}
				err = out.WriteBytes(tensor.Name, raw)
			} else {
				err = out.WriteFloat32(tensor.Name, values)
			}
			if err != nil {
				return err
			}
		}
		return out.Close()
	})
}

// open1 opens a model until the test ends.
func open1(t testing.TB, o Options) *Model {
	t.Helper()
	m, err := Open(o)
	must(t, err)
	t.Cleanup(func() { must(t, m.Close()) })
	return m
}

type ranker interface {
	Rank(context.Context, iot.Prompt) ([]float64, error)
}

func rank(t testing.TB, r ranker, p iot.Prompt) []float64 {
	t.Helper()
	shares, err := r.Rank(t.Context(), p)
	must(t, err)
	return shares
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
