package llama

import (
	"fmt"
	"io"

	"github.com/r2rec/r2rec/internal/gguf"
)

// Save writes the model as GGUF, matrices in the given type (F32, F16, BF16 or Q8_0) and vectors in F32. extra are more
// keys, such as the tokenizer's and the model's name, or nil; those of the shape are written by Save. The model must hold
// its weights: made by New, or loaded with keep.
func (m *Model) Save(w io.Writer, as gguf.Type, extra *gguf.Metadata) error {
	if err := m.complete(); err != nil {
		return err
	}
	meta := new(gguf.Metadata)
	if extra != nil {
		meta = extra.Clone()
	}
	m.describe(meta)
	type tensor struct {
		gguf.Tensor
		values []float32
	}
	var tensors []tensor
	add := func(name string, values []float32, rows, cols int) {
		t := gguf.Tensor{Name: name, Type: as, Shape: []int{cols, rows}}
		if rows == 1 {
			t.Type, t.Shape = gguf.F32, []int{cols}
		}
		tensors = append(tensors, tensor{t, values})
	}
	add("token_embd.weight", m.embedding.Data, m.Vocabulary, m.Dim)
	if !m.Tied {
		add("output.weight", m.output.Data, m.Vocabulary, m.Dim)
	}
	add("output_norm.weight", m.norm, 1, m.Dim)
	if m.Rope.Factors != nil {
		add("rope_freqs.weight", m.Rope.Factors, 1, len(m.Rope.Factors))
	}
	for i := range m.layers {
		l := &m.layers[i]
		add(layerName(i, "attn_norm.weight"), l.attentionNorm, 1, m.Dim)
		add(layerName(i, "ffn_norm.weight"), l.feedForwardNorm, 1, m.Dim)
		for _, p := range l.linears() {
			add((*p).name+".weight", (*p).w.Data, (*p).w.Rows, (*p).w.Cols)
			if (*p).bias != nil {
				add((*p).name+".bias", (*p).bias, 1, len((*p).bias))
			}
		}
	}
	described := make([]gguf.Tensor, len(tensors))
	for i, t := range tensors {
		described[i] = t.Tensor
	}
	out, err := gguf.NewWriter(w, meta, described)
	if err != nil {
		return fmt.Errorf("save model: %w", err)
	}
	for _, t := range tensors {
		if err := out.WriteFloat32(t.Name, t.values); err != nil {
			return fmt.Errorf("save model: %w", err)
		}
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("save model: %w", err)
	}
	return nil
}

// describe writes the shape as llama.cpp reads it.
func (m *Model) describe(meta *gguf.Metadata) {
	c := m.Config
	gguf.Set(meta, "general.architecture", c.Architecture)
	for _, k := range []struct {
		key   string
		value int
	}{
		{"embedding_length", c.Dim}, {"block_count", c.Layers}, {"attention.head_count", c.Heads}, {"attention.head_count_kv", c.KVHeads},
		{"attention.key_length", c.HeadDim}, {"attention.value_length", c.HeadDim}, {"feed_forward_length", c.FeedForward},
		{"context_length", c.Context}, {"rope.dimension_count", c.Rope.Dims}, {"vocab_size", c.Vocabulary},
	} {
		gguf.Set(meta, c.Architecture+"."+k.key, uint32(k.value))
	}
	gguf.Set(meta, c.Architecture+".attention.layer_norm_rms_epsilon", float32(c.Epsilon))
	gguf.Set(meta, c.Architecture+".rope.freq_base", float32(c.Rope.Base))
	if c.Rope.Scale != 0 && c.Rope.Scale != 1 {
		gguf.Set(meta, c.Architecture+".rope.scaling.type", "linear")
		gguf.Set(meta, c.Architecture+".rope.scaling.factor", float32(c.Rope.Scale))
	}
}
