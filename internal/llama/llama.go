// Package llama runs and trains language models of the Llama family in plain Go: it reads GGUF files, scores and
// generates text, and learns, whole small models or LoRA adapters over frozen ones. There is no cgo and nothing to
// install; the loops that matter are in package kernel.
//
// A Model is a set of weights and never changes, so that any number of goroutines may use one. A Session reads text
// with it and remembers what it has read; a Trainable changes weights, or an adapter's, by gradients. Losses, optimisers
// and checkpoints are in package learn, tokenizers in package token, adapters as data and as files in package lora.
//
// The architecture is that of Llama 2 and 3 (Touvron et al. 2023, arXiv 2307.09288): RMS normalisation before each
// block, grouped-query attention with rotary positions, a SwiGLU feed-forward layer, no biases, and an output layer of its
// own or the transposed embedding; or that of Qwen 2 and 2.5 (Yang et al. 2024, arXiv 2407.10671), which is the same with
// biases of queries, keys and values. All arithmetic is float32; quantized weights are kept as codes and become, in the
// registers, the numbers that they stand for, so that activations are not rounded as llama.cpp's are.
//
// What it promises: the same weights, tokens and positions give the same bits on every run of one machine, whatever the
// number of threads, however a text is cut into calls, whatever other texts are written at once, and whether quantized weights are kept as codes or as numbers;
// memory is known beforehand (see Config.SessionBytes); and what a file holds is checked before it is used, so that a wrong
// file gives an error that says what is wrong with it.
package llama

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/r2rec/r2rec/internal/llama/kernel"
)

// Config is the shape of a model.
type Config struct {
	Vocabulary   int
	Dim          int // of the residual stream
	Layers       int
	Heads        int // of the queries
	KVHeads      int // of keys and values; divides Heads
	HeadDim      int // of each head
	FeedForward  int // units
	Context      int // most positions
	Epsilon      float64
	Tied         bool // the output layer is the transposed embedding
	Rope         Rope
	Architecture string // "llama", which "" stands for, or "qwen2"
}

// Check finds what is wrong with a shape.
func (c Config) Check() error {
	for _, f := range []struct {
		name        string
		value, most int
	}{
		{"vocabulary", c.Vocabulary, 1 << 22}, {"dim", c.Dim, 1 << 17}, {"layers", c.Layers, 1 << 10}, {"heads", c.Heads, 1 << 12},
		{"kv heads", c.KVHeads, 1 << 12}, {"head dim", c.HeadDim, 1 << 12}, {"feed-forward units", c.FeedForward, 1 << 20}, {"context", c.Context, 1 << 24},
	} {
		if f.value < 1 || f.value > f.most {
			return fmt.Errorf("llama: %s is %d, must be 1 to %d", f.name, f.value, f.most)
		}
	}
	switch {
	case c.Heads%c.KVHeads != 0:
		return fmt.Errorf("llama: %d heads cannot share %d key and value heads evenly", c.Heads, c.KVHeads)
	case !(c.Epsilon > 0) || math.IsInf(c.Epsilon, 0):
		return fmt.Errorf("llama: epsilon of the normalisation is %v, must be positive", c.Epsilon)
	}
	if err := checkArchitecture(cmp.Or(c.Architecture, archLlama)); err != nil {
		return fmt.Errorf("llama: %w", err)
	}
	return c.Rope.check(c.HeadDim)
}

// Queries is the width of all query heads together, KV that of all key or value heads.
func (c Config) Queries() int { return c.Heads * c.HeadDim }
func (c Config) KV() int      { return c.KVHeads * c.HeadDim }

// Parameters is the number of weights.
func (c Config) Parameters() int {
	n := c.Vocabulary*c.Dim + c.Dim
	if !c.Tied {
		n += c.Vocabulary * c.Dim
	}
	if c.biased() {
		n += c.Layers * (c.Queries() + 2*c.KV())
	}
	return n + c.Layers*(2*c.Dim+2*c.Dim*c.Queries()+2*c.Dim*c.KV()+3*c.Dim*c.FeedForward)
}

// SessionBytes is the memory of a session of so many positions on so many threads, in bytes, beside 4 Dim for each hidden
// state that is asked for at once.
func (c Config) SessionBytes(positions, threads int) int {
	cache := 2 * c.Layers * positions * c.KV()
	rows := min(positions, chunkRows)
	work := rows*(4*c.Dim+2*c.Queries()+c.KV()+2*c.FeedForward+2) + blockRows*positions*max(1, threads)
	return 4 * (cache + work + positions)
}

// Model is the weights of a language model.
type Model struct {
	Config
	embedding table // vocabulary x dim
	output    table // the same where tied
	norm      []float32
	layers    []layer
	rope      *rotations
	source    *reader // reads weights again; nil: they are all here
}

// layer is one block of the transformer.
type layer struct {
	attentionNorm, feedForwardNorm []float32
	q, k, v, o                     *linear
	gate, up, down                 *linear
}

