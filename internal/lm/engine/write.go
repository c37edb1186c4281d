package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama"
	"github.com/r2rec/r2rec/internal/llama/learn"
	"github.com/r2rec/r2rec/internal/llama/token"
	"github.com/r2rec/r2rec/internal/lm"
)

var (
	_ lm.Writer      = (*Model)(nil)
	_ lm.Writer      = apprentice{}
	_ lm.TextLearner = (*Learner)(nil)
)

// Write implements lm.Writer. All n texts are written at once, and the text that they go on from is read once; where what
// a session that is free read last began like it, only from where it differs.
func (m *Model) Write(ctx context.Context, text string, n int, o lm.WriteOptions) ([]lm.Written, error) {
	if err := checkWriting(n, o); err != nil {
		return nil, err
	}
	tokens := m.reader.encode(text)
	s, err := m.take(ctx, tokens, min(len(tokens)+o.Most, m.weights.Context))
	if err != nil {
		return nil, err
	}
	defer m.sessions.giveBack(s)
	return m.reader.write(ctx, s, tokens, n, o)
}

// Think writes a thought of at most Options.Think tokens about a context's prompt, and ranks after it: see lm.Thinker. A model
// that was opened to answer at once thinks nothing.
func (m *Model) Think(ctx context.Context, c event.Context, p iot.Prompt) (iot.Reply, []float64, error) {
	if m.opt.Think == 0 {
		return iot.Reply{}, nil, fmt.Errorf("think: the model answers at once: %w", lm.ErrNonsense)
	}
	return lm.Thinker{Writer: m, Ranker: m, Most: m.opt.Think}.Think(ctx, c, p)
}

// Thinks tells whether the model thinks before it answers, as it was opened to.
func (m *Model) Thinks() bool { return m.opt.Think > 0 }

func checkWriting(n int, o lm.WriteOptions) error {
	if n < 1 || o.Most < 1 {
		return fmt.Errorf("write %d texts of at most %d tokens: want 1 or more of both: %w", n, o.Most, lm.ErrNonsense)
	}
	return nil
}

// encode reads a text that is not the readout's.
func (r *reader) encode(text string) []int32 {
	return r.tokenizer.Encode(text, token.Options{AddSpecial: true})
}

func (r *reader) write(ctx context.Context, s *llama.Session, tokens []int32, n int, o lm.WriteOptions) ([]lm.Written, error) {
	g := llama.GenerateOptions{Most: o.Most, Temperature: o.Temperature, Pieces: r.tokenizer, StopTokens: r.tokenizer.EndTokens(), Stop: o.Stop}
	if o.Guide.Next != nil {
		g.Guide = func(text string) []int32 {
			return r.tokenizer.Encode(o.Guide.Next(text), token.Options{Continues: true})
		}
	}
	all, err := s.GenerateMany(ctx, tokens, g.AtOnce(n, func(i int) uint64 { return rand.NewPCG(o.Seed, uint64(i)).Uint64() }))
	switch {
	case err == nil: // also where ctx ended just after the last token
	case errors.Is(err, llama.ErrTooLong):
		return nil, fmt.Errorf("%w: %w", lm.ErrPromptTooLong, err)
	case errors.Is(err, llama.ErrNotFinite):
		return nil, fmt.Errorf("%w: %w", lm.ErrNonsense, err)
	case ctx.Err() != nil:
		return nil, err
	default: // an option, or an empty text
		return nil, fmt.Errorf("%w: %w", lm.ErrNonsense, err)
	}
	out := make([]lm.Written, n)
	for i, tokens := range all {
		w := &out[i]
		for _, t := range tokens {
			w.Text += t.Text
			w.Tokens, w.LogProbs = append(w.Tokens, t.ID), append(w.LogProbs, t.LogProb)
			w.Given = append(w.Given, t.Given)
			w.Whole = t.Finish == llama.Stopped
		}
	}
	return out, nil
}

// Writer writes by the weights as they are at each call.
func (l *Learner) Writer() lm.Writer { return apprentice{l} }

type apprentice struct{ l *Learner }

// Write implements lm.Writer. It is safe for concurrent use while nothing is learned.
func (a apprentice) Write(ctx context.Context, text string, n int, o lm.WriteOptions) ([]lm.Written, error) {
	if err := checkWriting(n, o); err != nil {
		return nil, err
	}
	tokens := a.l.reader.encode(text)
	s, err := a.l.trainable.NewSession(min(max(1, len(tokens)+o.Most), a.l.trainable.Context), 1)
	if err != nil {
		return nil, err
	}
	return a.l.reader.write(ctx, s, tokens, n, o)
}

// LearnTexts implements lm.TextLearner.
func (l *Learner) LearnTexts(ctx context.Context, batch []lm.TextLesson) (lm.Progress, error) {
	examples := make([]learn.Example, len(batch))
	for i, lesson := range batch {
		ways := make([]learn.Continuation, len(lesson.Continuations))
		for j, c := range lesson.Continuations {
			ways[j] = learn.Continuation{Tokens: c.Tokens, Objective: learn.TokenObjective(c.Objective)}
		}
		var err error
		if examples[i], err = learn.Continue(l.reader.encode(lesson.Text), ways); err != nil {
			return lm.Progress{}, fmt.Errorf("lesson %d of the batch: %w", i, err)
		}
	}
	r, err := l.trainer.Step(ctx, examples)
	return lm.Progress{Step: r.Step, Loss: r.Loss, Gradient: r.Gradient, Rate: r.Rate, Tokens: r.Tokens, Skipped: r.Skipped}, err
}

// Check says whether a text and a continuation of so many tokens fit into the model.
func (l *Learner) Check(text string, continuation int) error {
	if n := len(l.reader.encode(text)) + continuation; n > l.trainable.Context {
		return fmt.Errorf("%d tokens, and the model reads at most %d: %w", n, l.trainable.Context, lm.ErrPromptTooLong)
	}
	return nil
}

// Completion are the tokens of a text that another goes on by, with the one that ends texts where the vocabulary has one:
// what is to be learned of a completion.
func (l *Learner) Completion(text string) []int32 {
	tokens := l.reader.tokenizer.Encode(text, token.Options{Continues: true})
	if end, ok := l.reader.tokenizer.End(); ok {
		tokens = append(tokens, end)
	}
	return tokens
}
