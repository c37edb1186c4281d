package lm

import (
	"context"
	"fmt"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
)

// Thinker has a model say why before it answers: Writer writes the thought, Ranker reads the letters after it. Both are
// one model.
type Thinker struct {
	Writer Writer
	Ranker interface {
		Rank(ctx context.Context, p iot.Prompt) ([]float64, error)
	}
	Most int // tokens of a thought, at most; 1 or more
}

// CheckThinks says why a model does not think that is read by a readout, of prompts of a version; nil: it can.
func CheckThinks(readout string, prompt int) error {
	if readout != "letters" || prompt != iot.Thoughts {
		return fmt.Errorf("it is read by %s of prompts of version %d: a model thinks before letters of version %d, and no other way", readout, prompt, iot.Thoughts)
	}
	return nil
}

// Think writes the likeliest thought about a context's prompt of version iot.Thoughts, guided (iot.Prompt.Guide), keeps of it what is grounded, and
// ranks after that: the log-share of each candidate, in the order of the context. A thought of which nothing is left is no
// error: then the prompt is ranked as it is.
func (t Thinker) Think(ctx context.Context, c event.Context, p iot.Prompt) (iot.Reply, []float64, error) {
	if p.Version != iot.Thoughts {
		return iot.Reply{}, nil, fmt.Errorf("think about a prompt of version %d: only those of version %d ask for a thought: %w", p.Version, iot.Thoughts, ErrNonsense)
	}
	written, err := t.Writer.Write(ctx, p.Thinking(), 1, WriteOptions{Most: t.Most, Stop: []string{"Answer:"}, Guide: p.Guide(c)})
	if err != nil {
		return iot.Reply{}, nil, fmt.Errorf("think: %w", err)
	}
	reply := p.ReadReply(c, written[0].Text, written[0].Whole)
	shares, err := t.Ranker.Rank(ctx, p.After(reply.Thought, c))
	return reply, shares, err
}
