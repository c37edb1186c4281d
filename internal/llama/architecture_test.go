package llama

import (
	"slices"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/llama/kernel"
)

// smallQwen2 is a qwen2 model whose biases are as large as its embedding.
func smallQwen2(t testing.TB) *Model {
	t.Helper()
	m, err := New(Config{Architecture: "qwen2", Vocabulary: 31, Dim: 24, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 8, FeedForward: 20, Context: 100,
		Epsilon: 1e-5, Tied: true, Rope: Rope{Base: 1000, Dims: 6}}, .5, 7)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Without biases, a qwen2 model is a llama model with the rows of queries and keys in another order: a head's pairs are
// not side by side there, but in its two halves.
func TestQwen2TurnsHalvesOfHeads(t *testing.T) {
	m, like := smallQwen2(t), smallQwen2(t)
	like.Architecture = "llama"
	like.rope = newRotations(like.Config)
	order := []int{0, 3, 1, 4, 2, 5, 6, 7} // of the 8 rows of a head, of which 6 turn
	for i := range m.layers {
		for j, l := range []*linear{m.layers[i].q, m.layers[i].k, m.layers[i].v} {
			clear(l.bias)
			other := []*linear{like.layers[i].q, like.layers[i].k, like.layers[i].v}[j]
			other.bias = nil
			if j == 2 {
				continue // values do not turn
			}
			for row := range l.w.Rows {
				copy(other.w.Row(row), l.w.Row(row/8*8+order[row%8]))
			}
			other.packed.Repack(other.w)
		}
	}
	if d := away(logits(t, m), logits(t, like)); d > 1e-4 {
		t.Errorf("logits differ by up to %v", d)
	}
	if d := away(logits(t, smallQwen2(t)), logits(t, like)); d < 1e-2 {
		t.Errorf("biases change logits by no more than %v", d)
	}
}

// A layer's outputs are those of its matrix with the biases added, and all three kinds of biases count.
func TestQwen2AddsBiases(t *testing.T) {
	m := smallQwen2(t)
	bias := m.layers[1].v.bias
	x := kernel.View(make([]float32, 3*m.Dim), 3, m.Dim)
	for i := range x.Data {
		x.Data[i] = float32(i%7) - 3
	}
	with, without := kernel.View(make([]float32, 3*m.KV()), 3, m.KV()), kernel.View(make([]float32, 3*m.KV()), 3, m.KV())
	forward(nil, x, false, product{m.layers[1].v, with})
	m.layers[1].v.bias = nil
	forward(nil, x, false, product{m.layers[1].v, without})
	for r := range with.Rows {
		for i, v := range without.Row(r) {
			if with.Row(r)[i] != v+bias[i] {
				t.Fatalf("row %d, output %d is %v, want %v + %v", r, i, with.Row(r)[i], v, bias[i])
			}
		}
	}
	want := logits(t, smallQwen2(t))
	for name, of := range map[string]func(l *layer) *linear{
		"q": func(l *layer) *linear { return l.q }, "k": func(l *layer) *linear { return l.k }, "v": func(l *layer) *linear { return l.v },
	} {
		m := smallQwen2(t)
		clear(of(&m.layers[0]).bias)
		if away(logits(t, m), want) < 1e-4 {
			t.Errorf("the biases of %s change nothing", name)
		}
	}
}

func TestQwen2GradientsAgreeWithDifferences(t *testing.T) {
	tr, err := smallQwen2(t).TrainAll()
	if err != nil {
		t.Fatal(err)
	}
	biases := 0
	for _, p := range tr.Parameters() {
		if strings.HasSuffix(p.Name, ".bias") {
			biases++
			if !p.Norm || p.Rows != 1 {
				t.Errorf("%s is of %d rows, left alone by weight decay: %v", p.Name, p.Rows, p.Norm)
			}
		}
	}
	if biases != 6 {
		t.Errorf("%d biases are trained, want 6", biases)
	}
	checkGradients(t, tr, text(30, 31, 1), []int{3, 29}, nil)
	m := smallQwen2(t)
	if tr, err = m.TrainChanges(lowRank(t, m, 2, "blk.0.attn_k", "blk.1.attn_q", "blk.1.attn_v")); err != nil {
		t.Fatal(err)
	}
	checkGradients(t, tr, text(30, 31, 1), []int{3, 29}, nil)
}

func TestQwen2KeepsItsBiasesUnderChanges(t *testing.T) {
	m := load(t, saved(t, smallQwen2(t), gguf.F32, nil), false)
	changes := lowRank(t, m, 2, "blk.0.attn_q", "blk.0.attn_k", "blk.1.attn_v")
	for _, c := range changes {
		clear(c.B)
	}
	same, err := m.WithChanges(changes)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(logits(t, same), logits(t, m)) {
		t.Error("changes of nothing give other logits")
	}
}

func TestQwen2FilesThatAreRefused(t *testing.T) {
	m := smallQwen2(t)
	for want, change := range map[string]func(*draft){
		"no tensor blk.1.attn_k.bias": func(d *draft) { d.remove("blk.1.attn_k.bias") },
		"tensor blk.0.attn_v.bias has the shape [8], must be [16 1]": func(d *draft) {
			d.remove("blk.0.attn_v.bias")
			d.add("blk.0.attn_v.bias", make([]float32, 8), 8)
		},
		"not computed here: blk.0.attn_output.bias":                        func(d *draft) { d.add("blk.0.attn_output.bias", make([]float32, 24), 24) },
		`"qwen2.block_count": missing`:                                     func(d *draft) { d.meta.Delete("qwen2.block_count") },
		`general.architecture is "qwen3"; only llama and qwen2 models are`: set("general.architecture", "qwen3"),
	} {
		d := drafted(t, m)
		change(d)
		if _, err := Load(d.file(t), false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	c := m.Config
	c.Architecture = "qwen3"
	if _, err := New(c, .5, 7); err == nil || !strings.Contains(err.Error(), `architecture is "qwen3"`) {
		t.Errorf("a new model: %v", err)
	}
}