// linears in the order in which parameters and gradients stand.
func (l *layer) linears() []**linear {
	return []**linear{&l.q, &l.k, &l.v, &l.o, &l.gate, &l.up, &l.down}
}

// linear is a layer y = W x + b, optionally with a low-rank change that is being trained.
type linear struct {
	name        string        // as in the file, without ".weight"
	w           kernel.Matrix // out x in; without data where only the packed form is kept
	packed      *kernel.Packed
	bias        []float32 // nil: none
	change      *change
	changed     bool // a low-rank change was added, so that the source has other weights
	trained     int  // the index of its gradient; -1: it is frozen
	trainedBias int
}

var (
	// ErrNotFinite says that a weight or a gradient is NaN or infinite.
	ErrNotFinite = errors.New("not a finite number")
	// ErrTooLong says that a text has more tokens than there is room for.
	ErrTooLong = errors.New("the text is too long")
)

// New makes a model with random weights, drawn from a normal distribution with deviation 1/√in for the linear layers,
// those that write into the residual stream further divided by √(2 layers), and spread for the embedding and for biases.
// Without an architecture it is a llama model.
func New(c Config, spread float64, seed uint64) (*Model, error) {
	if c.Architecture == "" {
		c.Architecture = archLlama
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	if !(spread > 0) || math.IsInf(spread, 0) {
		return nil, fmt.Errorf("llama: spread of the embedding is %v, must be positive", spread)
	}
	if c.Rope.Scale == 0 {
		c.Rope.Scale = 1
	}
	// As a file holds them, so that a saved model is the same.
	c.Epsilon, c.Rope.Base, c.Rope.Scale = float64(float32(c.Epsilon)), float64(float32(c.Rope.Base)), float64(float32(c.Rope.Scale))
	r := rand.New(rand.NewPCG(seed, 0x6c6c616d61))
	normal := func(rows, cols int, deviation float64) kernel.Matrix {
		m := kernel.View(make([]float32, rows*cols), rows, cols)
		for i := range m.Data {
			m.Data[i] = float32(deviation * r.NormFloat64())
		}
		return m
	}
	m := &Model{Config: c, embedding: table{Matrix: normal(c.Vocabulary, c.Dim, spread)}, norm: ones(c.Dim), rope: newRotations(c)}
	m.output = m.embedding
	if !c.Tied {
		m.output = table{Matrix: normal(c.Vocabulary, c.Dim, 1/math.Sqrt(float64(c.Dim)))}
	}
	into := 1 / math.Sqrt(2*float64(c.Layers))
	for i := range c.Layers {
		l := layer{attentionNorm: ones(c.Dim), feedForwardNorm: ones(c.Dim)}
		for j, p := range l.linears() {
			shape := c.shapes()[j]
			deviation := 1 / math.Sqrt(float64(shape.in))
			if shape.residual {
				deviation *= into
			}
			*p = newLinear(layerName(i, shape.name), normal(shape.out, shape.in, deviation))
			if shape.bias {
				(*p).bias = normal(1, shape.out, spread).Data
			}
		}
		m.layers = append(m.layers, l)
	}
	return m, nil
}

// shape of one of the linear layers of a block.
type shape struct {
	name     string
	out, in  int
	residual bool // its output is added to the residual stream
	bias     bool
}

// shapes in the order of layer.linears.
func (c Config) shapes() []shape {
	return []shape{
		{name: "attn_q", out: c.Queries(), in: c.Dim, bias: c.biased()}, {name: "attn_k", out: c.KV(), in: c.Dim, bias: c.biased()},
		{name: "attn_v", out: c.KV(), in: c.Dim, bias: c.biased()}, {name: "attn_output", out: c.Dim, in: c.Queries(), residual: true},
		{name: "ffn_gate", out: c.FeedForward, in: c.Dim}, {name: "ffn_up", out: c.FeedForward, in: c.Dim},
		{name: "ffn_down", out: c.Dim, in: c.FeedForward, residual: true},
	}
}

// Linears names the linear layers of each block, as GGUF files do.
func (c Config) Linears() []string {
	var names []string
	for _, s := range c.shapes() {
		names = append(names, s.name)
	}
	return names
}

// LinearShape is the shape of a linear layer of each block, 0 and 0 where there is none of that name.
func (c Config) LinearShape(name string) (out, in int) {
	for _, s := range c.shapes() {
		if s.name == name {
			return s.out, s.in
		}
	}
	return 0, 0
}

// layerName is what a GGUF file calls a tensor of block i, without ".weight".
func layerName(i int, name string) string { return fmt.Sprintf("blk.%d.%s", i, name) }

func newLinear(name string, w kernel.Matrix) *linear {
	return &linear{name: name, w: w, packed: kernel.Pack(w), trained: frozen, trainedBias: frozen}
}

func ones(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = 1
	}
	return x
}
