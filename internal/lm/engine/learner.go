package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama"
	"github.com/r2rec/r2rec/internal/llama/learn"
	"github.com/r2rec/r2rec/internal/llama/lora"
	"github.com/r2rec/r2rec/internal/llama/token"
	"github.com/r2rec/r2rec/internal/lm"
)

// Learner trains a model, or an adapter over one. It serves one goroutine at a time.
type Learner struct {
	reader    *reader
	trainable *llama.Trainable
	trainer   *learn.Trainer
	finish    func(steps int) // notes in the adapter's manifest how it was made
	write     func(io.Writer) error
}

var _ lm.Learner = (*Learner)(nil)

// AdapterOptions say what is trained over a model that stays as it is. The zero value of a field takes the default its
// comment states.
type AdapterOptions struct {
	Rank    int      // default 8, at most the model's Dim
	Alpha   float64  // default twice the rank
	Targets []string // layers of each block: attn_q, attn_k, attn_v, attn_output, ffn_gate, ffn_up, ffn_down. Default: all
	Seed    uint64   // of the start: A is random, B zero, so that the adapter changes nothing at first (Hu et al. 2021)
	Note    string   // for people, in the manifest
	Learn   learn.Options
}

// NewAdapter begins an adapter over a model that was opened as Trainable and without an adapter.
func (m *Model) NewAdapter(o AdapterOptions) (*Learner, error) {
	if o.Rank == 0 {
		o.Rank = 8
	}
	if o.Alpha == 0 {
		o.Alpha = 2 * float64(o.Rank)
	}
	if o.Rank < 1 || o.Rank > m.weights.Dim {
		return nil, fmt.Errorf("train an adapter: rank %d: must be 1 to %d, the width of the model", o.Rank, m.weights.Dim)
	}
	layers := m.weights.Linears()
	if o.Targets == nil {
		o.Targets = layers
	}
	for _, name := range o.Targets {
		if !slices.Contains(layers, name) {
			return nil, fmt.Errorf("train an adapter: target %q: must be one of %v", name, layers)
		}
	}
	if m.identity.Adapter != "" {
		return nil, errors.New("train an adapter: the model already has one; open it without")
	}
	a := &lora.Adapter{Rank: o.Rank, Alpha: o.Alpha, Manifest: m.manifest()}
	a.Manifest.Seed, a.Manifest.Note = o.Seed, o.Note
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
	if err := a.Check(); err != nil {
		return nil, fmt.Errorf("train an adapter: %w", err)
	}
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

// ModelOptions shape a model that is trained from nothing.
type ModelOptions struct {
	Name          string
	Shape         llama.Config // its Vocabulary is that of Tokens
	Spread        float64      // deviation of the embedding at the start
	Seed          uint64
	Tokens        token.Vocabulary
	PromptVersion int
	Readout       Readout
	Learn         learn.Options
	Extra         *gguf.Metadata // more keys of the file: licence, description
}

// NewModel begins a model with random weights.
func NewModel(o ModelOptions) (*Learner, error) {
	if err := known(o.PromptVersion); err != nil {
		return nil, err
	}
	tokenizer, err := token.New(o.Tokens)
	if err != nil {
		return nil, err
	}
	o.Shape.Vocabulary = tokenizer.Size()
	weights, err := llama.New(o.Shape, o.Spread, o.Seed)
	if err != nil {
		return nil, err
	}
	r, err := newReader(tokenizer, o.Readout)
	if err != nil {
		return nil, err
	}
	t, err := weights.TrainAll()
	if err != nil {
		return nil, err
	}
	l, err := newLearner(r, t, o.Learn)
	if err != nil {
		return nil, err
	}
	l.write = func(w io.Writer) error {
		meta := new(gguf.Metadata)
		if o.Extra != nil {
			meta = o.Extra.Clone()
		}
		gguf.Set(meta, "general.name", o.Name)
		gguf.Set(meta, keyReadout, string(o.Readout))
		gguf.Set(meta, keyPrompt, uint32(o.PromptVersion))
		o.Tokens.SetMetadata(meta)
		return weights.Save(w, gguf.F16, meta)
	}
	return l, nil
}

func newLearner(r *reader, t *llama.Trainable, o learn.Options) (*Learner, error) {
	trainer, err := learn.New(t, o)
	if err != nil {
		return nil, err
	}
	return &Learner{reader: r, trainable: t, trainer: trainer}, nil
}

// Learn takes one step from a batch of lessons.
func (l *Learner) Learn(ctx context.Context, batch []lm.Lesson) (lm.Progress, error) {
	examples := make([]learn.Example, len(batch))
	for i, lesson := range batch {
		t, err := l.reader.read(lesson.Prompt)
		if err != nil {
			return lm.Progress{}, fmt.Errorf("lesson %d of the batch: %w", i, err)
		}
		if lesson.Chosen < 0 || lesson.Chosen >= len(lesson.Prompt.Letters) {
			return lm.Progress{}, fmt.Errorf("lesson %d of the batch: candidate %d was chosen, and the prompt has %d", i, lesson.Chosen, len(lesson.Prompt.Letters))
		}
		chosen := learn.Chosen(int(lesson.Prompt.Letters[lesson.Chosen] - 'A'))
		loss := learn.Lines(chosen)
		if l.reader.readout == Letters {
			loss = learn.Letters(chosen)
		}
		examples[i] = learn.Example{Tokens: t.tokens, Want: t.want, IDs: t.ids, Loss: loss}
	}
	r, err := l.trainer.Step(ctx, examples)
	return lm.Progress{Step: r.Step, Loss: r.Loss, Gradient: r.Gradient, Rate: r.Rate, Tokens: r.Tokens, Skipped: r.Skipped}, err
}

// Rank returns the log-share of each candidate as the model is now.
func (l *Learner) Rank(ctx context.Context, p iot.Prompt) ([]float64, error) {
	t, err := l.reader.read(p)
	if err != nil {
		return nil, err
	}
	// A session remembers what it read with other weights: each prompt takes a new one, which costs little beside learning.
	s, err := l.trainable.NewSession(len(t.tokens), 1)
	if err != nil {
		return nil, err
	}
	return l.reader.rank(ctx, s, t, p)
}

// Trainer is what takes the steps, to save and resume them.
func (l *Learner) Trainer() *learn.Trainer { return l.trainer }

// Write writes what was trained, as it is now: an adapter, or a model in F16.
func (l *Learner) Write(w io.Writer) error {
	if l.finish != nil {
		l.finish(l.trainer.Steps())
	}
	return l.write(w)
}
