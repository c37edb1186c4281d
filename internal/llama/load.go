package llama

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/llama/kernel"
)

// Load reads a model from a GGUF file. Weights of Q4_0, Q4_1, Q8_0, Q4_K, Q5_K and Q6_K stay quantized, those of other types
// become float32, which changes no bit of what is computed. The file has to stay open as long as WithChanges is to be used.
// Where keep is set, the weights are also there in float32 and in the order that gradients need, which about doubles the
// memory: it is for models that are to be trained.
//
// The error names the key or tensor that is missing, has another shape, or is of a kind that this package does not
// compute (another architecture, other biases, experts, rotary positions scaled by YaRN). Weights that are not
// finite are an error as well.
func Load(f *gguf.File, keep bool) (*Model, error) {
	c, err := configOf(f)
	if err != nil {
		return nil, fmt.Errorf("load model: %w", err)
	}
	r := &reader{f: f, used: map[string]bool{"rope_freqs.weight": true}}
	m := &Model{Config: c, rope: newRotations(c), source: r}
	m.embedding = r.table("token_embd.weight", c.Vocabulary, c.Dim, keep)
	m.output = m.embedding
	if !c.Tied {
		m.output = r.table("output.weight", c.Vocabulary, c.Dim, keep)
	}
	m.norm = r.matrix("output_norm.weight", 1, c.Dim).Data
	for i := range c.Layers {
		l := layer{
			attentionNorm:   r.matrix(layerName(i, "attn_norm.weight"), 1, c.Dim).Data,
			feedForwardNorm: r.matrix(layerName(i, "ffn_norm.weight"), 1, c.Dim).Data,
		}
		for j, p := range l.linears() {
			shape := c.shapes()[j]
			name := layerName(i, shape.name)
			*p = r.linear(name, shape.out, shape.in, keep)
			if r.err != nil {
				return nil, fmt.Errorf("load model: %w", r.err)
			}
			if shape.bias {
				(*p).bias = r.matrix(name+".bias", 1, shape.out).Data
			}
		}
		m.layers = append(m.layers, l)
	}
	if r.err == nil {
		r.err = r.unused()
	}
	if r.err != nil {
		return nil, fmt.Errorf("load model: %w", r.err)
	}
	return m, nil
}

// LoadBytes predicts the memory that Load takes for a model of this shape whose weights are not quantized, in bytes. What
// is quantized takes a scale and a least value of 4 bytes each for a block of 32, beside its codes: .75 bytes a weight of
// 4 bits and 1.25 of 8, in place of 4.
func (c Config) LoadBytes(keep bool) int {
	n := c.Parameters()
	if keep {
		for _, s := range c.shapes() {
			n += c.Layers * s.in * s.out
		}
	}
	return 4 * n
}

// configOf reads the shape of a model from its metadata.
func configOf(f *gguf.File) (Config, error) {
	meta := f.Metadata
	arch, err := meta.String("general.architecture")
	if err != nil {
		return Config{}, err
	}
	if err := checkArchitecture(arch); err != nil {
		return Config{}, err
	}
	k := keys{meta: meta, prefix: arch + "."}
	c := Config{
		Architecture: arch,
		Dim:          k.integer("embedding_length", 0),
		Layers:       k.integer("block_count", 0),
		Heads:        k.integer("attention.head_count", 0),
		FeedForward:  k.integer("feed_forward_length", 0),
		Context:      k.integer("context_length", 0),
		Epsilon:      k.number("attention.layer_norm_rms_epsilon", 0),
	}
	if k.err != nil {
		return Config{}, k.err
	}
	c.KVHeads = k.integer("attention.head_count_kv", c.Heads)
	c.HeadDim = k.integer("attention.key_length", c.Dim/c.Heads)
	values := k.integer("attention.value_length", c.HeadDim)
	experts := k.integer("expert_count", unset)
	c.Rope = Rope{Base: k.number("rope.freq_base", 10_000), Dims: k.integer("rope.dimension_count", c.HeadDim), Scale: 1}
	scaling := k.text("rope.scaling.type", "linear") // the defaults and the old key are llama.cpp's
	factor := k.number("rope.scaling.factor", k.number("rope.scale_linear", 1))
	if k.err != nil {
		return Config{}, k.err
	}
	switch {
	case values != c.HeadDim:
		return Config{}, fmt.Errorf("%sattention.value_length is %d and key_length %d; they must be equal here", k.prefix, values, c.HeadDim)
	case experts > 0:
		return Config{}, fmt.Errorf("%sexpert_count is %d; models with experts are not computed here", k.prefix, experts)
	case scaling == "linear":
		c.Rope.Scale = factor
	case scaling != "none":
		return Config{}, fmt.Errorf("%srope.scaling.type is %q; must be none or linear (factors of rope_freqs are read as well)", k.prefix, scaling)
	}
	if t, ok := f.Tensor("rope_freqs.weight"); ok {
		if c.Rope.Factors, err = t.Float32(nil); err != nil {
			return Config{}, err
		}
	}
	embedding, ok := f.Tensor("token_embd.weight")
	if !ok {
		return Config{}, errors.New("the file has no tensor token_embd.weight")
	}
	c.Vocabulary = embedding.Rows()
	_, own := f.Tensor("output.weight")
	c.Tied = !own
	return c, c.Check()
}

// unset asks for a key that may be missing and then counts as 0, where a plain 0 means that it must be there.
const unset = -1

