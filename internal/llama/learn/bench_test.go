package learn_test

import (
	"fmt"
	"testing"

	"github.com/r2rec/r2rec/internal/llama"
	"github.com/r2rec/r2rec/internal/llama/learn"
)

// A step of a small model on texts of 250 tokens, as the base model is trained: 32 a batch, asked at 20 lines.
func BenchmarkStep(b *testing.B) {
	m, err := llama.New(llama.Config{Vocabulary: 1024, Dim: 64, Layers: 2, Heads: 2, KVHeads: 1, HeadDim: 32, FeedForward: 128, Context: 1024,
		Epsilon: 1e-5, Tied: true, Rope: llama.Rope{Base: 10_000, Dims: 32}}, .1, 1)
	if err != nil {
		b.Fatal(err)
	}
	examples := make([]learn.Example, 32)
	for i := range examples {
		e := learn.Example{IDs: []int32{1000, 1001}, Loss: learn.Lines(learn.Chosen(i % 20))}
		for j := range 250 {
			e.Tokens = append(e.Tokens, int32((i*j)%1000))
			if j%12 == 11 {
				e.Want = append(e.Want, j)
			}
		}
		e.Want = e.Want[:20]
		examples[i] = e
	}
	for name, train := range map[string]func() (*llama.Trainable, error){
		"all": m.TrainAll,
		"changes": func() (*llama.Trainable, error) {
			var list []llama.LowRank
			for layer := range m.Layers {
				for _, name := range m.Linears() {
					out, in := m.LinearShape(name)
					list = append(list, llama.LowRank{Target: fmt.Sprintf("blk.%d.%s", layer, name), Rank: 8, Scale: 2, A: make([]float32, 8*in), B: make([]float32, out*8)})
				}
			}
			return m.TrainChanges(list)
		},
	} {
		b.Run(name, func(b *testing.B) {
			what, err := train()
			if err != nil {
				b.Fatal(err)
			}
			tr, err := learn.New(what, learn.Options{Workers: 2})
			if err != nil {
				b.Fatal(err)
			}
			tokens := 0
			b.ReportAllocs()
			for b.Loop() {
				r, err := tr.Step(b.Context(), examples)
				if err != nil {
					b.Fatal(err)
				}
				tokens += r.Tokens
			}
			b.ReportMetric(float64(tokens)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}
