package fusion

import (
	"context"
	"math/rand/v2"
	"testing"
)

func BenchmarkScores(b *testing.B) {
	examples := world(MinExamples, 20, rand.New(rand.NewPCG(1, 1)))
	m, err := Fit(context.Background(), examples, FitOptions{Epochs: 1})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		m.Scores(examples[i%len(examples)].List)
		i++
	}
}

func BenchmarkFit(b *testing.B) {
	examples := world(6000, 20, rand.New(rand.NewPCG(1, 1)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Fit(context.Background(), examples, FitOptions{Ensemble: 1}); err != nil {
			b.Fatal(err)
		}
	}
}
