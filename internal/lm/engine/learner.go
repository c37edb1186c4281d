package engine

import (
	"context"
	"fmt"
	"io"

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
		gguf.Set(meta, lora.KeyReadout, string(o.Readout))
		gguf.Set(meta, lora.KeyPromptVersion, uint32(o.PromptVersion))
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

// Learn takes one step from a batch of lessons. With the readouts letters and verdicts, it also teaches the model to answer
// with a letter, or with yes or no, at all, which is part of the loss: see learn.Letters and learn.Verdicts.
func (l *Learner) Learn(ctx context.Context, batch []lm.Lesson) (lm.Progress, error) {
	examples := make([]learn.Example, len(batch))
	for i, lesson := range batch {
		t, err := l.reader.read(lesson.Prompt)
		if err != nil {
			return lm.Progress{}, fmt.Errorf("lesson %d of the batch: %w", i, err)
		}
		objective, err := byLetter(lesson)
		if err != nil {
			return lm.Progress{}, fmt.Errorf("lesson %d of the batch: %w", i, err)
		}
		examples[i] = learn.Example{Tokens: t.tokens, Branches: t.questions, Want: t.want, IDs: t.ids, Loss: learn.Lines(objective)}
		switch l.reader.readout { // all tokens' logits are asked for
		case Letters:
			examples[i].IDs, examples[i].Loss = nil, learn.Letters(t.ids, objective)
		case Verdicts:
			examples[i].IDs, examples[i].Loss = nil, learn.Verdicts(t.ids[0], t.ids[1], objective)
		}
	}
	r, err := l.trainer.Step(ctx, examples)
	return lm.Progress{Step: r.Step, Loss: r.Loss, Gradient: r.Gradient, Rate: r.Rate, Tokens: r.Tokens, Skipped: r.Skipped}, err
}

// byLetter is a lesson's objective in the order of the prompt's letters, in which scores are read.
func byLetter(lesson lm.Lesson) (learn.Objective, error) {
	letters := lesson.Prompt.Letters
	if lesson.Objective == nil {
		if lesson.Chosen < 0 || lesson.Chosen >= len(letters) {
			return nil, fmt.Errorf("candidate %d was chosen, and the prompt has %d", lesson.Chosen, len(letters))
		}
		return learn.Chosen(int(letters[lesson.Chosen] - 'A')), nil
	}
	return func(scores, gradient []float64) (float64, error) {
		of, by := make([]float64, len(letters)), make([]float64, len(letters))
		for i, letter := range letters {
			of[i] = scores[letter-'A']
		}
		loss, err := lesson.Objective(of, by)
		for i, letter := range letters {
			gradient[letter-'A'] = by[i]
		}
		return loss, err
	}, nil
}

// Rank returns the log-share of each candidate as the model is now.
func (l *Learner) Rank(ctx context.Context, p iot.Prompt) ([]float64, error) {
	t, err := l.reader.read(p)
	if err != nil {
		return nil, err
	}
	// A session remembers what it read with other weights: each prompt takes a new one, which costs little beside learning.
	s, err := l.trainable.NewSession(t.longest(), 1)
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