// keys reads an architecture's metadata and keeps the first error.
type keys struct {
	meta   *gguf.Metadata
	prefix string
	err    error
}

// integer is the value of a key, or the default where it is missing; a default of 0 says that it must be there.
func (k *keys) integer(key string, or int) int {
	v, err := k.meta.Uint(k.prefix + key)
	switch {
	case err == nil && v == 0 && or != unset:
		err = fmt.Errorf("%s%s is 0, must be positive", k.prefix, key)
	case err == nil && v <= 1<<31:
		return int(v)
	case err == nil:
		err = fmt.Errorf("%s%s is %d, which no model has", k.prefix, key, v)
	case errors.Is(err, gguf.ErrMissing) && or == unset:
		return 0
	case errors.Is(err, gguf.ErrMissing) && or != 0:
		return or
	}
	k.keep(err)
	return 0
}

// number is the value of a key, or the default where it is missing; a default of 0 says that it must be there.
func (k *keys) number(key string, or float64) float64 {
	v, err := k.meta.Float(k.prefix + key)
	if errors.Is(err, gguf.ErrMissing) && or != 0 {
		return or
	}
	k.keep(err)
	return v
}

// text is the value of a key, or the default where it is missing.
func (k *keys) text(key, or string) string {
	v, err := k.meta.String(k.prefix + key)
	if errors.Is(err, gguf.ErrMissing) {
		return or
	}
	k.keep(err)
	return v
}

func (k *keys) keep(err error) {
	if k.err == nil {
		k.err = err
	}
}

// reader reads tensors and keeps the first error.
type reader struct {
	f    *gguf.File
	used map[string]bool
	err  error
}

// matrix reads a tensor of rows x cols; a single row is a vector.
func (r *reader) matrix(name string, rows, cols int) kernel.Matrix {
	if r.err != nil {
		return kernel.Matrix{}
	}
	r.used[name] = true
	x, err := r.read(name, rows, cols)
	r.err = err
	return kernel.View(x, rows, cols)
}

func (r *reader) read(name string, rows, cols int) ([]float32, error) {
	t, ok := r.f.Tensor(name)
	if !ok {
		return nil, fmt.Errorf("the file has no tensor %s", name)
	}
	if t.Shape[0] != cols || t.Rows() != rows {
		return nil, fmt.Errorf("tensor %s has the shape %v, must be [%d %d] by the metadata", name, t.Shape, cols, rows)
	}
	x, err := t.Float32(nil)
	if err != nil {
		return nil, err
	}
	return x, finite(name, x)
}

// finite finds a value of a tensor that is NaN or infinite.
func finite(name string, x []float32) error {
	for i, v := range x {
		if v-v != 0 {
			return fmt.Errorf("tensor %s: value %d is %v: %w", name, i, v, ErrNotFinite)
		}
	}
	return nil
}

// weights of a linear layer, again.
func (r *reader) weights(name string, rows, cols int) ([]float32, error) {
	return r.read(name+".weight", rows, cols)
}

// unused finds tensors that would have to take part in the computation and do not.
func (r *reader) unused() error {
	var names []string
	for _, t := range r.f.Tensors() {
		if !r.used[t.Name] {
			names = append(names, t.Name)
		}
	}
	slices.Sort(names)
	if len(names) > 0 {
		return fmt.Errorf("the file has tensors that are not computed here: %s", strings.Join(names[:min(4, len(names))], ", "))
	}
	return nil
}

// WithChanges is a model with low-rank changes added to its weights, in float32. It shares everything else with the
// model, and takes memory for the changed layers only. A layer can be changed once. Weights that are not finite once they
// are changed are an error.
func (m *Model) WithChanges(changes []LowRank) (*Model, error) {
	view := *m
	view.layers = slices.Clone(m.layers)
	for _, lr := range changes {
		layer, at := view.find(lr.Target)
		if at == nil {
			return nil, fmt.Errorf("llama: the model has no layer %q", lr.Target)
		}
		if (*at).changed || (*at).change != nil {
			return nil, fmt.Errorf("llama: layer %q is changed already, and takes one change: start from the model itself", lr.Target)
		}
		shape := m.shapeOf(lr.Target, layer)
		if err := lr.check(shape.out, shape.in); err != nil {
			return nil, err
		}
		w := slices.Clone((*at).w.Data)
		if w == nil {
			var err error
			if w, err = m.source.weights(lr.Target, shape.out, shape.in); err != nil {
				return nil, fmt.Errorf("llama: change layer %q: %w", lr.Target, err)
			}
		}
		merged := kernel.View(w, shape.out, shape.in)
		a := kernel.View(slices.Clone(lr.A), lr.Rank, shape.in)
		kernel.Scale(a.Data, float32(lr.Scale))
		kernel.Mul(merged, kernel.View(lr.B, shape.out, lr.Rank), a, true)
		if err := finite(lr.Target+".weight", w); err != nil {
			return nil, fmt.Errorf("llama: changed, %w", err)
		}
		l := newLinear(lr.Target, merged)
		l.bias = (*at).bias
		l.changed = true
		if (*at).w.Data == nil {
			l.w.Data = nil
		}
		*at = l
	}
	return &view, nil
}

// shapeOf is the shape of a linear layer of a block.
func (m *Model) shapeOf(name string, layer int) shape {
	for _, s := range m.shapes() {
		if layerName(layer, s.name) == name {
			return s
		}
	}
	return shape{}
}
