package engine

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/llama/learn"
	"github.com/r2rec/r2rec/internal/llama/lora"
)

// AdapterOptions say what is trained over a model that stays as it is. The zero value of a field takes the default its
// comment states.
type AdapterOptions struct {
	Rank    int      // default 8, at most the model's Dim
	Alpha   float64  // default twice the rank
	Targets []string // layers of each block: attn_q, attn_k, attn_v, attn_output, ffn_gate, ffn_up, ffn_down. Default: all
	Seed    uint64   // of the start: A is random, B zero, so that the adapter changes nothing at first (Hu et al. 2021)
	// From is the path of an adapter of the same model, to go on from instead of one that changes nothing. Rank, alpha and
	// targets are then its own and must not be stated. The new one's manifest names it as its parent. Default: none.
	From string
	Note string // for people, in the manifest
	// LearnedEvents are those of a data set that is learned from, for the manifest. One that goes on from another says of both the
	// one that reaches further. Default: none.
	LearnedEvents event.Past
	Learn         learn.Options
}

// NewAdapter begins an adapter over a model that was opened as Trainable and without an adapter.
func (m *Model) NewAdapter(o AdapterOptions) (*Learner, error) {
	if m.identity.Adapter != "" {
		return nil, errors.New("train an adapter: the model already has one; open it without, and name it in From to go on from it")
	}
	begin := m.zeroAdapter
	if o.From != "" {
		begin = m.fromAdapter
	}
	a, err := begin(o)
	if err != nil {
		return nil, fmt.Errorf("train an adapter: %w", err)
	}
	a.Manifest.Seed, a.Manifest.Note = o.Seed, o.Note
	a.Manifest.LearnedEvents = o.LearnedEvents.Later(a.Manifest.LearnedEvents) // of the one that it goes on from
	t, err := m.weights.TrainChanges(changes(a))
	if err != nil {
		return nil, err
	}
	l, err := newLearner(m.reader, t, o.Learn)
	if err != nil {
		return nil, err
	}
	l.finish = func(steps int) { a.Manifest.Steps = steps }
	l.write = func(w io.Writer) error { return lora.WriteGGUF(w, a) }
	return l, nil
}

// zeroAdapter changes nothing.
func (m *Model) zeroAdapter(o AdapterOptions) (*lora.Adapter, error) {
	if o.Rank == 0 {
		o.Rank = 8
	}
	if o.Alpha == 0 {
		o.Alpha = 2 * float64(o.Rank)
	}
	if o.Rank < 1 || o.Rank > m.weights.Dim {
		return nil, fmt.Errorf("rank %d: must be 1 to %d, the width of the model", o.Rank, m.weights.Dim)
	}
	layers := m.weights.Linears()
	if o.Targets == nil {
		o.Targets = layers
	}
	for _, name := range o.Targets {
		if !slices.Contains(layers, name) {
			return nil, fmt.Errorf("target %q: must be one of %v", name, layers)
		}
	}
	a := &lora.Adapter{Architecture: m.weights.Architecture, Rank: o.Rank, Alpha: o.Alpha, Manifest: m.manifest()}
	random := rand.New(rand.NewPCG(o.Seed, 0x6c6f7261))
	for i := range m.weights.Layers {
		for _, name := range layers {
			if !slices.Contains(o.Targets, name) {
				continue
			}
			out, in := m.weights.LinearShape(name)
			p := lora.Pair{Target: fmt.Sprintf("blk.%d.%s", i, name), In: in, Out: out, A: make([]float32, o.Rank*in), B: make([]float32, out*o.Rank)}
			for j := range p.A {
				p.A[j] = float32(random.NormFloat64() / math.Sqrt(float64(in)))
			}
			a.Pairs = append(a.Pairs, p)
		}
	}
	return a, a.Check()
}

// fromAdapter is a copy of an adapter that a file holds.
func (m *Model) fromAdapter(o AdapterOptions) (*lora.Adapter, error) {
	if o.Rank != 0 || o.Alpha != 0 || o.Targets != nil {
		return nil, fmt.Errorf("rank %d, alpha %v and targets %v: state none of them beside From, whose own stay", o.Rank, o.Alpha, o.Targets)
	}
	file, err := gguf.Open(o.From)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	a, err := lora.FromGGUF(file)
	if err != nil {
		return nil, fmt.Errorf("go on from %s: %w", o.From, err)
	}
	if err := a.Manifest.Check(m.manifest()); err != nil {
		return nil, fmt.Errorf("go on from %s: it does not belong to this model: %w", o.From, err)
	}
	if err := a.Fits(m.file.File); err != nil {
		return nil, fmt.Errorf("go on from %s: %w", o.From, err)
	}
	learned := a.Manifest.LearnedEvents
	a.Manifest = m.manifest()
	a.Manifest.Parent, a.Manifest.LearnedEvents = file.Digest(), learned
	return a, nil
}
