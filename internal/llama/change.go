package llama

import (
	"errors"
	"fmt"
	"slices"

	"github.com/r2rec/r2rec/internal/llama/kernel"
)

// frozen is the gradient's index of what is not trained.
const frozen = -1

// change is a low-rank change of a linear layer that is being trained: y += scale B A x (Hu et al. 2021, "LoRA", arXiv
// 2106.09685).
type change struct {
	a, b             kernel.Matrix // rank x in, out x rank
	packedA, packedB *kernel.Packed
	scale            float32
	trainedA         int // indices of the gradients
	trainedB         int
}

func newChange(a, b kernel.Matrix, scale float64) *change {
	return &change{a: a, b: b, packedA: kernel.Pack(a), packedB: kernel.Pack(b), scale: float32(scale), trainedA: frozen, trainedB: frozen}
}

// repack follows a change of the values.
func (c *change) repack() {
	c.packedA.Repack(c.a)
	c.packedB.Repack(c.b)
}

// low is scale A x for rows of x.
func (c *change) low(x kernel.Matrix) kernel.Matrix {
	u := kernel.View(make([]float32, x.Rows*c.a.Rows), x.Rows, c.a.Rows)
	kernel.MulPacked(u, x, c.packedA, false)
	kernel.Scale(u.Data, c.scale)
	return u
}

// forward adds scale B A x to dst.
func (c *change) forward(dst, x kernel.Matrix) { kernel.MulPacked(dst, c.low(x), c.packedB, true) }

// backward adds to the gradients of A and B what the gradient dy of the output says, and to dx, unless that has no data.
func (c *change) backward(dx, dy, x kernel.Matrix, g Gradients) {
	kernel.MulTransA(kernel.View(g[c.trainedB], c.b.Rows, c.b.Cols), dy, c.low(x), true)
	du := kernel.View(make([]float32, dy.Rows*c.b.Cols), dy.Rows, c.b.Cols)
	kernel.Mul(du, dy, c.b, false)
	kernel.Scale(du.Data, c.scale)
	kernel.MulTransA(kernel.View(g[c.trainedA], c.a.Rows, c.a.Cols), du, x, true)
	if dx.Data != nil {
		kernel.Mul(dx, du, c.a, true)
	}
}

// backward takes the gradient dy of the layer's output back: it adds to dx, unless that has no data, and to the gradients
// of what is trained. x is the input.
func (l *linear) backward(dx, dy, x kernel.Matrix, g Gradients) {
	if l.trained != frozen {
		kernel.MulTransA(kernel.View(g[l.trained], l.w.Rows, l.w.Cols), dy, x, true)
	}
	if l.trainedBias != frozen {
		for r := range dy.Rows {
			kernel.Axpy(g[l.trainedBias], 1, dy.Row(r))
		}
	}
	if dx.Data != nil {
		kernel.Mul(dx, dy, l.w, true)
	}
	if l.change != nil {
		l.change.backward(dx, dy, x, g)
	}
}

// Parameter is a tensor that is being trained.
type Parameter struct {
	Name  string    // as in a GGUF file: "blk.0.attn_q.weight", "blk.0.attn_q.weight.lora_a"
	Value []float32 // the model's own; after changing it, call Trainable.Refresh
	Rows  int       // of the matrix
	Norm  bool      // weights of a normalisation, or biases, which weight decay should leave alone
}

// Gradients hold one gradient for each parameter, in the order of Trainable.Parameters.
type Gradients [][]float32

// Clear sets all to zero.
func (g Gradients) Clear() {
	for _, x := range g {
		clear(x)
	}
}

// Add adds other to g.
func (g Gradients) Add(other Gradients) {
	for i, x := range other {
		kernel.Axpy(g[i], 1, x)
	}
}

// Trainable is a model some of whose parameters are being trained. Passes over it may run at the same time; Refresh and
// changes of the parameters' values exclude them.
type Trainable struct {
	*Model     // what it has become so far, once refreshed
	params     []Parameter
	embedding  int // index of its gradient, and of the output layer's and of the last normalisation's
	output     int
	norm       int
	norms      [][2]int // of each layer
	lowest     int      // the lowest layer in which anything is trained
	embeddings bool     // whether the embedding is trained, so that gradients are needed below all layers
}

// TrainAll trains every weight of a model in place.
func (m *Model) TrainAll() (*Trainable, error) {
	own, err := m.ownLayers()
	if err != nil {
		return nil, err
	}
	own.numbers()
	t := &Trainable{Model: own, embeddings: true}
	t.embedding = t.add("token_embd.weight", m.embedding.Data, m.Vocabulary)
	t.output = t.embedding
	if !m.Tied {
		t.output = t.add("output.weight", m.output.Data, m.Vocabulary)
	}
	t.norm = t.addNorm("output_norm.weight", m.norm)
	for i := range own.layers {
		l := &own.layers[i]
		t.norms = append(t.norms, [2]int{
			t.addNorm(layerName(i, "attn_norm.weight"), l.attentionNorm), t.addNorm(layerName(i, "ffn_norm.weight"), l.feedForwardNorm),
		})
		for _, p := range l.linears() {
			(*p).trained = t.add((*p).name+".weight", (*p).w.Data, (*p).w.Rows)
			if (*p).bias != nil {
				(*p).trainedBias = t.addNorm((*p).name+".bias", (*p).bias)
			}
		}
	}
	return t, nil
}

