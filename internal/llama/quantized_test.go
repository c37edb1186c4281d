package llama

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/llama/kernel"
)

// quantized is a file of a small model whose rows fill whole blocks.
func quantized(t *testing.T, tied bool) *gguf.File {
	t.Helper()
	m, err := New(Config{Vocabulary: 70, Dim: 96, Layers: 2, Heads: 6, KVHeads: 2, HeadDim: 16, FeedForward: 160, Context: 200, Epsilon: 1e-5, Tied: tied,
		Rope: Rope{Base: 1000, Dims: 16}}, .5, 7)
	if err != nil {
		t.Fatal(err)
	}
	return saved(t, m, gguf.Q8_0, nil)
}

// Codes in products stand for the very numbers: whether these are kept beside them, on however many threads, and in
// whatever pieces a text is read.
func TestQuantizedWeightsGiveTheBitsOfTheirNumbers(t *testing.T) {
	for _, tied := range []bool{true, false} {
		f := quantized(t, tied)
		m, kept := load(t, f, false), load(t, f, true)
		numbers := *kept
		numbers.layers = slices.Clone(kept.layers)
		for i := range numbers.layers {
			for _, p := range numbers.layers[i].linears() {
				*p = newLinear((*p).name, (*p).w)
			}
		}
		if !m.layers[0].q.packed.Coded() || numbers.layers[0].q.packed.Coded() || m.embedding.Data != nil || m.output.Data != nil {
			t.Fatal("not what is to be compared")
		}
		tokens := text(100, m.Vocabulary, 3)
		every := make([]int, len(tokens))
		for i := range every {
			every[i] = i
		}
		want := read(t, session(t, &numbers, m.Context, 1), tokens, every...)
		for threads := 1; threads <= 3; threads++ {
			for _, model := range []*Model{m, kept} {
				if !slices.Equal(read(t, session(t, model, m.Context, threads), tokens, every...), want) {
					t.Errorf("tied %v, %d threads, kept %v: other bits at once", tied, threads, model == kept)
				}
				var got []uint32
				s := session(t, model, m.Context, threads)
				for at := range tokens {
					got = append(got, read(t, s, tokens[:at+1], at)...)
				}
				if !slices.Equal(got, want) {
					t.Errorf("tied %v, %d threads, kept %v: other bits one by one", tied, threads, model == kept)
				}
			}
		}
		h, err := session(t, m, m.Context, 1).Read(t.Context(), tokens, 99)
		if err != nil {
			t.Fatal(err)
		}
		if all, some := h.Logits(0), h.Logits(0, 5, 69, 0); some[0] != all[5] || some[1] != all[69] || some[2] != all[0] {
			t.Errorf("tied %v: single logits are %v, of all %v, %v and %v", tied, some, all[5], all[69], all[0])
		}
	}
}

func TestQuantizedWeightsCanBeTrained(t *testing.T) {
	m := load(t, quantized(t, false), true)
	before := read(t, session(t, m, 50, 1), text(50, m.Vocabulary, 3), 49)
	trainable, err := m.TrainAll()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(read(t, session(t, trainable.Model, 50, 1), text(50, m.Vocabulary, 3), 49), before) {
		t.Error("before anything has changed, a model being trained gives other bits")
	}
	for _, p := range trainable.Parameters() {
		for i := range p.Value {
			p.Value[i] *= .5
		}
	}
	trainable.Refresh()
	if slices.Equal(read(t, session(t, trainable.Model, 50, 1), text(50, m.Vocabulary, 3), 49), before) {
		t.Error("changed weights change no logit")
	}
	for i := range trainable.layers {
		for _, p := range trainable.layers[i].linears() {
			if (*p).packed.Coded() {
				t.Errorf("%s computes with what was read", (*p).name)
			}
		}
	}
}

func TestThreadsThatShareOutColumnsGiveTheBitsOfOne(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	random := func(rows, cols int) kernel.Matrix {
		m := kernel.View(make([]float32, rows*cols), rows, cols)
		for i := range m.Data {
			m.Data[i] = float32(r.NormFloat64())
		}
		return m
	}
	const in = 4096 // so much work that many threads are worth waking
	x := random(2, in)
	var layers []*linear
	for _, out := range []int{200, 96, 330} {
		l := newLinear("", random(out, in))
		l.bias = random(1, out).Data
		layers = append(layers, l)
	}
	outputs := func(threads int) (all []float32) {
		var products []product
		for _, l := range layers {
			products = append(products, product{l, kernel.View(make([]float32, 2*l.w.Rows), 2, l.w.Rows)})
		}
		forward(newCrew(threads), x, false, products...)
		for _, p := range products {
			all = append(all, p.dst.Data...)
		}
		return all
	}
	want := outputs(1)
	for threads := 2; threads < 12; threads++ {
		if !slices.Equal(outputs(threads), want) {
			t.Errorf("%d threads give other bits", threads)
		}
	}
}