// ownLayers is the model with the same weights and nothing of it being trained. The error is that of complete.
func (m *Model) ownLayers() (*Model, error) {
	if err := m.complete(); err != nil {
		return nil, err
	}
	own := *m
	own.layers = slices.Clone(m.layers)
	for i := range own.layers {
		for _, p := range own.layers[i].linears() {
			l := **p
			l.trained, l.trainedBias = frozen, frozen
			*p = &l
		}
	}
	return &own, nil
}

// complete tells whether the weights are there, in the form that gradients and files need, and are all there is.
func (m *Model) complete() error {
	for i := range m.layers {
		for _, p := range m.layers[i].linears() {
			if (*p).w.Data == nil {
				return fmt.Errorf("llama: %s was loaded for reading only; load the model with its weights kept to train or save it", (*p).name)
			}
			if (*p).change != nil {
				return fmt.Errorf("llama: %s has a change that is being trained: start from the model itself", (*p).name)
			}
		}
	}
	return nil
}

func (t *Trainable) add(name string, value []float32, rows int) int {
	t.params = append(t.params, Parameter{Name: name, Value: value, Rows: rows})
	return len(t.params) - 1
}

func (t *Trainable) addNorm(name string, value []float32) int {
	i := t.add(name, value, 1)
	t.params[i].Norm = true
	return i
}

// LowRank is a low-rank change of one linear layer.
type LowRank struct {
	Target string // the layer's name in a GGUF file, without ".weight": "blk.0.attn_q"
	Rank   int
	Scale  float64   // of the change: alpha / rank
	A, B   []float32 // rank x in, out x rank; trained in place
}

// check tells whether the change fits a layer of out x in.
func (lr LowRank) check(out, in int) error {
	if lr.Rank < 1 || len(lr.A) != lr.Rank*in || len(lr.B) != out*lr.Rank {
		return fmt.Errorf("llama: change of layer %q (%d x %d) has rank %d, %d numbers in A and %d in B; must be %d and %d",
			lr.Target, out, in, lr.Rank, len(lr.A), len(lr.B), lr.Rank*in, out*lr.Rank)
	}
	return nil
}

// TrainChanges trains low-rank changes over a model that stays as it is.
func (m *Model) TrainChanges(changes []LowRank) (*Trainable, error) {
	own, err := m.ownLayers()
	if err != nil {
		return nil, err
	}
	if len(changes) == 0 {
		return nil, errors.New("llama: no low-rank change to train: name the layers")
	}
	t := &Trainable{Model: own, embedding: frozen, output: frozen, norm: frozen, lowest: m.Layers}
	for range m.layers {
		t.norms = append(t.norms, [2]int{frozen, frozen})
	}
	for _, lr := range changes {
		layer, at := own.find(lr.Target)
		if at == nil {
			return nil, fmt.Errorf("llama: the model has no layer %q", lr.Target)
		}
		l := *at
		if l.change != nil {
			return nil, fmt.Errorf("llama: layer %q is to be changed twice", lr.Target)
		}
		if err := lr.check(l.w.Rows, l.w.Cols); err != nil {
			return nil, err
		}
		l.change = newChange(kernel.View(lr.A, lr.Rank, l.w.Cols), kernel.View(lr.B, l.w.Rows, lr.Rank), lr.Scale)
		l.change.trainedA = t.add(lr.Target+".weight.lora_a", lr.A, lr.Rank)
		l.change.trainedB = t.add(lr.Target+".weight.lora_b", lr.B, l.w.Rows)
		t.lowest = min(t.lowest, layer)
	}
	return t, nil
}

// find gives the place of a linear layer; nil: there is none of that name.
func (m *Model) find(name string) (layer int, at **linear) {
	for i := range m.layers {
		for _, p := range m.layers[i].linears() {
			if (*p).name == name {
				return i, p
			}
		}
	}
	return 0, nil
}

// Parameters that are being trained.
func (t *Trainable) Parameters() []Parameter { return t.params }

// NewGradients makes zero gradients.
func (t *Trainable) NewGradients() Gradients {
	g := make(Gradients, len(t.params))
	for i, p := range t.params {
		g[i] = make([]float32, len(p.Value))
	}
	return g
}

// Refresh takes over changed values of the parameters.
func (t *Trainable) Refresh() {
	for i := range t.layers {
		for _, p := range t.layers[i].linears() {
			if (*p).trained != frozen {
				(*p).packed.Repack((*p).w)
			}
			if (*p).change != nil {
				(*p).change.repack()
			}
		}
	}
}
